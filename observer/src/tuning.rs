//! PURE. What is allowed to whom: budgets, and rules that change them or ignore findings for a while.
//!
//! A rule is about kinds, names of processes and destinations. The first one that matches counts.
//! A rule that ignores ends at a fixed moment; from then on it is as if it were not there.

mod destination;
mod glob;
mod ignored;
mod rule;

use std::{net::SocketAddr, time::Duration};

pub(crate) use self::ignored::Ignored;
pub use self::{
    destination::Destination,
    glob::Glob,
    rule::{Act, MOST_RULES, Rule},
};
use crate::{
    detect::{Budgets, Kind},
    model::MonoTime,
};

/// What is allowed to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How long it may last.
    pub budget: Duration,
    /// That it is ignored, at the moment for which this was asked.
    pub exemption: Option<Exemption>,
}

/// That a rule ignores something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemption {
    /// Which rule, counted from 0.
    pub rule: usize,
    /// The first moment at which it does not any more.
    pub until: MonoTime,
}

/// Budgets and rules.
#[derive(Clone, Debug)]
pub struct Tuning {
    budgets: Budgets,
    rules: Vec<Rule>,
    /// For each kind the rules that may be about it, in their order: most kinds have none.
    of_kind: [Vec<usize>; Kind::ALL.len()],
}

impl Tuning {
    /// `rules` in the order in which they count.
    pub fn new(budgets: Budgets, rules: Vec<Rule>) -> Self {
        let of_kind = Kind::ALL.map(|kind| {
            let about = rules.iter().enumerate().filter(|(_, rule)| rule.is_of(kind));
            about.map(|(index, _)| index).collect()
        });
        Self { budgets, rules, of_kind }
    }

    /// The budgets of those that no rule is about.
    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// All rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether any rule may be about `kind`.
    pub fn has_rules(&self, kind: Kind) -> bool {
        !self.of_kind[kind as usize].is_empty()
    }

    /// What is allowed to a process of the name `comm` towards `remote`, at `now`. What has no
    /// destination is not met by rules that name one.
    pub fn allowance(
        &self,
        kind: Kind,
        comm: &str,
        remote: Option<SocketAddr>,
        now: MonoTime,
    ) -> Allowance {
        let mut exemption = None;
        for index in &self.of_kind[kind as usize] {
            let rule = &self.rules[*index];
            if !rule.matches(comm, remote) {
                continue;
            }
            match rule.act {
                Act::Budget(budget) => return Allowance { budget, exemption },
                Act::Ignore { until, .. } if until > now && exemption.is_none() => {
                    exemption = Some(Exemption { rule: *index, until });
                }
                // It is over, or an earlier one ignores it already. The search goes on for the
                // budget that counts when that one is over.
                Act::Ignore { .. } => {}
            }
        }
        Allowance { budget: self.budgets.get(kind), exemption }
    }

    /// Why a rule ignores; empty for one with a budget, and for one that is not there.
    pub fn reason(&self, rule: usize) -> &str {
        self.rules.get(rule).map_or("", Rule::reason)
    }

