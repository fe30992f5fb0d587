//! Rules for what processes claim.

use std::{sync::Arc, time::Duration};

use super::backend::{BEGIN, Backend, PID};
use crate::{
    cgroup::Place,
    correlate::{Config, kernel_model::Op},
    detect::{Budgets, Kind},
    incident::{ClearReason, FindingEvent},
    model::{Cookie, MonoTime},
    tuning::{Act, Rule},
};

use Kind::{Ghost, Orphan, Overlap};

/// `ms` milliseconds after the beginning.
fn at(ms: u64) -> MonoTime {
    BEGIN.after(Duration::from_millis(ms))
}

fn rule(kinds: &[Kind], act: Act) -> Rule {
    let (comm, destination) = (None, None);
    Rule { kinds: kinds.to_vec(), comm, unit: None, container: None, destination, act }
}

fn budget(kinds: &[Kind], ms: u64) -> Rule {
    rule(kinds, Act::Budget(Duration::from_millis(ms)))
}

fn ignore(kinds: &[Kind], until: u64) -> Rule {
    rule(kinds, Act::Ignore { reason: Arc::from("it is being replaced"), until: at(until) })
}

fn of(comm: &str, rule: Rule) -> Rule {
    Rule { comm: comm.parse().ok(), ..rule }
}

fn to(destination: &str, rule: Rule) -> Rule {
    Rule { destination: destination.parse().ok(), ..rule }
}

fn inside(unit: &str, rule: Rule) -> Rule {
    Rule { unit: unit.parse().ok(), ..rule }
}

