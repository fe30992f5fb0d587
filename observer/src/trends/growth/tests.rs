//! Fleets that grow, fall and return.

use std::time::Duration;

use proptest::{collection::vec, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::{
    correlate::Config,
    incident::FindingEvent::{self, Cleared, Opened},
    model::Cookie,
    trends::{
        Fleet,
        world::{World, millis, process, remote, secs},
    },
};

/// Opens connections to a broker, one after each pause.
fn connect(world: &mut World, count: usize, pause: Duration) -> Vec<Cookie> {
    let one = |_| {
        world.pass(pause);
        world.connect(1, remote(1883))
    };
    (0..count).map(one).collect()
}

/// A fleet at its level.
fn standing(count: usize) -> (World, Vec<Cookie>) {
    let mut world = World::new(Config::default());
    let fleet = connect(&mut world, count, millis(10));
    world.pass(secs(35));
    (world, fleet)
}

fn told(world: &World, start: MonoTime) -> Vec<(FindingEvent, u64)> {
    let mut told = world.told(Kind::Overgrowth, start);
    told.retain(|(event, _)| *event != FindingEvent::Updated);
    told
}

#[test]
fn a_climb_from_a_level_is_found_and_lasts_as_long_as_its_cause() {
    let (mut world, _) = standing(40);
    let start = world.now;
    let more = connect(&mut world, 15, millis(100));
    world.pass(secs(300));
    assert_eq!(told(&world, start), [(Opened, 11)]);
    let finding = world.last(Kind::Overgrowth).clone();
    assert_eq!(finding.subject, Subject::Destination(process(1), remote(1883)));
    assert_eq!(finding.since, start.after(secs(1)), "the tenth came after a second");
    assert_eq!((finding.budget, finding.evidence), (secs(10), Evidence::Complete));
    let expected = Detail::Overgrowth {
        sockets: 55,
        expected: 40,
        declared: false,
        opened: 15,
        closed: 0,
        twins: Vec::new(),
    };
    assert_eq!(finding.detail, Some(expected));
    let start = world.now;
    more.into_iter().for_each(|cookie| world.close(cookie));
    world.pass(secs(1));
    assert_eq!(told(&world, start).last(), Some(&(Cleared, 0)));
}

#[test]
fn how_much_is_a_climb() {
    let cases = [(40, 9, false), (40, 10, true), (3, 10, true), (200, 19, false), (200, 20, true)];
    for (level, more, expected) in cases {
        let (mut world, _) = standing(level);
        let start = world.now;
        connect(&mut world, more, millis(400));
        world.pass(secs(60));
        assert_eq!(!told(&world, start).is_empty(), expected, "{level} and {more}");
    }
}

#[test]
fn where_mqtt_is_not_spoken_a_climb_is_none() {
    let mut world = World::new(Config::default());
    for count in [40, 40] {
        (0..count).for_each(|_| {
            world.connect(1, remote(8080));
        });
        world.pass(secs(60));
    }
    world.assert_quiet("port 8080");
    // One client id says what it is.
    world.connect_as(1, remote(8080), "dev-1");
    world.pass(secs(20));
    assert_eq!(world.findings.len(), 1, "{:?}", world.findings);
}

#[test]
fn the_start_of_a_fleet_is_no_climb_however_slow() {
    for (count, pause) in
        [(400, 50), (60, 1_000), (40, 5_000), (30, 14_000), (20, 29_000), (300, 0)]
    {
        let mut world = World::new(Config::default());
        connect(&mut world, count, millis(pause));
        world.pass(secs(60));
        world.assert_quiet(&format!("{count} each {pause} ms"));
    }
}

#[test]
fn a_fleet_that_starts_beside_a_connection_of_the_service_is_no_climb() {
    let (mut world, _) = standing(1);
    connect(&mut world, 400, millis(50));
    world.pass(secs(60));
    world.assert_quiet("20 a second beside 1");
    // Now it has a level of its own.
    connect(&mut world, 60, millis(50));
    world.pass(secs(20));
    assert_eq!(told(&world, world.now).len(), 1);
}

#[test]
fn a_fleet_that_cannot_connect_has_no_level() {
    let mut world = World::new(Config::default());
    connect(&mut world, 20, millis(10));
    for _ in 0..60 {
        world.pass(secs(1));
        let dialled = world.dial(1, remote(1883));
        world.refuse(dialled);
    }
    connect(&mut world, 30, millis(300));
    world.pass(secs(60));
    world.assert_quiet("the broker refused for a minute");
}

#[test]
fn a_fleet_that_falls_and_returns_is_no_climb() {
    for away in [5, 100, 400] {
        let (mut world, mut fleet) = standing(100);
        for left in [0, 60] {
            fleet.drain(left..).for_each(|cookie| {
                world.peer_closes(cookie);
                world.close(cookie);
            });
            world.pass(secs(away));
            let back = 100 - fleet.len();
            fleet.extend(connect(&mut world, back, millis(20)));
            world.pass(secs(60));
        }
        world.assert_quiet(&format!("away for {away} s"));
    }
}

#[test]
fn a_reconnect_storm_is_no_climb() {
    let (mut world, mut fleet) = standing(200);
    for _ in 0..30 {
        // New ones first, the old ones when the broker takes over; some stay for a while.
        let new = connect(&mut world, 60, millis(1));
        world.pass(millis(800));
        fleet.drain(..60).for_each(|cookie| {
            world.peer_closes(cookie);
            world.close(cookie);
        });
        fleet.extend(new);
    }
    world.pass(secs(30));
    world.assert_quiet("take-overs");
}

#[test]
fn a_climb_in_which_some_are_closed_is_no_leak() {
    for (opened, closed, expected) in [(40, 2, true), (40, 3, false)] {
        let (mut world, fleet) = standing(40);
        let start = world.now;
        connect(&mut world, opened, millis(20));
        (0..closed).for_each(|index| world.close(fleet[index]));
        world.pass(secs(60));
        assert_eq!(!told(&world, start).is_empty(), expected, "{closed} of {opened}");
    }
}

#[test]
fn closing_a_few_does_not_end_what_was_found() {
    let (mut world, fleet) = standing(40);
    let start = world.now;
    connect(&mut world, 30, millis(20));
    world.pass(secs(20));
    (0..15).for_each(|index| world.close(fleet[index]));
    world.pass(secs(20));
    assert_eq!(told(&world, start), [(Opened, 10)], "55 are still too many");
    (15..25).for_each(|index| world.close(fleet[index]));
    world.pass(secs(1));
    assert_eq!(told(&world, start).len(), 2);
}

#[test]
fn a_dip_begins_the_budget_anew() {
    let (mut world, _) = standing(40);
    let start = world.now;
    let more = connect(&mut world, 10, millis(1));
    world.pass(secs(8));
    world.close(more[0]);
    world.connect(1, remote(1883));
    connect(&mut world, 20, millis(1));
    world.pass(secs(9));
    assert_eq!(told(&world, start), []);
    world.pass(secs(2));
    assert_eq!(told(&world, start), [(Opened, 18)]);
}

#[test]
fn after_a_finding_the_level_is_measured_anew() {
    let (mut world, _) = standing(100);
    let start = world.now;
    let more = connect(&mut world, 12, millis(1));
    world.pass(secs(15));
    more[..4].iter().for_each(|cookie| world.close(*cookie));
    world.pass(secs(40));
    assert_eq!(told(&world, start), [(Opened, 10), (Cleared, 15)]);
    connect(&mut world, 4, millis(1));
    world.pass(secs(30));
    assert_eq!(told(&world, start).len(), 2, "112 are no climb from 108");
    connect(&mut world, 8, millis(1));
    world.pass(secs(30));
    assert_eq!(told(&world, start).len(), 3, "120 are one");
}

#[test]
fn a_leak_that_returns_after_an_outage_is_found_again() {
    let (mut world, mut fleet) = standing(100);
    let start = world.now;
    fleet.extend(connect(&mut world, 50, millis(1)));
    world.pass(secs(60));
    fleet.drain(..).for_each(|cookie| {
        world.peer_closes(cookie);
        world.close(cookie);
    });
    world.pass(secs(60));
    connect(&mut world, 150, millis(1));
    world.pass(secs(60));
    assert_eq!(told(&world, start), [(Opened, 10), (Cleared, 60), (Opened, 130)]);
}

#[test]
fn after_a_finding_half_a_fleet_may_return() {
    let (mut world, mut fleet) = standing(100);
    let start = world.now;
    fleet.extend(connect(&mut world, 15, millis(1)));
    world.pass(secs(60));
    fleet.drain(60..).for_each(|cookie| world.close(cookie));
    world.pass(secs(60));
    connect(&mut world, 45, millis(20));
    world.pass(secs(60));
    assert_eq!(told(&world, start), [(Opened, 10), (Cleared, 60)], "105 are no climb from 100");
}

#[test]
fn a_declared_fleet_is_exact() {
    let mut config = Config::default();
    config.thresholds.fleets = vec![Fleet { broker: remote(7), devices: 20 }];
    let mut world = World::new(config.clone());
    (0..20).for_each(|_| {
        world.connect(1, remote(7));
    });
    world.connect(2, remote(7));
    world.connect(1, remote(8));
    world.pass(secs(60));
    world.assert_quiet("twenty devices");
    let start = world.now;
    world.connect(1, remote(7));
    world.pass(secs(9));
    world.assert_quiet("not for the whole budget");
    world.pass(secs(2));
    assert_eq!(told(&world, start), [(Opened, 10)]);
    let finding = world.last(Kind::Overgrowth);
    assert_eq!(finding.since, start);
    let expected = Detail::Overgrowth {
        sockets: 21,
        expected: 20,
        declared: true,
        opened: 1,
        closed: 0,
        twins: Vec::new(),
    };
    assert_eq!(finding.detail, Some(expected));
    // A larger fleet is declared.
    config.thresholds.fleets[0].devices = 21;
    world.correlator.set_thresholds(config.thresholds);
    world.pass(secs(1));
    assert_eq!(told(&world, start), [(Opened, 10), (Cleared, 11)]);
}

#[test]
fn it_ends_with_the_process() {
    let (mut world, _) = standing(40);
    let start = world.now;
    connect(&mut world, 15, millis(1));
    world.pass(secs(20));
    world.exit(1);
    world.pass(secs(1));
    assert_eq!(told(&world, start), [(Opened, 10), (Cleared, 20)]);
    let reason = world.findings.last().and_then(|it| it.clear_reason).map(|it| it.code());
    assert_eq!(reason, Some("exited"));
}

#[test]
fn what_rests_on_lost_records_says_so() {
    let (mut world, _) = standing(40);
    let start = world.now;
    connect(&mut world, 5, millis(1));
    world.pass(secs(1));
    world.lose();
    world.pass(secs(120));
    connect(&mut world, 15, millis(1));
    world.pass(secs(20));
    assert_eq!(told(&world, start).len(), 1);
    assert_eq!(world.last(Kind::Overgrowth).evidence, Evidence::Reconstructed, "long after it");

    let (mut world, _) = standing(40);
    world.is_deaf = true;
    connect(&mut world, 15, millis(1));
    world.is_deaf = false;
    world.lose();
    world.pass(secs(30));
    assert_eq!(world.last(Kind::Overgrowth).evidence, Evidence::Reconstructed);
}

#[test]
fn a_process_that_is_older_than_the_observer_has_a_level_too() {
    let mut world = World::new(Config::default());
    world.is_deaf = true;
    (0..50).for_each(|_| {
        world.connect(1, remote(1883));
    });
    world.is_deaf = false;
    world.pass(secs(60));
    world.assert_quiet("they were there");
    connect(&mut world, 15, millis(20));
    world.pass(secs(20));
    assert_eq!(told(&world, world.now).len(), 1);
}

#[test]
fn twins_are_named() {
    let mut world = World::new(Config::default());
    for number in 0..40 {
        world.connect_as(1, remote(18830), &format!("dev-{number}-a8f3"));
    }
    world.pass(secs(35));
    for number in 0..15 {
        world.connect_as(1, remote(18830), &format!("dev-{number}-77{number:02}"));
        world.pass(millis(10));
    }
    world.pass(secs(20));
    let finding = world.last(Kind::Overgrowth);
    let Some(Detail::Overgrowth { twins, .. }) = &finding.detail else { panic!("{finding:?}") };
    let twins: Vec<_> = twins.iter().map(|(old, new)| (&**old, &**new)).collect();
    let expected = [
        ("dev-0-a8f3", "dev-0-7700"),
        ("dev-1-a8f3", "dev-1-7701"),
        ("dev-2-a8f3", "dev-2-7702"),
        ("dev-3-a8f3", "dev-3-7703"),
        ("dev-4-a8f3", "dev-4-7704"),
    ];
    assert_eq!(twins, expected);
    assert!(finding.message.contains("dev-0-7700 beside dev-0-a8f3"), "{}", finding.message);
}

#[test]
fn idle_destinations_are_bounded() {
    let mut growth = Growth::default();
    for number in 0..10_000_u64 {
        let process = ProcessKey { pid: 1, start_ns: number };
        growth.take(process, remote(1883), 1, (1, 0), MonoTime::from_nanos(0));
        growth.take(process, remote(1883), 2, (1, 0), MonoTime::from_nanos(40_000_000_000));
        growth.take(process, remote(1883), 0, (0, 2), MonoTime::from_nanos(41_000_000_000));
        assert!(growth.processes.len() <= MOST_IDLE);
        growth.take(process, remote(80), 1, (1, 0), MonoTime::from_nanos(0));
        growth.take(process, remote(80), 0, (0, 1), MonoTime::from_nanos(1));
        assert!(growth.processes[&process].len() <= 1, "the web is forgotten at once");
    }
}

proptest! {
    #![proptest_config(crate::trends::world::settings())]

    /// A fleet of any size with devices that come and go, in storms too, but where each has one
    /// connection at a time.
    #[test]
    fn healthy_fleets_are_quiet(
        size in 5_usize..80,
        steps in vec((0_u64..20_000, 0_usize..80, 1_usize..80), 1..40),
    ) {
        let (mut world, fleet) = standing(size);
        let mut slots: Vec<_> = fleet.into_iter().map(Some).collect();
        for (pause, from, count) in steps {
            for slot in slots.iter_mut().take(from + count).skip(from) {
                *slot = match slot.take() {
                    Some(cookie) => {
                        world.close(cookie);
                        None
                    }
                    None => Some(world.connect(1, remote(1883))),
                };
            }
            world.pass(millis(pause));
        }
        world.pass(secs(60));
        world.assert_quiet("each has one");
    }

    /// A leak is found within its budget, at any pace and from any level.
    #[test]
    fn leaks_are_found(size in 3_usize..60, pause in 20_u64..3_000, rest in 31_u64..200) {
        let mut world = World::new(Config::default());
        connect(&mut world, size, millis(10));
        world.pass(secs(rest));
        let start = world.now;
        connect(&mut world, 30, millis(pause));
        world.pass(secs(15));
        let found = told(&world, start);
        prop_assert_eq!(found.len(), 1);
        let since = world.last(Kind::Overgrowth).since;
        prop_assert_eq!(since, start.after(millis(10 * pause)));
        prop_assert!(found[0].1 <= (10 * pause).div_ceil(1000) + 10);
    }
}
