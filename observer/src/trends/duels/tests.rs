//! Fights that are found in time, and healthy programs about which nothing is said.

use std::{collections::BTreeSet, net::SocketAddr, ops::Range, time::Duration};

use super::{
    Duels, SOON, WINDOW,
    model::{Chance, Client, Server, World},
};
use crate::{
    detect::Budgets,
    incident::Detail,
    model::{KernelEvent, MonoTime, ProcessKey},
    table::{Limits, Table},
    trends::{
        Suspicion, Thresholds, View,
        connections::{Connection, Connections, End, Step},
    },
};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;

/// Clients come back after a second, as mqtt.js does (`reconnectPeriod`), give or take a timer.
const BACK: Range<u64> = SECOND..1_020 * MS;

struct Follower {
    connections: Connections,
    duels: Duels,
    table: Table,
    thresholds: Thresholds,
    budgets: Budgets,
}

impl Follower {
    fn new() -> Self {
        let limits = Limits { sockets: 1, processes: 1, boot_offset: Duration::ZERO };
        Self {
            connections: Connections::default(),
            duels: Duels::default(),
            table: Table::new(limits),
            thresholds: Thresholds::default(),
            budgets: Budgets::default(),
        }
    }

    fn take(&mut self, event: &KernelEvent) {
        if let Some((step, connection)) = self.connections.handle_event(event) {
            self.duels.step(step, &connection, &self.connections, event.time());
        }
    }

    fn suspicions(&mut self, now: MonoTime) -> Vec<Suspicion> {
        let view = View {
            now,
            table: &self.table,
            connections: &self.connections,
            thresholds: &self.thresholds,
            budgets: &self.budgets,
        };
        let mut all = Vec::new();
        self.duels.suspicions(&view, &mut all);
        all
    }

    /// Follows everything, looking every 50 ms, up to the first duel; when it was found.
    fn first(&mut self, told: &[KernelEvent]) -> Option<(MonoTime, Suspicion)> {
        self.first_of(told, Duration::from_millis(50))
    }

    fn first_of(&mut self, told: &[KernelEvent], pace: Duration) -> Option<(MonoTime, Suspicion)> {
        let mut looked = MonoTime::from_nanos(0);
        for event in told {
            while event.time().since(looked) >= pace {
                looked = looked.after(pace);
                if let Some(first) = self.suspicions(looked).pop() {
                    return Some((looked, first));
                }
            }
            self.take(event);
        }
        None
    }
}

fn client(id: impl ToString, process: u32) -> Client {
    let (port, server) = (1883, Server::Broker);
    Client { process, port, id: id.to_string(), is_named: true, server, back: Some(BACK) }
}

/// An HTTP client whose connection the server closes.
fn request(server: Range<u64>) -> Client {
    let (port, server, id) = (80, Server::Closes(server), String::new());
    Client { process: 1, port, id, is_named: false, server, back: None }
}

fn ids(suspicion: &Suspicion) -> BTreeSet<String> {
    match &suspicion.detail {
        Detail::Duel { client_ids, .. } => {
            client_ids.iter().map(|named| named.client_id.to_string()).collect()
        }
        other => panic!("it is no duel: {other:?}"),
    }
}

/// Nothing is said about what `build` makes, whatever the seed.
fn is_silent(name: &str, seeds: u64, until: u64, build: impl Fn(&mut World)) {
    for seed in 0..seeds {
        let mut world = World::new(seed);
        build(&mut world);
        let told = world.run(until);
        let first = Follower::new().first_of(&told, Duration::from_millis(200));
        assert!(first.is_none(), "{name}, seed {seed}: {first:?}");
    }
}

