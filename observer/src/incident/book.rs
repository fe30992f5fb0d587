//! The open incidents: at most one for a subject and a kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    detect::{Kind, Verdict},
    incident::{
        ClearReason, Detail, Finding, FindingEvent, Incident, SocketFacts, Subject, message,
    },
    model::{Cookie, Holder, MonoTime},
    table::{Gone, Socket, Table},
};

/// What made the book look at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// A close(2).
    Closed,
    /// A process exited.
    Exited,
    /// Any other event.
    Event,
    /// A snapshot.
    Snapshot,
}

/// All open incidents.
#[derive(Debug, Default)]
pub(crate) struct Book {
    open: BTreeMap<(Subject, Kind), Incident>,
    opened: u64,
}

impl Book {
    /// The open incidents, by subject and kind.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.open.values()
    }

    /// Whether an incident of this kind is open about this socket.
    pub(crate) fn is_open(&self, cookie: Cookie, kind: Kind) -> bool {
        self.has(Subject::Socket(cookie), kind)
    }

    /// Whether an incident of this kind is open about this.
    pub(crate) fn has(&self, subject: Subject, kind: Kind) -> bool {
        self.open.contains_key(&(subject, kind))
    }

    /// The open incident of this kind about this.
    pub(crate) fn get(&self, subject: Subject, kind: Kind) -> Option<&Incident> {
        self.open.get(&(subject, kind))
    }

    /// Whether any incident is open about this socket.
    pub(crate) fn is_reported(&self, cookie: Cookie) -> bool {
        let subject = Subject::Socket(cookie);
        self.open.range((subject, Kind::ALL[0])..).next().is_some_and(|((at, _), _)| *at == subject)
    }

    /// The sockets of open incidents that are about the registry.
    pub(crate) fn of_registry(&self) -> impl Iterator<Item = Cookie> {
        let keys = self.open.keys().filter(|(_, kind)| Kind::OF_REGISTRY.contains(kind));
        keys.filter_map(|(subject, _)| subject.cookie())
    }

    /// What the open incidents about processes are about.
    pub(crate) fn of_processes(&self) -> BTreeSet<(Subject, Kind)> {
        let keys = self.open.keys().filter(|(_, kind)| Kind::OF_PROCESSES.contains(kind));
        keys.copied().collect()
    }

    /// Opens an incident.
    pub(crate) fn open(
        &mut self,
        table: &Table,
        socket: &Socket,
        kind: Kind,
        since: MonoTime,
        budget: Duration,
        now: MonoTime,
    ) -> Finding {
        self.raise(describe(table, socket, kind, since, budget, now))
    }

    /// Opens an incident about which all is said but its number.
    pub(crate) fn raise(&mut self, mut finding: Finding) -> Finding {
        self.opened += 1;
        finding.id = self.opened;
        let remind_at = next_reminder(finding.age(), finding.budget);
        let incident = Incident { finding: finding.clone(), opened: finding.time, remind_at };
        self.open.insert((finding.subject, finding.kind), incident);
        finding
    }

    /// Judges an open incident again: nothing to say, an update or its end.
    pub(crate) fn review(
        &mut self,
        table: &Table,
        socket: &Socket,
        kind: Kind,
        verdict: Verdict,
        now: MonoTime,
        trigger: Trigger,
    ) -> Option<Finding> {
        let incident = self.open.get_mut(&(Subject::Socket(socket.cookie), kind))?;
        let last = &incident.finding;
        let is_over = match verdict {
            Verdict::Fine => true,
            Verdict::Suspect { since, .. } => since > last.since,
            Verdict::Leak { .. } => false,
        };
        if is_over {
            let reason = clear_reason(socket, kind, trigger);
            return self.clear(socket.cookie, kind, reason, Some(socket), now);
        }
        let since = verdict.since().unwrap_or(last.since).max(last.since);
        let finding = describe(table, socket, kind, since, last.budget, now);
        self.renew(finding, trigger)
    }

    /// An open incident goes on: an update, if something is new or it is time to say so again.
    pub(crate) fn renew(&mut self, finding: Finding, trigger: Trigger) -> Option<Finding> {
        let incident = self.open.get_mut(&(finding.subject, finding.kind))?;
        let last = &incident.finding;
        let is_new = finding.holders != last.holders
            || finding.socket.map(|it| it.state) != last.socket.map(|it| it.state)
            || finding.evidence != last.evidence
            || finding.since != last.since;
        if !is_new && (trigger != Trigger::Snapshot || finding.age() < incident.remind_at) {
            // What is counted goes on: a list of open incidents and the end tell the last numbers.
            if finding.socket.is_none() {
                let Finding { time, message, detail, .. } = finding;
                let last = &mut incident.finding;
                (last.time, last.message, last.detail) = (time, message, detail);
            }
            return None;
        }
        incident.remind_at = next_reminder(finding.age(), finding.budget);
        let id = last.id;
        incident.finding = Finding { event: FindingEvent::Updated, id, ..finding };
        Some(incident.finding.clone())
    }

    /// Clears the incidents about a socket that left the table; those of the registry have their
    /// own end.
    pub(crate) fn left(&mut self, cookie: Cookie, gone: Gone, now: MonoTime) -> Vec<Finding> {
        let reason = match gone {
            Gone::Absent => ClearReason::Vanished,
            Gone::Destroyed => ClearReason::Destroyed,
            Gone::Evicted => ClearReason::Forgotten,
        };
        let clear = |kind| self.clear(cookie, kind, reason, None, now);
        Kind::OF_SOCKETS.into_iter().filter_map(clear).collect()
    }

    /// Clears an incident.
    pub(crate) fn clear(
        &mut self,
        cookie: Cookie,
        kind: Kind,
        reason: ClearReason,
        socket: Option<&Socket>,
        now: MonoTime,
    ) -> Option<Finding> {
        let mut finding = self.end(Subject::Socket(cookie), kind, reason, now)?;
        if let (Some(socket), Some(facts)) = (socket, &mut finding.socket) {
            let born_before_observer = facts.born_before_observer;
            *facts = SocketFacts { born_before_observer, ..SocketFacts::of(socket) };
        }
        finding.message = match &finding.device {
            Some(device) => message::registry_cleared(&finding, device, reason),
            None => message::cleared(&finding, reason),
        };
        Some(finding)
    }

    /// Clears an incident that is about a process.
    pub(crate) fn subside(
        &mut self,
        subject: Subject,
        kind: Kind,
        reason: ClearReason,
        now: MonoTime,
    ) -> Option<Finding> {
        let mut finding = self.end(subject, kind, reason, now)?;
        finding.message = message::subsided(&finding, reason);
        Some(finding)
    }

    /// Clears an incident that a rule ignores from now on, for `why`.
    pub(crate) fn ignore(
        &mut self,
        subject: Subject,
        kind: Kind,
        why: &str,
        now: MonoTime,
    ) -> Option<Finding> {
        let mut finding = self.end(subject, kind, ClearReason::Ignored, now)?;
        finding.message = message::ignored(&finding, why);
        Some(finding)
    }

    fn end(
        &mut self,
        subject: Subject,
        kind: Kind,
        reason: ClearReason,
        now: MonoTime,
    ) -> Option<Finding> {
        let mut finding = self.open.remove(&(subject, kind))?.finding;
        finding.event = FindingEvent::Cleared;
        finding.time = now.max(finding.since);
        finding.clear_reason = Some(reason);
        Some(finding)
    }
}

