//! What rules do to stories of which the outcome is known.

mod places;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use crate::{
    correlate::{
        Config, Correlator, Output,
        kernel_model::Op,
        live::{Live, Told, Way},
        properties::{history, settings},
    },
    detect::{Budgets, Kind},
    incident::{ClearReason, Detail, Evidence, Finding, FindingEvent, Subject},
    model::{Comm, Cookie, KernelEvent, MonoTime, ProcessKey},
    trends::{Fleet, Suspicion},
    tuning::{Act, Rule},
};

const SECOND: Duration = Duration::from_secs(1);

/// Where the model's processes connect to.
const SERVER: &str = "127.0.0.1:1883";

fn budget(comm: &str, kind: Kind, seconds: u32) -> Rule {
    rule(comm, &[kind], Act::Budget(SECOND * seconds))
}

fn ignore(comm: &str, until: MonoTime) -> Rule {
    rule(comm, &[], Act::Ignore { reason: Arc::from("it is being mended"), until })
}

fn rule(comm: &str, kinds: &[Kind], act: Act) -> Rule {
    let comm = Some(comm.parse().expect("invariant: a pattern"));
    let (kinds, destination) = (kinds.to_vec(), SERVER.parse().ok());
    Rule { kinds, comm, unit: None, container: None, destination, act }
}

/// The start of all stories.
fn start() -> MonoTime {
    Live::new(Config::default(), 0, Way::default()).kernel.now
}

/// At this second of a story.
fn at(second: u32) -> MonoTime {
    start().after(SECOND * second)
}

/// A connection of `program-1`, made in the first second and closed by its peer in the second one.
fn half_closed(rules: Vec<Rule>) -> Live {
    let mut live = Live::new(Config { rules, ..Config::default() }, 2, Way::default());
    live.run(SECOND, Op::Connect(0));
    // Each record has the name of its process, which the model leaves to snapshots.
    live.correlator.handle_name(NODE, &Comm::from_bytes(b"program-1"), live.kernel.now);
    live.run(Duration::ZERO, Op::Answer(0));
    live.run(SECOND, Op::PeerCloses(0));
    live
}

/// What was said, and in which second.
fn said(live: &Live) -> Vec<(FindingEvent, Kind, u64)> {
    let second = |it: &Finding| it.time.since(start()).as_secs();
    live.findings.iter().map(|it| (it.event, it.kind, second(it))).collect()
}

/// Gives the correlator other rules, as a reload does.
fn reload(live: &mut Live, rules: Vec<Rule>) {
    live.correlator.set_tuning(Budgets::default(), rules, live.kernel.now);
    // Lets the outputs come.
    live.run(Duration::ZERO, Op::Wait(0));
}

#[test]
fn a_rule_gives_its_processes_another_budget() {
    use FindingEvent::Opened;
    for (rules, expected) in [
        (vec![], 12),
        (vec![budget("program-1", Kind::CloseWait, 60)], 62),
        (vec![budget("program-1", Kind::CloseWait, 3)], 5),
        (vec![budget("program-2", Kind::CloseWait, 60)], 12),
        (vec![budget("program-1", Kind::DeadFd, 60)], 12),
        (vec![budget("*", Kind::CloseWait, 20), budget("program-1", Kind::CloseWait, 60)], 22),
    ] {
        let mut live = half_closed(rules);
        live.pass(at(expected as u32 + 1));
        assert_eq!(said(&live), [(Opened, Kind::CloseWait, expected)]);
        assert_eq!(live.findings[0].since, at(2));
        assert_eq!(live.findings[0].budget.as_secs(), expected - 2);
    }
}

#[test]
fn a_small_budget_of_a_rule_is_kept_where_only_snapshots_show_it() {
    let mut live = Live::new(
        Config { rules: vec![budget("program-1", Kind::Undrained, 2)], ..Config::default() },
        2,
        Way::default(),
    );
    live.run(SECOND, Op::Connect(0));
    live.run(Duration::ZERO, Op::Answer(0));
    live.run(SECOND, Op::Data(0));
    live.pass(at(7));
    assert_eq!(live.open.len(), 1, "{:?}", said(&live));
}