#[test]
fn a_duel_is_found_within_five_seconds_and_names_exactly_who_fights() {
    for seed in 0..1_000 {
        let mut world = World::new(seed);
        let fighters = 1 + seed % 20;
        for device in 0..60 {
            let at = world.chance.of(0..10 * SECOND);
            world.open(at, client(device, 1));
        }
        let start = 20 * SECOND;
        for device in 0..fighters {
            let at = start + world.chance.of(0..300 * MS);
            let first = if device == 0 { start } else { at };
            world.open(first, client(device, 1));
        }
        let told = world.run(40 * SECOND);
        let mut follower = Follower::new();
        let (found, suspicion) = follower.first(&told).expect("it is a duel");
        let limit = MonoTime::from_nanos((start + 5 * SECOND) * 1000);
        assert!(found <= limit, "seed {seed}: {found:?}");
        assert!(suspicion.due <= found && suspicion.since <= suspicion.due, "{suspicion:?}");
        // A second later all have lost twice.
        let rest = told.iter().filter(|event| {
            event.time() > found && event.time() < found.after(Duration::from_millis(2_500))
        });
        rest.for_each(|event| follower.take(event));
        let later = follower.suspicions(found.after(Duration::from_millis(2_500)));
        let expected: BTreeSet<_> = (0..fighters).map(|device| device.to_string()).collect();
        assert_eq!(ids(&later[0]), expected, "seed {seed}");
        assert_eq!(later[0].since, suspicion.since, "an open finding keeps its beginning");
        let Detail::Duel { median_life, client_id_count, .. } = &later[0].detail else { return };
        assert_eq!(*client_id_count, fighters);
        assert!((990..=1_300).contains(&median_life.as_millis()), "seed {seed}: {median_life:?}");
    }
}

#[test]
fn two_processes_that_fight_are_both_told() {
    let mut world = World::new(7);
    for device in 0..5 {
        world.open(0, client(device, 1));
        world.open(10 * SECOND, client(device, 2));
    }
    let mut follower = Follower::new();
    for event in world.run(20 * SECOND) {
        follower.take(&event);
    }
    let all = follower.suspicions(MonoTime::from_nanos(20 * SECOND * 1000));
    let processes: Vec<_> = all.iter().map(|suspicion| suspicion.process.pid).collect();
    assert_eq!(processes, [1, 2]);
}

#[test]
fn a_duel_is_over_half_a_minute_after_the_last_take_over() {
    for is_named in [true, false] {
        let mut world = World::new(3);
        for at in [0, 10 * SECOND] {
            world.open(at, Client { is_named, port: 8883, ..client("twin", 1) });
        }
        let mut follower = Follower::new();
        let told = world.run(60 * SECOND);
        for event in &told {
            follower.take(event);
        }
        let last = told.last().expect("they fight").time();
        assert_eq!(follower.suspicions(last).len(), 1, "named: {is_named}");
        let during = last.after(Duration::from_secs(15));
        assert_eq!(follower.suspicions(during).len(), 1, "named: {is_named}");
        let after = last.after(Duration::from_secs(31));
        assert_eq!(follower.suspicions(after), [], "named: {is_named}");
        assert_eq!(follower.duels.takeovers.duels(after, 1).len(), 0);
    }
}

#[test]
fn the_death_of_a_process_ends_its_duels() {
    for is_named in [true, false] {
        let mut world = World::new(3);
        for at in [0, 10 * SECOND] {
            world.open(at, Client { is_named, ..client("twin", 1) });
        }
        let mut follower = Follower::new();
        for event in world.run(60 * SECOND) {
            follower.take(&event);
        }
        let now = MonoTime::from_nanos(60 * SECOND * 1000);
        follower.duels.forget(ProcessKey { pid: 2, start_ns: 1 });
        assert_eq!(follower.suspicions(now).len(), 1);
        follower.duels.forget(ProcessKey { pid: 1, start_ns: 1 });
        assert_eq!(follower.suspicions(now), []);
    }
}

#[test]
fn a_duel_without_client_ids_is_found_by_its_moments() {
    for (port, way, limit) in [(8883, 50..500, 8), (443, 50..500, 8), (8883, 5_000..15_000, 30)] {
        for seed in 0..1_000 {
            let mut world = World::new(seed).with_way(way.clone());
            let start = 10 * SECOND;
            for at in [0, start] {
                world.open(at, Client { is_named: false, port, ..client("twin", 1) });
            }
            let told = world.run(45 * SECOND);
            let (found, suspicion) = Follower::new().first(&told).expect("it is a duel");
            let limit = MonoTime::from_nanos((start + limit * SECOND) * 1000);
            assert!(found <= limit, "port {port}, way {way:?}, seed {seed}: {found:?}");
            assert_eq!(ids(&suspicion), BTreeSet::new());
        }
    }
}

#[test]
fn a_fleet_that_moves_to_another_process_is_no_duel() {
    is_silent("move", 1_000, 40 * SECOND, |world| {
        for device in 0..100 {
            let at = world.chance.of(0..5 * SECOND);
            world.open(at, Client { back: None, ..client(device, 1) });
            let at = world.chance.of(10 * SECOND..20 * SECOND);
            world.open(at, client(device, 2));
        }
    });
}

