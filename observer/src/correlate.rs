//! PURE. From events and snapshots to findings.
//!
//! The correlator is told what happens (`handle_*`) and asked what to do (`poll_*`). A finding
//! opens only after a snapshot has confirmed the state and the holders of the socket at or after
//! the moment at which its budget ran out; it clears as soon as any event or snapshot shows that the
//! cause is gone. Between a loss and the next snapshot nothing opens.

mod agenda;
mod asking;
mod claims;
mod places;
mod registry;
mod trends;
mod tuned;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use self::{
    agenda::Agenda,
    asking::Asking,
    tuned::{Standing, responsible},
};
use crate::{
    claims::Claims,
    detect::{Budgets, Kind, Verdict, judge},
    incident::{Book, Finding, FindingEvent, Incident, Subject, Trigger},
    ledger::{self, Ledger},
    model::{Comm, Cookie, Ends, KernelEvent, MonoTime, ProcessKey, Snapshot, Transition},
    table::{Change, Limits, Question, Table},
    trends::{Thresholds, Trends},
    tuning::{ByPlace, Ignored, Rule, Tuning},
};

/// Shortest time between two periodic snapshots, however small the budgets are. Chosen: a snapshot
/// of a large host takes some 20 ms.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What the correlator goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long each kind may last.
    pub budgets: Budgets,
    /// What is allowed to some, in the order in which it counts.
    pub rules: Vec<Rule>,
    /// How much is too much.
    pub thresholds: Thresholds,
    /// Sockets in the table. 65,536: five times the fleet that this was made for.
    pub socket_capacity: usize,
    /// Processes in the table. 32,768: the kernel's own default limit (`pid_max`).
    pub process_capacity: usize,
    /// Time between two snapshots when nothing else asks for one. It is cut to the smallest budget
    /// of dead-fd, inherited and undrained, which rest on what only snapshots show.
    pub snapshot_interval: Duration,
    /// Least time between two snapshots, whatever asks for them.
    pub suspicion_gap: Duration,
    /// `CLOCK_BOOTTIME` minus `CLOCK_MONOTONIC`.
    pub boot_offset: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            budgets: Budgets::default(),
            rules: Vec::new(),
            thresholds: Thresholds::default(),
            socket_capacity: 65_536,
            process_capacity: 32_768,
            snapshot_interval: Duration::from_secs(10),
            suspicion_gap: Duration::from_millis(10),
            boot_offset: Duration::ZERO,
        }
    }
}

/// Why a snapshot is wanted, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnapshotReason {
    /// Nothing is known yet.
    Start,
    /// Records were lost.
    Loss,
    /// A budget ran out, and only a snapshot proves the holders.
    Suspicion,
    /// A process accepted a socket that is not known.
    UnknownSocket,
    /// A watched process runs a new program: some of its descriptors may be gone.
    NewProcess,
    /// It is time.
    Periodic,
}

/// What the correlator wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Something is wrong, goes on or is over.
    Finding(Finding),
    /// A snapshot, please: said once until the next [`Correlator::handle_snapshot`].
    SnapshotWanted(SnapshotReason),
    /// Something for the pool.
    Pool(ledger::Output),
    /// A transition, for those who follow the stream.
    Transition(SeenTransition),
}

/// A transition with what the table knows of the socket.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenTransition {
    /// As the kernel told it.
    pub transition: Transition,
    /// Both ends, with what this record lacks taken from earlier ones.
    pub ends: Ends,
    /// Who the socket belongs to, as far as is known.
    pub owner: Option<KnownOwner>,
}

/// The owner of a socket; the first holder where the owner is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownOwner {
    /// The process.
    pub process: ProcessKey,
    /// Its name; empty if that is not known.
    pub comm: Comm,
    /// The descriptor.
    pub fd: Option<i32>,
}

