//! The registry's claims in the correlator: matched by cookie, judged, opened and cleared.

use std::time::Duration;

use pool::registry::{Change, Claim};

use super::{Authority, Correlator, Output, SnapshotReason, earlier};
use crate::{
    detect::{Kind, Verdict},
    incident::{About, ClearReason, Subject, Trigger, culprit, describe_registry},
    ledger::{self, Ledger},
    model::{Cookie, KernelEvent, MonoTime, ProcessKey, Snapshot},
    tuning::{Allowance, ByPlace},
};

impl Correlator {
    /// Keeps the registry of the pool in process `pid` as the second ledger from now on.
    pub fn follow_registry(&mut self, pid: u32) {
        self.ledger = Some(Ledger::new(pid));
        self.trends.set_own_pool(pid);
    }

    /// The pool's ledger.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Whether the process of the pool made this connection.
    pub(super) fn is_of_pool(&self, cookie: Cookie) -> bool {
        let owner = self.table.socket(cookie).and_then(|socket| socket.owner.as_ref());
        let pool = self.ledger.as_ref().map(Ledger::pid);
        pool.is_some() && owner.map(|owner| owner.process.pid) == pool
    }

    /// Takes in what changed in the registry, told at `now`.
    pub fn handle_changes(&mut self, changes: impl IntoIterator<Item = Change>, now: MonoTime) {
        let Some(ledger) = &mut self.ledger else { return };
        ledger.handle_changes(changes, &self.table, now);
        self.follow_ledger(now, Trigger::Event);
    }

    /// Takes in the whole registry, after changes were missed.
    pub fn handle_registry(&mut self, claims: Vec<Claim>, now: MonoTime) {
        let Some(ledger) = &mut self.ledger else { return };
        ledger.handle_registry(claims, &self.table, now);
        self.follow_ledger(now, Trigger::Event);
    }

    pub(super) fn tell_ledger(&mut self, event: &KernelEvent, trigger: Trigger) {
        let Some(ledger) = &mut self.ledger else { return };
        ledger.handle_event(event);
        self.follow_ledger(event.time(), trigger);
    }

    /// `is_certain` unless something may be missing from the snapshot.
    pub(super) fn show_ledger(
        &mut self,
        snapshot: &Snapshot,
        is_certain: bool,
        authority: Authority,
    ) {
        let Some(ledger) = &mut self.ledger else { return };
        let now = snapshot.ended.max(snapshot.began);
        ledger.handle_snapshot(snapshot, &self.table, is_certain);
        let outputs = ledger.take_outputs();
        let _all_are_looked_at = ledger.take_touched();
        let mut cookies = ledger.suspects();
        cookies.extend(self.book.of_registry());
        cookies.sort_unstable();
        cookies.dedup();
        self.pass_on(outputs);
        for cookie in cookies {
            self.evaluate_claim(cookie, now, Trigger::Snapshot, authority);
        }
    }

    /// Something about the holders of a socket changed, which the ledger does not look at.
    pub(super) fn review_claim(&mut self, cookie: Cookie, now: MonoTime, trigger: Trigger) {
        let subject = Subject::Socket(cookie);
        let is_known = |kind| self.book.has(subject, kind) || self.ignored.has(subject, kind);
        if Kind::OF_REGISTRY.into_iter().any(is_known) {
            self.evaluate_claim(cookie, now, trigger, Authority::Review);
        }
    }

    /// Looks at the claims whose time has come.
    pub(super) fn time_ledger(&mut self, now: MonoTime) {
        while let Some((_, cookie)) = self.claims_agenda.pop(now) {
            let due = self.evaluate_claim(cookie, now, Trigger::Event, Authority::Review);
            if let Some(due) = due.filter(|due| *due <= now) {
                // Its time is over, and only a snapshot proves the rest.
                self.claims_agenda.set(cookie, None);
                self.asking.want(SnapshotReason::Suspicion, due);
            }
        }
    }

    fn follow_ledger(&mut self, now: MonoTime, trigger: Trigger) {
        let Some(ledger) = &mut self.ledger else { return };
        let (outputs, touched) = (ledger.take_outputs(), ledger.take_touched());
        self.pass_on(outputs);
        for cookie in touched {
            self.evaluate_claim(cookie, now, trigger, Authority::Review);
        }
    }

    fn pass_on(&mut self, outputs: Vec<ledger::Output>) {
        self.outputs.extend(outputs.into_iter().map(Output::Pool));
    }