#[test]
fn a_pool_that_destroys_before_it_replaces_is_no_duel() {
    is_silent("pool", 1_000, 30 * SECOND, |world| {
        for device in 0..50 {
            let index = world.open(device * 50 * MS, client(device, 1));
            for _ in 0..8 {
                let at = world.chance.of(5 * SECOND..30 * SECOND);
                world.replace(at, index);
            }
        }
    });
}

#[test]
fn clients_that_are_refused_again_and_again_are_no_duel() {
    let at_once = MS..50 * MS;
    let slowly = 990 * MS..1_010 * MS;
    for (is_named, count, after, back) in [
        (true, 300, at_once.clone(), BACK),
        (false, 1, at_once.clone(), BACK),
        (false, 2, at_once.clone(), BACK),
        (false, 20, at_once.clone(), BACK),
        (false, 300, at_once.clone(), BACK),
        (false, 2, slowly.clone(), BACK),
        (false, 10, slowly.clone(), BACK),
        (false, 300, slowly.clone(), BACK),
        // All at once, and again without a pause.
        (false, 2, 50 * MS..51 * MS, 0..MS),
        (false, 8, 50 * MS..51 * MS, 0..MS),
        (false, 8, slowly, 0..MS),
    ] {
        let name = format!("{count} refused within {after:?}, back within {back:?}");
        let (seeds, seconds) = if count > 100 { (100, 5) } else { (1_000, 30) };
        is_silent(&name, seeds, seconds * SECOND, |world| {
            let together = back.start == 0;
            for device in 0..count {
                let at = if together { 0 } else { world.chance.of(0..2 * SECOND) };
                let (server, back) = (Server::Closes(after.clone()), Some(back.clone()));
                world.open(at, Client { is_named, port: 8883, server, back, ..client(device, 1) });
            }
        });
    }
}

#[test]
fn requests_that_the_server_closes_are_no_duel() {
    for (each, seconds) in [(SECOND, 60), (SECOND / 10, 35), (SECOND / 100, 5)] {
        for latency in [MS..30 * MS, 200 * MS..220 * MS, 10 * MS..3 * SECOND, SECOND..1_001 * MS] {
            let name = format!("one in {each} us that take {latency:?}");
            is_silent(&name, 1_000, seconds * SECOND, |world| {
                let mut at = 0;
                while at < seconds * SECOND {
                    at += world.chance.gap(each);
                    world.open(at, request(latency.clone()));
                }
            });
        }
    }
}

#[test]
fn workers_that_ask_again_and_again_are_no_duel() {
    for (workers, latency, pause) in [
        (6, 200 * MS..205 * MS, 0..2 * MS),
        (6, SECOND..1_005 * MS, 0..2 * MS),
        (2, 10 * MS..2 * SECOND, 0..100 * MS),
        (6, 10 * MS..2 * SECOND, 0..100 * MS),
        (20, 10 * MS..2 * SECOND, 500 * MS..SECOND),
    ] {
        let name = format!("{workers} workers, {latency:?}, {pause:?}");
        is_silent(&name, 1_000, 40 * SECOND, |world| {
            for _ in 0..workers {
                let at = world.chance.of(0..2 * MS);
                world.open(at, Client { back: Some(pause.clone()), ..request(latency.clone()) });
            }
        });
    }
}

#[test]
fn bursts_and_idle_connections_that_the_server_closes_are_no_duel() {
    for life in [MS..300 * MS, 50 * MS..51 * MS, 2 * SECOND..2_001 * MS, 5 * SECOND..5_010 * MS] {
        is_silent(&format!("bursts of six, {life:?}"), 1_000, 120 * SECOND, |world| {
            let mut at = 0;
            while at < 120 * SECOND {
                at += world.chance.of(2 * SECOND..8 * SECOND);
                for _ in 0..6 {
                    let later = at + world.chance.of(0..20 * MS);
                    world.open(later, request(life.clone()));
                }
            }
        });
    }
    // A program that asks every 5 s, and a server that closes what was idle for 5 s.
    is_silent("every five seconds", 100, 300 * SECOND, |world| {
        for at in (0..300 * SECOND).step_by(5 * SECOND as usize) {
            world.open(at, request(5 * SECOND..5_002 * MS));
        }
    });
}

