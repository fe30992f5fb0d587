//! What would be findings but for rules: counted, so that nothing is silent without a trace.

use std::collections::BTreeMap;

use crate::{detect::Kind, incident::Subject, model::MonoTime};

/// What rules ignore now, and how often they did. There is at most one entry for each socket and
/// kind, and for each suspicion about a process: it is bounded as those are.
#[derive(Debug, Default)]
pub(crate) struct Ignored {
    now: BTreeMap<(Subject, Kind), Note>,
    by_kind: [u64; Kind::ALL.len()],
    by_rule: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    since: MonoTime,
    /// `None` if it was one of the rules before a reload.
    rule: Option<usize>,
}

impl Ignored {
    /// A rule ignores what would be a finding since `since`. The same is counted once.
    pub(crate) fn note(&mut self, subject: Subject, kind: Kind, rule: usize, since: MonoTime) {
        let known = self.now.insert((subject, kind), Note { since, rule: Some(rule) });
        // A later begin is another case, as it would be another finding.
        let is_same = known.is_some_and(|known| since <= known.since);
        if !is_same {
            self.by_kind[kind as usize] += 1;
        }
        if !is_same || known.and_then(|known| known.rule) != Some(rule) {
            if self.by_rule.len() <= rule {
                self.by_rule.resize(rule + 1, 0);
            }
            self.by_rule[rule] += 1;
        }
    }

    /// It is no finding any more, or it is one now.
    pub(crate) fn forget(&mut self, subject: Subject, kind: Kind) {
        if !self.now.is_empty() {
            self.now.remove(&(subject, kind));
        }
    }

    /// Whether a rule ignores this now.
    pub(crate) fn has(&self, subject: Subject, kind: Kind) -> bool {
        !self.now.is_empty() && self.now.contains_key(&(subject, kind))
    }

    /// Whether a rule ignores anything about this now.
    pub(crate) fn is_about(&self, subject: Subject) -> bool {
        let from = (subject, Kind::ALL[0]);
        !self.now.is_empty()
            && self.now.range(from..).next().is_some_and(|((at, _), _)| *at == subject)
    }

    /// Of what is about processes only these are left.
    pub(crate) fn keep_of_processes(&mut self, these: &[(Subject, Kind)]) {
        self.now.retain(|it, _| !Kind::OF_PROCESSES.contains(&it.1) || these.contains(it));
    }

    /// There are other rules: what each ignored is counted anew.
    pub(crate) fn rules_changed(&mut self) {
        self.by_rule.clear();
        for note in self.now.values_mut() {
            note.rule = None;
        }
    }

    /// How many are ignored now.
    pub(crate) fn len(&self) -> usize {
        self.now.len()
    }

    /// How many were ignored since the start, by kind; those with none are left out.
    pub(crate) fn by_kind(&self) -> BTreeMap<Kind, u64> {
        let counts = Kind::ALL.into_iter().zip(self.by_kind);
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// How many a rule has ignored since the rules were last changed.
    pub(crate) fn by_rule(&self, rule: usize) -> u64 {
        self.by_rule.get(rule).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cookie, ProcessKey};

    const ONE: Subject = Subject::Socket(Cookie(1));
    const PROCESS: Subject = Subject::Process(ProcessKey { pid: 1, start_ns: 1 });

    fn counts(ignored: &Ignored) -> (usize, Vec<(Kind, u64)>, [u64; 2]) {
        let by_kind = ignored.by_kind().into_iter().collect();
        (ignored.len(), by_kind, [ignored.by_rule(0), ignored.by_rule(1)])
    }

    #[test]
    fn the_same_counts_once_and_another_begin_is_another() {
        let mut ignored = Ignored::default();
        for since in [5, 5, 4] {
            ignored.note(ONE, Kind::CloseWait, 1, MonoTime::from_nanos(since));
        }
        assert_eq!(counts(&ignored), (1, vec![(Kind::CloseWait, 1)], [0, 1]));
        ignored.note(ONE, Kind::CloseWait, 1, MonoTime::from_nanos(9));
        assert_eq!(counts(&ignored), (1, vec![(Kind::CloseWait, 2)], [0, 2]));
        ignored.note(ONE, Kind::Undrained, 0, MonoTime::from_nanos(9));
        assert_eq!(ignored.len(), 2);
        assert!(ignored.is_about(ONE) && !ignored.is_about(PROCESS));
        ignored.forget(ONE, Kind::CloseWait);
        ignored.forget(ONE, Kind::Undrained);
        assert!(!ignored.has(ONE, Kind::Undrained));
        assert_eq!(counts(&ignored), (0, vec![(Kind::CloseWait, 2), (Kind::Undrained, 1)], [1, 2]));
        ignored.note(ONE, Kind::CloseWait, 1, MonoTime::from_nanos(9));
        assert_eq!(ignored.by_kind()[&Kind::CloseWait], 3, "it was over in between");
    }

    #[test]
    fn after_a_reload_it_is_the_same_finding_of_another_rule() {
        let mut ignored = Ignored::default();
        ignored.note(ONE, Kind::CloseWait, 1, MonoTime::from_nanos(5));
        ignored.rules_changed();
        assert_eq!(counts(&ignored), (1, vec![(Kind::CloseWait, 1)], [0, 0]));
        // Even if it has the same place in the list.
        for rule in [1, 1, 0, 0] {
            ignored.note(ONE, Kind::CloseWait, rule, MonoTime::from_nanos(5));
        }
        assert_eq!(counts(&ignored), (1, vec![(Kind::CloseWait, 1)], [1, 1]));
    }

    #[test]
    fn what_processes_do_not_do_any_more_is_forgotten() {
        let mut ignored = Ignored::default();
        ignored.note(ONE, Kind::CloseWait, 0, MonoTime::from_nanos(5));
        ignored.note(PROCESS, Kind::FdPressure, 0, MonoTime::from_nanos(5));
        ignored.note(PROCESS, Kind::FdLimitLow, 0, MonoTime::from_nanos(5));
        ignored.keep_of_processes(&[(PROCESS, Kind::FdPressure)]);
        assert_eq!(ignored.len(), 2);
        ignored.keep_of_processes(&[]);
        assert_eq!(ignored.len(), 1, "a socket is no process");
    }
}
