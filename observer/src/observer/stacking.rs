//! Call stacks on their way from the kernel to the findings.

use std::sync::Arc;

use super::{Observer, ObserverError};
use crate::{
    clock::{self, WallClock},
    incident::{Finding, FindingEvent},
    model::{Cookie, KernelEvent, MonoTime},
    sinks::{Report, Sink},
    stacks::{Group, Named, Taken, Wanted, armed::Armed, groups, traces::Traces, worker::Worker},
};

/// How often it is looked who needs no stacks any more, nanoseconds. Chosen: it ends a calm of ten
/// minutes, and is a walk over the open findings.
const TEND_INTERVAL: u64 = 10_000_000_000;

/// What is said of a socket without a stack, where stacks are taken on demand.
const LATE: &str = "opened before stacks were taken; a stack is taken of the next ones";

/// The same where they are taken from the start.
const NOT_TAKEN: &str = "opened before the watch, or no stack could be taken";

/// The stacks of an observer.
#[derive(Debug, Default)]
pub(super) struct Stacking {
    wanted: Wanted,
    worker: Option<Worker>,
    traces: Traces,
    armed: Armed,
    tended: MonoTime,
    /// Of those that the traces left out, how many were reported.
    reported: u64,
}

impl Stacking {
    /// Starts the process that opens files, while there are privileges.
    pub(super) fn start(wanted: Wanted) -> Self {
        if wanted == Wanted::Never {
            return Self::default();
        }
        match Worker::start() {
            Ok(worker) => Self { wanted, worker: Some(worker), ..Self::default() },
            Err(error) => {
                log::warn!("no call stacks are taken: a process for them cannot start: {error}");
                Self::default()
            }
        }
    }

    /// Whether stacks of all are taken from the start.
    pub(super) fn takes_all(&self) -> bool {
        self.wanted == Wanted::Always
    }

    pub(super) fn take(&mut self, taken: Taken) {
        self.traces.take(taken);
    }

    /// Forgets what is over.
    pub(super) fn note(&mut self, event: &KernelEvent) {
        match event {
            KernelEvent::Destroyed { cookie, .. } => self.traces.forget(*cookie),
            KernelEvent::Exited { process, .. } => self.armed.exited(*process),
            _ => {}
        }
    }

    /// Forgets all sockets that are not alive.
    pub(super) fn retain(&mut self, is_alive: impl Fn(Cookie) -> bool) {
        self.traces.retain(is_alive);
    }

    /// How many stacks were left out for lack of room since the last time.
    pub(super) fn left_out(&mut self) -> u64 {
        let all = self.traces.left_out();
        all - std::mem::replace(&mut self.reported, all)
    }

    /// What is known of where a finding's socket was opened; `None` where nobody wants to know, or
    /// it is being found out.
    pub(super) fn of(&self, finding: &Finding) -> Option<Arc<Named>> {
        let cookie = finding.cookie()?;
        match self.traces.named(cookie) {
            Some(named) => Some(named.clone()),
            None if self.traces.has(cookie) || self.wanted == Wanted::Never => None,
            None => {
                let note = if self.takes_all() { NOT_TAKEN } else { LATE };
                Some(Arc::new(Named::unknown(note)))
            }
        }
    }

    /// Gives out what is to be named, and takes in names. Says of which sockets it is known now
    /// where they were opened.
    fn turn(&mut self) -> Vec<Cookie> {
        let Self { worker: Some(worker), traces, .. } = self else { return Vec::new() };
        let mut known = Vec::new();
        while let Some(answer) = worker.poll() {
            known.extend(traces.answer(answer));
        }
        while worker.has_room()
            && let Some(job) = traces.poll_job()
        {
            if let Err(error) = worker.give(job) {
                log::warn!("a call stack has no names: a thread cannot start: {error}");
            }
        }
        known
    }
}

impl Observer {
    /// A finding opened: if it is about a socket, stacks of its process are taken from now on. Storms
    /// leak nothing, and are the time when stacks would cost most.
    pub(super) fn arm(&mut self, finding: &Finding, now: MonoTime) {
        let Self { stacking, probe, .. } = self;
        let process = finding.process;
        // Our own pool's connects are all at one place.
        let is_wanted = stacking.wanted == Wanted::OnDemand
            && finding.cookie().is_some()
            && process.pid != std::process::id();
        if is_wanted
            && stacking.armed.opened(process, now)
            && let Err(error) = probe.arm(process.pid)
        {
            log::debug!("no call stacks of process {}: {error}", process.pid);
        }
    }

    /// Names stacks; a finding that opened before its stack had names is told again with them.
    pub(super) fn name_stacks(&mut self, sink: &mut dyn Sink) -> Result<(), ObserverError> {
        let known = self.stacking.turn();
        let now = clock::now();
        self.tend(now);
        if known.is_empty() {
            return Ok(());
        }
        let is_known =
            |finding: &&Finding| finding.cookie().is_some_and(|cookie| known.contains(&cookie));
        let mut findings: Vec<Finding> = self
            .correlator
            .open_incidents()
            .map(|incident| &incident.finding)
            .filter(is_known)
            .filter(|finding| finding.is_on(&self.ports))
            .cloned()
            .collect();
        findings.sort_unstable_by_key(|finding| finding.id);
        let clock = WallClock::read();
        for finding in &mut findings {
            (finding.event, finding.time) = (FindingEvent::Updated, now);
            self.prove(finding, true, clock);
            // It was told when it opened.
            finding.proof.history = None;
            sink.report(Report::Finding(finding), clock)?;
        }
        Ok(())
    }

    /// The places that the open findings' sockets come from.
    pub(super) fn groups(&self) -> Vec<Group> {
        let findings = self.correlator.open_incidents().map(|incident| &incident.finding);
        let of_sockets = findings.filter_map(|finding| Some((finding, finding.cookie()?)));
        groups::group(of_sockets.filter(|(it, _)| it.is_on(&self.ports)).map(|(it, cookie)| {
            let site = self.stacking.traces.named(cookie).and_then(|named| named.place());
            (it.kind.code(), it.process.pid, it.comm.as_str(), site)
        }))
    }

    /// Disarms who has had no finding for long.
    fn tend(&mut self, now: MonoTime) {
        let Self { stacking, probe, correlator, .. } = self;
        if now.nanos().saturating_sub(stacking.tended.nanos()) < TEND_INTERVAL {
            return;
        }
        stacking.tended = now;
        let findings = correlator.open_incidents().map(|incident| &incident.finding);
        let with_findings = findings.filter(|it| it.cookie().is_some()).map(|it| it.process);
        for pid in stacking.armed.tend(with_findings, now) {
            if let Err(error) = probe.disarm(pid) {
                log::debug!("call stacks of process {pid} go on: {error}");
            }
        }
    }
}
