//! Programs that open many connections, and those that do not.

use std::time::Duration;

use super::*;
use crate::{
    correlate::Config,
    incident::FindingEvent::{Cleared, Opened, Updated},
    model::Cookie,
    trends::world::{World, millis, process, remote, secs},
};

fn connect(world: &mut World, count: usize, pause: Duration) -> Vec<Cookie> {
    let one = |_| {
        world.pass(pause);
        world.connect(1, remote(443))
    };
    (0..count).map(one).collect()
}

#[test]
fn a_storm_is_found_at_once_and_is_over_when_it_is_calm() {
    let mut world = World::new(Config::default());
    let start = world.now;
    for cookie in connect(&mut world, 510, millis(2)) {
        world.close(cookie);
    }
    world.connect(1, remote(80));
    world.pass(secs(30));
    let mut told = world.told(Kind::ReconnectStorm, start);
    told.retain(|(event, _)| *event != Updated);
    assert_eq!(told, [(Opened, 1), (Cleared, 10)]);
    let finding = world.last(Kind::ReconnectStorm);
    assert_eq!(finding.subject, Subject::Process(process(1)));
    assert_eq!(finding.since, start.after(millis(2)));
    assert_eq!(finding.budget, millis(1000), "the 501st came a second after the first");
    let late = finding.time.since(start.after(millis(1002)));
    assert!(late <= millis(50), "{late:?} after the 501st");
    let Some(Detail::Storm { connections, window, destination }) = &finding.detail else {
        panic!("{finding:?}")
    };
    assert!((501..=511).contains(connections), "{connections}");
    assert_eq!((*window, *destination), (WINDOW, Some(remote(443))));
}

#[test]
fn how_many_are_a_storm() {
    // 500 within the window are none; nor is any number that comes slowly.
    let cases = [(500, 1, false), (501, 1, true), (2_000, 11, false), (700, 9, true)];
    for (count, pause, expected) in cases {
        let mut world = World::new(Config::default());
        connect(&mut world, count, millis(pause));
        world.pass(secs(1));
        assert_eq!(!world.findings.is_empty(), expected, "{count} each {pause} ms");
    }
}

#[test]
fn attempts_that_fail_are_part_of_a_storm() {
    let mut world = World::new(Config::default());
    for _ in 0..501 {
        world.pass(millis(1));
        let cookie = world.dial(1, remote(443));
        world.refuse(cookie);
    }
    world.pass(secs(1));
    assert_eq!(world.findings.len(), 1);
}

#[test]
fn two_processes_are_not_one_storm() {
    let mut world = World::new(Config::default());
    for index in 0..900 {
        world.pass(millis(1));
        world.connect(1 + index % 2, remote(443));
    }
    world.pass(secs(1));
    world.assert_quiet("450 each");
}

#[test]
fn the_pool_paces_itself() {
    let mut world = World::new(Config::default());
    world.correlator.follow_registry(1);
    connect(&mut world, 900, millis(1));
    world.pass(secs(1));
    world.assert_quiet("the pool");
    (0..501).for_each(|_| {
        world.connect(2, remote(443));
    });
    world.pass(secs(1));
    assert_eq!(world.findings.len(), 1, "another process");
}

#[test]
fn processes_that_are_done_are_forgotten() {
    let mut storms = Storms::default();
    let connection = |pid| Connection {
        cookie: Cookie(1),
        process: process(pid),
        local: remote(1).ip(),
        remote: remote(1),
        opened: None,
        established: None,
        client: None,
        is_cut: false,
        named: None,
        netns: 1,
    };
    storms.step(Step::Opened, &connection(1), 500, MonoTime::from_nanos(1));
    storms.step(Step::Established, &connection(2), 500, MonoTime::from_nanos(1));
    assert_eq!(storms.processes.len(), 1);
    storms.forget(process(1));
    assert!(storms.processes.is_empty());
}
