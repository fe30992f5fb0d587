//! What holds for every history of a pool and its kernel.

use std::{collections::BTreeSet, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::model::{DEVICES, Op, Way, World};
use crate::{detect::Kind, model::Cookie};

fn healthy() -> impl Strategy<Value = Op> {
    let device = || 0..DEVICES;
    prop_oneof![
        6 => device().prop_map(Op::Dial),
        5 => device().prop_map(Op::Answer),
        5 => device().prop_map(Op::Online),
        1 => device().prop_map(Op::Refuse),
        2 => device().prop_map(Op::BrokerCloses),
        1 => device().prop_map(Op::BrokerResets),
        3 => (device(), any::<bool>()).prop_map(|(device, resets)| Op::Close(device, resets)),
        3 => Just(Op::Finish),
        1 => (0..3_000_u16).prop_map(Op::Wait),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let device = || 0..DEVICES;
    prop_oneof![
        12 => healthy(),
        2 => (device(), any::<bool>()).prop_map(|(device, to_child)| Op::Copy(device, to_child)),
        1 => Just(Op::EndCopies),
        1 => device().prop_map(Op::Kill),
        1 => device().prop_map(Op::DialTooEarly),
        1 => device().prop_map(Op::Forget),
        1 => Just(Op::Mend),
        1 => Just(Op::Foreign),
    ]
}

/// A pause in microseconds and what happens after it: often at once, so that things meet.
fn history(op: impl Strategy<Value = Op>) -> impl Strategy<Value = Vec<(u64, Op)>> {
    let pause = prop_oneof![2 => 0..3_u64, 1 => 1_000..200_000_u64];
    vec((pause, op), 1..80)
}

fn way(loses: bool) -> impl Strategy<Value = Way> {
    let sparse = || (any::<u64>(), any::<u64>()).prop_map(|(one, other)| one & other);
    (sparse(), sparse(), any::<u64>()).prop_map(move |(lost, misses, races)| {
        let loses = if loses { lost } else { 0 };
        Way { loses, misses, races }
    })
}

fn play(history: &[(u64, Op)], way: Way) -> World {
    let mut world = World::new(way);
    for (pause, op) in history {
        world.run(Duration::from_micros(*pause), *op);
    }
    world
}

/// Everything ends, and nothing is left of it.
fn check_the_end(world: &mut World) {
    world.end();
    assert!(world.open.is_empty(), "{:?}", world.open);
    let ledger = world.correlator.ledger().expect("it follows a registry");
    let left: Vec<_> = ledger.cookies().map(|cookie| (cookie, ledger.device_of(cookie))).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn settings() -> ProptestConfig {
    ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_healthy_pool_raises_nothing(history in history(healthy()), way in way(false)) {
        let mut world = play(&history, way);
        world.pass(world.now.after(Duration::from_secs(15)));
        check_the_end(&mut world);
        prop_assert!(world.opened.is_empty(), "{:?}", world.opened);
    }

    #[test]
    fn a_healthy_pool_raises_nothing_whatever_is_lost(
        history in history(healthy()),
        way in way(true),
    ) {
        let mut world = play(&history, way);
        world.pass(world.now.after(Duration::from_secs(15)));
        check_the_end(&mut world);
        prop_assert!(world.opened.is_empty(), "{:?}", world.opened);
    }

    #[test]
    fn every_fault_is_found_and_every_finding_ends(
        history in history(any_op()),
        way in way(false),
    ) {
        let mut world = play(&history, way);
        world.pass(world.now.after(Duration::from_millis(2_500)));
        world.check_open();
        let overlaps = world.opened.iter().filter(|finding| finding.kind == Kind::Overlap);
        let told: Vec<Cookie> = overlaps.filter_map(|finding| finding.cookie()).collect();
        let once: BTreeSet<_> = told.iter().copied().collect();
        prop_assert_eq!(told.len(), once.len(), "an overlap is told once");
        prop_assert_eq!(once, world.overlaps());
        check_the_end(&mut world);
    }

    #[test]
    fn what_is_found_is_true_whatever_is_lost(history in history(any_op()), way in way(true)) {
        let mut world = play(&history, way);
        world.pass(world.now.after(Duration::from_millis(2_500)));
        world.check_open();
        check_the_end(&mut world);
    }
}