/// Puts events and snapshots together and decides what is a finding.
#[derive(Debug)]
pub struct Correlator {
    tuning: Tuning,
    ignored: Ignored,
    /// Where these run decides about something. Empty after each snapshot, and never more than there
    /// are processes with something due.
    places_wanted: BTreeSet<ProcessKey>,
    /// As it was wanted, before budgets cut it.
    snapshot_interval: Duration,
    table: Table,
    book: Book,
    agenda: Agenda,
    /// The pool's registry, if there is one.
    ledger: Option<Ledger>,
    claims_agenda: Agenda,
    /// What other processes claim.
    claims: Claims,
    trends: Trends,
    asking: Asking,
    /// Records were lost at this time, and no snapshot has begun since.
    lost_at: Option<MonoTime>,
    outputs: VecDeque<Output>,
}

/// How far an evaluation may go.
#[derive(Clone, Copy)]
enum Authority {
    /// It may clear and update.
    Review,
    /// It may open too: a snapshot that began at this time has just been taken in.
    Open { began: MonoTime },
}

impl Correlator {
    /// A correlator that knows nothing: the first thing it wants is a snapshot.
    pub fn new(config: Config, now: MonoTime) -> Self {
        let tuning = Tuning::new(config.budgets, config.rules);
        let interval = tuned::interval(config.snapshot_interval, &tuning);
        let table = Table::new(Limits {
            sockets: config.socket_capacity,
            processes: config.process_capacity,
            boot_offset: config.boot_offset,
        });
        let mut correlator = Self {
            tuning,
            ignored: Ignored::default(),
            places_wanted: BTreeSet::new(),
            snapshot_interval: config.snapshot_interval,
            table,
            book: Book::default(),
            agenda: Agenda::default(),
            ledger: None,
            claims_agenda: Agenda::default(),
            claims: Claims::default(),
            trends: Trends::new(config.thresholds, now),
            asking: Asking::new(interval, config.suspicion_gap, now),
            lost_at: None,
            outputs: VecDeque::new(),
        };
        correlator.want(SnapshotReason::Start, now, now);
        correlator
    }

    /// Takes in an event. Events come in the order in which the kernel recorded them.
    pub fn handle_event(&mut self, event: KernelEvent) {
        let now = event.time();
        if let KernelEvent::Named { cookie, .. } = event
            && self.is_of_pool(cookie)
        {
            // The registry knows better who it is.
            return;
        }
        let question = self.table.apply(&event);
        let trigger = match &event {
            KernelEvent::Closed { .. } => Trigger::Closed,
            KernelEvent::Exited { .. } => Trigger::Exited,
            _ => Trigger::Event,
        };
        self.tell_ledger(&event, trigger);
        if let KernelEvent::Exited { process, .. } = event {
            self.claims.exited(process);
        }
        self.trends.handle_event(&event, &self.table);
        if let KernelEvent::Exhausted { process, .. } = event
            && !self.book.has(Subject::Process(process), Kind::Exhausted)
        {
            // What it has open at this moment is what everybody will ask.
            self.want(SnapshotReason::Suspicion, now, now);
        }
        if let KernelEvent::Transition(transition) = event {
            let seen = self.seen(transition);
            self.outputs.push_back(Output::Transition(seen));
        }
        self.review_changes(now, trigger);
        match question {
            Some(Question::NewProgram) => self.want(SnapshotReason::NewProcess, now, now),
            Some(Question::UnknownSocket) => self.want(SnapshotReason::UnknownSocket, now, now),
            None => {}
        }
    }

    /// A process did something at `time`, and this is its name. Told before the event itself.
    pub fn handle_name(&mut self, process: ProcessKey, comm: &Comm, time: MonoTime) {
        self.table.name(process, comm, time);
    }

