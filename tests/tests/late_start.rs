//! An observer that comes after the sockets: it finds what is there and invents no age.

use harness::peer::{self, FullBacklog, Peer};
use harness::watch::BUDGET;
use harness::{App, Watch, clock, oracle};
use std::thread;
use std::time::Duration;

/// How far clocks that are read apart from each other may differ.
const CLOCK_SLACK: Duration = Duration::from_millis(100);

#[test]
fn leaks_that_are_older_than_the_observer_are_found_and_not_made_older() {
    let mut app = App::python();
    let peer = Peer::new();
    let backlog = FullBacklog::new();
    let half = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let dead = app.connect("127.0.0.1", peer.port());
    peer::reset(peer.accept());
    let full = app.connect("127.0.0.1", peer.port());
    let writer = peer.accept();
    peer::write(&writer, 10_000);
    let stuck: i32 = app.number(&format!("connect-start 127.0.0.1 {}", backlog.port()));
    app.connect("127.0.0.1", peer.port());
    let _idle = peer.accept();
    // So that an observer that guessed would guess wrong.
    thread::sleep(BUDGET * 2);

    let started = clock::wall();
    let watch = Watch::of(app.pid());
    for (kind, fd) in
        [("close-wait", half), ("dead-fd", dead), ("undrained", full), ("stuck-connect", stuck)]
    {
        let finding = watch.opened(kind, app.pid());
        assert_eq!(finding.holders(), [(app.pid(), fd)], "{kind}");
        assert!(finding.born_before_observer, "{finding:?}");
        assert!(finding.since() >= started - CLOCK_SLACK, "an invented age: {finding:?}");
    }
    let unseen = oracle::assert_agrees(&watch, &[app.pid()]);
    assert_eq!(unseen.len(), 1, "ss does not see the dead one: {unseen:?}");
    let table = watch.held_by(app.pid());
    assert_eq!(table.len(), 5);
    assert!(table.iter().all(|socket| socket.born_before_observer), "{table:?}");

    // What comes now is not older than the observer.
    app.connect("127.0.0.1", peer.port());
    let _accepted = peer.accept();
    let table = watch.held_by(app.pid());
    assert_eq!(table.iter().filter(|socket| !socket.born_before_observer).count(), 1);
    let end = watch.stop();
    end.expect_code(1);
    assert_eq!(end.summary().opened_in_all(), 4, "{:?}", end.summary());
}

#[test]
fn an_old_healthy_connection_leaks_only_when_it_begins_to() {
    let mut app = App::python();
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    let watch = Watch::of(app.pid());
    watch.no_finding_for(BUDGET * 3);
    let before = clock::wall();
    drop(accepted);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    assert!(finding.born_before_observer);
    // This change was seen: its time is known.
    assert!(finding.since() >= before - CLOCK_SLACK, "{finding:?}");
    assert!(finding.since() <= before + BUDGET, "{finding:?}");
    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
}

#[test]
fn an_observer_that_is_started_again_finds_the_same_leak() {
    let mut app = App::python();
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let first = Watch::of(app.pid());
    drop(peer.accept());
    let seen = first.opened("close-wait", app.pid());
    first.stop().expect_code(1);
    let second = Watch::of(app.pid());
    let again = second.opened("close-wait", app.pid());
    assert_eq!(again.cookie, seen.cookie);
    assert_eq!(again.holders(), [(app.pid(), fd)]);
    assert!(again.since() > seen.since());
}

#[test]
fn two_observers_at_the_same_time_see_the_same() {
    let mut app = App::python();
    let (one, two) = (Watch::of(app.pid()), Watch::of(app.pid()));
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let (seen, too) = (one.opened("close-wait", app.pid()), two.opened("close-wait", app.pid()));
    assert_eq!(seen.cookie, too.cookie);
    assert_eq!(seen.holders(), too.holders());
    // One that goes away takes nothing from the other.
    one.stop().expect_code(1);
    app.run(&format!("close {fd}"));
    two.cleared(&too);
    oracle::assert_agrees(&two, &[app.pid()]);
}
