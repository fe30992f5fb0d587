//! Rules for what runs in a unit or a container.

use super::*;
use crate::cgroup::Place;

fn of_unit(unit: &str, rule: Rule) -> Rule {
    Rule { unit: Some(unit.parse().expect("invariant: a pattern")), ..rule }
}

fn unit(name: &str) -> Place {
    Place { unit: Some(name.into()), container: None }
}

/// A connection of `program-1` in `a.service`, closed by its peer in the second second.
fn half_closed_in_a(rules: Vec<Rule>) -> Live {
    let mut live = half_closed(rules);
    live.places.insert(1, unit("a.service"));
    live
}

/// How often somebody was asked where a process runs.
fn asked(live: &Live) -> usize {
    live.told.iter().filter(|it| matches!(it, Told::Place(..))).count()
}

#[test]
fn a_rule_is_about_the_processes_of_its_unit() {
    use FindingEvent::Opened;
    let of = |unit, seconds| of_unit(unit, budget("*", Kind::CloseWait, seconds));
    for (rules, expected) in [
        (vec![of("a.service", 60)], 62),
        (vec![of("a.service", 3)], 5),
        (vec![of("b.service", 60)], 12),
        (vec![of("b.service", 3)], 12),
        (vec![of("b.service", 3), of("*.service", 20), of("a.service", 60)], 22),
        (vec![of("b.service", 60), budget("*", Kind::CloseWait, 30)], 32),
        (vec![of_unit("a.service", ignore("*", at(50)))], 50),
        (vec![of_unit("b.service", ignore("*", at(50)))], 12),
        (vec![of_unit("a.service", ignore("program-2", at(50)))], 12),
    ] {
        let shown = format!("{rules:?}");
        let mut live = half_closed_in_a(rules);
        live.pass(at(expected as u32 + 1));
        assert_eq!(said(&live), [(Opened, Kind::CloseWait, expected)], "{shown}");
    }
}

#[test]
fn nobody_is_asked_where_a_process_runs_before_something_is_due() {
    let mut live = half_closed_in_a(vec![of_unit("a.service", ignore("*", at(500)))]);
    live.pass(MonoTime::from_nanos(at(12).nanos() - 1));
    assert_eq!(asked(&live), 0);
    live.pass(at(13));
    assert_eq!(asked(&live), 1);
    assert_eq!((said(&live), live.correlator.ignored()), (vec![], 1));
    // No rule with a unit is about it.
    let mut live = half_closed_in_a(vec![of_unit("a.service", ignore("program-2", at(500)))]);
    live.pass(at(60));
    assert_eq!(asked(&live), 0);
    let mut live = half_closed_in_a(vec![of_unit("a.service", budget("*", Kind::DeadFd, 9))]);
    live.pass(at(60));
    assert_eq!(asked(&live), 0);
}

#[test]
fn a_place_that_is_not_known_lets_no_alarm_out_and_one_that_cannot_be_told_does() {
    let mut correlator = Correlator::new(
        Config {
            rules: vec![of_unit("a.service", ignore("*", at(500)))],
            budgets: {
                let mut budgets = Budgets::default();
                budgets.set(Kind::CloseWait, Duration::ZERO);
                budgets
            },
            ..Config::default()
        },
        start(),
    );
    // What a snapshot shows first is due at once, and nobody could be asked before.
    let kernel = half_closed(Vec::new()).kernel;
    let look = |correlator: &mut Correlator, second: u32, place: Option<Place>| {
        let wanted = correlator.take_places_wanted();
        if let Some(place) = place {
            assert_eq!(wanted.iter().copied().collect::<Vec<_>>(), [NODE]);
            correlator.handle_place(NODE, place);
        }
        let (began, ended) = (at(second), at(second));
        correlator.handle_snapshot(crate::model::Snapshot { began, ended, ..kernel.snapshot() });
        let mut asks = false;
        while let Some(output) = correlator.poll_output() {
            asks |= matches!(output, Output::SnapshotWanted(_));
        }
        correlator.handle_timeout(at(second).after(SECOND / 2));
        while let Some(output) = correlator.poll_output() {
            asks |= matches!(output, Output::SnapshotWanted(_));
        }
        (correlator.open_incidents().count(), correlator.ignored(), asks)
    };
    assert_eq!(look(&mut correlator, 3, None), (0, 0, true), "another snapshot is to decide");
    assert_eq!(look(&mut correlator, 4, None), (0, 0, true), "nobody has answered");
    assert_eq!(look(&mut correlator, 5, Some(Place::default())), (1, 0, false));
    // It is in the unit after all.
    assert_eq!(look(&mut correlator, 6, Some(unit("a.service"))), (0, 1, false));
}

#[test]
fn a_process_that_moves_comes_under_other_rules() {
    use FindingEvent::{Cleared, Opened};
    let mut live = half_closed_in_a(vec![of_unit("b.service", ignore("*", at(500)))]);
    live.pass(at(15));
    live.places.insert(1, unit("b.service"));
    live.pass(at(40));
    live.places.insert(1, unit("a.service"));
    live.pass(at(70));
    let kind = Kind::CloseWait;
    let told: Vec<_> = said(&live).into_iter().map(|(event, kind, _)| (event, kind)).collect();
    assert_eq!(told, [(Opened, kind), (Cleared, kind), (Opened, kind)]);
    assert_eq!(live.findings[1].clear_reason, Some(ClearReason::Ignored));
    assert_eq!(live.findings[2].since, at(2));
}

