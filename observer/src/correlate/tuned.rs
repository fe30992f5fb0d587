//! What is allowed, in the correlator: budgets and rules by whom and whereto a finding would be.

use std::{net::SocketAddr, time::Duration};

use super::{Correlator, SHORTEST_INTERVAL, SnapshotReason};
use crate::{
    correlate::Output,
    detect::{Budgets, Kind, Verdict, judge},
    incident::{Incident, Subject},
    model::{MonoTime, ProcessKey},
    table::Socket,
    tuning::{Allowance, ByPlace, Exemption, Party, Rule, Tuning},
};

/// How it stands with something that is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) verdict: Verdict,
    pub(super) since: MonoTime,
    /// When it is a finding, but for a rule.
    pub(super) due: MonoTime,
    pub(super) allowance: Allowance,
}

impl Standing {
    fn new(verdict: Verdict, since: MonoTime, allowance: Allowance) -> Self {
        let due = match verdict {
            Verdict::Suspect { due, .. } => due,
            Verdict::Fine | Verdict::Leak { .. } => since.after(allowance.budget),
        };
        Self { verdict, since, due, allowance }
    }

    /// When it is a finding. A rule that ignores it holds it back to its own end.
    pub(super) fn opens(&self) -> MonoTime {
        self.allowance.opens(self.due)
    }

    /// Whether it was due at `proven`, and hangs on where the process runs.
    pub(super) fn is_by_place(&self, proven: Option<MonoTime>) -> bool {
        self.allowance.by_place != ByPlace::No && proven.is_some_and(|at| self.due <= at)
    }

    /// Whether it is a finding at `at`, as far as is known.
    pub(super) fn is_finding(&self, at: MonoTime) -> bool {
        self.opens() <= at && !self.allowance.is_undecided()
    }
}

impl Correlator {
    /// Changes what is allowed, for what is judged from now on. Open incidents keep the budget with
    /// which they opened; those that a rule ignores now are cleared.
    pub fn set_tuning(&mut self, budgets: Budgets, rules: Vec<Rule>, now: MonoTime) {
        self.tuning = Tuning::new(budgets, rules);
        self.ignored.rules_changed();
        self.asking.set_interval(interval(self.snapshot_interval, &self.tuning));
        let mut exempt = Vec::new();
        for Incident { finding, .. } in self.book.iter() {
            let place = self.place(Some(finding.process));
            let party = Party { comm: finding.comm.as_str(), place, remote: finding.remote() };
            let allowance = self.tuning.allowance(finding.kind, party, now);
            if allowance.by_place != ByPlace::No {
                self.places_wanted.insert(finding.process);
            }
            let about = (finding.subject, finding.kind);
            exempt.extend(allowance.exemption.map(|exemption| (about, exemption)));
        }
        for ((subject, kind), exemption) in exempt {
            self.exempt(subject, kind, exemption, now);
        }
        self.trends.judge_again();
        self.claims.judge_again();
        // What is suspected gets its time by the new rules.
        self.want(SnapshotReason::Suspicion, now, now);
    }

    /// What is allowed, and what is ignored.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// How many findings rules ignore now.
    pub fn ignored(&self) -> usize {
        self.ignored.len()
    }

    /// How many findings rules have ignored since the start, by kind; those with none are left out.
    pub fn ignored_by_kind(&self) -> std::collections::BTreeMap<Kind, u64> {
        self.ignored.by_kind()
    }

    /// How many findings each rule has ignored since the rules were last changed.
    pub fn ignored_by_rule(&self) -> impl Iterator<Item = (&Rule, u64)> {
        let rules = self.tuning.rules().iter().enumerate();
        rules.map(|(index, rule)| (rule, self.ignored.by_rule(index)))
    }

    /// What is wrong with a socket in this way, if anything is.
    pub(super) fn stand(&self, kind: Kind, socket: &Socket, now: MonoTime) -> Option<Standing> {
        let usual = self.tuning.budgets().get(kind);
        let verdict = judge(kind, socket, now, usual);
        let since = verdict.since()?;
        let remote = Some(socket.ends.remote);
        let allowance = self.allowance(kind, responsible(socket), remote, now);
        let verdict = match allowance.budget == usual {
            true => verdict,
            false => judge(kind, socket, now, allowance.budget),
        };
        Some(Standing::new(verdict, since, allowance))
    }

    /// What is allowed to `process` towards `remote`.
    pub(super) fn allowance(
        &self,
        kind: Kind,
        process: Option<ProcessKey>,
        remote: Option<SocketAddr>,
        now: MonoTime,
    ) -> Allowance {
        if !self.tuning.has_rules(kind) {
            return Allowance::of_all(self.tuning.budgets().get(kind));
        }
        let known = process.and_then(|process| self.table.process(process));
        let comm = known.map_or("", |process| process.comm.as_str());
        self.tuning.allowance(kind, Party { comm, place: self.place(process), remote }, now)
    }

    /// Clears an incident that a rule ignores now.
    pub(super) fn exempt(
        &mut self,
        subject: Subject,
        kind: Kind,
        exemption: Exemption,
        now: MonoTime,
    ) {
        let reason = self.tuning.reason(exemption.rule);
        let Some(finding) = self.book.ignore(subject, kind, reason, now) else { return };
        self.ignored.note(subject, kind, exemption.rule, finding.since);
        if let Some(cookie) = subject.cookie() {
            self.table.set_reported(cookie, self.book.is_reported(cookie));
        }
        self.outputs.push_back(Output::Finding(finding));
    }
}

/// Time between two periodic snapshots.
pub(super) fn interval(wanted: Duration, tuning: &Tuning) -> Duration {
    wanted.min(tuning.smallest_of_snapshots().max(SHORTEST_INTERVAL))
}

/// The process that a finding about this socket names first.
pub(super) fn responsible(socket: &Socket) -> Option<ProcessKey> {
    let owner = socket.owner.as_ref().map(|owner| owner.process);
    let first = || socket.holders.first().map(|holder| holder.process);
    owner.filter(|owner| socket.is_held_by(*owner)).or_else(first)
}

#[cfg(test)]
mod tests;