    /// Judges what the two ledgers say of one socket: clears, updates, and opens if it may. Says
    /// when the first budget of it runs out, and notes it.
    fn evaluate_claim(
        &mut self,
        cookie: Cookie,
        now: MonoTime,
        trigger: Trigger,
        authority: Authority,
    ) -> Option<MonoTime> {
        let mut first_due = None;
        for kind in Kind::OF_REGISTRY {
            if self.claims.has_told(cookie, kind) {
                // Another process claims it: it is none of the pool's.
                continue;
            }
            let subject = Subject::Socket(cookie);
            let (allowance, process) = self.claim_allowance(kind, cookie, now);
            let Allowance { budget, exemption, by_place } = allowance;
            let verdict = self.judge_claim(kind, cookie, now, budget);
            let is_open = self.book.is_open(cookie, kind);
            if exemption.is_none() || verdict == Verdict::Fine {
                self.ignored.forget(subject, kind);
            }
            let Some(since) = verdict.since() else {
                if is_open {
                    self.clear_claim(cookie, kind, now, trigger);
                }
                continue;
            };
            let due = since.after(budget);
            if by_place != ByPlace::No && due <= now {
                self.places_wanted.extend(process);
            }
            let may_open =
                !allowance.is_undecided() && self.may_open(kind, cookie, verdict, due, authority);
            let is_proved = is_open || may_open;
            if exemption.is_some() || !is_proved {
                first_due = earlier(first_due, allowance.opens(due));
            }
            match (exemption, is_open) {
                (Some(it), true) => self.exempt(subject, kind, it, now),
                (Some(it), false) if is_proved => {
                    self.ignored.note(subject, kind, it.rule, since);
                    if let (Some(ledger), Kind::Overlap) = (&mut self.ledger, kind) {
                        ledger.told_overlap(cookie);
                    }
                }
                _ => {}
            }
            if exemption.is_some() || !is_proved {
                continue;
            }
            let Some(ledger) = &mut self.ledger else { return None };
            let about = About {
                cookie,
                socket: self.table.socket(cookie),
                remote: ledger.remote_of(cookie),
                device: ledger.facts(kind, cookie),
                pid: ledger.pid(),
            };
            let finding = describe_registry(&self.table, about, kind, since, budget, now);
            if is_open {
                self.outputs.extend(self.book.renew(finding, trigger).map(Output::Finding));
                continue;
            }
            self.outputs.push_back(Output::Finding(self.book.raise(finding)));
            if kind == Kind::Overlap {
                ledger.told_overlap(cookie);
                if self.judge_claim(kind, cookie, now, budget) == Verdict::Fine {
                    // It was over before it was known.
                    self.clear_claim(cookie, kind, now, trigger);
                }
            }
        }
        let reported = self.book.is_reported(cookie);
        self.table.set_reported(cookie, reported);
        self.claims_agenda.set(cookie, first_due);
        first_due
    }

    /// What is allowed to the process that a finding would name, and which that is, if it matters.
    fn claim_allowance(
        &self,
        kind: Kind,
        cookie: Cookie,
        now: MonoTime,
    ) -> (Allowance, Option<ProcessKey>) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.tuning.has_rules(kind)) else {
            return (self.allowance(kind, None, None, now), None);
        };
        let (socket, pid) = (self.table.socket(cookie), ledger.pid());
        let own = || self.table.process_by_pid(pid).map(|process| process.key);
        let process = culprit(kind, socket, pid).or_else(own);
        let remote = socket.map(|socket| socket.ends.remote).or(ledger.remote_of(cookie));
        (self.allowance(kind, process, remote, now), process)
    }

    fn judge_claim(&self, kind: Kind, cookie: Cookie, now: MonoTime, budget: Duration) -> Verdict {
        let ledger = self.ledger.as_ref();
        ledger.map_or(Verdict::Fine, |it| it.judge(kind, cookie, &self.table, now, budget))
    }

    /// Whether what is said about a socket is proved.
    pub(super) fn may_open(
        &self,
        kind: Kind,
        cookie: Cookie,
        verdict: Verdict,
        due: MonoTime,
        authority: Authority,
    ) -> bool {
        let is_leak = matches!(verdict, Verdict::Leak { .. });
        match (authority, self.table.socket(cookie)) {
            // It rests on what was seen alone, so nothing that is missing can refute it.
            _ if kind == Kind::Overlap => is_leak,
            (Authority::Review, _) => false,
            (Authority::Open { began }, Some(socket)) => {
                is_leak && socket.confirmed_at().is_some_and(|at| at >= began && at >= due)
            }
            (Authority::Open { began }, None) => is_leak && began >= due,
        }
    }

    fn clear_claim(&mut self, cookie: Cookie, kind: Kind, now: MonoTime, trigger: Trigger) {
        let socket = self.table.socket(cookie);
        let is_claimed = self.ledger.as_ref().is_some_and(|ledger| ledger.is_claimed(cookie));
        let reason = match (kind, trigger) {
            (Kind::Ghost, _) => ClearReason::Retracted,
            (Kind::Overlap, _) => ClearReason::Parted,
            (Kind::Orphan, _) if is_claimed => ClearReason::Claimed,
            (_, Trigger::Closed) => ClearReason::Closed,
            (_, Trigger::Exited) => ClearReason::Exited,
            (_, _) if socket.is_none() => ClearReason::Destroyed,
            (_, Trigger::Event) => ClearReason::StateLeft,
            (_, Trigger::Snapshot) => ClearReason::Vanished,
        };
        let cleared = self.book.clear(cookie, kind, reason, socket, now);
        self.outputs.extend(cleared.map(Output::Finding));
    }
}
