//! PURE. What is allowed to whom: budgets, and rules that change them or ignore findings for a while.
//!
//! A rule is about kinds, names of processes, where they run, and destinations. The first one that
//! matches counts. A rule that ignores ends at a fixed moment; from then on it is as if it were not
//! there.
//!
//! Where a process runs is looked up only when a rule asks. Until it is known nothing is decided:
//! neither is such a rule passed over, nor does it silence anything for good.

mod destination;
mod glob;
mod ignored;
mod place;
mod rule;

use std::{net::SocketAddr, time::Duration};

pub(crate) use self::ignored::Ignored;
pub use self::{
    destination::Destination,
    glob::Glob,
    place::{ContainerGlob, UnitGlob},
    rule::{Act, MOST_RULES, Rule},
};
use crate::{
    cgroup::Place,
    detect::{Budgets, Kind},
    model::MonoTime,
};

/// Whom and what something wrong is about.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// The name of the process.
    pub comm: &'a str,
    /// Where it runs; `None` if nobody has looked yet.
    pub place: Option<&'a Place>,
    /// The other end. What has none is not met by rules that name one.
    pub remote: Option<SocketAddr>,
}

/// What is allowed to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How long it may last; the least that it may turn out to be, if the place is missing.
    pub budget: Duration,
    /// That it is ignored, at the moment for which this was asked.
    pub exemption: Option<Exemption>,
    /// What the place of the process has to do with it.
    pub by_place: ByPlace,
}

impl Allowance {
    /// What is allowed to all.
    pub(crate) fn of_all(budget: Duration) -> Self {
        Self { budget, exemption: None, by_place: ByPlace::No }
    }

    /// When what is `due` by the budget is a finding. A rule that ignores it holds it back to its
    /// own end.
    pub(crate) fn opens(&self, due: MonoTime) -> MonoTime {
        self.exemption.map_or(due, |it| it.until.max(due))
    }

    /// Whether it hangs on a place that nobody has looked up yet: nothing may open.
    pub fn is_undecided(&self) -> bool {
        self.by_place == ByPlace::Missing && self.exemption.is_none()
    }
}

