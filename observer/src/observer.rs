//! EDGE: joins the probe, the pure core and a sink; `watch` and `demo` drive it.
//!
//! ```text
//! kernel ─ring─▶ probe ─▶ decode ─▶ correlate ─▶ sink
//!          snapshot ────────────────▲
//! ```

mod answers;
mod claiming;
mod naming;
mod places;
mod stacking;
mod tally;
mod walking;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use observer_ebpf::counter::Counter;
use tokio::sync::Notify;

use crate::{
    clock::{self, WallClock},
    correlate::{Config, Correlator, Output},
    decode::{self, Outcome, Segments},
    detect::Budgets,
    incident::{Finding, FindingEvent, Proof},
    join::{Join, Said},
    model::{KernelEvent, MonoTime},
    probe::{self, Layers, Probe, ProbeError, Started},
    selection::{Selection, SelectionError},
    sinks::{IgnoredByRule, Report, Sink, Summary},
    stacks::Wanted,
    ticks::TickRate,
    trends::Thresholds,
    tuning::Rule,
};

use self::{
    claiming::ClaimStreams, naming::Naming, places::Places, stacking::Stacking, tally::Tally,
};

/// Longest time between two looks at the ring while records come. Nobody is woken for a record,
/// so this bounds how late the stream is; 20 ms cost a tenth of a percent of a core.
const BUSY_INTERVAL: Duration = Duration::from_millis(20);

/// The same while nothing comes. Deadlines of findings are met exactly, whatever this is.
const IDLE_INTERVAL: Duration = Duration::from_millis(100);

/// How often a cgroup is read for processes that moved into it.
const CGROUP_INTERVAL: Duration = Duration::from_secs(1);

/// Scheduling priority (`nice`). The host that needs an alarm is the one whose CPUs are busy: at
/// the usual priority, findings were 150 ms late beside three busy loops a core. We use a
/// thousandth of a core, so nobody is made to wait.
const PRIORITY: i32 = -10;

/// Snapshots in one pump: each may make another necessary (a socket that moved meanwhile), but a
/// host in turmoil must not keep the ring waiting.
const SNAPSHOTS_PER_PUMP: u32 = 3;

/// Holders of one finding whose place is looked up. Chosen: a leak has one or two, and a listener
/// that hundreds of workers hold must not keep the ring waiting.
const PLACES_PER_FINDING: usize = 32;

/// What to observe and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The processes.
    pub selection: Selection,
    /// Only sockets with one of these ports; empty for all.
    pub ports: Vec<u16>,
    /// How the probe starts. Whether all is watched follows from `selection`.
    pub probe: probe::Options,
    /// Budgets, intervals and capacities of the core.
    pub core: Config,
    /// Of whom call stacks are taken.
    pub stacks: Wanted,
}

/// Why the observer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ObserverError {
    /// The kernel's side.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// What was to be watched.
    #[error("{0}")]
    Selection(SelectionError),
    /// Where the reports go.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl From<SelectionError> for ObserverError {
    fn from(error: SelectionError) -> Self {
        match error {
            SelectionError::Probe(error) => Self::Probe(error),
            other => Self::Selection(other),
        }
    }
}

/// A running observer.
pub struct Observer {
    probe: Probe,
    correlator: Correlator,
    join: Option<Join>,
    claim_streams: ClaimStreams,
    tally: Tally,
    places: Places,
    stacking: Stacking,
    /// Processes that the selection named and found.
    watched: BTreeSet<u32>,
    selection: Selection,
    ports: Vec<u16>,
    rate: TickRate,
    counted: BTreeMap<Counter, u64>,
    evicted: u64,
    damaged: u64,
    /// CONNECT packets without a readable client id.
    unread: u64,
    segments: Segments,
    naming: Naming,
    summary: Summary,
    last_event: MonoTime,
    cgroup_read: MonoTime,
    snapshot_due: bool,
}