/// An incident is reported again when its age has doubled past the budget.
fn next_reminder(age: Duration, budget: Duration) -> Duration {
    let floor = budget.max(Duration::from_secs(1));
    age.max(floor).saturating_mul(2)
}

fn clear_reason(socket: &Socket, kind: Kind, trigger: Trigger) -> ClearReason {
    use crate::model::TcpState::{Close, CloseWait, Established, SynSent};
    let in_state = match kind {
        Kind::CloseWait => socket.state == CloseWait,
        Kind::DeadFd => socket.state == Close,
        Kind::StuckConnect => socket.state == SynSent,
        Kind::Undrained => matches!(socket.state, Established | CloseWait),
        Kind::DuplicateClientId | Kind::SilentPeer => socket.state == Established,
        _ => true,
    };
    if socket.holders.is_empty() {
        return match trigger {
            Trigger::Closed => ClearReason::Closed,
            Trigger::Exited => ClearReason::Exited,
            Trigger::Event | Trigger::Snapshot if in_state => ClearReason::Vanished,
            Trigger::Event | Trigger::Snapshot => ClearReason::StateLeft,
        };
    }
    if !in_state {
        return ClearReason::StateLeft;
    }
    let read = socket.flow.last_read.map(|moved| moved.by);
    let sent = socket.flow.last_sent.max(socket.flow.last_written.map(|moved| moved.by));
    match kind {
        Kind::Inherited => ClearReason::HandedOver,
        Kind::Undrained => ClearReason::Read,
        Kind::CloseWait if read >= sent => ClearReason::Read,
        Kind::CloseWait => ClearReason::Sent,
        Kind::DuplicateClientId => ClearReason::Parted,
        Kind::SilentPeer if socket.flow.last_received >= sent => ClearReason::Read,
        Kind::SilentPeer => ClearReason::Sent,
        _ => ClearReason::StateLeft,
    }
}

fn describe(
    table: &Table,
    socket: &Socket,
    kind: Kind,
    since: MonoTime,
    budget: Duration,
    now: MonoTime,
) -> Finding {
    let mut holders = table.holders(socket);
    // Whoever should act comes first; the rest stays in order.
    if let Some(position) = holders.iter().position(|holder| socket.is_owned_by(holder.process)) {
        holders[..=position].rotate_right(1);
    }
    let Holder { process, comm, .. } =
        holders.first().cloned().expect("invariant: every verdict but Fine needs a holder");
    let evidence = match kind {
        Kind::DuplicateClientId => table.succession_evidence(socket),
        Kind::Inherited => table.life_evidence(socket),
        _ => table.evidence(socket),
    };
    let mut finding = Finding {
        event: FindingEvent::Opened,
        id: 0,
        kind,
        time: now.max(since),
        process,
        comm,
        subject: Subject::Socket(socket.cookie),
        socket: Some(SocketFacts::of(socket)),
        holders,
        since,
        budget,
        evidence,
        device: None,
        detail: detail(table, socket, kind),
        proof: Box::default(),
        message: String::new(),
        clear_reason: None,
    };
    finding.message = message::found(&finding, socket);
    finding
}

/// What a kind says beyond its socket.
fn detail(table: &Table, socket: &Socket, kind: Kind) -> Option<Detail> {
    let client = socket.client.as_ref();
    match kind {
        Kind::DuplicateClientId => {
            let (newer_cookie, _) = socket.succeeded?;
            let newer = table.socket(newer_cookie).and_then(|newer| newer.holders.first());
            Some(Detail::Duplicate {
                client_id: client?.client_id.clone(),
                newer_cookie,
                newer_pid: newer.map(|holder| holder.process.pid),
                newer_fd: newer.map(|holder| holder.fd),
            })
        }
        Kind::SilentPeer => {
            let client = client?;
            Some(Detail::Silent {
                keep_alive: client.keep_alive,
                client_id: client.identity().cloned(),
            })
        }
        _ => None,
    }
}