#[test]
fn what_is_ignored_is_counted_and_is_a_finding_when_the_rule_ends() {
    let mut live = half_closed(vec![ignore("program-*", at(100))]);
    live.pass(MonoTime::from_nanos(at(100).nanos() - 1));
    assert_eq!(said(&live), []);
    assert_eq!(live.correlator.ignored(), 1);
    assert_eq!(live.correlator.ignored_by_kind()[&Kind::CloseWait], 1);
    let by_rule: Vec<_> = live.correlator.ignored_by_rule().map(|(_, count)| count).collect();
    assert_eq!(by_rule, [1]);
    let snapshots = live.told.iter().filter(|it| matches!(it, Told::Snapshot(_))).count();
    assert!(snapshots <= 12, "{snapshots} snapshots: what is ignored asks for none");
    live.pass(at(101));
    assert_eq!(said(&live), [(FindingEvent::Opened, Kind::CloseWait, 100)]);
    assert_eq!((live.findings[0].since, live.findings[0].budget), (at(2), SECOND * 10));
    assert_eq!(live.correlator.ignored(), 0);
    assert_eq!(live.correlator.ignored_by_kind()[&Kind::CloseWait], 1);
}

#[test]
fn a_rule_that_ends_before_the_budget_changes_nothing() {
    let mut live = half_closed(vec![ignore("program-*", at(11))]);
    live.pass(at(13));
    assert_eq!(said(&live), [(FindingEvent::Opened, Kind::CloseWait, 12)]);
    assert!(live.correlator.ignored_by_kind().is_empty());
}

#[test]
fn what_ends_while_it_is_ignored_is_not_mentioned() {
    let mut live = half_closed(vec![ignore("program-*", at(100))]);
    live.pass(at(30));
    live.run(Duration::ZERO, Op::Close(0, 0));
    live.pass(at(120));
    assert_eq!(said(&live), []);
    assert_eq!(live.correlator.ignored(), 0);
    assert_eq!(live.correlator.ignored_by_kind()[&Kind::CloseWait], 1);
}

#[test]
fn what_a_snapshot_does_not_find_any_more_is_not_ignored() {
    let mut live = half_closed(vec![ignore("program-*", at(100))]);
    live.pass(at(30));
    assert_eq!(live.correlator.ignored(), 1);
    live.run(Duration::ZERO, Op::CloseUnseen(0, 0));
    live.pass(at(50));
    assert_eq!(live.correlator.ignored(), 0);
}

#[test]
fn the_process_that_the_finding_names_counts() {
    for (name, opens) in [("program-1", 13), ("program-2", 63)] {
        let rules = vec![budget(name, Kind::CloseWait, 60)];
        let mut live = Live::new(Config { rules, ..Config::default() }, 2, Way::default());
        live.run(SECOND, Op::Connect(1));
        live.run(Duration::ZERO, Op::Answer(0));
        // The first holder by number is not the owner.
        live.run(SECOND, Op::Pass(1, 0, 0));
        live.run(SECOND, Op::PeerCloses(0));
        live.pass(at(70));
        assert_eq!(live.findings[0].comm.as_str(), "program-2");
        assert_eq!(live.findings[0].holders.len(), 2);
        // Names and the passing are known by the next periodic snapshot.
        assert_eq!(said(&live)[0], (FindingEvent::Opened, Kind::CloseWait, opens), "{name}");
    }
}

#[test]
fn what_goes_on_counts_by_the_budget_of_the_rule() {
    let mut budgets = Budgets::default();
    budgets.set(Kind::CloseWait, Duration::ZERO);
    let rules = vec![budget("program-1", Kind::CloseWait, 20)];
    let mut live = Live::new(Config { budgets, rules, ..Config::default() }, 2, Way::default());
    live.run(SECOND, Op::Connect(0));
    live.correlator.handle_name(NODE, &Comm::from_bytes(b"program-1"), live.kernel.now);
    live.run(Duration::ZERO, Op::Answer(0));
    live.run(SECOND, Op::PeerCloses(0));
    live.pass(at(25));
    assert_eq!(live.open.len(), 1);
    live.run(Duration::ZERO, Op::Write(0));
    live.pass(at(40));
    let last = live.findings.last().map(|it| it.clear_reason);
    assert_eq!(last, Some(Some(ClearReason::Sent)), "it is suspected again, and no more");
}

