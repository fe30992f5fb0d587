//! What the two ledgers come to, case by case.

mod overlaps;
mod verdicts;

use std::time::Duration;

use pool::{
    Receipt,
    registry::Change,
    registry::Stage::{Closed, Connecting, Online},
};

use super::{
    Output,
    cases::{
        BROKER, POOL,
        Step::{
            self, All, Claim, Closes, Connects, ConnectsTo, Destroyed, Moves, MovesHere, Retract,
            Snapshot, SynAgain, Uncertain,
        },
        World, claim, connect, snapshot, us,
    },
};
use crate::{
    cgroup::Place,
    correlate::{Config, Correlator},
    detect::{Budgets, Kind, Verdict},
    model::{
        Cookie, KernelEvent,
        TcpState::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, SynSent, TimeWait},
    },
    tuning::{Act, Rule},
};

const BUDGET: Duration = Duration::from_secs(1);
const SECOND: u64 = 1_000_000;

/// Name, steps with their times in microseconds, and what is expected.
type Case<T> = (&'static str, &'static [(u64, Step)], T);

/// The pool's descriptor.
const HELD: &[(u32, i32)] = &[(POOL, 7)];
const CHILD: u32 = 2;

fn receipts(steps: &[(u64, Step)]) -> Vec<Output> {
    World::new().run(steps).outputs
}

#[test]
fn a_receipt_comes_once_and_says_what_is_proved() {
    let receipt = |receipt| Output::Receipt(Cookie(1), receipt);
    let online = [(0, Claim(1, Connecting)), (1, Connects(1)), (2, Claim(1, Online))];
    let then = |rest: &[(u64, Step)]| receipts(&[&online[..], rest].concat());
    let cases: &[Case<&[Receipt]>] = &[
        ("nothing has happened", &[(3, Claim(1, Closed))], &[]),
        ("closed by us", &[(3, Moves(1, Established, FinWait1))], &[Receipt::Disconnected]),
        (
            "and on and on",
            &[
                (3, Moves(1, Established, FinWait1)),
                (4, Claim(1, Closed)),
                (5, Moves(1, FinWait1, FinWait2)),
                (6, Destroyed(1)),
                (9, Snapshot(&[])),
            ],
            &[Receipt::Disconnected],
        ),
        ("half closed by the broker", &[(3, Moves(1, Established, CloseWait))], &[]),
        ("its end was lost", &[(3, Destroyed(1))], &[Receipt::Destroyed]),
        ("all was lost", &[(3, Claim(1, Closed)), (9, Snapshot(&[]))], &[Receipt::Destroyed]),
        ("a snapshot that lacks something", &[(3, Claim(1, Closed)), (9, Uncertain(&[]))], &[]),
        ("a snapshot of before the connect", &[(1, Snapshot(&[]))], &[]),
        ("the pool has its own", &[(3, Retract(1, true)), (4, Destroyed(1))], &[]),
        ("the pool has given up", &[(3, Retract(1, false)), (4, Destroyed(1))], &[]),
    ];
    for (name, rest, expected) in cases {
        let expected: Vec<_> = expected.iter().copied().map(receipt).collect();
        assert_eq!(then(rest), expected, "{name}");
    }
}

#[test]
fn a_socket_that_came_and_went_before_its_claim_has_a_receipt() {
    let steps = [
        (0, Connects(1)),
        (1, Moves(1, SynSent, Established)),
        (2, Moves(1, Established, Close)),
        (2, Destroyed(1)),
        (5, Claim(1, Closed)),
    ];
    assert_eq!(receipts(&steps), [Output::Receipt(Cookie(1), Receipt::Destroyed)]);
}

#[test]
fn a_socket_that_is_claimed_and_not_connected_has_no_receipt() {
    let steps = [(0, Claim(1, Connecting)), (5, Snapshot(&[(1, Close, HELD)]))];
    assert_eq!(receipts(&steps), []);
}

#[test]
fn only_a_snapshot_from_after_the_claim_proves_that_its_socket_is_gone() {
    let early = [(9, Claim(1, Closed)), (5, Snapshot(&[]))];
    assert_eq!(receipts(&early), []);
    let late = [(9, Claim(1, Closed)), (15, Snapshot(&[]))];
    assert_eq!(receipts(&late), [Output::Receipt(Cookie(1), Receipt::Destroyed)]);
}

#[test]
fn congestion_is_a_claimed_syn_sent_again_or_a_connect_that_others_ended() {
    let claimed = [(0, Claim(1, Connecting)), (1, Connects(1))];
    let cases: &[Case<bool>] = &[
        ("sent again", &[(3, SynAgain(1))], true),
        ("foreign code's", &[(2, ConnectsTo(5, 80)), (3, SynAgain(5))], false),
        ("another process's", &[(3, SynAgain(6))], false),
        ("refused", &[(3, Moves(1, SynSent, Close))], true),
        ("given up by us, for all that is known", &[(3, MovesHere(1, SynSent, Close))], false),
        ("reset before CONNACK", &[(3, Moves(1, Established, Close))], true),
        ("closed by us", &[(3, Moves(1, Established, FinWait1))], false),
        ("reset when online", &[(2, Claim(1, Online)), (3, Moves(1, Established, Close))], false),
    ];
    for (name, rest, expected) in cases {
        let outputs = receipts(&[&claimed[..], *rest].concat());
        assert_eq!(outputs.contains(&Output::Congestion), *expected, "{name}");
    }
}