#[test]
fn a_forked_child_has_a_place_of_its_own() {
    let rules = vec![of_unit("a.service", ignore("*", at(500)))];
    let mut live = half_closed_in_a(rules);
    live.places.insert(3, unit("b.service"));
    live.run(SECOND, Op::Fork(0));
    live.run(Duration::ZERO, Op::Close(0, 0));
    live.pass(at(40));
    let opened: Vec<_> = live.open.values().map(|it| (it.kind, it.process.pid)).collect();
    assert!(opened.contains(&(Kind::CloseWait, 3)), "{opened:?} {:?}", said(&live));
}

#[test]
fn a_rule_with_a_unit_that_comes_by_reload_clears_when_the_place_is_known() {
    let mut live = half_closed_in_a(Vec::new());
    live.pass(at(15));
    assert_eq!(asked(&live), 0);
    reload(&mut live, vec![of_unit("b.service", ignore("*", at(500)))]);
    live.pass(at(16));
    assert_eq!((live.open.len(), asked(&live)), (1, 1));
    reload(&mut live, vec![of_unit("a.service", ignore("*", at(500)))]);
    live.pass(at(17));
    let last = live.findings.last().expect("it was open");
    assert_eq!(last.clear_reason, Some(ClearReason::Ignored));
    assert_eq!((live.findings.len(), live.correlator.ignored()), (2, 1));
}

#[test]
fn what_a_process_does_is_judged_by_its_place_too() {
    for (rule, place, opens) in [
        (of_unit("a.service", budget("node", Kind::Overgrowth, 60)), unit("a.service"), 61),
        (of_unit("a.service", budget("node", Kind::Overgrowth, 4)), unit("a.service"), 5),
        (of_unit("a.service", budget("node", Kind::Overgrowth, 4)), unit("b.service"), 11),
        (of_unit("a.service", ignore("node", at(40))), unit("a.service"), 40),
        (of_unit("a.service", ignore("node", at(40))), Place::default(), 11),
    ] {
        let shown = format!("{rule:?} {place:?}");
        let mut correlator = with_node(vec![rule]);
        for second in 2..opens {
            assert_eq!(judged(&mut correlator, &[overgrowth()], second), [], "{shown}");
            for process in correlator.take_places_wanted() {
                assert_eq!(process, NODE);
                assert!(second == 5 || second >= 11, "{shown}: asked in second {second}");
                correlator.handle_place(process, place.clone());
            }
            assert_eq!(judged(&mut correlator, &[overgrowth()], second), [], "{shown}");
        }
        judged(&mut correlator, &[overgrowth()], opens);
        for process in correlator.take_places_wanted() {
            correlator.handle_place(process, place.clone());
        }
        judged(&mut correlator, &[overgrowth()], opens);
        assert_eq!(correlator.open_incidents().count(), 1, "{shown}");
    }
}

#[test]
fn what_hangs_on_a_place_asks_for_a_snapshot_until_it_is_known() {
    let mut correlator = with_node(vec![of_unit("a.service", ignore("node", at(40)))]);
    correlator.handle_snapshot(crate::model::Snapshot::default());
    judged(&mut correlator, &[overgrowth()], 11);
    assert!(correlator.poll_timeout().is_some_and(|due| due <= at(11)), "a snapshot is wanted");
    assert_eq!(correlator.take_places_wanted().len(), 1);
    correlator.handle_place(ProcessKey { pid: 9, start_ns: 9 }, unit("a.service"));
    assert_eq!(correlator.open_incidents().count(), 0);
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_rule_for_the_unit_of_all_is_a_rule_for_all(history in history(), until in 0..30_u32) {
        let all = |rule: Rule| Rule { destination: None, ..rule };
        let (plain, told) = outcome(
            &history,
            Config { rules: vec![all(ignore("*", at(until)))], ..Config::default() },
        );
        let rules = vec![of_unit("*.service", all(ignore("*", at(until))))];
        let mut live = Live::new(Config { rules, ..Config::default() }, 3, Way::default());
        for pid in 0..=40 {
            live.places.insert(pid, unit("a.service"));
        }
        for (pause, op) in &history {
            live.run(Duration::from_millis(u64::from(*pause)), *op);
        }
        live.pass(live.kernel.now.after(SECOND * 60));
        for finding in &live.findings {
            prop_assert!(finding.time >= at(until), "{:?}", finding);
        }
        // Whether a socket was handed over depends on when a snapshot was taken.
        let is_judged = |key: &&(Cookie, Kind)| key.1 != Kind::Inherited;
        let open = |live: &Live| live.open.keys().filter(is_judged).copied().collect::<Vec<_>>();
        prop_assert_eq!(open(&live), open(&plain), "{:?}", told);
        prop_assert_eq!(live.correlator.ignored(), 0);
    }

    #[test]
    fn a_rule_for_a_unit_that_nobody_is_in_changes_no_verdict(history in history()) {
        let (plain, _) = outcome(&history, Config::default());
        let all = Rule { destination: None, ..ignore("*", MonoTime::from_nanos(u64::MAX)) };
        let rules = vec![of_unit("nobody.service", all)];
        let (live, _) = outcome(&history, Config { rules, ..Config::default() });
        let is_judged = |key: &&(Cookie, Kind)| key.1 != Kind::Inherited;
        let open = |live: &Live| live.open.keys().filter(is_judged).copied().collect::<Vec<_>>();
        prop_assert_eq!(open(&live), open(&plain));
        prop_assert!(live.correlator.ignored_by_kind().is_empty());
    }
}
