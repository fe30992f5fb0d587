//! Programs that forget their connections, and those that keep them quiet on purpose.

use proptest::{prop_assert, proptest};

use super::*;
use crate::{
    correlate::Config,
    incident::FindingEvent::{self, Cleared, Opened},
    trends::world::{World, millis, process, remote, secs},
};

const PLACE: u16 = 443;

/// A request on a connection and its answer.
fn ask(world: &mut World, cookie: Cookie) {
    world.send(cookie);
    world.receive(cookie);
}

/// A connection with its first request.
fn open(world: &mut World) -> Cookie {
    let cookie = world.connect(1, remote(PLACE));
    ask(world, cookie);
    cookie
}

fn told(world: &World, start: MonoTime) -> Vec<(FindingEvent, u64)> {
    let mut told = world.told(Kind::StaleGeneration, start);
    told.retain(|(event, _)| *event != FindingEvent::Updated);
    told
}

/// Numbers below a bound, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX generator; its upper bits are good enough for pauses.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn a_session_for_each_piece_of_work_is_found() {
    // Pause between two, and when it must have been found at the latest: the third has been
    // silent for a minute, another one was opened, and a snapshot saw it.
    for (pause, latest) in [(10, 115), (15, 130), (61, 280), (300, 1_000), (3_600, 10_900)] {
        let mut world = World::new(Config::default());
        let start = world.now;
        while world.now.since(start) < secs(latest) {
            open(&mut world);
            world.pass(secs(pause));
        }
        let told = told(&world, start);
        assert!(matches!(told[..], [(Opened, at)] if at <= latest), "each {pause} s: {told:?}");
        let finding = world.last(Kind::StaleGeneration);
        assert_eq!(finding.subject, Subject::Destination(process(1), remote(PLACE)));
        assert!(finding.since >= start.after(secs(2 * pause + 60)), "each {pause} s");
        assert!(finding.since <= finding.time);
    }
}

#[test]
fn what_a_finding_says() {
    let mut world = World::new(Config::default());
    (0..12).for_each(|_| {
        open(&mut world);
        world.pass(secs(20));
    });
    let finding = world.last(Kind::StaleGeneration);
    let Some(Detail::Generations { generations, stale, live }) = finding.detail else {
        panic!("{finding:?}")
    };
    assert!(generations >= 3 && stale == generations && live > stale, "{finding:?}");
    assert!(finding.message.contains("keeps opening connections to 10.0.0.1:443"));
}

#[test]
fn forgotten_ones_that_their_peer_closed_are_found() {
    let mut world = World::new(Config::default());
    let start = world.now;
    (0..10).for_each(|_| {
        let cookie = open(&mut world);
        world.pass(secs(5));
        world.peer_closes(cookie);
        world.pass(secs(15));
    });
    assert_eq!(told(&world, start).len(), 1);
}

#[test]
fn one_of_several_is_forgotten() {
    let mut world = World::new(Config::default());
    let start = world.now;
    for index in 0..40 {
        let cookie = open(&mut world);
        world.pass(secs(5));
        if index % 4 != 0 {
            world.close(cookie);
        }
    }
    assert_eq!(told(&world, start).len(), 1);
}

#[test]
fn it_is_over_when_they_are_closed_or_none_is_opened_any_more() {
    for closes in [true, false] {
        let mut world = World::new(Config::default());
        let leaked: Vec<_> = (0..10)
            .map(|_| {
                let cookie = open(&mut world);
                world.pass(secs(15));
                cookie
            })
            .collect();
        let start = world.now;
        if closes {
            leaked.into_iter().for_each(|cookie| world.close(cookie));
        }
        world.pass(secs(200));
        let told = told(&world, MonoTime::from_nanos(0));
        assert_eq!(told.iter().map(|it| it.0).collect::<Vec<_>>(), [Opened, Cleared]);
        let cleared = world.findings.last().expect("it was cleared").time.since(start);
        let latest = if closes { secs(11) } else { secs(150) };
        assert!(cleared <= latest, "{cleared:?}");
    }
}

#[test]
fn it_ends_with_the_process() {
    let mut world = World::new(Config::default());
    (0..10).for_each(|_| {
        open(&mut world);
        world.pass(secs(15));
    });
    world.exit(1);
    world.pass(millis(100));
    let reason = world.findings.last().and_then(|it| it.clear_reason).map(|it| it.code());
    assert_eq!(reason, Some("exited"));
}

#[test]
fn a_place_where_client_ids_are_known_or_mqtt_is_spoken_is_judged_by_others() {
    for port in [1883, 8883, 18_830] {
        let mut world = World::new(Config::default());
        for number in 0..20 {
            match port {
                18_830 => world.connect_as(1, remote(port), &format!("dev-{number}")),
                _ => world.connect(1, remote(port)),
            };
            world.pass(secs(15));
        }
        assert_eq!(told(&world, MonoTime::from_nanos(0)), [], "port {port}");
    }
}

