//! Trends in the correlator: suspicions become incidents, and incidents end.

use super::{Correlator, Output, SnapshotReason};
use crate::{
    incident::{ClearReason, Trigger, describe_trend},
    model::{MonoTime, ProcessKey, ProcessRow},
    trends::{Suspicion, Thresholds},
    tuning::ByPlace,
};

impl Correlator {
    /// Changes how much is too much, for what is judged from now on.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.trends.set_thresholds(thresholds);
    }

    /// What a process had open when a snapshot last showed it, half a minute ago at the most.
    pub fn process_row(&self, process: ProcessKey) -> Option<&ProcessRow> {
        self.trends.process_row(process)
    }

    /// Judges what processes do, if it is time.
    pub(super) fn time_trends(&mut self, now: MonoTime) {
        if self.trends.next().is_some_and(|due| due <= now) {
            self.judge_trends(now);
        }
    }

    /// Judges what processes do.
    pub(super) fn judge_trends(&mut self, now: MonoTime) {
        let suspicions = self.trends.suspicions(now, &self.table, self.tuning.budgets());
        self.judge_suspicions(suspicions, now);
    }

    /// Opens, updates and clears: `suspicions` are all that there are.
    pub(super) fn judge_suspicions(&mut self, suspicions: Vec<Suspicion>, now: MonoTime) {
        let mut open = self.book.of_processes();
        let mut ignored = Vec::new();
        for mut suspicion in suspicions {
            let Suspicion { kind, subject, process, since, .. } = suspicion;
            let allowed = self.allowance(kind, Some(process), subject.destination(), now);
            // Its part went by the budget of the kind.
            let usual = self.tuning.budgets().get(kind);
            let shorter = usual.saturating_sub(allowed.budget);
            let longer = allowed.budget.saturating_sub(usual);
            suspicion.due = suspicion.due.before(shorter).after(longer).max(since);
            let key = (subject, kind);
            let is_open = open.remove(&key);
            let is_due = suspicion.due <= now;
            if is_due && allowed.by_place != ByPlace::No {
                self.places_wanted.insert(process);
            }
            if is_due && allowed.is_undecided() {
                self.asking.want(SnapshotReason::Suspicion, now);
            }
            // Between a loss and the next snapshot nothing opens.
            let is_finding = is_due && self.lost_at.is_none() && !allowed.is_undecided();
            if let Some(it) = allowed.exemption {
                if is_open {
                    self.exempt(subject, kind, it, now);
                } else if is_finding {
                    self.ignored.note(subject, kind, it.rule, since);
                }
                ignored.push(key);
            }
            let opens = allowed.opens(suspicion.due);
            if opens > now {
                self.trends.judge_at(opens);
            }
            if allowed.exemption.is_some() {
                continue;
            }
            if is_open {
                let finding = describe_trend(&self.table, suspicion, now);
                let renewed = self.book.renew(finding, Trigger::Snapshot);
                self.outputs.extend(renewed.map(Output::Finding));
            } else if is_finding {
                let finding = describe_trend(&self.table, suspicion, now);
                self.outputs.push_back(Output::Finding(self.book.raise(finding)));
            }
        }
        self.ignored.keep_of_processes(&ignored);
        for (subject, kind) in open {
            let reason = match self.book.get(subject, kind).map(|it| it.finding.process) {
                Some(process) if self.table.process(process).is_none() => ClearReason::Exited,
                _ => ClearReason::Subsided,
            };
            let cleared = self.book.subside(subject, kind, reason, now);
            self.outputs.extend(cleared.map(Output::Finding));
        }
    }
}