impl Observer {
    /// Starts the probe. The second result says why less than everything is observed.
    ///
    /// # Errors
    ///
    /// Those of the selection and of the probe; nothing is left attached then.
    pub fn start(options: Options) -> Result<(Self, Option<String>), ObserverError> {
        let Options { selection, ports, probe: mut wanted, mut core, stacks } = options;
        wanted.watch_all = selection.all;
        selection.check()?;
        let stacking = Stacking::start(stacks);
        wanted.stacks = stacking.takes_all();
        let Started { mut probe, degraded } = Probe::start(&wanted)?;
        core.thresholds.port_range = probe.port_range();
        if let (Some(reason), true) = (probe.nameless(), wanted.layers != Some(Layers::A)) {
            log::warn!("MQTT client ids are not seen (layer C): {reason}");
        }
        if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
            log::debug!("the priority stays as it is: {error}");
        }
        let watched = selection.apply(&mut probe)?;
        // The first walk marks the sockets of the watched processes; only the next one finds
        // those that an unwatched process, walked before, holds as well.
        probe.snapshot_descriptors(|_| ())?;
        let now = clock::now();
        let observer = Self {
            probe,
            correlator: Correlator::new(core, now),
            join: None,
            claim_streams: ClaimStreams::default(),
            tally: Tally::default(),
            places: Places::default(),
            stacking,
            watched,
            selection,
            ports,
            rate: TickRate::HZ_250,
            counted: BTreeMap::new(),
            evicted: 0,
            damaged: 0,
            unread: 0,
            segments: Segments::default(),
            naming: Naming::new(now),
            summary: Summary::default(),
            last_event: now,
            cgroup_read: now,
            snapshot_due: false,
        };
        Ok((observer, degraded))
    }

    /// Compares the registry of the pool in this process with the kernel's table from now on.
    pub fn join(&mut self, join: Join) {
        self.correlator.follow_registry(std::process::id());
        self.join = Some(join);
    }

    /// Woken when the pool waits for a receipt: the ring should be looked at.
    pub fn awaited(&self) -> Option<Arc<Notify>> {
        self.join.as_ref().map(Join::awaited)
    }

    /// Watches more: what is in `selection` and was not named before. What was named stays.
    ///
    /// # Errors
    ///
    /// Those of the selection, and of the kernel's side.
    pub fn watch_too(&mut self, selection: Selection) -> Result<(), ObserverError> {
        self.watched.extend(selection.apply(&mut self.probe)?);
        self.expect_names(true, clock::now());
        self.selection.add(selection);
        Ok(())
    }

    /// Changes what is allowed, for what is judged from now on.
    pub fn set_tuning(&mut self, budgets: Budgets, rules: Vec<Rule<Timestamp>>) {
        let wall = WallClock::read();
        let rules = rules.into_iter().map(|rule| rule.timed(wall)).collect();
        self.correlator.set_tuning(budgets, rules, clock::now());
    }

    /// Changes how much is too much, for what is judged from now on.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.correlator.set_thresholds(thresholds);
    }

    /// What is attached.
    pub fn layers(&self) -> Layers {
        self.probe.layers()
    }

    /// Whether MQTT client ids are seen (layer C).
    pub fn sees_names(&self) -> bool {
        self.probe.nameless().is_none()
    }

    /// Readable when the ring is half full.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn ring_fd(&self) -> io::Result<std::os::fd::OwnedFd> {
        self.probe.ring_fd()
    }

    /// The core, to be looked at.
    pub fn core(&self) -> &Correlator {
        &self.correlator
    }

    /// How long nothing needs to be done, if nothing happens.
    pub fn idle_time(&self) -> Duration {
        let now = clock::now();
        let quiet = now.since(self.last_event) > IDLE_INTERVAL;
        let interval = if quiet { IDLE_INTERVAL } else { BUSY_INTERVAL };
        match self.correlator.poll_timeout() {
            Some(due) => interval.min(due.since(now)),
            None => interval,
        }
    }

    /// Takes what the kernel has, lets the core decide, and reports.
    ///
    /// # Errors
    ///
    /// Those of the sink, and of the probe when a snapshot cannot be taken.
    pub fn pump(&mut self, sink: &mut dyn Sink) -> Result<(), ObserverError> {
        let now = clock::now();
        if self.selection.has_cgroups() && now.since(self.cgroup_read) >= CGROUP_INTERVAL {
            let found = self.selection.refresh(&mut self.probe)?;
            self.expect_names(found.iter().any(|pid| !self.watched.contains(pid)), now);
            self.watched.extend(found);
            self.cgroup_read = now;
        }
        self.settle_names(now);
        self.drain();
        self.read_registry();
        self.end_claim_streams(now);
        self.account(now, sink)?;
        self.correlator.handle_timeout(now);
        self.report(sink)?;
        for _ in 0..SNAPSHOTS_PER_PUMP {
            if !std::mem::take(&mut self.snapshot_due) {
                break;
            }
            self.snapshot(sink)?;
            self.report(sink)?;
        }
        self.name_stacks(sink)?;
        sink.flush()?;
        Ok(())
    }

    /// Reports lines that the reader of the output did not take in time.
    ///
    /// # Errors
    ///
    /// As for [`Observer::pump`].
    pub fn report_dropped(&mut self, lost: u64, sink: &mut dyn Sink) -> Result<(), ObserverError> {
        if lost > 0 {
            self.summary.lost += lost;
            sink.report(Report::Loss { cause: "output-not-read", lost }, WallClock::read())?;
        }
        Ok(())
    }

    /// Tells the sink that the watch has begun.
    ///
    /// # Errors
    ///
    /// As for [`Observer::pump`].
    pub fn report_ready(&self, sink: &mut dyn Sink) -> Result<(), ObserverError> {
        let sockets = self.sockets_in_scope();
        let (layers, names) = (self.layers(), self.sees_names());
        sink.report(Report::Ready { layers, names, sockets }, WallClock::read())?;
        Ok(sink.flush()?)
    }

    /// Takes a snapshot and reports the whole table.
    ///
    /// # Errors
    ///
    /// As for [`Observer::pump`].
    pub fn report_sockets(&mut self, sink: &mut dyn Sink) -> Result<(), ObserverError> {
        self.drain();
        self.snapshot(sink)?;
        self.pump(sink)?;
        let report = Report::Sockets { table: self.correlator.table(), ports: &self.ports };
        sink.report(report, WallClock::read())?;
        Ok(sink.flush()?)
    }

    /// Reports what it all came to.
    ///
    /// # Errors
    ///
    /// As for [`Observer::pump`].
    pub fn report_summary(&mut self, sink: &mut dyn Sink) -> Result<Summary, ObserverError> {
        self.summary.sockets = self.sockets_in_scope();
        self.summary.open.clear();
        for incident in self.correlator.open_incidents() {
            let finding = &incident.finding;
            if finding.is_on(&self.ports) {
                *self.summary.open.entry(finding.kind.code()).or_default() += 1;
            }
        }
        self.summary.sites = self.groups();
        let ignored = self.correlator.ignored_by_kind().into_iter();
        self.summary.ignored = ignored.map(|(kind, count)| (kind.code(), count)).collect();
        self.summary.ignored_by_rule = self
            .correlator
            .ignored_by_rule()
            .filter(|(_, count)| *count > 0)
            .map(|(rule, findings)| IgnoredByRule { reason: rule.reason().to_owned(), findings })
            .collect();
        sink.report(Report::Summary(&self.summary), WallClock::read())?;
        sink.flush()?;
        Ok(self.summary.clone())
    }

    fn sockets_in_scope(&self) -> usize {
        let table = self.correlator.table();
        if self.ports.is_empty() {
            return table.len();
        }
        table.unordered().filter(|socket| socket.ends.are_on(&self.ports)).count()
    }

    /// Everything that is in the ring goes to the core.
    fn drain(&mut self) {
        let Self { probe, correlator, segments, stacking, damaged, unread, last_event, .. } = self;
        let mut name = |outcome, correlator: &mut Correlator| match outcome {
            Outcome::Named(event) => correlator.handle_event(event),
            Outcome::NoClientId => *unread += 1,
        };
        probe.drain(|bytes| {
            if let Some(taken) = decode::stack(bytes) {
                stacking.take(taken);
                return;
            }
            match decode::segment(bytes) {
                Some(Ok(segment)) => {
                    *last_event = segment.time;
                    if let Some(outcome) = segments.take(&segment) {
                        name(outcome, correlator);
                    }
                    return;
                }
                Some(Err(error)) => {
                    log::debug!("a segment is not understood: {error}");
                    *damaged += 1;
                    return;
                }
                None => {}
            }
            let full = decode::widen(bytes);
            let bytes = full.as_ref().map_or(bytes, |full| full.as_slice());
            match decode::event(bytes) {
                Ok(event) => {
                    if !matches!(event, KernelEvent::Forked { .. } | KernelEvent::Exited { .. }) {
                        *last_event = event.time();
                    }
                    if let Some((process, comm)) = decode::actor(bytes) {
                        correlator.handle_name(process, &comm, event.time());
                    }
                    if let Some(cause) = decode::cause(bytes) {
                        correlator.handle_event(cause);
                    }
                    stacking.note(&event);
                    correlator.handle_event(event);
                    if let Some(end) = decode::end(bytes) {
                        stacking.note(&end);
                        correlator.handle_event(end);
                    }
                }
                Err(error) => {
                    log::debug!("a record is not understood: {error}");
                    *damaged += 1;
                }
            }
        });
        let now = clock::now();
        while let Some(outcome) = segments.expire(now) {
            name(outcome, correlator);
        }
    }

    /// A process that is watched from now on may have connections that have not said who they are.
    fn expect_names(&mut self, is_new: bool, now: MonoTime) {
        if is_new {
            self.naming = Naming::new(now);
            self.probe.expect_names();
        }
    }

    /// Ends the search for CONNECT packets while no connection is about to send one.
    fn settle_names(&mut self, now: MonoTime) {
        if let Some(settled) = self.probe.begun().and_then(|begun| self.naming.settled(begun, now))
        {
            self.probe.settle_names(settled);
        }
    }

    /// What the registry says goes to the core. After the ring, so that the kernel's word about a
    /// socket that the pool has closed is there first.
    fn read_registry(&mut self) {
        let Some(said) = self.join.as_mut().and_then(Join::read) else { return };
        let now = clock::now();
        match said {
            Said::Changes(changes) => self.correlator.handle_changes(changes, now),
            Said::All(claims) => self.correlator.handle_registry(claims, now),
        }
    }

    /// Reports what was lost since the last time, and tells the core.
    fn account(&mut self, now: MonoTime, sink: &mut dyn Sink) -> Result<(), ObserverError> {
        let clock = WallClock::read();
        for (counter, total) in self.probe.counters() {
            let counted = self.counted.entry(counter).or_default();
            let lost = total.saturating_sub(*counted);
            if lost == 0 {
                continue;
            }
            *counted = total;
            self.tally.lost(counter.name(), lost);
            sink.report(Report::Loss { cause: counter.name(), lost }, clock)?;
            if counter.is_loss() {
                self.summary.lost += lost;
                self.correlator.handle_loss(now, lost);
            }
        }
        let damaged = std::mem::take(&mut self.damaged);
        if damaged > 0 {
            self.summary.lost += damaged;
            self.tally.lost("record-not-understood", damaged);
            sink.report(Report::Loss { cause: "record-not-understood", lost: damaged }, clock)?;
            self.correlator.handle_loss(now, damaged);
        }
        let unread = std::mem::take(&mut self.unread);
        if unread > 0 {
            let cause = Counter::ConnectNotRead.name();
            self.tally.lost(cause, unread);
            sink.report(Report::Loss { cause, lost: unread }, clock)?;
        }
        let left_out = self.stacking.left_out();
        if left_out > 0 {
            let cause = Counter::StackNotTaken.name();
            self.tally.lost(cause, left_out);
            sink.report(Report::Loss { cause, lost: left_out }, clock)?;
        }
        let evicted = self.correlator.table().evicted();
        if evicted > self.evicted {
            let lost = evicted - self.evicted;
            self.evicted = evicted;
            self.summary.lost += lost;
            self.tally.lost("table-full", lost);
            sink.report(Report::Loss { cause: "table-full", lost }, clock)?;
        }
        Ok(())
    }

    fn report(&mut self, sink: &mut dyn Sink) -> Result<(), ObserverError> {
        let clock = WallClock::read();
        while let Some(output) = self.correlator.poll_output() {
            match output {
                Output::Transition(seen) => {
                    self.tally.transition(&seen);
                    if seen.ends.are_on(&self.ports) {
                        self.summary.transitions += 1;
                        sink.report(Report::Transition(&seen), clock)?;
                    }
                }
                Output::Finding(mut finding) => {
                    self.tally.finding(&finding);
                    if finding.is_on(&self.ports) {
                        let is_opened = finding.event == FindingEvent::Opened;
                        self.prove(&mut finding, is_opened, clock);
                        if finding.event == FindingEvent::Opened {
                            self.arm(&finding, finding.time);
                            *self.summary.opened.entry(finding.kind.code()).or_default() += 1;
                        }
                        sink.report(Report::Finding(&finding), clock)?;
                    }
                }
                Output::Pool(output) => {
                    if let Some(join) = &self.join {
                        join.tell(output);
                    }
                }
                Output::SnapshotWanted(reason) => {
                    log::debug!("a snapshot is wanted: {reason:?}");
                    self.snapshot_due = true;
                }
            }
        }
        Ok(())
    }

    /// Adds what stands behind a finding; its socket's history and stack only if it is to be
    /// `explained`.
    fn prove(&mut self, finding: &mut Finding, explained: bool, clock: WallClock) {
        let table = self.correlator.table();
        let socket = finding.cookie().filter(|_| explained).and_then(|it| table.socket(it));
        let history = socket.map(|socket| table.history(socket).into());
        // Not the finding's own time: an open one is asked for long after it was reported.
        let now = clock::now();
        let holders = finding.holders.iter().take(PLACES_PER_FINDING);
        let places = holders.map(|holder| self.places.of(holder.process, now)).collect();
        let place = self.places.of(finding.process, now);
        let running_for = clock.running_for(finding.process, finding.time);
        let stack = self.stacking.of(finding);
        let site = stack.as_ref().and_then(|named| named.place()).map(Arc::from);
        let stack = stack.filter(|_| explained);
        finding.prove(Proof { place, places, history, site, stack }, running_for);
    }
}
