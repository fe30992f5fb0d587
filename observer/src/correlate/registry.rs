//! The registry's claims in the correlator: matched by cookie, judged, opened and cleared.

use pool::registry::{Change, Claim};

use super::{Authority, Correlator, Output, SnapshotReason, earlier};
use crate::{
    detect::{Kind, Verdict},
    incident::{ClearReason, Subject, Trigger, describe_registry},
    ledger::{self, Ledger},
    model::{Cookie, KernelEvent, MonoTime, Snapshot},
};

impl Correlator {
    /// Keeps the registry of the pool in process `pid` as the second ledger from now on.
    pub fn follow_registry(&mut self, pid: u32) {
        self.ledger = Some(Ledger::new(pid));
    }

    /// The pool's ledger.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Takes in what changed in the registry, told at `now`.
    pub fn handle_changes(&mut self, changes: impl IntoIterator<Item = Change>, now: MonoTime) {
        let Some(ledger) = &mut self.ledger else { return };
        for change in changes {
            ledger.handle_change(change, &self.table, now);
        }
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
        let is_certain = is_certain && self.table.evicted() == 0;
        ledger.handle_snapshot(&self.table, snapshot.began, is_certain);
        let outputs = ledger.take_outputs();
        let _all_are_looked_at = ledger.take_touched();
        let mut cookies: Vec<_> = ledger.cookies().collect();
        cookies.extend(self.book.of_registry());
        cookies.sort_unstable();
        cookies.dedup();
        self.pass_on(outputs);
        for cookie in cookies {
            self.evaluate_claim(cookie, now, Trigger::Snapshot, authority);
        }
    }

    /// Looks at the claims whose time has come.
    pub(super) fn time_ledger(&mut self, now: MonoTime) {
        while let Some((due, cookie)) = self.claims_agenda.pop(now) {
            self.evaluate_claim(cookie, now, Trigger::Event, Authority::Review);
            let Some(ledger) = &self.ledger else { return };
            let needs_proof = Kind::OF_REGISTRY.into_iter().any(|kind| {
                let verdict = ledger.judge(kind, cookie, &self.table, now, self.budgets.get(kind));
                matches!(verdict, Verdict::Leak { .. }) && !self.book.is_open(cookie, kind)
            });
            if needs_proof {
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

    /// Judges what the two ledgers say of one socket.
    fn evaluate_claim(
        &mut self,
        cookie: Cookie,
        now: MonoTime,
        trigger: Trigger,
        authority: Authority,
    ) {
        let mut first_due = None;
        for kind in Kind::OF_REGISTRY {
            let Some(ledger) = &self.ledger else { return };
            let budget = self.budgets.get(kind);
            let verdict = ledger.judge(kind, cookie, &self.table, now, budget);
            let is_open = self.book.is_open(cookie, kind);
            let (Some(since), false) = (verdict.since(), kind == Kind::Overlap && is_open) else {
                if is_open && (kind != Kind::Overlap || !ledger.is_overlapping(cookie, now)) {
                    self.clear_claim(cookie, kind, now, trigger);
                }
                continue;
            };
            if !is_open && !self.may_open(kind, cookie, verdict, since.after(budget), authority) {
                first_due = earlier(first_due, since.after(budget));
                continue;
            }
            let subject = Subject {
                cookie,
                socket: self.table.socket(cookie),
                remote: ledger.remote_of(cookie),
                device: ledger.facts(kind, cookie, now),
                pid: ledger.pid(),
            };
            let finding = describe_registry(&self.table, subject, kind, since, budget, now);
            let told = if is_open {
                self.book.renew(finding, trigger)
            } else {
                Some(self.book.raise(finding))
            };
            self.outputs.extend(told.map(Output::Finding));
            if !is_open && kind == Kind::Overlap {
                let is_on = self.ledger.as_ref().is_some_and(|it| it.is_overlapping(cookie, now));
                if !is_on {
                    self.clear_claim(cookie, kind, now, trigger);
                }
            }
        }
        let reported = self.book.is_reported(cookie);
        self.table.set_reported(cookie, reported);
        self.claims_agenda.set(cookie, first_due);
    }

    /// Whether what is said about a socket is proved.
    fn may_open(
        &self,
        kind: Kind,
        cookie: Cookie,
        verdict: Verdict,
        due: MonoTime,
        authority: Authority,
    ) -> bool {
        let is_leak = matches!(verdict, Verdict::Leak { .. });
        match (authority, self.table.socket(cookie)) {
            // Both times are the kernel's, and nothing is missing between them.
            _ if kind == Kind::Overlap => is_leak && self.lost_at.is_none(),
            (Authority::Review, _) => false,
            (Authority::Open { began }, Some(socket)) => {
                is_leak && socket.confirmed_at().is_some_and(|at| at >= began && at >= due)
            }
            (Authority::Open { began }, None) => is_leak && began >= due,
        }
    }

    fn clear_claim(&mut self, cookie: Cookie, kind: Kind, now: MonoTime, trigger: Trigger) {
        let socket = self.table.socket(cookie);
        let is_held = socket.is_some_and(|socket| !socket.holders.is_empty());
        let reason = match (kind, trigger) {
            (Kind::Ghost, _) => ClearReason::Retracted,
            (Kind::Overlap, _) => ClearReason::Parted,
            (Kind::Orphan, _) if is_held => ClearReason::Claimed,
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