#[test]
fn what_a_snapshot_saw_before_a_budget_ran_out_proves_nothing() {
    let mut correlator = Correlator::new(Config::default(), us(0));
    correlator.follow_registry(POOL);
    correlator.handle_changes([Change::Claimed(claim(2, Connecting))], us(1));
    correlator.handle_event(connect(us(10), 1, BROKER));
    let rows = [(1, Established, HELD)];
    correlator.handle_snapshot(snapshot(us(SECOND / 2), us(2 * SECOND), &rows));
    assert_eq!(correlator.open_incidents().count(), 0);
    correlator.handle_snapshot(snapshot(us(3 * SECOND), us(3 * SECOND), &rows));
    let open: Vec<_> = correlator.open_incidents().map(|it| it.finding.kind).collect();
    assert_eq!(open, [Kind::Orphan]);
}

#[test]
fn a_rule_ignores_what_the_registry_says_until_its_end() {
    let until = us(10 * SECOND);
    let act = Act::Ignore { reason: "another client lives here".into(), until };
    let kinds = vec![Kind::Orphan];
    let rules = vec![Rule {
        kinds,
        comm: None,
        unit: None,
        container: None,
        destination: "*:1883".parse().ok(),
        act,
    }];
    let mut correlator = Correlator::new(Config { rules, ..Config::default() }, us(0));
    correlator.follow_registry(POOL);
    correlator.handle_changes([Change::Claimed(claim(2, Connecting))], us(1));
    correlator.handle_event(connect(us(10), 1, BROKER));
    let rows = [(1, Established, HELD)];
    let look = |correlator: &mut Correlator, second: u64| {
        let now = us(second * SECOND);
        correlator.handle_snapshot(snapshot(now, now, &rows));
        correlator.open_incidents().count()
    };
    assert_eq!((look(&mut correlator, 3), correlator.ignored()), (0, 1));
    assert_eq!((look(&mut correlator, 9), correlator.ignored()), (0, 1));
    assert_eq!((look(&mut correlator, 10), correlator.ignored()), (1, 0));
    assert_eq!(correlator.ignored_by_kind()[&Kind::Orphan], 1);
    // A reload clears it, with another rule.
    let act = Act::Ignore { reason: "and still does".into(), until: us(20 * SECOND) };
    let rule = Rule {
        kinds: vec![Kind::Orphan],
        comm: None,
        unit: None,
        container: None,
        destination: None,
        act,
    };
    correlator.set_tuning(Budgets::default(), vec![rule], us(11 * SECOND));
    assert_eq!((correlator.open_incidents().count(), correlator.ignored()), (0, 1));
    assert_eq!((look(&mut correlator, 12), correlator.ignored()), (0, 1));
    // Its socket ends, and nothing is left.
    correlator.handle_event(KernelEvent::Destroyed { time: us(13 * SECOND), cookie: Cookie(1) });
    assert_eq!(correlator.ignored(), 0);
}

#[test]
fn a_rule_with_a_unit_waits_until_it_is_known_where_the_pool_runs() {
    for (name, expected) in [("pool.service", (0, 1)), ("other.service", (1, 0))] {
        let act = Act::Ignore { reason: "it is being mended".into(), until: us(60 * SECOND) };
        let unit = "pool.service".parse().ok();
        let kinds = vec![Kind::Orphan];
        let rule = Rule { kinds, comm: None, unit, container: None, destination: None, act };
        let config = Config { rules: vec![rule], ..Config::default() };
        let mut correlator = Correlator::new(config, us(0));
        correlator.follow_registry(POOL);
        correlator.handle_changes([Change::Claimed(claim(2, Connecting))], us(1));
        correlator.handle_event(connect(us(10), 1, BROKER));
        let rows = [(1, Established, HELD)];
        assert!(correlator.take_places_wanted().is_empty(), "nothing is due");
        correlator.handle_snapshot(snapshot(us(3 * SECOND), us(3 * SECOND), &rows));
        assert_eq!((correlator.open_incidents().count(), correlator.ignored()), (0, 0));
        let wanted: Vec<_> = correlator.take_places_wanted().into_iter().collect();
        assert_eq!(wanted.iter().map(|it| it.pid).collect::<Vec<_>>(), [POOL]);
        let place = Place { unit: Some(name.into()), container: None };
        correlator.handle_place(wanted[0], place);
        correlator.handle_snapshot(snapshot(us(4 * SECOND), us(4 * SECOND), &rows));
        assert_eq!((correlator.open_incidents().count(), correlator.ignored()), expected, "{name}");
    }
}