    /// Takes in a snapshot. All events up to its end must have been handled before.
    pub fn handle_snapshot(&mut self, snapshot: Snapshot) {
        let began = snapshot.began;
        let ended = snapshot.ended.max(began);
        let lost = self.lost_at.is_some();
        let settles = self.lost_at.is_some_and(|lost_at| lost_at <= began);
        let is_complete = self.table.apply_snapshot(&snapshot, lost, settles);
        if settles {
            self.lost_at = None;
        }
        for row in &snapshot.processes {
            // A process without any socket is known by nothing else.
            self.table.name(row.process, &row.comm, began);
        }
        self.asking.answered(began, ended);
        let may_open = is_complete && self.lost_at.is_none();
        let authority = if may_open { Authority::Open { began } } else { Authority::Review };
        self.drop_left(ended);
        for cookie in self.suspects(ended) {
            self.evaluate(cookie, ended, Trigger::Snapshot, authority);
        }
        self.show_ledger(&snapshot, may_open, authority);
        self.show_claims(began, ended, authority);
        self.trends.handle_snapshot(&snapshot, &self.table);
        self.judge_trends(ended);
        if !is_complete {
            self.want(SnapshotReason::Suspicion, ended, ended);
        }
        self.ask(ended);
    }

    /// `lost` records are missing, noticed at `now`: until a snapshot that begins later everything
    /// is uncertain. Must be told before the snapshot or timeout that follows the loss.
    pub fn handle_loss(&mut self, now: MonoTime, lost: u64) {
        if lost == 0 {
            return;
        }
        self.table.lose(now);
        self.trends.lose(now);
        self.lost_at = self.lost_at.max(Some(now));
        self.want(SnapshotReason::Loss, now, now);
    }

