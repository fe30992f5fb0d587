//! Kicks, and programs that do not keep up.

use proptest::{collection::vec, prop_assert_eq, proptest};

use super::*;
use crate::{
    correlate::Config,
    detect::Budgets,
    incident::FindingEvent::{self, Cleared, Opened},
    trends::world::{World, millis, process, remote, secs},
};

/// No finding of single sockets: what is tested here is louder than they.
fn world() -> World {
    let mut budgets = Budgets::default();
    budgets.set(Kind::CloseWait, secs(3_600));
    World::new(Config { budgets, ..Config::default() })
}

fn connect(world: &mut World, count: usize) -> Vec<Cookie> {
    (0..count).map(|_| world.connect(1, remote(1883))).collect()
}

fn told(world: &World, start: MonoTime) -> Vec<(FindingEvent, u64)> {
    let mut told = world.told(Kind::CloseWaitBuildup, start);
    told.retain(|(event, _)| *event != FindingEvent::Updated);
    told
}

#[test]
fn too_many_for_the_whole_budget() {
    let mut world = world();
    let sockets = connect(&mut world, 150);
    let start = world.now;
    sockets[..100].iter().for_each(|cookie| world.peer_closes(*cookie));
    world.pass(secs(60));
    world.assert_quiet("a hundred");
    // Not at the very moment of a snapshot.
    world.pass(millis(1));
    let more = world.now;
    world.peer_closes(sockets[100]);
    world.pass(secs(30));
    assert_eq!(told(&world, start), [(Opened, 70)]);
    let finding = world.last(Kind::CloseWaitBuildup).clone();
    assert_eq!(finding.subject, Subject::Process(process(1)));
    assert_eq!((finding.since, finding.budget), (more, secs(10)));
    assert_eq!(finding.detail, Some(Detail::Buildup { sockets: 101, oldest: millis(70_001) }));
    assert_eq!(finding.evidence, Evidence::Complete);
    world.close(sockets[3]);
    world.pass(millis(60));
    assert_eq!(told(&world, start).last(), Some(&(Cleared, 90)));
}

#[test]
fn different_ones_all_the_time_are_too_many_too() {
    let mut world = world();
    let start = world.now;
    let mut waiting = std::collections::VecDeque::new();
    for _ in 0..400 {
        world.pass(millis(50));
        let cookie = world.connect(1, remote(1883));
        world.peer_closes(cookie);
        waiting.push_back(cookie);
        if waiting.len() > 120 {
            let oldest = waiting.pop_front().expect("there are 120");
            world.close(oldest);
        }
    }
    assert_eq!(told(&world, start), [(Opened, 15)]);
}

#[test]
fn a_kick_of_thousands_says_nothing() {
    let mut world = World::new(Config::default());
    for _ in 0..2 {
        let sockets = connect(&mut world, 3_000);
        // Just before a snapshot and just after the next one.
        sockets.iter().for_each(|cookie| world.peer_closes(*cookie));
        world.pass(millis(900));
        sockets.iter().for_each(|cookie| world.close(*cookie));
        world.pass(millis(9_300));
    }
    assert_eq!(told(&world, world.now), []);
}

#[test]
fn a_dip_between_two_snapshots_ends_the_run() {
    let mut world = world();
    let start = world.now;
    let sockets = connect(&mut world, 110);
    sockets.iter().for_each(|cookie| world.peer_closes(*cookie));
    world.pass(secs(6));
    sockets[..10].iter().for_each(|cookie| world.close(*cookie));
    for cookie in connect(&mut world, 10) {
        world.peer_closes(cookie);
    }
    world.pass(secs(9));
    assert_eq!(told(&world, start), []);
    world.pass(secs(2));
    assert_eq!(told(&world, start), [(Opened, 16)]);
}

#[test]
fn it_ends_with_the_process() {
    let mut world = world();
    let start = world.now;
    for cookie in connect(&mut world, 110) {
        world.peer_closes(cookie);
    }
    world.pass(secs(12));
    world.exit(1);
    world.pass(secs(1));
    assert_eq!(told(&world, start), [(Opened, 10), (Cleared, 12)]);
}

#[test]
fn a_fall_may_have_been_lost() {
    let mut config = Config::default();
    config.budgets.set(Kind::CloseWait, secs(3_600));
    config.budgets.set(Kind::CloseWaitBuildup, secs(100));
    let mut world = World::new(config);
    for cookie in connect(&mut world, 110) {
        world.peer_closes(cookie);
    }
    world.pass(secs(1));
    world.lose();
    world.pass(secs(120));
    assert_eq!(world.last(Kind::CloseWaitBuildup).evidence, Evidence::Reconstructed);
}

proptest! {
    #![proptest_config(crate::trends::world::settings())]

    /// The count by records is the count of a snapshot, at any time.
    #[test]
    fn it_counts_as_a_snapshot_does(steps in vec((0_u8..5, 0_usize..50, 1_u32..3), 1..120)) {
        let limits = crate::table::Limits {
            sockets: 1000,
            processes: 100,
            boot_offset: std::time::Duration::ZERO,
        };
        let mut world = World::new(Config::default());
        world.records = Some(Vec::new());
        let mut sockets: Vec<Cookie> = Vec::new();
        for (what, index, pid) in steps {
            match (what, sockets.get(index % sockets.len().max(1)).copied()) {
                (0, _) | (_, None) => sockets.push(world.connect(pid, remote(1883))),
                (1 | 2, Some(cookie)) if world.is_established(cookie) => world.peer_closes(cookie),
                (1..=3, Some(cookie)) => {
                    world.close(cookie);
                    sockets.retain(|it| *it != cookie);
                }
                (_, Some(_)) => {
                    if index == 7 {
                        sockets.retain(|cookie| world.process_of(*cookie) != process(pid));
                        world.exit(pid);
                    }
                }
            }
        }
        let mut table = Table::new(limits);
        let mut buildup = Buildup::default();
        for event in world.records.take().unwrap_or_default() {
            table.apply(&event);
            buildup.handle_event(&event, &table, 2);
            let counts = |buildup: &Buildup| {
                let mut counts: Vec<_> = buildup
                    .processes
                    .iter()
                    .map(|(process, held)| (process.pid, held.sockets, held.over.is_some()))
                    .collect();
                counts.sort_unstable();
                counts
            };
            let by_records = counts(&buildup);
            let mut naive = Buildup::default();
            naive.handle_snapshot(&table, 2, event.time());
            prop_assert_eq!(by_records, counts(&naive), "after {:?}", event);
        }
    }
}