#[test]
fn a_rule_gives_the_registry_another_budget() {
    let act = Act::Budget(5 * BUDGET);
    let rules = vec![Rule {
        kinds: vec![Kind::Orphan],
        comm: None,
        unit: None,
        container: None,
        destination: None,
        act,
    }];
    let mut correlator = Correlator::new(Config { rules, ..Config::default() }, us(0));
    correlator.follow_registry(POOL);
    correlator.handle_changes([Change::Claimed(claim(2, Connecting))], us(1));
    correlator.handle_event(connect(us(10), 1, BROKER));
    let rows = [(1, Established, HELD)];
    correlator.handle_snapshot(snapshot(us(3 * SECOND), us(3 * SECOND), &rows));
    assert_eq!(correlator.open_incidents().count(), 0);
    correlator.handle_snapshot(snapshot(us(6 * SECOND), us(6 * SECOND), &rows));
    let open: Vec<_> = correlator.open_incidents().map(|it| it.finding.budget).collect();
    assert_eq!(open, [5 * BUDGET]);
}

#[test]
fn a_socket_that_was_gone_before_its_budget_ran_out_is_proved_gone_by_a_later_snapshot() {
    let mut correlator = Correlator::new(Config::default(), us(0));
    correlator.follow_registry(POOL);
    correlator.handle_event(connect(us(10), 1, BROKER));
    correlator.handle_changes([Change::Claimed(claim(1, Online))], us(11));
    let destroyed = KernelEvent::Destroyed { time: us(20), cookie: Cookie(1) };
    correlator.handle_event(destroyed);
    correlator.handle_snapshot(snapshot(us(SECOND / 2), us(2 * SECOND), &[]));
    assert_eq!(correlator.open_incidents().count(), 0);
    correlator.handle_snapshot(snapshot(us(3 * SECOND), us(3 * SECOND), &[]));
    let open: Vec<_> = correlator.open_incidents().map(|it| it.finding.kind).collect();
    assert_eq!(open, [Kind::Ghost]);
}

#[test]
fn nothing_is_kept_of_what_is_over() {
    let cases: &[(&str, &[(u64, Step)])] = &[
        (
            "destroyed before the retraction",
            &[
                (0, Claim(1, Connecting)),
                (1, Connects(1)),
                (2, Destroyed(1)),
                (3, Retract(1, true)),
            ],
        ),
        (
            "destroyed after it",
            &[
                (0, Claim(1, Connecting)),
                (1, Connects(1)),
                (2, Retract(1, true)),
                (3, Destroyed(1)),
            ],
        ),
        (
            "given up, then destroyed",
            &[
                (0, Claim(1, Connecting)),
                (1, Connects(1)),
                (2, Retract(1, false)),
                (3, Destroyed(1)),
            ],
        ),
        (
            "never connected",
            &[(0, Claim(1, Connecting)), (2, Retract(1, true)), (3, Snapshot(&[]))],
        ),
        (
            "never connected, changes missed",
            &[(0, Claim(1, Closed)), (2, All(&[])), (3, Snapshot(&[]))],
        ),
        (
            "its end was lost",
            &[
                (0, Claim(1, Connecting)),
                (1, Connects(1)),
                (2, Retract(1, true)),
                (3, Snapshot(&[])),
            ],
        ),
        (
            "foreign, and the registry was read since",
            &[
                (0, Connects(1)),
                (1, Destroyed(1)),
                (2, Claim(2, Connecting)),
                (3, Retract(2, true)),
                (4, Snapshot(&[])),
            ],
        ),
        (
            "foreign, met in CLOSE",
            &[(0, Claim(2, Connecting)), (1, Retract(2, true)), (2, Snapshot(&[(1, Close, HELD)]))],
        ),
    ];
    for (name, steps) in cases {
        let ledger = World::new().run(steps).ledger;
        assert_eq!(ledger.cookies().count(), 0, "{name}");
        assert!(ledger.devices.is_empty() && ledger.passed.is_empty(), "{name}");
    }
}

#[test]
fn what_came_and_went_unclaimed_is_bounded() {
    let mut world = World::new();
    for cookie in 0..20_000 {
        let time = cookie * 2;
        world = world.run(&[(time, Connects(cookie)), (time + 1, Destroyed(cookie))]);
    }
    assert_eq!(world.ledger.cookies().count(), super::MOST_PASSED);
}

#[test]
fn the_numbers_are_of_claims() {
    let steps = [
        (0, Claim(1, Connecting)),
        (1, Connects(1)),
        (2, Moves(1, SynSent, Established)),
        (3, Claim(1, Online)),
        (4, Claim(2, Online)),
        (4, Connects(2)),
        (5, Moves(2, Established, CloseWait)),
        (6, Claim(3, Closed)),
        (7, Claim(4, Connecting)),
        (8, SynAgain(4)),
        (9, Connects(5)),
    ];
    let world = World::new().run(&steps);
    let reading = world.ledger.reading(&world.table);
    let counted = (reading.connecting, reading.online, reading.closed, reading.zombies);
    assert_eq!(counted, (1, 2, 1, 1));
    assert_eq!((reading.syn_retransmits, reading.receipts_by_event), (1, 0));
}