#[test]
fn a_process_that_takes_another_name_is_under_another_rule() {
    let mut live = half_closed(vec![ignore("program-3", at(100))]);
    live.pass(at(15));
    assert_eq!(said(&live), [(FindingEvent::Opened, Kind::CloseWait, 12)]);
    live.run(Duration::ZERO, Op::Exec(0, true));
    live.pass(at(30));
    let last = live.findings.last().expect("it was open");
    assert_eq!((last.kind, last.clear_reason), (Kind::CloseWait, Some(ClearReason::Ignored)));
}

#[test]
fn a_smaller_budget_by_reload_makes_snapshots_frequent() {
    let mut live = Live::new(Config::default(), 2, Way::default());
    live.run(SECOND, Op::Connect(0));
    live.run(Duration::ZERO, Op::Answer(0));
    reload(&mut live, vec![budget("program-1", Kind::Undrained, 1)]);
    live.run(SECOND, Op::Data(0));
    live.pass(at(5));
    assert_eq!(live.open.len(), 1, "{:?}", said(&live));
}

#[test]
fn a_rule_that_comes_clears_and_one_that_goes_opens() {
    use FindingEvent::{Cleared, Opened};
    let mut live = half_closed(Vec::new());
    live.pass(at(15));
    reload(&mut live, vec![ignore("program-1", at(1_000))]);
    let cleared = live.findings.last().expect("it was open");
    assert_eq!((cleared.event, cleared.clear_reason), (Cleared, Some(ClearReason::Ignored)));
    assert_eq!(
        cleared.message,
        "cleared: close-wait of program-1 (pid 1) fd 3 to 127.0.0.1:1883 lasts for 13 s, and a \
         rule ignores it: it is being mended"
    );
    assert_eq!(live.correlator.ignored(), 1);
    live.pass(at(60));
    assert_eq!(live.findings.len(), 2, "{:?}", said(&live));
    assert_eq!(live.correlator.ignored_by_kind()[&Kind::CloseWait], 1, "it is the same");
    // Another rule takes over.
    reload(&mut live, vec![budget("program-2", Kind::CloseWait, 5), ignore("*", at(1_000))]);
    live.pass(at(90));
    assert_eq!(live.correlator.ignored_by_kind()[&Kind::CloseWait], 1, "it still is");
    let by_rule: Vec<_> = live.correlator.ignored_by_rule().map(|(_, count)| count).collect();
    assert_eq!(by_rule, [0, 1]);
    reload(&mut live, Vec::new());
    live.pass(at(91));
    let kind = Kind::CloseWait;
    assert_eq!(said(&live), [(Opened, kind, 12), (Cleared, kind, 15), (Opened, kind, 90)]);
    assert_eq!(live.findings[2].since, at(2));
}

#[test]
fn another_budget_by_reload_holds_for_what_is_not_open_yet() {
    let mut live = half_closed(Vec::new());
    live.pass(at(5));
    reload(&mut live, vec![budget("program-1", Kind::CloseWait, 60)]);
    live.pass(at(63));
    assert_eq!(said(&live), [(FindingEvent::Opened, Kind::CloseWait, 62)]);
    reload(&mut live, vec![budget("program-1", Kind::CloseWait, 600)]);
    live.pass(at(80));
    assert_eq!(live.open.len(), 1, "it keeps the budget with which it opened");
}

#[test]
fn a_smaller_budget_by_reload_holds_at_once() {
    let mut live = half_closed(Vec::new());
    live.pass(at(5));
    reload(&mut live, vec![budget("program-1", Kind::CloseWait, 1)]);
    live.pass(at(6));
    assert_eq!(said(&live), [(FindingEvent::Opened, Kind::CloseWait, 5)]);
}

/// A correlator that knows process 1, `node`, and no trend of it.
fn with_node(rules: Vec<Rule>) -> Correlator {
    let mut correlator = Correlator::new(Config { rules, ..Config::default() }, start());
    correlator.handle_event(KernelEvent::Executed {
        time: start(),
        process: NODE,
        comm: Comm::from_bytes(b"node"),
        watched: true,
    });
    correlator
}