#[test]
fn a_connection_that_is_used_again_is_not_forgotten() {
    // Twelve programs' components, each with a connection of its own that it uses now and then.
    let mut world = World::new(Config::default());
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(open(&mut world));
        world.pass(secs(25));
        let quiet: Vec<_> = all.iter().copied().step_by(2).collect();
        if all.len() % 3 == 0 {
            quiet.into_iter().for_each(|cookie| ask(&mut world, cookie));
        }
    }
    world.pass(secs(300));
    world.assert_quiet("they are used now and then");
}

#[test]
fn parts_of_a_service_that_start_one_by_one_are_quiet() {
    for pause in [11, 15, 25, 40] {
        let mut world = World::new(Config::default());
        (0..5).for_each(|_| {
            open(&mut world);
            world.pass(secs(pause.min(15)));
        });
        world.pass(secs(600));
        world.assert_quiet(&format!("each {pause} s"));
    }
}

#[test]
fn a_quiet_fleet_that_started_within_a_minute_is_quiet() {
    let mut world = World::new(Config::default());
    (0..120).for_each(|_| {
        open(&mut world);
        world.pass(millis(500));
    });
    world.pass(secs(1_000));
    world.assert_quiet("web sockets");
}

#[test]
fn long_polls_are_quiet() {
    for replaces in [true, false] {
        let mut world = World::new(Config::default());
        let mut polls: Vec<_> = (0..20)
            .map(|_| {
                let cookie = open(&mut world);
                world.pass(secs(2));
                cookie
            })
            .collect();
        for round in 0..60 {
            world.pass(secs(5));
            let poll = &mut polls[round % 20];
            world.receive(*poll);
            if replaces {
                world.close(*poll);
                *poll = open(&mut world);
            } else {
                world.send(*poll);
            }
        }
        world.assert_quiet("long polls");
    }
}

#[test]
fn short_connections_are_quiet() {
    let mut world = World::new(Config::default());
    (0..600).for_each(|_| {
        let cookie = open(&mut world);
        world.pass(millis(500));
        world.close(cookie);
    });
    world.assert_quiet("one for each request");
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 24, ..crate::trends::world::settings() })]

    /// An HTTP pool: a request takes an idle connection, the last used first, and opens one only
    /// if all are busy. It closes what was idle for longer than any budget, or never.
    #[test]
    fn pools_are_quiet(seed: u64, keep in 70_u64..2_000) {
        let mut chance = Chance(seed);
        let mut world = World::new(Config::default());
        let (mut idle, mut busy) = (Vec::new(), Vec::new());
        for _ in 0..80 {
            // Load comes in waves, and there are long pauses.
            let wave = if chance.below(4) == 0 { chance.below(25) } else { chance.below(3) };
            for _ in 0..wave {
                let cookie = match idle.pop() {
                    Some((cookie, _)) => cookie,
                    None => world.connect(1, remote(PLACE)),
                };
                ask(&mut world, cookie);
                busy.push(cookie);
                world.pass(millis(chance.below(4_000)));
            }
            for cookie in busy.drain(..) {
                ask(&mut world, cookie);
                idle.push((cookie, world.now));
            }
            world.pass(secs(chance.below(200)));
            idle.retain(|(cookie, since)| {
                let stays = world.now.since(*since) < secs(keep);
                if !stays {
                    world.close(*cookie);
                }
                stays
            });
        }
        world.assert_quiet("a pool");
    }

    /// An idle database pool replaces each connection after its lifetime, which differs a little,
    /// so that after hours the ages are spread: the older first or the newer first.
    #[test]
    fn pools_that_replace_are_quiet(seed: u64, size in 2_usize..15, closes_first: bool) {
        let mut chance = Chance(seed);
        let mut world = World::new(Config::default());
        let mut slots: Vec<_> = (0..size)
            .map(|_| {
                let cookie = open(&mut world);
                (cookie, world.now.after(millis(chance.below(1_800_000))))
            })
            .collect();
        for _ in 0..60 {
            let next = (0..size).min_by_key(|index| slots[*index].1).expect("there are some");
            let (old, due) = slots[next];
            world.pass(due.since(world.now));
            if closes_first {
                world.close(old);
                world.pass(millis(chance.below(500)));
            }
            let new = open(&mut world);
            if !closes_first {
                world.pass(millis(chance.below(5_000)));
                world.close(old);
            }
            let life = 1_755_000 + chance.below(45_000);
            slots[next] = (new, world.now.after(millis(life)));
        }
        world.assert_quiet("a pool that replaces");
    }

    /// A leak at any pace is found, beside a pool that is used.
    #[test]
    fn leaks_are_found(seed: u64, pause in 3_u64..120) {
        let mut chance = Chance(seed);
        let mut world = World::new(Config::default());
        let pool: Vec<_> = (0..8).map(|_| open(&mut world)).collect();
        let start = world.now;
        let enough = 10 * pause.max(10) + 200;
        while world.now.since(start) < secs(enough) {
            open(&mut world);
            let used = pool[usize::try_from(chance.below(8)).expect("it is small")];
            ask(&mut world, used);
            world.pass(secs(pause / 2 + chance.below(pause + 1)));
        }
        let told = told(&world, start);
        prop_assert!(told.first().is_some_and(|(event, _)| *event == Opened), "{told:?}");
    }
}
