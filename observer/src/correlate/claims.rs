//! Foreign claims in the correlator: doubts become incidents, and incidents end.

use std::collections::BTreeSet;

use super::{Authority, Correlator, Output, SnapshotReason};
use crate::{
    claims::{Counts, Doubt, Refusal, Statement, Terms, Told},
    detect::{Kind, Verdict},
    incident::{About, ClearReason, Subject, Trigger, describe_registry},
    model::{Cookie, MonoTime, ProcessKey, TcpState},
    tuning::ByPlace,
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
        let budgets: Vec<_> = self.tuning.budgets_of(Kind::Orphan).collect();
        self.claims.handle_statements(pid, statements, &self.table, &budgets, now)
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
        let doubts = self.doubts(at);
        let mut before = self.claims.take_told();
        let mut told = Told::default();
        let mut waiting = BTreeSet::new();
        let mut reported = BTreeSet::new();
        for doubt in doubts {
            let key = (doubt.cookie, doubt.kind);
            let is_due = doubt.due <= at;
            if is_due && doubt.allowance.by_place != ByPlace::No {
                self.places_wanted.extend(self.claimant(doubt.pid));
            }
            if doubt.allowance.exemption.is_some() {
                // It may be open as that of another process that claims the same.
                let is_open = before.open.get(&key) == Some(&doubt.pid);
                if self.ignore_foreign(&doubt, is_open, is_due, authority, now) {
                    told.ignored.insert(key);
                }
            } else if before.open.remove(&key).is_some() && self.book.is_open(key.0, key.1) {
                told.open.insert(key, doubt.pid);
                // Telling it again costs a sentence each: snapshots are often enough.
                if matches!(authority, Authority::Open { .. }) {
                    self.renew_foreign(doubt, now);
                }
            } else if is_due && !told.open.contains_key(&key) {
                if self.may_open_foreign(&doubt, authority) {
                    told.open.insert(key, doubt.pid);
                    reported.insert(doubt.cookie);
                    self.open_foreign(doubt, now);
                } else {
                    waiting.insert(key);
                }
            }
        }
        for ((cookie, kind), pid) in before.open {
            self.clear_foreign(cookie, kind, pid, now);
            reported.insert(cookie);
        }
        for key in before.ignored.difference(&told.ignored) {
            self.ignored.forget(Subject::Socket(key.0), key.1);
        }
        for cookie in reported {
            self.table.set_reported(cookie, self.book.is_reported(cookie));
        }
        self.claims.set_told(told);
        if self.claims.set_waiting(waiting) {
            self.asking.want(SnapshotReason::Suspicion, at);
        }
    }

    /// All that is wrong or will be, as of `at`.
    fn doubts(&mut self, at: MonoTime) -> Vec<Doubt> {
        // Taken out, for what is allowed is asked of everything else.
        let mut claims = std::mem::take(&mut self.claims);
        let terms = Terms {
            allowed: &|kind, pid, remote| {
                self.allowance(kind, self.claimant(pid), Some(remote), at)
            },
            opened: &|kind, cookie| {
                let open = self.book.get(Subject::Socket(cookie), kind);
                open.map(|incident| incident.finding.budget)
            },
        };
        let doubts = claims.doubts(&self.table, terms, at);
        self.claims = claims;
        doubts
    }

    /// The process that claims, if the table has it: the one that findings name.
    fn claimant(&self, pid: u32) -> Option<ProcessKey> {
        self.table.process_by_pid(pid).map(|process| process.key)
    }

    /// A rule ignores what would be a finding: clears it if it `is_open`, and counts it. Whether it
    /// is one that counts.
    fn ignore_foreign(
        &mut self,
        doubt: &Doubt,
        is_open: bool,
        is_due: bool,
        authority: Authority,
        now: MonoTime,
    ) -> bool {
        let Doubt { kind, cookie, since, allowance, .. } = *doubt;
        let Some(exemption) = allowance.exemption else { return false };
        let subject = Subject::Socket(cookie);
        if is_open {
            self.exempt(subject, kind, exemption, now);
        }
        let is_known = self.ignored.has(subject, kind);
        if is_known || is_due && self.may_open_foreign(doubt, authority) {
            self.ignored.note(subject, kind, exemption.rule, since);
            return true;
        }
        false
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
            && !doubt.allowance.is_undecided()
            && !self.book.is_open(cookie, kind)
            && self.may_open(kind, cookie, Verdict::Leak { since }, due, authority)
            && (kind != Kind::Orphan || is_held())
    }

    fn open_foreign(&mut self, doubt: Doubt, now: MonoTime) {
        let Doubt { kind, since, allowance, .. } = doubt;
        let (about, budget) = (self.about_foreign(doubt), allowance.budget);
        let finding = describe_registry(&self.table, about, kind, since, budget, now);
        self.outputs.push_back(Output::Finding(self.book.raise(finding)));
    }

    fn renew_foreign(&mut self, doubt: Doubt, now: MonoTime) {
        let Doubt { kind, since, allowance, .. } = doubt;
        let (about, budget) = (self.about_foreign(doubt), allowance.budget);
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
mod limits;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tuned;