const NODE: ProcessKey = ProcessKey { pid: 1, start_ns: 1 };

/// More connections to the server than there should be since the first second, a finding after the
/// budget of its kind.
fn overgrowth() -> Suspicion {
    Suspicion {
        kind: Kind::Overgrowth,
        subject: Subject::Destination(NODE, SERVER.parse().expect("invariant: an address")),
        process: NODE,
        since: at(1),
        due: at(11),
        evidence: Evidence::Complete,
        detail: Detail::Overgrowth {
            sockets: 9,
            expected: 3,
            declared: true,
            opened: 9,
            closed: 0,
            twins: Vec::new(),
        },
    }
}

/// Judges what is suspected at a second: the reports of it.
fn judged(correlator: &mut Correlator, suspicions: &[Suspicion], second: u32) -> Vec<Finding> {
    correlator.judge_suspicions(suspicions.to_vec(), at(second));
    let mut findings = Vec::new();
    while let Some(output) = correlator.poll_output() {
        if let Output::Finding(finding) = output {
            findings.push(finding);
        }
    }
    findings
}

#[test]
fn rules_are_about_what_processes_do_too() {
    for (rule, opens) in [
        (None, 11),
        (Some(budget("node", Kind::Overgrowth, 60)), 61),
        (Some(budget("node", Kind::Overgrowth, 4)), 5),
        (Some(budget("python3", Kind::Overgrowth, 60)), 11),
        (Some(ignore("node", at(40))), 40),
        (Some(ignore("node", at(9))), 11),
    ] {
        let shown = format!("{rule:?}");
        let mut correlator = with_node(rule.into_iter().collect());
        assert_eq!(judged(&mut correlator, &[overgrowth()], opens - 1), [], "{shown}");
        let found = judged(&mut correlator, &[overgrowth()], opens);
        assert_eq!(found.len(), 1, "{shown}");
        assert_eq!((found[0].event, found[0].since), (FindingEvent::Opened, at(1)), "{shown}");
        assert_eq!(correlator.ignored(), 0);
    }
}

#[test]
fn a_judgement_comes_when_the_rule_says_so() {
    let mut correlator = with_node(vec![ignore("node", at(40))]);
    judged(&mut correlator, &[overgrowth()], 2);
    assert!(correlator.trends.next().is_some_and(|due| due <= at(40)));
    assert_eq!(correlator.ignored(), 0, "not yet");
    judged(&mut correlator, &[overgrowth()], 12);
    judged(&mut correlator, &[overgrowth()], 13);
    assert_eq!(correlator.ignored(), 1);
    assert_eq!(correlator.ignored_by_kind()[&Kind::Overgrowth], 1);
    assert_eq!(judged(&mut correlator, &[], 14), []);
    assert_eq!(correlator.ignored(), 0, "it is over");
}

#[test]
fn a_rule_that_comes_clears_what_a_process_does() {
    let mut correlator = with_node(Vec::new());
    judged(&mut correlator, &[overgrowth()], 11);
    correlator.set_tuning(Budgets::default(), vec![ignore("node", at(40))], at(12));
    let cleared = judged(&mut correlator, &[overgrowth()], 13);
    assert_eq!(cleared.len(), 1);
    assert_eq!(cleared[0].clear_reason, Some(ClearReason::Ignored));
    assert!(cleared[0].message.ends_with("a rule ignores it: it is being mended"));
    assert_eq!(correlator.ignored_by_kind()[&Kind::Overgrowth], 1);
    assert_eq!(judged(&mut correlator, &[overgrowth()], 40)[0].event, FindingEvent::Opened);
}

