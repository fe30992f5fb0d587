//! All the ways in which a descriptor is copied, closed and used again.

use harness::peer::{self, Peer};
use harness::watch::BUDGET;
use harness::{App, Watch, oracle, wait};
use std::net::TcpStream;

/// A watched program with one connection.
fn connected() -> (App, Watch, Peer, i32, TcpStream) {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    (app, watch, peer, fd, accepted)
}

/// What the table says `pid` holds: descriptors by socket.
#[track_caller]
fn holders(watch: &Watch, pid: u32) -> Vec<Vec<(u32, i32)>> {
    watch.held_by(pid).iter().map(harness::Socket::holders).collect()
}

#[test]
fn a_closed_descriptor_leaves_the_table() {
    let (mut app, watch, _peer, fd, _accepted) = connected();
    assert_eq!(holders(&watch, app.pid()), [[(app.pid(), fd)]]);
    app.run(&format!("close {fd}"));
    assert!(holders(&watch, app.pid()).is_empty());
}

#[test]
fn close_range_closes_and_clears() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fds: Vec<i32> = app.numbers(&format!("connect-many 5 127.0.0.1 {}", peer.port()));
    drop(peer.accept_many(5));
    let finding = watch.opened("close-wait", app.pid());
    app.run(&format!("close-range {} {}", fds[0], fds[4]));
    // Nobody calls close(2): only a snapshot or the destruction of the socket tells.
    watch.cleared(&finding);
    assert!(oracle::assert_agrees(&watch, &[app.pid()]).is_empty());
    assert!(holders(&watch, app.pid()).is_empty());
    watch.stop().expect_code(0);
}

#[test]
fn a_duplicate_keeps_the_leak_open_until_the_last_descriptor_is_closed() {
    let (mut app, watch, _peer, fd, accepted) = connected();
    let copy: i32 = app.number(&format!("dup {fd}"));
    drop(accepted);
    let finding = watch.opened("close-wait", app.pid());
    let mut named = finding.holders();
    named.sort_unstable();
    assert_eq!(named, [(app.pid(), fd), (app.pid(), copy)]);
    oracle::assert_agrees(&watch, &[app.pid()]);

    app.run(&format!("close {fd}"));
    wait::until_true("the copy alone to be named", || {
        holders(&watch, app.pid()) == [[(app.pid(), copy)]]
    });
    assert!(
        watch.findings().iter().all(|finding| finding.event != harness::Event::Cleared),
        "one of two was closed: {}",
        watch.report()
    );
    app.run(&format!("close {copy}"));
    watch.cleared(&finding);
}

#[test]
fn dup2_over_a_socket_closes_it() {
    let (mut app, watch, peer, first, accepted) = connected();
    let second = app.connect("127.0.0.1", peer.port());
    let _second_accepted = peer.accept();
    drop(accepted);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), first)]);
    // The number stays open, but it means the other socket now.
    app.run(&format!("dup2 {second} {first}"));
    watch.cleared(&finding);
    oracle::assert_agrees(&watch, &[app.pid()]);
    assert_eq!(holders(&watch, app.pid()), [[(app.pid(), first), (app.pid(), second)]]);
    watch.no_finding_but(BUDGET * 2, &finding);
}

#[test]
fn a_number_that_is_used_again_at_once_means_the_new_socket() {
    let (mut app, watch, peer, mut fd, accepted) = connected();
    drop(accepted);
    let finding = watch.opened("close-wait", app.pid());
    let mut accepted = Vec::new();
    for _ in 0..100 {
        let again: i32 = app.number(&format!("reuse {fd} 127.0.0.1 {}", peer.port()));
        assert_eq!(again, fd, "the kernel hands out the lowest number");
        accepted.push(peer.accept());
        fd = again;
    }
    watch.cleared(&finding);
    assert!(oracle::assert_agrees(&watch, &[app.pid()]).is_empty());
    let held = watch.held_by(app.pid());
    assert_eq!(held.len(), 1);
    assert_ne!(held[0].cookie, finding.cookie);
    watch.no_finding_but(BUDGET * 2, &finding);

    drop(accepted);
    let next = watch.opened_on("close-wait", held[0].cookie);
    assert_eq!(next.holders(), [(app.pid(), fd)]);
    assert!(next.since() > finding.since(), "the new socket does not inherit the old age");
}

#[test]
fn all_sockets_of_a_process_that_exits_leave_the_table() {
    ends_with_its_process(App::exit);
}

#[test]
fn all_sockets_of_a_process_that_is_killed_leave_the_table() {
    ends_with_its_process(App::kill);
}

fn ends_with_its_process(end: fn(App)) {
    let mut app = App::python();
    let pid = app.pid();
    // A process that goes on: the observer is not left without anything to watch.
    let other = App::python();
    let watch = Watch::builder()
        .pid(pid)
        .pid(other.pid())
        .budgets(BUDGET)
        .args(["--snapshot-interval", "200ms"])
        .start();
    let peer = Peer::new();
    app.run(&format!("connect-many 30 127.0.0.1 {}", peer.port()));
    app.run("listen 127.0.0.1 10");
    let mut accepted = peer.accept_many(30);
    drop(accepted.split_off(20));
    peer::reset(accepted.pop().expect("invariant: there are 20"));
    watch.opened("close-wait", pid);
    let dead = watch.opened("dead-fd", pid);
    assert_eq!(watch.held_by(pid).len(), 31);

    end(app);
    watch.cleared(&dead);
    wait::until_true("the table to forget the process", || watch.held_by(pid).is_empty());
    let done = watch.stop();
    done.expect_code(0);
    assert_eq!(done.summary().opened("close-wait"), 10, "{:?}", done.summary());
    assert_eq!(done.summary().open_in_all(), 0);
}

#[test]
fn a_process_number_that_is_used_again_within_a_millisecond_is_another_process() {
    let mut app = App::python();
    let watch = Watch::builder()
        .pid(app.pid())
        .budgets(BUDGET)
        .args(["--children", "--snapshot-interval", "200ms"])
        .start();
    let peer = Peer::new();
    // Another process of the host may take the number first; then the next one is tried.
    for _ in 0..20 {
        let child: u32 = app.number("fork");
        let fd: i32 = app.number(&format!("in {child} connect 127.0.0.1 {}", peer.port()));
        drop(peer.accept());
        let old = watch.opened("close-wait", child);
        assert_eq!(old.holders(), [(child, fd)]);

        let answer: Vec<i64> = app.numbers(&format!("replace {child} 127.0.0.1 {}", peer.port()));
        let [again, new_fd, microseconds] = answer[..] else { panic!("three numbers: {answer:?}") };
        if again != i64::from(child) || microseconds > 1000 {
            app.run(&format!("reap {again}"));
            continue;
        }
        assert_eq!(new_fd, i64::from(fd), "the same number in the same process number");
        let accepted = peer.accept();
        watch.cleared(&old);
        oracle::assert_agrees(&watch, &[app.pid(), child]);
        let held = watch.held_by(child);
        assert_eq!(held.len(), 1, "{held:?}");
        assert_ne!(held[0].cookie, old.cookie);

        drop(accepted);
        let new = watch.opened_on("close-wait", held[0].cookie);
        assert_eq!((new.pid, new.holders()), (child, vec![(child, fd)]));
        assert!(new.since() > old.since());
        app.run(&format!("reap {child}"));
        watch.cleared(&new);
        return;
    }
    panic!("20 times the number went to another process, or took longer than a millisecond");
}