/// What the place of a process has to do with what is allowed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByPlace {
    /// Nothing: it is the same everywhere.
    No,
    /// It decides, and is known.
    Known,
    /// It decides, and is not known yet.
    Missing,
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

    /// What is allowed to `party` at `now`.
    pub fn allowance(&self, kind: Kind, party: Party<'_>, now: MonoTime) -> Allowance {
        let Party { comm, place, remote } = party;
        let mut exemption = None;
        let mut by_place = ByPlace::No;
        // Of rules of which it is not known whether they match.
        let mut least = Duration::MAX;
        for index in &self.of_kind[kind as usize] {
            let rule = &self.rules[*index];
            let is_over = matches!(rule.act, Act::Ignore { until, .. } if until <= now);
            if is_over || !rule.matches(comm, remote) {
                continue;
            }
            if rule.has_place() {
                let Some(place) = place else {
                    by_place = ByPlace::Missing;
                    least = least.min(rule.budget().unwrap_or(least));
                    continue;
                };
                by_place = ByPlace::Known;
                if !rule.is_at(place) {
                    continue;
                }
            }
            match rule.act {
                Act::Budget(budget) => {
                    return Allowance { budget: budget.min(least), exemption, by_place };
                }
                // Behind one that may match it is not known to be the first. One that ignores
                // already leaves the search for the budget that counts when it is over.
                Act::Ignore { until, .. }
                    if exemption.is_none() && by_place != ByPlace::Missing =>
                {
                    exemption = Some(Exemption { rule: *index, until });
                }
                Act::Ignore { .. } => {}
            }
        }
        Allowance { budget: self.budgets.get(kind).min(least), exemption, by_place }
    }

    /// All budgets that somebody may have of `kind`.
    pub fn budgets_of(&self, kind: Kind) -> impl Iterator<Item = Duration> {
        let of_rules = self.of_kind[kind as usize].iter();
        let of_rules = of_rules.filter_map(|index| self.rules[*index].budget());
        std::iter::once(self.budgets.get(kind)).chain(of_rules)
    }

    /// Why a rule ignores; empty for one with a budget, and for one that is not there.
    pub fn reason(&self, rule: usize) -> &str {
        self.rules.get(rule).map_or("", Rule::reason)
    }

    /// The smallest budget that anybody has of the kinds that rest on what only snapshots show.
    pub fn smallest_of_snapshots(&self) -> Duration {
        let all = Budgets::OF_SNAPSHOTS.into_iter().flat_map(|kind| self.budgets_of(kind));
        all.min().unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn party<'a>(comm: &'a str, place: Option<&'a Place>, to: &str) -> Party<'a> {
        Party { comm, place, remote: to.parse().ok() }
    }

    /// Empty texts for what is not known of it.
    fn place(unit: &str, container: &str) -> Place {
        let name = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        Place { unit: name(unit), container: name(container) }
    }

    /// The same rule for what runs there alone; an empty text for everywhere.
    fn inside(unit: &str, container: &str, rule: Rule) -> Rule {
        let unit = (!unit.is_empty()).then(|| unit.parse().expect("invariant: a pattern"));
        let container = (!container.is_empty()).then(|| container.parse().expect("invariant: one"));
        Rule { unit, container, ..rule }
    }

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
            unit: None,
            container: None,
            destination: (!to.is_empty()).then(|| to.parse().expect("invariant: an address")),
            act,
        }
    }

    #[test]
    fn without_rules_the_budgets_count() {
        let mut budgets = Budgets::default();
        budgets.set(Kind::Ghost, Duration::from_secs(77));
        let tuning = Tuning::new(budgets.clone(), Vec::new());
        for kind in Kind::ALL {
            assert!(!tuning.has_rules(kind));
            let allowance =
                tuning.allowance(kind, party("node", None, ""), MonoTime::from_nanos(0));
            assert_eq!(allowance, Allowance::of_all(budgets.get(kind)));
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
            let budget = Duration::from_secs(seconds);
            let expected = Allowance { budget, exemption, by_place: ByPlace::No };
            let found = tuning.allowance(kind, party(comm, None, to), MonoTime::from_nanos(now));
            assert_eq!(found, expected, "{kind} of {comm} to {to} at {now}");
        }
        assert_eq!((tuning.reason(1), tuning.reason(0), tuning.reason(9)), ("why", "", ""));
    }

    #[test]
    fn a_rule_with_a_destination_is_not_about_what_has_none() {
        let tuning =
            Tuning::new(Budgets::default(), vec![ignore(&[Kind::FdPressure], "", "0.0.0.0/0", 9)]);
        let found =
            tuning.allowance(Kind::FdPressure, party("node", None, ""), MonoTime::from_nanos(0));
        assert_eq!(found.exemption, None);
        assert!(tuning.has_rules(Kind::FdPressure) && !tuning.has_rules(Kind::CloseWait));
    }

    #[test]
    fn a_rule_with_a_place_is_about_what_runs_there() {
        use ByPlace::{Known, No};
        const ID: &str = "3f4c1b0e9d8a7f6e5d4c3b2a190817263544536271809f8e7d6c5b4a39281706";
        let plain = |seconds| budget(&[Kind::CloseWait], "", "", seconds);
        let tuning = Tuning::new(
            Budgets::default(),
            vec![
                inside("nginx.service", "", plain(1)),
                inside("docker-*", &ID[..12], plain(2)),
                inside("", "gate*", plain(3)),
                inside("a.service", "", budget(&[Kind::CloseWait], "node", "*:7", 4)),
                plain(5),
            ],
        );
        let scope = format!("docker-{ID}.scope");
        for (unit, container, comm, to, seconds) in [
            ("nginx.service", "", "nginx", "10.0.0.1:1", 1),
            ("docker-a.scope", "", "node", "10.0.0.1:1", 5),
            (&scope, ID, "node", "10.0.0.1:1", 2),
            ("b.scope", ID, "node", "10.0.0.1:1", 5),
            ("", "gateway", "node", "10.0.0.1:1", 3),
            ("a.service", "", "node", "10.0.0.1:7", 4),
            ("a.service", "", "python3", "10.0.0.1:7", 5),
            ("a.service", "", "node", "10.0.0.1:8", 5),
            ("", "", "node", "10.0.0.1:7", 5),
        ] {
            let place = place(unit, container);
            let found = tuning.allowance(
                Kind::CloseWait,
                party(comm, Some(&place), to),
                MonoTime::from_nanos(0),
            );
            let budget = Duration::from_secs(seconds);
            let expected = Allowance { budget, exemption: None, by_place: Known };
            assert_eq!(found, expected, "{comm} in {unit} {container} to {to}");
            let other = tuning.allowance(
                Kind::DeadFd,
                party(comm, Some(&place), to),
                MonoTime::from_nanos(0),
            );
            assert_eq!(other.by_place, No, "no rule is of this kind");
        }
    }

    #[test]
    fn nothing_is_decided_by_a_rule_with_a_place_until_the_place_is_known() {
        use ByPlace::{Missing, No};
        let (a, all) = (|rule| inside("a.service", "", rule), &[Kind::CloseWait][..]);
        let exempt = |rule, until| Some(Exemption { rule, until: MonoTime::from_nanos(until) });
        for (rules, budget, exemption, by_place, undecided) in [
            (vec![a(ignore(all, "", "", 100))], 10, None, Missing, true),
            (vec![a(ignore(all, "node", "", 100))], 10, None, Missing, true),
            // It would be about others.
            (vec![a(ignore(all, "nginx", "", 100))], 10, None, No, false),
            (vec![a(ignore(all, "", "*:9", 100))], 10, None, No, false),
            (vec![a(ignore(all, "", "", 50))], 10, None, No, false),
            // The least that it may be, so that nothing is late.
            (vec![a(budget_of(all, 60))], 10, None, Missing, true),
            (vec![a(budget_of(all, 3))], 3, None, Missing, true),
            (vec![a(budget_of(all, 3)), budget_of(all, 7)], 3, None, Missing, true),
            (vec![a(budget_of(all, 9)), budget_of(all, 7)], 7, None, Missing, true),
            (vec![a(budget_of(all, 9)), a(budget_of(all, 4))], 4, None, Missing, true),
            // An earlier rule decides.
            (vec![budget_of(all, 7), a(ignore(all, "", "", 100))], 7, None, No, false),
            (vec![ignore(all, "", "", 90), a(budget_of(all, 3))], 3, exempt(0, 90), Missing, false),
            // A later one does not.
            (vec![a(budget_of(all, 60)), ignore(all, "", "", 90)], 10, None, Missing, true),
        ] {
            let shown = format!("{rules:?}");
            let tuning = Tuning::new(Budgets::default(), rules);
            let party = party("node", None, "10.0.0.1:7");
            let found = tuning.allowance(Kind::CloseWait, party, MonoTime::from_nanos(50));
            let budget = Duration::from_secs(budget);
            assert_eq!(found, Allowance { budget, exemption, by_place }, "{shown}");
            assert_eq!(found.is_undecided(), undecided, "{shown}");
        }
    }

    fn budget_of(kinds: &[Kind], seconds: u64) -> Rule {
        budget(kinds, "", "", seconds)
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
        let unit = prop::sample::select(vec!["", "", "a.service", "*.service"]);
        let container = prop::sample::select(vec!["", "", "gate*"]);
        (kinds, comm, unit, container, to, act).prop_map(
            |(kinds, comm, unit, container, to, act)| {
                inside(unit, container, rule(&kinds, comm, to, act))
            },
        )
    }

    fn any_place() -> impl Strategy<Value = Place> {
        let unit = prop::sample::select(vec!["", "a.service", "b.service", "b.scope"]);
        let container = prop::sample::select(vec!["", "gateway", "other"]);
        (unit, container).prop_map(|(unit, container)| place(unit, container))
    }

    proptest! {
        #[test]
        fn it_is_what_a_plain_search_finds(
            rules in prop::collection::vec(any_rule(), 0..6),
            kind in prop::sample::select(Kind::ALL.to_vec()),
            comm in prop::sample::select(vec!["a", "ab", "node", ""]),
            to in prop::sample::select(vec!["", "10.0.0.1:1", "10.9.9.9:2", "[::1]:2"]),
            at in any_place(),
            now in 0..20_u64,
        ) {
            let (party, now) = (party(comm, Some(&at), to), MonoTime::from_nanos(now));
            let met: Vec<_> = rules
                .iter()
                .enumerate()
                .filter(|(_, it)| it.kinds.is_empty() || it.kinds.contains(&kind))
                .filter(|(_, it)| it.comm.as_ref().is_none_or(|it| it.matches(comm)))
                .filter(|(_, it)| it.is_at(&at))
                .filter(|(_, it)| match (&it.destination, party.remote) {
                    (None, _) => true,
                    (Some(it), Some(to)) => it.contains(to),
                    (Some(_), None) => false,
                })
                .collect();
            let in_force = met.iter().find(|(_, it)| match it.act {
                Act::Budget(_) => true,
                Act::Ignore { until, .. } => until > now,
            });
            let found = Tuning::new(Budgets::default(), rules.clone()).allowance(kind, party, now);
            match in_force {
                None => {
                    prop_assert_eq!(found.exemption, None);
                    prop_assert_eq!(found.budget, kind.default_budget());
                }
                Some((index, rule)) => match rule.act {
                    Act::Budget(budget) => {
                        prop_assert_eq!((found.budget, found.exemption), (budget, None));
                    }
                    Act::Ignore { until, .. } => {
                        let exemption = Exemption { rule: *index, until };
                        prop_assert_eq!(found.exemption, Some(exemption));
                    }
                },
            }
        }

        #[test]
        fn what_is_said_without_a_place_is_true_of_every_place(
            rules in prop::collection::vec(any_rule(), 0..6),
            kind in prop::sample::select(Kind::ALL.to_vec()),
            comm in prop::sample::select(vec!["a", "ab", "node", ""]),
            to in prop::sample::select(vec!["", "10.0.0.1:1", "10.9.9.9:2", "[::1]:2"]),
            places in prop::collection::vec(any_place(), 1..9),
            now in 0..20_u64,
        ) {
            let tuning = Tuning::new(Budgets::default(), rules);
            let unknown = tuning.allowance(kind, party(comm, None, to), MonoTime::from_nanos(now));
            for at in &places {
                let known = tuning.allowance(kind, party(comm, Some(at), to), MonoTime::from_nanos(now));
                prop_assert!(!known.is_undecided());
                prop_assert!(unknown.budget <= known.budget, "late in {:?}", at);
                prop_assert_eq!(unknown.by_place == ByPlace::No, known.by_place == ByPlace::No);
                if unknown.by_place == ByPlace::No {
                    prop_assert_eq!(unknown, known);
                } else if !unknown.is_undecided() {
                    prop_assert_eq!(unknown.exemption, known.exemption);
                }
                prop_assert!(tuning.budgets_of(kind).any(|it| it == unknown.budget));
            }
        }
    }
}
