//! A correlator that follows the model kernel, as the observer does with the real one.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    cgroup::Place,
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
    Place(ProcessKey, Place),
}

/// How it is run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    /// Bit n of the seed decides whether record n is lost.
    pub(super) loses: Option<u64>,
    /// A snapshot is handed over only after the next thing has happened.
    pub(super) is_slow: bool,
}

/// The truth about each socket when a snapshot was taken: what comes after it without a record
/// cannot be known.
type Truth = BTreeMap<Cookie, SocketTruth>;

struct SocketTruth {
    holders: Vec<(ProcessKey, i32)>,
    wrong_since: [Option<MonoTime>; Kind::ALL.len()],
    last_written: Option<MonoTime>,
}

pub(super) struct Live {
    pub(super) kernel: Kernel,
    pub(super) correlator: Correlator,
    pub(super) told: Vec<Told>,
    pub(super) findings: Vec<Finding>,
    pub(super) open: BTreeMap<(Cookie, Kind), Finding>,
    /// Where processes run that run anywhere, by number.
    pub(super) places: BTreeMap<u32, Place>,
    way: Way,
    records: u32,
    walked: Option<(Snapshot, Truth)>,
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
            places: BTreeMap::new(),
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
        let until = self.kernel.now.after(pause + wait);
        while self.walked.is_none() && self.time_out(until) {}
        if self.walked.is_none() {
            self.kernel.now = self.kernel.now.max(until);
        } else {
            // It happens while a snapshot walks.
            self.kernel.now = self.kernel.now.after(Duration::from_millis(1));
        }
        self.kernel.run(op);
        self.follow();
    }

    /// Whether records are lost.
    pub(super) fn loses(&self) -> bool {
        self.way.loses.is_some()
    }

    /// Loses a record of which nothing is known.
    pub(super) fn lose(&mut self) {
        self.correlator.handle_loss(self.kernel.now, 1);
        self.follow();
    }

    /// Lets time pass up to `until`.
    pub(super) fn pass(&mut self, until: MonoTime) {
        loop {
            if self.walked.is_some() {
                // The walk ends a little later, though nothing happens meanwhile.
                self.kernel.now = self.kernel.now.after(Duration::from_micros(3));
                self.follow();
            } else if !self.time_out(until) {
                break;
            }
        }
        self.kernel.now = self.kernel.now.max(until);
    }

    /// Goes on to the next timeout, if there is one up to `until`.
    fn time_out(&mut self, until: MonoTime) -> bool {
        let next = self.correlator.poll_timeout().filter(|next| *next <= until);
        if let Some(next) = next {
            self.kernel.now = self.kernel.now.max(next);
            self.correlator.handle_timeout(self.kernel.now);
            self.told.push(Told::Timeout(self.kernel.now));
            self.follow();
        }
        next.is_some()
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
        if let Some((mut snapshot, truth)) = self.walked.take() {
            snapshot.ended = self.kernel.now;
            for process in self.correlator.take_places_wanted() {
                let place = self.places.get(&process.pid).cloned().unwrap_or_default();
                self.correlator.handle_place(process, place.clone());
                self.told.push(Told::Place(process, place));
            }
            self.told.push(Told::Snapshot(snapshot.clone()));
            self.correlator.handle_snapshot(snapshot);
            while let Some(output) = self.correlator.poll_output() {
                self.output(output, &truth);
            }
            if self.way.loses.is_none() {
                self.check_table();
            }
        }
    }

    /// Right after a snapshot the table is what the kernel has; after a slow one it may lack what
    /// came since without a record.
    fn check_table(&self) {
        for socket in self.correlator.table().sockets() {
            let cookie = socket.cookie;
            assert_eq!(Some(socket.state), self.kernel.state(cookie), "{socket:?}");
            let truth = self.kernel.holders(cookie);
            let known: Vec<_> =
                socket.holders.iter().map(|entry| (entry.process, entry.fd)).collect();
            if self.way.is_slow {
                assert!(known.iter().all(|holder| truth.contains(holder)), "{truth:?}: {socket:?}");
            } else {
                assert_eq!(known, truth, "{socket:?}");
            }
        }
    }

    fn outputs(&mut self) {
        while let Some(output) = self.correlator.poll_output() {
            self.output(output, &Truth::new());
        }
    }

    fn output(&mut self, output: Output, truth: &Truth) {
        match output {
            Output::SnapshotWanted(reason) => {
                assert!(self.walked.is_none(), "asked twice, now for {reason:?}");
                self.walked = Some((self.kernel.snapshot(), self.truth()));
            }
            Output::Finding(finding) => {
                // The model says nothing of what processes do over time.
                let Some(cookie) = finding.cookie() else { return };
                let key = (cookie, finding.kind);
                match finding.event {
                    FindingEvent::Opened => {
                        self.check(&finding, truth);
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
            Output::Pool(_) | Output::Transition(_) => {}
        }
    }

    fn truth(&self) -> Truth {
        let truth = |cookie| {
            let wrong_since = Kind::ALL.map(|kind| self.kernel.wrong_since(cookie, kind));
            let holders = self.kernel.holders(cookie);
            let last_written = self.kernel.last_written(cookie);
            (cookie, SocketTruth { holders, wrong_since, last_written })
        };
        self.kernel.cookies().into_iter().map(truth).collect()
    }

    /// A finding that opens must be true: its state, its holders, and its age if it is complete.
    fn check(&self, finding: &Finding, truth: &Truth) {
        let kernel = &self.kernel;
        let Some(cookie) = finding.cookie() else { return };
        let state = finding.socket.map(|socket| socket.state);
        assert_eq!(kernel.state(cookie), state, "state: {finding:?}");
        let found: Vec<_> =
            finding.holders.iter().map(|holder| (holder.process, holder.fd)).collect();
        assert!(!found.is_empty(), "no holder: {finding:?}");
        let (now, then) = (kernel.holders(cookie), truth.get(&cookie));
        for holder in &found {
            let was = then.is_some_and(|then| then.holders.contains(holder));
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
            let since = then.and_then(|then| then.wrong_since[finding.kind as usize]);
            assert!(since.is_some_and(|since| since <= finding.since), "{since:?}: {finding:?}");
        }
        if finding.kind == Kind::Inherited {
            let moved = then.and_then(|then| then.last_written).unwrap_or_default();
            let ticks = Duration::from_millis(20);
            assert!(moved <= finding.since.after(ticks), "in use at {moved:?}: {finding:?}");
        }
    }
}