    /// Time has come to `now`. All events up to `now` must have been handled before.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        while let Some((due, cookie)) = self.agenda.pop(now) {
            let Some(socket) = self.table.socket(cookie) else { continue };
            let mut next = None;
            for kind in Kind::OF_SOCKETS {
                match self.stand(kind, socket, now) {
                    _ if self.book.is_open(cookie, kind) => {}
                    None => {}
                    Some(it) if it.opens() > now => next = earlier(next, it.opens()),
                    Some(it) => {
                        if it.allowance.by_place != ByPlace::No {
                            self.places_wanted.extend(responsible(socket));
                        }
                        self.asking.want(SnapshotReason::Suspicion, due);
                    }
                }
            }
            self.agenda.set(cookie, next);
        }
        self.time_ledger(now);
        self.time_claims(now);
        self.time_trends(now);
        self.ask(now);
    }

    /// When [`Self::handle_timeout`] is needed next.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let agendas = [
            self.agenda.next(),
            self.claims_agenda.next(),
            self.claims.next(),
            self.trends.next(),
            self.asking.next(),
        ];
        agendas.into_iter().flatten().min()
    }

    /// What is to be done next, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// All that is known.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The open incidents, by socket and kind.
    pub fn open_incidents(&self) -> impl Iterator<Item = &Incident> {
        self.book.iter()
    }

    fn want(&mut self, reason: SnapshotReason, need: MonoTime, now: MonoTime) {
        self.asking.want(reason, need);
        self.ask(now);
    }

    fn ask(&mut self, now: MonoTime) {
        if let Some(reason) = self.asking.ask(now) {
            self.outputs.push_back(Output::SnapshotWanted(reason));
        }
    }

    fn seen(&self, transition: Transition) -> SeenTransition {
        let socket = self.table.socket(transition.cookie);
        let owner = socket.and_then(|socket| match &socket.owner {
            Some(owner) => {
                Some(KnownOwner { process: owner.process, comm: owner.comm.clone(), fd: owner.fd })
            }
            None => socket.holders.first().map(|entry| KnownOwner {
                process: entry.process,
                comm: self.table.comm(entry.process),
                fd: Some(entry.fd),
            }),
        });
        SeenTransition {
            ends: socket.map_or(transition.ends, |socket| socket.ends),
            owner,
            transition,
        }
    }

    /// Judges what an event changed.
    fn review_changes(&mut self, now: MonoTime, trigger: Trigger) {
        for change in self.table.take_changes() {
            match change {
                Change::Touched(cookie) => {
                    self.claims.touched(cookie, &self.table);
                    self.evaluate(cookie, now, trigger, Authority::Review);
                    self.review_claim(cookie, now, trigger);
                }
                Change::Left(cookie, gone) => {
                    self.left(cookie, gone, now);
                    self.review_claim(cookie, now, trigger);
                }
            }
        }
    }

    /// Clears what is about sockets that a snapshot made leave; the others are judged after it.
    fn drop_left(&mut self, now: MonoTime) {
        for change in self.table.take_changes() {
            if let Change::Left(cookie, gone) = change {
                self.left(cookie, gone, now);
            }
        }
    }

    fn left(&mut self, cookie: Cookie, gone: crate::table::Gone, now: MonoTime) {
        self.agenda.set(cookie, None);
        for kind in Kind::OF_SOCKETS {
            self.ignored.forget(Subject::Socket(cookie), kind);
        }
        self.claims.left(cookie, gone, now);
        for finding in self.book.left(cookie, gone, now) {
            self.outputs.push_back(Output::Finding(finding));
        }
    }

    /// The sockets about which there is something to say, by cookie: few of many.
    fn suspects(&self, now: MonoTime) -> Vec<Cookie> {
        let mut suspects: Vec<_> = self
            .table
            .unordered()
            .filter(|socket| {
                socket.is_reported()
                    || self.ignored.is_about(Subject::Socket(socket.cookie))
                    || Kind::OF_SOCKETS.into_iter().any(|kind| {
                        judge(kind, socket, now, self.tuning.budgets().get(kind)) != Verdict::Fine
                    })
            })
            .map(|socket| socket.cookie)
            .collect();
        suspects.sort_unstable();
        suspects
    }

    /// Judges one socket: clears, updates, and opens if it may. Then notes when a budget of it runs
    /// out.
    fn evaluate(&mut self, cookie: Cookie, now: MonoTime, trigger: Trigger, authority: Authority) {
        let Some(socket) = self.table.socket(cookie) else { return };
        // A snapshot proves what it saw at the time when it saw it.
        let proven = match authority {
            Authority::Open { began } => socket.confirmed_at().filter(|time| *time >= began),
            Authority::Review => None,
        };
        let mut first_due = None;
        for kind in Kind::OF_SOCKETS {
            let standing = self.stand(kind, socket, now);
            let subject = Subject::Socket(cookie);
            let exemption = standing.and_then(|it| it.allowance.exemption);
            let is_open = socket.is_reported() && self.book.is_open(cookie, kind);
            let finding = match (is_open, standing, exemption) {
                (true, _, Some(it)) => {
                    self.book.ignore(subject, kind, self.tuning.reason(it.rule), now)
                }
                (true, _, None) => {
                    let verdict = standing.map_or(Verdict::Fine, |it| it.verdict);
                    self.book.review(&self.table, socket, kind, verdict, now, trigger)
                }
                (false, Some(it), _) if proven.is_some_and(|proven| it.is_finding(proven)) => {
                    let Standing { since, allowance, .. } = it;
                    Some(self.book.open(&self.table, socket, kind, since, allowance.budget, now))
                }
                (false, _, _) => None,
            };
            if standing.is_some_and(|it| it.is_by_place(proven)) {
                // It may move.
                self.places_wanted.extend(responsible(socket));
            }
            match (standing, exemption) {
                (Some(it), Some(by)) if is_open || proven.is_some_and(|at| it.due <= at) => {
                    self.ignored.note(subject, kind, by.rule, it.since);
                }
                (Some(_), Some(_)) => {}
                _ => self.ignored.forget(subject, kind),
            }
            // What was cleared may come again: it is only suspected.
            let goes_on = finding.as_ref().map(|it| it.event != FindingEvent::Cleared);
            if let Some(it) = standing.filter(|_| !goes_on.unwrap_or(is_open)) {
                first_due = earlier(first_due, it.opens());
            }
            self.outputs.extend(finding.map(Output::Finding));
        }
        let reported = self.book.is_reported(cookie);
        if socket.is_reported() != reported {
            self.table.set_reported(cookie, reported);
        }
        self.agenda.set(cookie, first_due);
    }
}

fn earlier(first: Option<MonoTime>, due: MonoTime) -> Option<MonoTime> {
    Some(first.map_or(due, |first| first.min(due)))
}

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod kernel_model;
#[cfg(test)]
mod live;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