/// A backend under rules, in `a.service`, which claims a device's socket every half a second. A
/// quarter of a second after its third second another socket is forgotten (an orphan), lost without
/// notice (a ghost), or the device's second one (an overlap).
fn wrong(kind: Kind, rules: Vec<Rule>) -> (Backend, Vec<(Cookie, &'static str)>) {
    let mut backend = Backend::with(1, Config { rules, ..Config::default() });
    backend.places.insert(PID, Place { unit: Some("a.service".into()), container: None });
    let (first, second) = (backend.connect(), backend.connect());
    let mut claims = vec![(first, "dev-1"), (second, "dev-2")];
    say(&mut backend, &claims, 0, 3_000);
    backend.at(3_250);
    match kind {
        Orphan => drop(claims.pop()),
        Ghost => drop(backend.run(Op::PeerResets(1))),
        _ => claims.push((backend.connect(), "dev-2")),
    }
    (backend, claims)
}

/// Says the same every half a second, from one time to another.
fn say(backend: &mut Backend, claims: &[(Cookie, &str)], from: u64, until: u64) {
    for ms in (from..=until).step_by(500) {
        backend.at(ms).put(claims);
    }
}

/// When it opened, in milliseconds after the beginning.
fn opened(backend: &Backend, kind: Kind) -> Vec<u64> {
    let of_kind = backend.findings.iter().filter(|it| it.kind == kind);
    let opened = of_kind.filter(|it| it.event == FindingEvent::Opened);
    opened.map(|it| u64::try_from(it.time.since(BEGIN).as_millis()).expect("soon")).collect()
}

#[test]
fn a_rule_gives_what_is_claimed_another_budget() {
    // A claim that is missing from registries is heard of first after 500 ms, and the last word
    // with it has to be a budget old, and the first word after that one too.
    for (kind, usual, six, tenth) in [
        (Orphan, 5_000, 15_000, 3_600),
        (Ghost, 4_250, 9_500, 3_500),
        (Overlap, 3_550, 9_500, 3_600),
    ] {
        for (rules, expected) in [
            (vec![], usual),
            (vec![budget(&[kind], 6_000)], six),
            (vec![budget(&[kind], 100)], tenth),
            (vec![of("program-1", budget(&[kind], 6_000))], six),
            (vec![of("program-2", budget(&[kind], 6_000))], usual),
            (vec![to("127.0.0.0/8:1883", budget(&[kind], 6_000))], six),
            (vec![to("*:8883", budget(&[kind], 6_000))], usual),
            (vec![inside("a.service", budget(&[kind], 6_000))], six),
            (vec![inside("a.service", budget(&[kind], 100))], tenth),
            (vec![inside("b.service", budget(&[kind], 6_000))], usual),
            (vec![inside("b.service", budget(&[kind], 100))], usual),
            (vec![budget(&[Kind::Unreleased], 6_000)], usual),
        ] {
            let shown = format!("{kind} {rules:?}");
            let (mut backend, claims) = wrong(kind, rules);
            say(&mut backend, &claims, 3_500, 20_000);
            let found = opened(&backend, kind);
            assert_eq!(found.len(), 1, "{shown}: {:?}", backend.told());
            let late = found[0].abs_diff(expected);
            assert!(late <= 600, "{shown}: {found:?}, not {expected}");
            assert!(backend.findings.iter().all(|it| it.kind == kind), "{shown}");
        }
    }
}

#[test]
fn what_is_claimed_and_ignored_is_counted_and_opens_when_the_rule_ends() {
    for kind in [Orphan, Ghost, Overlap] {
        for one in [ignore(&[kind], 40_000), inside("a.service", ignore(&[kind], 40_000))] {
            let (mut backend, claims) = wrong(kind, vec![one]);
            say(&mut backend, &claims, 3_500, 39_900);
            backend.at(39_999);
            assert_eq!(backend.told(), [""; 0], "{kind}");
            assert_eq!(backend.correlator.ignored(), 1, "{kind}");
            assert_eq!(backend.correlator.ignored_by_kind()[&kind], 1);
            say(&mut backend, &claims, 40_000, 50_000);
            assert_eq!(opened(&backend, kind), [40_000], "{kind}");
            let since = backend.findings[0].since;
            assert!(since <= at(3_500), "{kind}: it is as old as it is, {since:?}");
            assert_eq!(backend.correlator.ignored(), 0, "{kind}");
            assert_eq!(backend.correlator.ignored_by_kind()[&kind], 1, "{kind}");
            // What is over is cleared as ever.
            backend.put(&[]).at(51_000);
            assert_eq!(backend.open(), []);
            assert_ne!(backend.findings[1].clear_reason, Some(ClearReason::Ignored));
        }
    }
}

#[test]
fn a_rule_that_comes_clears_what_is_claimed_and_one_that_goes_opens_it() {
    for kind in [Orphan, Ghost, Overlap] {
        for one in [ignore(&[kind], 500_000), inside("a.service", ignore(&[kind], 500_000))] {
            let (mut backend, claims) = wrong(kind, Vec::new());
            say(&mut backend, &claims, 3_500, 10_000);
            assert_eq!(backend.open().len(), 1, "{kind}");
            let now = backend.kernel.now;
            backend.correlator.set_tuning(Budgets::default(), vec![one.clone()], now);
            backend.at(10_200);
            let last = backend.findings.last().expect("it was open");
            assert_eq!(last.clear_reason, Some(ClearReason::Ignored), "{kind} {one:?}");
            assert!(last.message.ends_with("a rule ignores it: it is being replaced"));
            say(&mut backend, &claims, 10_500, 30_000);
            assert_eq!((backend.findings.len(), backend.correlator.ignored()), (2, 1), "{kind}");
            assert_eq!(backend.correlator.ignored_by_kind()[&kind], 1, "{kind}: it is the same");
            let now = backend.kernel.now;
            backend.correlator.set_tuning(Budgets::default(), Vec::new(), now);
            backend.at(30_200);
            assert_eq!(backend.open().len(), 1, "{kind}: {:?}", backend.told());
            assert_eq!(backend.correlator.ignored(), 0, "{kind}");
        }
    }
}

#[test]
fn what_ends_while_it_is_ignored_is_not_mentioned() {
    for kind in [Orphan, Ghost, Overlap] {
        let (mut backend, claims) = wrong(kind, vec![ignore(&[kind], 500_000)]);
        say(&mut backend, &claims, 3_500, 20_000);
        assert_eq!(backend.correlator.ignored(), 1, "{kind}");
        let (first, second) = (claims[0].0, backend.held()[1].1);
        let rest =
            if kind == Orphan { vec![(first, "a"), (second, "b")] } else { vec![(first, "a")] };
        backend.put(&rest).at(20_200);
        assert_eq!(backend.correlator.ignored(), 0, "{kind}");
        assert_eq!(backend.told(), [""; 0], "{kind}");
    }
}

#[test]
fn what_is_open_keeps_its_budget_when_it_grows() {
    for kind in [Orphan, Ghost, Overlap] {
        let (mut backend, claims) = wrong(kind, Vec::new());
        say(&mut backend, &claims, 3_500, 10_000);
        let now = backend.kernel.now;
        let rules = vec![budget(&[], 3_600_000)];
        backend.correlator.set_tuning(Budgets::default(), rules, now);
        say(&mut backend, &claims, 10_500, 30_000);
        assert_eq!(backend.findings.len(), 1, "{kind}: {:?}", backend.told());
        assert_eq!(backend.open.values().next().map(|it| it.budget), Some(kind.default_budget()));
    }
}

#[test]
fn a_smaller_budget_by_reload_holds_for_what_is_claimed() {
    let (mut backend, claims) = wrong(Orphan, vec![budget(&[Orphan], 600_000)]);
    say(&mut backend, &claims, 3_500, 20_000);
    assert_eq!(backend.open(), []);
    let now = backend.kernel.now;
    backend.correlator.set_tuning(Budgets::default(), vec![budget(&[Orphan], 2_000)], now);
    say(&mut backend, &claims, 20_500, 23_000);
    assert_eq!(backend.open().len(), 1);
}

#[test]
fn two_processes_that_claim_the_same_are_under_rules_of_their_own() {
    for (ignored, expected) in [("program-1", 2), ("program-2", 1)] {
        let rules = vec![of(ignored, ignore(&[], 500_000))];
        let mut backend = Backend::with(2, Config { rules, ..Config::default() });
        let first = backend.connect();
        backend.run(Op::Pass(0, 0, 1));
        let all = |backend: &mut Backend, pid| {
            let lease = Some(Duration::from_secs(600));
            let claims = vec![super::backend::claim(first, "dev-1")];
            let all = crate::claims::Statement::All { claims, lease };
            backend.say_for(pid, vec![all]).expect("there is room");
        };
        for pid in [1, 2] {
            all(&mut backend, pid);
        }
        backend.at(15_000).run(Op::PeerResets(0));
        for second in 20..60 {
            backend.at(second * 1_000);
            for pid in [1, 2] {
                all(&mut backend, pid);
            }
        }
        assert_eq!(opened(&backend, Ghost).len(), 1, "{:?}", backend.told());
        assert_eq!(backend.findings.len(), 1, "{:?}", backend.told());
        assert_eq!(backend.findings[0].process.pid, expected);
    }
}