#[test]
fn a_storm_that_is_too_fast_for_moments_is_left_to_another_kind() {
    is_silent("storm", 5, 10 * SECOND, |world| {
        for device in 0..400 {
            for _ in 0..2 {
                let at = world.chance.of(0..SECOND);
                let back = Some(100 * MS..2 * SECOND);
                let server = Server::Closes(500 * MS..SECOND);
                let all = Client { is_named: false, port: 8883, server, back, ..client(device, 1) };
                world.open(at, all);
            }
        }
    });
}

#[test]
fn a_storm_of_four_thousand_is_followed_in_little_time_and_room() {
    let mut world = World::new(1);
    for device in 0..4_000 {
        world.open(device * 100, client(device, 1));
        let at = world.chance.of(5 * SECOND..6 * SECOND);
        world.open(at, client(device, 1));
    }
    let told = world.run(60 * SECOND);
    let mut follower = Follower::new();
    told.iter().for_each(|event| follower.take(event));
    let now = told.last().expect("they fight").time();
    let all = follower.suspicions(now);
    let Detail::Duel { takeovers, client_ids, client_id_count, .. } = &all[0].detail else {
        panic!("it is no duel")
    };
    // 4,000 a second for 30 s are 120,000.
    assert!((100_000..=131_072).contains(takeovers), "{takeovers}");
    assert_eq!((client_ids.len(), *client_id_count), (20, 4_000));
    assert!(client_ids.is_sorted_by_key(|named| std::cmp::Reverse(named.takeovers)));
}

#[test]
fn many_destinations_do_not_grow_without_end() {
    let mut follower = Follower::new();
    let mut chance = Chance(1);
    for number in 0..10_000_u64 {
        let port = u16::try_from(1 + number % 60_000).expect("a port");
        let mut world = World::new(chance.of(0..u64::MAX));
        world.open(number * 20 * MS, Client { port, ..request(MS..2 * MS) });
        world.run(u64::MAX).iter().for_each(|event| follower.take(event));
    }
    assert!(follower.duels.places.len() <= 4_096);
    let remote = SocketAddr::from(([10, 0, 0, 1], 10_000));
    let place = (ProcessKey { pid: 1, start_ns: 1 }, remote);
    assert!(follower.duels.places.follows(&place), "the newest has its place");
}

/// Two connections with a client id to one broker, and the end of the older one by the peer: how
/// many take-overs that is.
fn ended_after(delay: Duration, end: End, is_cut: bool) -> u64 {
    let mut connections = Connections::default();
    let mut duels = Duels::default();
    let older = Connection { is_cut, ..Connection::example(1, "a", 10) };
    let named = MonoTime::from_nanos(20);
    connections.carry(Connection { is_cut, ..Connection::example(2, "a", named.nanos()) });
    let mut count = 0;
    // A client id counts when it has lost twice.
    for _ in 0..2 {
        duels.step(Step::Ended(end), &older, &connections, named.after(delay));
        let all = duels.takeovers.duels(named.after(delay), 1);
        count = all.first().map_or(0, |(_, duel)| duel.takeovers);
    }
    count
}

#[test]
fn an_end_by_the_peer_soon_after_a_newer_connect_is_a_take_over() {
    let moment = Duration::from_nanos(1);
    assert_eq!(ended_after(Duration::ZERO, End::ByPeer, false), 2);
    assert_eq!(ended_after(SOON, End::ByPeer, false), 2);
    assert_eq!(ended_after(SOON + moment, End::ByPeer, false), 0);
    assert_eq!(ended_after(Duration::ZERO, End::ByPeer, true), 0, "it may be another client");
    for end in [End::ByUs, End::Failed, End::Unseen] {
        assert_eq!(ended_after(Duration::ZERO, end, false), 0, "{end:?}");
    }
}

#[test]
fn a_take_over_counts_for_half_a_minute_and_a_place_is_told_once() {
    let mut connections = Connections::default();
    let mut follower = Follower::new();
    connections.carry(Connection::example(2, "a", 20));
    let older = Connection::example(1, "a", 10);
    for _ in 0..9 {
        follower.duels.step(
            Step::Ended(End::ByPeer),
            &older,
            &connections,
            MonoTime::from_nanos(20),
        );
    }
    assert_eq!(follower.suspicions(MonoTime::from_nanos(20)).len(), 1);
    let last = MonoTime::from_nanos(20).after(WINDOW);
    assert_eq!(follower.suspicions(MonoTime::from_nanos(last.nanos() - 1)).len(), 1);
    assert_eq!(follower.suspicions(last), []);
}