    /// The smallest budget that anybody has of the kinds that rest on what only snapshots show.
    pub fn smallest_of_snapshots(&self) -> Duration {
        let of_rules = Budgets::OF_SNAPSHOTS.into_iter().flat_map(|kind| {
            self.of_kind[kind as usize].iter().filter_map(|index| self.rules[*index].budget())
        });
        of_rules.fold(self.budgets.smallest_of_snapshots(), Duration::min)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use proptest::prelude::*;

    use super::*;

    fn budget(kinds: &[Kind], comm: &str, to: &str, seconds: u64) -> Rule {
        rule(kinds, comm, to, Act::Budget(Duration::from_secs(seconds)))
    }

    fn ignore(kinds: &[Kind], comm: &str, to: &str, until: u64) -> Rule {
        rule(
            kinds,
            comm,
            to,
            Act::Ignore { reason: Arc::from("why"), until: MonoTime::from_nanos(until) },
        )
    }

    /// Empty texts for conditions that are not there.
    fn rule(kinds: &[Kind], comm: &str, to: &str, act: Act) -> Rule {
        Rule {
            kinds: kinds.to_vec(),
            comm: (!comm.is_empty()).then(|| comm.parse().expect("invariant: a pattern")),
            destination: (!to.is_empty()).then(|| to.parse().expect("invariant: an address")),
            act,
        }
    }

    fn remote(text: &str) -> Option<SocketAddr> {
        text.parse().ok()
    }

    #[test]
    fn without_rules_the_budgets_count() {
        let mut budgets = Budgets::default();
        budgets.set(Kind::Ghost, Duration::from_secs(77));
        let tuning = Tuning::new(budgets.clone(), Vec::new());
        for kind in Kind::ALL {
            assert!(!tuning.has_rules(kind));
            let allowance = tuning.allowance(kind, "node", None, MonoTime::from_nanos(0));
            assert_eq!(allowance, Allowance { budget: budgets.get(kind), exemption: None });
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        use Kind::{CloseWait, DeadFd, Undrained};
        let tuning = Tuning::new(
            Budgets::default(),
            vec![
                budget(&[CloseWait, Undrained], "batch-*", "10.0.0.0/8:5432", 300),
                ignore(&[], "batch-*", "", 100),
                budget(&[], "*", "10.0.0.0/8", 60),
                ignore(&[DeadFd], "batch-*", "", 200),
                budget(&[Undrained], "", "", 7),
            ],
        );
        let exempt = |rule, until| Some(Exemption { rule, until: MonoTime::from_nanos(until) });
        for (kind, comm, to, now, seconds, exemption) in [
            (CloseWait, "batch-1", "10.0.0.1:5432", 0, 300, None),
            (Undrained, "batch-1", "10.0.0.1:5432", 0, 300, None),
            (DeadFd, "batch-1", "10.0.0.1:5432", 0, 60, exempt(1, 100)),
            (CloseWait, "batch-1", "10.0.0.1:5433", 0, 60, exempt(1, 100)),
            (CloseWait, "batch-1", "10.0.0.1:5433", 99, 60, exempt(1, 100)),
            (CloseWait, "batch-1", "10.0.0.1:5433", 100, 60, None),
            (CloseWait, "batch-1", "11.0.0.1:5432", 0, 10, exempt(1, 100)),
            (DeadFd, "batch-1", "11.0.0.1:5432", 99, 10, exempt(1, 100)),
            (DeadFd, "batch-1", "11.0.0.1:5432", 100, 10, exempt(3, 200)),
            (DeadFd, "batch-1", "11.0.0.1:5432", 200, 10, None),
            (DeadFd, "batch-1", "10.0.0.1:5432", 150, 60, None),
            (CloseWait, "node", "10.0.0.1:5432", 0, 60, None),
            (CloseWait, "node", "", 0, 10, None),
            (Undrained, "node", "", 0, 7, None),
        ] {
            let expected = Allowance { budget: Duration::from_secs(seconds), exemption };
            let found = tuning.allowance(kind, comm, remote(to), MonoTime::from_nanos(now));
            assert_eq!(found, expected, "{kind} of {comm} to {to} at {now}");
        }
        assert_eq!((tuning.reason(1), tuning.reason(0), tuning.reason(9)), ("why", "", ""));
    }

    #[test]
    fn a_rule_with_a_destination_is_not_about_what_has_none() {
        let tuning =
            Tuning::new(Budgets::default(), vec![ignore(&[Kind::FdPressure], "", "0.0.0.0/0", 9)]);
        let found = tuning.allowance(Kind::FdPressure, "node", None, MonoTime::from_nanos(0));
        assert_eq!(found.exemption, None);
        assert!(tuning.has_rules(Kind::FdPressure) && !tuning.has_rules(Kind::CloseWait));
    }

    #[test]
    fn a_small_budget_of_a_rule_makes_snapshots_frequent() {
        let smallest = |rules| Tuning::new(Budgets::default(), rules).smallest_of_snapshots();
        assert_eq!(smallest(Vec::new()), Duration::from_secs(10));
        assert_eq!(smallest(vec![budget(&[], "a", "", 2)]), Duration::from_secs(2));
        assert_eq!(smallest(vec![budget(&[Kind::DeadFd], "a", "", 3)]), Duration::from_secs(3));
        assert_eq!(smallest(vec![budget(&[Kind::CloseWait], "a", "", 3)]), Duration::from_secs(10));
        assert_eq!(smallest(vec![ignore(&[Kind::DeadFd], "a", "", 3)]), Duration::from_secs(10));
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let kinds = prop::collection::vec(prop::sample::select(Kind::ALL.to_vec()), 0..3);
        let comm = prop::sample::select(vec!["", "a*", "*b", "?", "node"]);
        let to = prop::sample::select(vec!["", "10.0.0.0/8", "10.0.0.1:1", "*:2", "::/0"]);
        let act = prop_oneof![
            (0..100_u64).prop_map(|it| Act::Budget(Duration::from_secs(it))),
            (0..20_u64).prop_map(|it| Act::Ignore {
                reason: Arc::from("why"),
                until: MonoTime::from_nanos(it)
            }),
        ];
        (kinds, comm, to, act).prop_map(|(kinds, comm, to, act)| rule(&kinds, comm, to, act))
    }

    proptest! {
        #[test]
        fn it_is_what_a_plain_search_finds(
            rules in prop::collection::vec(any_rule(), 0..6),
            kind in prop::sample::select(Kind::ALL.to_vec()),
            comm in prop::sample::select(vec!["a", "ab", "node", ""]),
            to in prop::sample::select(vec!["", "10.0.0.1:1", "10.9.9.9:2", "[::1]:2"]),
            now in 0..20_u64,
        ) {
            let (to, now) = (remote(to), MonoTime::from_nanos(now));
            let met: Vec<_> = rules
                .iter()
                .enumerate()
                .filter(|(_, it)| it.kinds.is_empty() || it.kinds.contains(&kind))
                .filter(|(_, it)| it.comm.as_ref().is_none_or(|it| it.matches(comm)))
                .filter(|(_, it)| match (&it.destination, to) {
                    (None, _) => true,
                    (Some(it), Some(to)) => it.contains(to),
                    (Some(_), None) => false,
                })
                .collect();
            let in_force = met.iter().find(|(_, it)| match it.act {
                Act::Budget(_) => true,
                Act::Ignore { until, .. } => until > now,
            });
            let found = Tuning::new(Budgets::default(), rules.clone()).allowance(kind, comm, to, now);
            match in_force {
                None => {
                    prop_assert_eq!(found.exemption, None);
                    prop_assert_eq!(found.budget, kind.default_budget());
                }
                Some((index, rule)) => match rule.act {
                    Act::Budget(budget) => {
                        prop_assert_eq!(found, Allowance { budget, exemption: None });
                    }
                    Act::Ignore { until, .. } => {
                        let exemption = Exemption { rule: *index, until };
                        prop_assert_eq!(found.exemption, Some(exemption));
                    }
                },
            }
        }
    }
}
