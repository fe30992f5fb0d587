//! A backend beside the model kernel: process 1 makes connections and says what it likes of them.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    cgroup::Place,
    claims::{Claim, Counts, Refusal, Stage, Statement},
    correlate::{
        Config, Correlator, Output,
        kernel_model::{Kernel, Op},
    },
    detect::Kind,
    incident::{Finding, FindingEvent},
    model::{Cookie, Ends, KernelEvent, MonoTime, TcpState, Transition},
};

/// The process that claims.
pub(super) const PID: u32 = 1;

/// When the story begins.
pub(super) const BEGIN: MonoTime = MonoTime::from_nanos(1_000_000_000);

pub(super) struct Backend {
    pub(super) kernel: Kernel,
    pub(super) correlator: Correlator,
    pub(super) findings: Vec<Finding>,
    pub(super) open: BTreeMap<(Cookie, Kind), Finding>,
    /// Where processes run that run anywhere, by number.
    pub(super) places: BTreeMap<u32, Place>,
    /// Records wait in the ring as long as this is set.
    pub(super) is_full: bool,
    records: Vec<KernelEvent>,
}

impl Backend {
    pub(super) fn new(processes: u32) -> Self {
        Self::with(processes, Config::default())
    }

    /// One under other settings.
    pub(super) fn with(processes: u32, config: Config) -> Self {
        let kernel = Kernel::new(processes);
        let correlator = Correlator::new(config, kernel.now);
        let mut backend = Self {
            kernel,
            correlator,
            findings: Vec::new(),
            open: BTreeMap::new(),
            places: BTreeMap::new(),
            is_full: false,
            records: Vec::new(),
        };
        backend.follow();
        backend
    }

    /// Lets time pass until `ms` milliseconds after the beginning.
    pub(super) fn at(&mut self, ms: u64) -> &mut Self {
        let until = BEGIN.after(Duration::from_millis(ms));
        while let Some(next) = self.correlator.poll_timeout().filter(|next| *next <= until) {
            self.kernel.now = self.kernel.now.max(next);
            self.correlator.handle_timeout(self.kernel.now);
            self.follow();
        }
        self.kernel.now = self.kernel.now.max(until);
        self
    }

    pub(super) fn run(&mut self, op: Op) -> &mut Self {
        self.kernel.run(op);
        self.follow();
        self
    }

    /// A new connection of process 1, which is answered at once.
    pub(super) fn connect(&mut self) -> Cookie {
        self.run(Op::Connect(0));
        self.run(Op::Answer(0));
        *self.kernel.cookies().last().expect("it was made")
    }

    /// Process 1 closes its descriptor of a socket.
    pub(super) fn close(&mut self, cookie: Cookie) -> &mut Self {
        let fds = self.held();
        let which = fds.iter().position(|(_, held)| *held == cookie).expect("it has it");
        self.run(Op::Close(0, u8::try_from(which).expect("few")))
    }

    /// The descriptors of process 1.
    pub(super) fn held(&self) -> Vec<(i32, Cookie)> {
        let of = |cookie| {
            let holders = self.kernel.holders(cookie).into_iter();
            holders.filter(|(process, _)| process.pid == PID).map(move |(_, fd)| (fd, cookie))
        };
        let mut held: Vec<_> = self.kernel.cookies().into_iter().flat_map(of).collect();
        held.sort_unstable();
        held
    }

    pub(super) fn is_live(&self, cookie: Cookie) -> bool {
        self.kernel.state(cookie) == Some(TcpState::Established)
    }

    /// The whole registry, with the usual lease.
    pub(super) fn put(&mut self, claims: &[(Cookie, &str)]) -> &mut Self {
        let claims = claims.iter().map(|(cookie, device)| claim(*cookie, device)).collect();
        let lease = Some(Duration::from_secs(60));
        self.say(vec![Statement::All { claims, lease }]).expect("there is room");
        self
    }

    pub(super) fn say(&mut self, statements: Vec<Statement>) -> Result<Counts, Refusal> {
        self.say_for(PID, statements)
    }

    pub(super) fn say_for(
        &mut self,
        pid: u32,
        statements: Vec<Statement>,
    ) -> Result<Counts, Refusal> {
        let counts = self.correlator.handle_claims(pid, statements, self.kernel.now);
        self.follow();
        counts
    }

    /// What was said, with the milliseconds since the beginning.
    pub(super) fn told(&self) -> Vec<String> {
        let line = |finding: &Finding| {
            let after = finding.time.since(BEGIN).as_millis();
            format!("{after} {} {}: {}", finding.event.code(), finding.kind, finding.message)
        };
        self.findings.iter().map(line).collect()
    }

    /// What is open, by kind and cookie.
    pub(super) fn open(&self) -> Vec<(Kind, u64)> {
        let mut open: Vec<_> = self.open.keys().map(|(cookie, kind)| (*kind, cookie.0)).collect();
        open.sort_unstable();
        open
    }

    /// What waits in the ring is lost.
    pub(super) fn lose_records(&mut self) {
        self.records.clear();
        self.correlator.handle_loss(self.kernel.now, 1);
    }

    pub(super) fn follow(&mut self) {
        self.records.extend(self.kernel.events());
        if !self.is_full {
            self.drain();
        }
        while let Some(output) = self.correlator.poll_output() {
            match output {
                Output::SnapshotWanted(_) => {
                    // All records up to its end go first.
                    self.drain();
                    for process in self.correlator.take_places_wanted() {
                        let place = self.places.get(&process.pid).cloned().unwrap_or_default();
                        self.correlator.handle_place(process, place);
                    }
                    self.correlator.handle_snapshot(self.kernel.snapshot());
                }
                Output::Finding(finding) => self.note(finding),
                Output::Pool(_) | Output::Transition(_) => {}
            }
        }
    }

    fn drain(&mut self) {
        for event in std::mem::take(&mut self.records) {
            if let KernelEvent::Transition(Transition { owner: Some(owner), time, .. }) = event
                && let Some(comm) = self.kernel.comm(owner)
            {
                self.correlator.handle_name(owner, comm, time);
            }
            self.correlator.handle_event(event);
        }
    }

    fn note(&mut self, finding: Finding) {
        if !Kind::OF_REGISTRY.contains(&finding.kind) {
            return;
        }
        let key = (finding.cookie().expect("they are about sockets"), finding.kind);
        match finding.event {
            FindingEvent::Opened => {
                assert!(finding.age() >= finding.budget, "too young: {finding:?}");
                assert!(self.open.insert(key, finding.clone()).is_none(), "twice: {finding:?}");
            }
            FindingEvent::Updated => {
                self.open.insert(key, finding.clone()).expect("only what is open is updated");
            }
            FindingEvent::Cleared => {
                self.open.remove(&key).expect("only what is open is cleared");
            }
        }
        if finding.event != FindingEvent::Updated {
            self.findings.push(finding);
        }
    }
}

/// A socket of the model kernel.
pub(super) fn ends(cookie: Cookie) -> Ends {
    let port = 30_000 + u16::try_from(cookie.0).expect("few");
    let host = std::net::Ipv4Addr::LOCALHOST.into();
    Ends::new((host, port), (host, 1_883))
}

pub(super) fn claim(cookie: Cookie, device: &str) -> Claim {
    Claim { ends: ends(cookie), device: device.into(), stage: Stage::Online }
}
