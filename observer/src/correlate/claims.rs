//! Foreign claims in the correlator: doubts become incidents, and incidents end.

use std::collections::BTreeSet;

use super::{Authority, Correlator, Output, SnapshotReason};
use crate::{
    claims::{Counts, Doubt, Refusal, Statement},
    detect::{Kind, Verdict},
    incident::{About, ClearReason, Trigger, describe_registry},
    model::{Cookie, MonoTime, TcpState},
};

impl Correlator {
    /// Takes in what process `pid` says of its sockets, received at `now`.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; the statements before the refused one stay.
    pub fn handle_claims(
        &mut self,
        pid: u32,
        statements: Vec<Statement>,
        now: MonoTime,
    ) -> Result<Counts, Refusal> {
        self.claims.handle_statements(pid, statements, &self.table, self.tuning.budgets(), now)
    }

    /// A stream by which process `pid` claimed has ended.
    pub fn handle_claims_end(&mut self, pid: u32, now: MonoTime) {
        self.claims.handle_stream_end(pid, now);
    }

    /// Judges the claims, if it is time.
    pub(super) fn time_claims(&mut self, now: MonoTime) {
        if self.claims.next().is_some_and(|due| due <= now) {
            self.judge_foreign(now, now, Authority::Review);
        }
    }

    /// A snapshot has been taken in: judges the claims as of its beginning.
    pub(super) fn show_claims(&mut self, began: MonoTime, now: MonoTime, authority: Authority) {
        self.claims.handle_snapshot(&self.table, now);
        self.judge_foreign(began, now, authority);
    }

    /// Judges the claims as of `at`: clears and updates, and opens if it may.
    fn judge_foreign(&mut self, at: MonoTime, now: MonoTime, authority: Authority) {
        let doubts = self.claims.doubts(&self.table, self.tuning.budgets(), at);
        let mut before = self.claims.take_open();
        let mut open = std::collections::BTreeMap::new();
        let mut waiting = BTreeSet::new();
        let mut reported = BTreeSet::new();
        for doubt in doubts {
            let key = (doubt.cookie, doubt.kind);
            if before.remove(&key).is_some() {
                open.insert(key, doubt.pid);
                // Telling it again costs a sentence each: snapshots are often enough.
                if matches!(authority, Authority::Open { .. }) {
                    self.renew_foreign(doubt, now);
                }
            } else if doubt.due <= at && !open.contains_key(&key) {
                if self.may_open_foreign(&doubt, authority) {
                    open.insert(key, doubt.pid);
                    reported.insert(doubt.cookie);
                    self.open_foreign(doubt, now);
                } else {
                    waiting.insert(key);
                }
            }
        }
        for ((cookie, kind), pid) in before {
            self.clear_foreign(cookie, kind, pid, now);
            reported.insert(cookie);
        }
        for cookie in reported {
            self.table.set_reported(cookie, self.book.is_reported(cookie));
        }
        self.claims.set_open(open);
        if self.claims.set_waiting(waiting) {
            self.asking.want(SnapshotReason::Suspicion, at);
        }
    }

    fn may_open_foreign(&self, doubt: &Doubt, authority: Authority) -> bool {
        let Doubt { kind, cookie, pid, since, due, .. } = *doubt;
        let socket = self.table.socket(cookie);
        let is_held = || {
            let mut holders = socket.into_iter().flat_map(|socket| &socket.holders);
            holders.any(|holder| holder.process.pid == pid)
        };
        // Between a loss and the next snapshot nothing opens, not even what was seen alone: that
        // a socket ended may be what was lost.
        self.lost_at.is_none()
            && !self.book.is_open(cookie, kind)
            && self.may_open(kind, cookie, Verdict::Leak { since }, due, authority)
            && (kind != Kind::Orphan || is_held())
    }

    fn open_foreign(&mut self, doubt: Doubt, now: MonoTime) {
        let (kind, since) = (doubt.kind, doubt.since);
        let (about, budget) = (self.about_foreign(doubt), self.tuning.budgets().get(kind));
        let finding = describe_registry(&self.table, about, kind, since, budget, now);
        self.outputs.push_back(Output::Finding(self.book.raise(finding)));
    }

    fn renew_foreign(&mut self, doubt: Doubt, now: MonoTime) {
        let (kind, since) = (doubt.kind, doubt.since);
        let (about, budget) = (self.about_foreign(doubt), self.tuning.budgets().get(kind));
        let finding = describe_registry(&self.table, about, kind, since, budget, now);
        let renewed = self.book.renew(finding, Trigger::Snapshot);
        self.outputs.extend(renewed.map(Output::Finding));
    }

    fn about_foreign(&self, doubt: Doubt) -> About<'_> {
        let Doubt { cookie, pid, ends, device, .. } = doubt;
        let socket = self.table.socket(cookie);
        About { cookie, socket, remote: Some(ends.remote), device, pid }
    }

    fn clear_foreign(&mut self, cookie: Cookie, kind: Kind, pid: u32, now: MonoTime) {
        let socket = self.table.socket(cookie);
        let is_claimed = self.claims.is_claimed(cookie);
        let is_held = |pid: u32| {
            socket.is_some_and(|it| it.holders.iter().any(|holder| holder.process.pid == pid))
        };
        let is_open = |state| matches!(state, TcpState::Established | TcpState::CloseWait);
        let reason = match (kind, socket.map(|socket| socket.state)) {
            _ if self.table.process_by_pid(pid).is_none() => ClearReason::Exited,
            (Kind::Ghost, _) if is_claimed => ClearReason::StateLeft,
            (Kind::Ghost, _) => ClearReason::Retracted,
            (Kind::Overlap, _) => ClearReason::Parted,
            _ if is_claimed => ClearReason::Claimed,
            (_, None) => ClearReason::Destroyed,
            (_, Some(state)) if !is_open(state) => ClearReason::StateLeft,
            _ if !is_held(pid) => ClearReason::Closed,
            _ => ClearReason::Subsided,
        };
        let cleared = self.book.clear(cookie, kind, reason, socket, now);
        self.outputs.extend(cleared.map(Output::Finding));
    }
}

#[cfg(test)]
mod backend;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