#[test]
fn how_many_connections_the_pool_has_is_its_own_business() {
    for (pid, expected) in [(2, vec![Kind::Overgrowth]), (1, vec![])] {
        let mut config = Config::default();
        let broker = SERVER.parse().expect("invariant: an address");
        config.thresholds.fleets = vec![Fleet { broker, devices: 1 }];
        let mut live = Live::new(config, 2, Way::default());
        live.correlator.follow_registry(pid);
        for _ in 0..9 {
            live.run(SECOND, Op::Connect(0));
            live.run(Duration::ZERO, Op::Answer(0));
        }
        live.pass(at(300));
        let open = live.correlator.open_incidents().map(|it| it.finding.kind);
        assert_eq!(open.collect::<Vec<_>>(), expected, "the pool is in process {pid}");
    }
}

#[test]
fn thresholds_change_but_for_what_the_kernel_says() {
    let mut config = Config::default();
    config.thresholds.port_range = (1, 2);
    let mut correlator = Correlator::new(config, start());
    let other = crate::trends::Thresholds { takeovers: 77, ..Default::default() };
    correlator.set_thresholds(other);
    let shown = format!("{:?}", correlator.trends);
    assert!(shown.contains("takeovers: 77") && shown.contains("port_range: (1, 2)"), "{shown}");
}

/// Runs a history and then a minute: what was opened and cleared.
fn outcome(
    history: &[(u16, Op)],
    config: Config,
) -> (Live, Vec<(FindingEvent, Kind, Subject, MonoTime)>) {
    let mut live = Live::new(config, 3, Way::default());
    for (pause, op) in history {
        live.run(Duration::from_millis(u64::from(*pause)), *op);
    }
    live.pass(live.kernel.now.after(SECOND * 60));
    let told = live.findings.iter().map(|it| (it.event, it.kind, it.subject, it.since)).collect();
    (live, told)
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_rule_for_all_is_what_the_budget_of_the_kind_is(
        history in history(),
        seconds in 1..30_u32,
        kind in prop::sample::select(Kind::OF_SOCKETS.to_vec()),
    ) {
        let mut budgets = Budgets::default();
        budgets.set(kind, SECOND * seconds);
        let by_budget = outcome(&history, Config { budgets, ..Config::default() }).1;
        let all = Rule { destination: None, ..budget("*", kind, seconds) };
        // The interval of snapshots counts the smallest budget of anybody.
        let by_rule = outcome(&history, Config { rules: vec![all], ..Config::default() });
        if kind != Kind::DeadFd && kind != Kind::Inherited && kind != Kind::Undrained || seconds <= 10 {
            prop_assert_eq!(by_rule.1, by_budget);
        }
    }

    #[test]
    fn a_rule_that_matches_nobody_changes_nothing(history in history(), until in 0..60_u32) {
        let plain = outcome(&history, Config::default()).1;
        let rules = vec![ignore("nobody", at(until)), budget("nobody", Kind::CloseWait, 70)];
        prop_assert_eq!(outcome(&history, Config { rules, ..Config::default() }).1, plain);
    }

    #[test]
    fn an_end_brings_back_all_that_is_wrong(history in history(), until in 0..30_u32) {
        let all = Rule { destination: None, ..ignore("*", at(until)) };
        let (live, told) = outcome(&history, Config { rules: vec![all], ..Config::default() });
        let (plain, _) = outcome(&history, Config::default());
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
    fn what_is_ignored_now_is_what_would_be_open(history in history()) {
        // Whether a socket was handed over depends on when a snapshot was taken, and what is
        // ignored asks for none.
        let kinds: Vec<_> =
            Kind::OF_SOCKETS.into_iter().filter(|kind| *kind != Kind::Inherited).collect();
        let all = Rule { destination: None, kinds: kinds.clone(), ..ignore("*", MonoTime::from_nanos(u64::MAX)) };
        let (live, told) = outcome(&history, Config { rules: vec![all], ..Config::default() });
        let (plain, _) = outcome(&history, Config::default());
        prop_assert!(told.iter().all(|(_, kind, _, _)| *kind == Kind::Inherited), "{told:?}");
        let open = plain.open.keys().filter(|(_, kind)| kinds.contains(kind)).count();
        prop_assert_eq!(live.correlator.ignored(), open);
        let counted: u64 = live.correlator.ignored_by_kind().values().sum();
        // What came and went between two periodic snapshots is not counted, for nobody asked; and
        // what a snapshot would have refuted is, for nobody asked either.
        prop_assert!(counted >= open as u64);
    }
}
