//! Trends in the correlator: suspicions become incidents, and incidents end.

use super::{Correlator, Output};
use crate::{
    incident::{ClearReason, Trigger, describe_trend},
    model::{MonoTime, ProcessKey, ProcessRow},
    trends::Thresholds,
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
        let suspicions = self.trends.suspicions(now, &self.table, &self.budgets);
        let mut open = self.book.of_processes();
        for suspicion in suspicions {
            let key = (suspicion.subject, suspicion.kind);
            let is_open = open.iter().position(|it| *it == key).map(|at| open.swap_remove(at));
            // Between a loss and the next snapshot nothing opens.
            let may_open = suspicion.due <= now && self.lost_at.is_none();
            if is_open.is_some() {
                let finding = describe_trend(&self.table, suspicion, now);
                let renewed = self.book.renew(finding, Trigger::Snapshot);
                self.outputs.extend(renewed.map(Output::Finding));
            } else if may_open {
                let finding = describe_trend(&self.table, suspicion, now);
                self.outputs.push_back(Output::Finding(self.book.raise(finding)));
            }
        }
        open.sort_unstable();
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
