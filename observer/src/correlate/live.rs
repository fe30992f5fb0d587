//! A correlator that follows the model kernel, as the observer does with the real one.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    correlate::{
        Config, Correlator, Output,
        kernel_model::{Kernel, Op},
    },
    detect::Kind,
    incident::{Evidence, Finding, FindingEvent},
    model::{Cookie, KernelEvent, MonoTime, ProcessKey, Snapshot},
};

/// What a correlator was told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Event(KernelEvent),
    Snapshot(Snapshot),
    Timeout(MonoTime),
}

/// How it is run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    /// Bit n of the seed decides whether record n is lost.
    pub(super) loses: Option<u64>,
    /// A snapshot is handed over only after the next thing has happened.
    pub(super) is_slow: bool,
}

/// Who held what when a snapshot was taken.
type Held = BTreeMap<Cookie, Vec<(ProcessKey, i32)>>;

pub(super) struct Live {
    pub(super) kernel: Kernel,
    pub(super) correlator: Correlator,
    pub(super) told: Vec<Told>,
    pub(super) findings: Vec<Finding>,
    pub(super) open: BTreeMap<(Cookie, Kind), Finding>,
    way: Way,
    records: u32,
    walked: Option<(Snapshot, Held)>,
}

impl Live {
    pub(super) fn new(config: Config, processes: u32, way: Way) -> Self {
        let kernel = Kernel::new(processes);
        let correlator = Correlator::new(config, kernel.now);
        let mut live = Self {
            kernel,
            correlator,
            told: Vec::new(),
            findings: Vec::new(),
            open: BTreeMap::new(),
            way,
            records: 0,
            walked: None,
        };
        live.follow();
        live
    }

    /// Lets something happen after `pause`.
    pub(super) fn run(&mut self, pause: Duration, op: Op) {
        let wait = match op {
            Op::Wait(milliseconds) => Duration::from_millis(u64::from(milliseconds)),
            _ => Duration::ZERO,
        };
        self.pass(self.kernel.now.after(pause + wait));
        self.kernel.run(op);
        self.follow();
    }

    /// Loses a record of which nothing is known.
    pub(super) fn lose(&mut self) {
        self.correlator.handle_loss(self.kernel.now, 1);
        self.follow();
    }

    /// Lets time pass up to `until`.
    pub(super) fn pass(&mut self, until: MonoTime) {
        loop {
            let next = self.correlator.poll_timeout().filter(|next| *next <= until);
            if self.walked.is_none()
                && let Some(next) = next
            {
                self.kernel.now = self.kernel.now.max(next);
                self.correlator.handle_timeout(self.kernel.now);
                self.told.push(Told::Timeout(self.kernel.now));
            } else if self.walked.is_some() {
                // The walk ends a little later, though nothing happens meanwhile.
                self.kernel.now = self.kernel.now.after(Duration::from_micros(3));
            } else {
                break;
            }
            self.follow();
        }
        self.kernel.now = self.kernel.now.max(until);
    }

    fn follow(&mut self) {
        let mut lost = 0;
        for event in self.kernel.events() {
            self.records += 1;
            if self.way.loses.is_some_and(|seed| seed.rotate_right(self.records) & 1 == 1) {
                lost += 1;
                continue;
            }
            self.told.push(Told::Event(event.clone()));
            self.correlator.handle_event(event);
            self.outputs();
        }
        if lost > 0 {
            self.correlator.handle_loss(self.kernel.now, lost);
        }
        self.deliver();
        self.outputs();
        if !self.way.is_slow {
            while self.walked.is_some() {
                self.deliver();
                self.outputs();
            }
        }
    }

    fn deliver(&mut self) {
        if let Some((mut snapshot, held)) = self.walked.take() {
            snapshot.ended = self.kernel.now;
            self.told.push(Told::Snapshot(snapshot.clone()));
            self.correlator.handle_snapshot(snapshot);
            while let Some(output) = self.correlator.poll_output() {
                self.output(output, &held);
            }
        }
    }

    fn outputs(&mut self) {
        while let Some(output) = self.correlator.poll_output() {
            self.output(output, &Held::new());
        }
    }

    fn output(&mut self, output: Output, held: &Held) {
        match output {
            Output::SnapshotWanted(reason) => {
                assert!(self.walked.is_none(), "asked twice, now for {reason:?}");
                let kernel = &self.kernel;
                let cookies = kernel.cookies().into_iter();
                let held = cookies.map(|cookie| (cookie, kernel.holders(cookie))).collect();
                self.walked = Some((kernel.snapshot(), held));
            }
            Output::Finding(finding) => {
                let key = (finding.cookie, finding.kind);
                match finding.event {
                    FindingEvent::Opened => {
                        self.check(&finding, held);
                        let twice = self.open.insert(key, finding.clone());
                        assert!(twice.is_none(), "opened twice: {finding:?}");
                    }
                    FindingEvent::Updated => {
                        let before = self.open.insert(key, finding.clone());
                        let before = before.expect("only what is open is updated");
                        assert_eq!(before.id, finding.id);
                    }
                    FindingEvent::Cleared => {
                        let opened = self.open.remove(&key).expect("only what is open is cleared");
                        assert_eq!(opened.id, finding.id);
                        assert!(finding.clear_reason.is_some());
                    }
                }
                self.findings.push(finding);
            }
            Output::Transition(_) => {}
        }
    }

    /// A finding that opens must be true: its state, its holders, and its age if it is complete.
    fn check(&self, finding: &Finding, held: &Held) {
        let kernel = &self.kernel;
        let cookie = finding.cookie;
        assert_eq!(kernel.state(cookie), Some(finding.state), "state: {finding:?}");
        let found: Vec<_> =
            finding.holders.iter().map(|holder| (holder.process, holder.fd)).collect();
        assert!(!found.is_empty(), "no holder: {finding:?}");
        let (now, then) = (kernel.holders(cookie), held.get(&cookie));
        for holder in &found {
            let was = then.is_some_and(|then| then.contains(holder));
            assert!(now.contains(holder) || was, "holder {holder:?}: {finding:?}");
        }
        if !self.way.is_slow {
            let mut found = found;
            found.sort_unstable();
            assert_eq!(found, now, "all holders: {finding:?}");
            for holder in &finding.holders {
                assert_eq!(kernel.comm(holder.process), Some(&holder.comm), "{finding:?}");
            }
        }
        assert!(finding.age() >= finding.budget, "too young: {finding:?}");
        if finding.evidence == Evidence::Complete {
            let since = kernel.wrong_since(cookie, finding.kind);
            assert!(since.is_some_and(|since| since <= finding.since), "{since:?}: {finding:?}");
        }
        if finding.kind == Kind::Inherited {
            let moved = kernel.last_written(cookie).unwrap_or_default();
            let ticks = Duration::from_millis(20);
            assert!(moved <= finding.since.after(ticks), "in use at {moved:?}: {finding:?}");
        }
    }
}
