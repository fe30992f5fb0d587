//! Descriptors that move between processes: by fork, by exec and by message.

use harness::peer::Peer;
use harness::watch::BUDGET;
use harness::{App, Line, Watch, oracle, unique_name, wait};
use std::time::Duration;

/// Longer than any process takes to hand a connection over to its child.
const LONG_AFTER_FORK: Duration = Duration::from_secs(3);

#[test]
fn a_child_that_keeps_what_its_parent_closed_is_named() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let _accepted = peer.accept();
    let child: u32 = app.number("fork");
    watch.no_finding_for(LONG_AFTER_FORK);
    oracle::assert_agrees(&watch, &[app.pid(), child]);

    app.run(&format!("close {fd}"));
    let finding = watch.wait_for("inherited to open", |line| match line {
        Line::Finding(finding) if finding.kind == "inherited" => Some(finding.clone()),
        _ => None,
    });
    assert_eq!(finding.holders(), [(child, fd)]);
    assert_eq!(finding.state, "ESTABLISHED");
    assert!(finding.message.contains(&format!("pid {child}")), "{}", finding.message);
    // As the interpreter makes all of them; only an exec would make use of it.
    assert_eq!(finding.holders[0].close_on_exec, Some(true));
    assert!(
        finding.message.contains(&format!("; fd {fd} is close-on-exec")),
        "{}",
        finding.message
    );
    oracle::assert_agrees(&watch, &[app.pid(), child]);

    app.run(&format!("in {child} close {fd}"));
    watch.cleared(&finding);
    watch.stop().expect_code(0);
}

#[test]
fn an_inherited_descriptor_is_cleared_when_the_child_ends() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let _accepted = peer.accept();
    let child: u32 = app.number("fork");
    watch.no_finding_for(LONG_AFTER_FORK);
    app.run(&format!("close {fd}"));
    let finding = watch.wait_for("inherited to open", |line| match line {
        Line::Finding(finding) if finding.kind == "inherited" => Some(finding.clone()),
        _ => None,
    });
    app.run(&format!("reap {child}"));
    watch.cleared(&finding);
}

#[test]
fn a_connection_handed_over_to_a_child_is_no_leak() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let (listener, port) = app.listen("127.0.0.1");
    let client = harness::peer::connect("127.0.0.1", port);
    let fd: i32 = app.number(&format!("accept {listener}"));
    let child: u32 = app.number(&format!("handover {fd}"));
    // Idle for many budgets, as a database session may be for hours.
    watch.no_finding_for(BUDGET * 6);
    oracle::assert_agrees(&watch, &[app.pid(), child]);
    let held = watch.held_by(child);
    assert!(held.iter().any(|socket| socket.holders() == [(child, fd)]), "{held:?}");

    // The child is now the one who leaks.
    drop(client);
    let finding = watch.opened("close-wait", child);
    assert_eq!(finding.holders(), [(child, fd)]);
}

#[test]
fn a_program_that_inherits_a_socket_unknowingly_is_named() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect_open("127.0.0.1", peer.port());
    let _accepted = peer.accept();
    let child: u32 = app.number("spawn");
    // At once after the fork, and no hand-over all the same: the child does not know of it.
    app.run(&format!("close {fd}"));
    let finding = watch.wait_for("inherited to open", |line| match line {
        Line::Finding(finding) if finding.kind == "inherited" => Some(finding.clone()),
        _ => None,
    });
    assert_eq!(finding.holders(), [(child, fd)]);
    assert_eq!(finding.holders[0].comm, "cat");
    assert_eq!(finding.holders[0].close_on_exec, Some(false));
    let expected = format!("fd {fd} is not close-on-exec");
    assert!(finding.message.contains(&expected), "{}", finding.message);
    app.run(&format!("reap {child}"));
    watch.cleared(&finding);
}

#[test]
fn a_program_that_gets_the_connection_on_its_stdin_was_given_it() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let (listener, port) = app.listen("127.0.0.1");
    let client = harness::peer::connect("127.0.0.1", port);
    let fd: i32 = app.number(&format!("accept {listener}"));
    let child: u32 = app.number(&format!("inetd {fd}"));
    watch.no_finding_for(BUDGET * 5);
    oracle::assert_agrees(&watch, &[app.pid(), child]);
    let held = watch.held_by(child);
    assert!(held.iter().any(|socket| socket.holders() == [(child, 0), (child, 1)]), "{held:?}");
    // `cat` ends with its input.
    drop(client);
    wait::until_true("the program to end", || watch.held_by(child).is_empty());
    watch.no_finding_for(BUDGET);
}

#[test]
fn a_daemon_that_detaches_itself_keeps_its_connections() {
    let mut app = App::python();
    let parent = app.pid();
    let watch = Watch::of(parent);
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    watch.no_finding_for(LONG_AFTER_FORK);
    let child = app.number("detach");
    app.is_now(child);
    watch.no_finding_for(BUDGET * 4);
    oracle::assert_agrees(&watch, &[child]);
    assert!(watch.held_by(parent).is_empty());
    drop(accepted);
    assert_eq!(watch.opened("close-wait", child).holders(), [(child, fd)]);
}

#[test]
fn a_child_that_still_uses_the_connection_holds_no_leak() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let reader = harness::peer::drain(peer.accept());
    let child: u32 = app.number("fork");
    watch.no_finding_for(LONG_AFTER_FORK);
    app.run(&format!("in {child} stream write {fd} 10 0.05"));
    app.run(&format!("close {fd}"));
    watch.no_finding_for(BUDGET * 4);
    app.run(&format!("reap {child}"));
    reader.join().expect("it read to the end");
}

#[test]
fn exec_closes_what_is_close_on_exec() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let finding = watch.opened("close-wait", app.pid());
    app.run("exec");
    watch.cleared(&finding);
    assert!(watch.held_by(app.pid()).is_empty());
    // The new program is still watched.
    let fd = app.connect("127.0.0.1", peer.port());
    let _accepted = peer.accept();
    oracle::assert_agrees(&watch, &[app.pid()]);
    assert_eq!(watch.held_by(app.pid())[0].holders(), [(app.pid(), fd)]);
}

#[test]
fn a_connection_kept_over_exec_is_a_leak_only_if_the_new_program_does_not_use_it() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let (used, forgotten) =
        (app.connect_open("127.0.0.1", peer.port()), app.connect_open("127.0.0.1", peer.port()));
    let reader = harness::peer::drain(peer.accept());
    let accepted = peer.accept();
    app.run("exec");
    app.run(&format!("stream write {used} 10 0.05"));
    let finding = watch.opened("inherited", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), forgotten)]);
    oracle::assert_agrees(&watch, &[app.pid()]);
    watch.no_finding_but(BUDGET * 2, &finding);

    harness::peer::write(&accepted, 10);
    app.run(&format!("read {forgotten} 10"));
    watch.cleared(&finding);
    app.kill();
    reader.join().expect("it read to the end");
}

#[test]
fn a_connection_from_which_the_bit_was_taken_before_an_exec_is_kept_on_purpose() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    held_with(&watch, app.pid());
    app.run(&format!("inherit {fd}"));
    app.run("exec");
    watch.no_finding_for(BUDGET * 6);
    oracle::assert_agrees(&watch, &[app.pid()]);
    drop(accepted);
    assert_eq!(watch.opened("close-wait", app.pid()).holders(), [(app.pid(), fd)]);
}

#[test]
fn a_graceful_restart_that_hands_over_only_its_listener_leaves_nothing_behind() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let (listener, port) = app.listen("127.0.0.1");
    let clients: Vec<_> = (0..3).map(|_| harness::peer::connect("127.0.0.1", port)).collect();
    let mut fds: Vec<i32> = (0..3).map(|_| app.number(&format!("accept {listener}"))).collect();
    fds.push(app.connect("127.0.0.1", peer.port()));
    let _accepted = peer.accept();
    watch.no_finding_for(LONG_AFTER_FORK);
    let child: u32 = app.number(&format!("upgrade {listener}"));
    app.run(&format!("close {listener}"));
    // The old version drains for longer than any budget.
    watch.no_finding_for(BUDGET * 4);
    for fd in &fds {
        app.run(&format!("close {fd}"));
        watch.no_finding_for(BUDGET / 2);
    }
    watch.no_finding_for(BUDGET * 4);
    oracle::assert_agrees(&watch, &[app.pid(), child]);
    let held = watch.held_by(child);
    assert_eq!(held.len(), 1, "the listener alone: {held:?}");
    assert_eq!(held[0].holders(), [(child, listener)]);
    assert_eq!(held[0].holders[0].close_on_exec, Some(false), "cleared on purpose");
    drop(clients);
}

#[test]
fn a_graceful_restart_that_hands_over_everything_by_its_number_is_no_leak() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let (listener, port) = app.listen("127.0.0.1");
    let clients: Vec<_> = (0..3).map(|_| harness::peer::connect("127.0.0.1", port)).collect();
    let mut fds: Vec<i32> = (0..3).map(|_| app.number(&format!("accept {listener}"))).collect();
    fds.push(app.connect("127.0.0.1", peer.port()));
    let accepted = peer.accept();
    watch.no_finding_for(LONG_AFTER_FORK);
    let all: Vec<String> = [listener].iter().chain(&fds).map(ToString::to_string).collect();
    let child: u32 = app.number(&format!("upgrade {}", all.join(" ")));
    for fd in &all {
        app.run(&format!("close {fd}"));
    }
    // The new version does nothing with them for many budgets: its clients are idle.
    watch.no_finding_for(BUDGET * 6);
    oracle::assert_agrees(&watch, &[app.pid(), child]);
    assert_eq!(watch.held_by(child).len(), all.len());
    drop(clients);

    // It answers for them now.
    drop(accepted);
    let finding = watch.opened("close-wait", child);
    assert!(finding.holders().iter().all(|(pid, _)| *pid == child), "{finding:?}");
}

#[test]
fn children_that_take_long_from_fork_to_exec_are_not_accused_of_their_copies() {
    let mut app = App::python();
    let budget = Duration::from_secs(1);
    let watch = Watch::builder()
        .pid(app.pid())
        .budgets(budget)
        .args(["--snapshot-interval", "200ms"])
        .start();
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    // Two: a single one could be the one for which the parent closes.
    let one: u32 = app.number("exec-after 1.7");
    let two: u32 = app.number("exec-after 1.7");
    app.run(&format!("close {fd}"));
    wait::until_true("the copies to be seen", || {
        watch.table().iter().any(|it| {
            it.holders.len() == 2 && it.holders.iter().all(|it| it.close_on_exec == Some(true))
        })
    });
    watch.no_finding_for(budget * 4);
    oracle::assert_agrees(&watch, &[app.pid(), one, two]);
    assert!(watch.held_by(one).is_empty() && watch.held_by(two).is_empty());
    drop(accepted);
}

#[test]
fn a_leak_kept_over_exec_is_still_the_same_leak() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let finding = watch.opened("close-wait", app.pid());
    app.run(&format!("inherit {fd}"));
    app.run("exec");
    oracle::assert_agrees(&watch, &[app.pid()]);
    let cleared = |line: &harness::Finding| line.event == harness::Event::Cleared;
    assert!(!watch.findings().iter().any(cleared), "{}", watch.report());
    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
}

#[test]
fn a_listener_that_a_new_program_or_a_child_goes_on_with_is_no_leak() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    // A server that executes its new version.
    let (kept, _) = app.listen("127.0.0.1");
    app.run(&format!("inherit {kept}"));
    app.run("exec");
    // A server whose children do the work.
    let (shared, _) = app.listen("127.0.0.1");
    let (one, two): (u32, u32) = (app.number("fork"), app.number("fork"));
    watch.no_finding_for(LONG_AFTER_FORK);
    app.run(&format!("close {shared}"));
    watch.no_finding_for(BUDGET * 4);
    oracle::assert_agrees(&watch, &[app.pid(), one, two]);
}

#[test]
fn a_descriptor_sent_to_another_process_belongs_to_it() {
    let (mut giver, mut taker) = (App::python(), App::python());
    let watch = Watch::of(giver.pid());
    let peer = Peer::new();
    let fd = giver.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    let name = unique_name();
    let mailbox: i32 = taker.number(&format!("unix-bind {name}"));
    giver.run(&format!("send-fd {name} {fd}"));
    let taken: i32 = taker.number(&format!("receive-fd {mailbox}"));
    giver.run(&format!("close {fd}"));

    watch.no_finding_for(BUDGET * 4);
    oracle::assert_agrees(&watch, &[giver.pid(), taker.pid()]);
    let held = watch.held_by(taker.pid());
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].holders(), [(taker.pid(), taken)]);
    assert_eq!(held[0].pid, Some(taker.pid()), "ownership moved");

    drop(accepted);
    let finding = watch.opened("close-wait", taker.pid());
    assert_eq!(finding.holders(), [(taker.pid(), taken)]);
    assert_eq!(finding.comm, taker.comm());
    taker.run(&format!("close {taken}"));
    watch.cleared(&finding);
}

#[test]
fn a_descriptor_in_flight_between_processes_is_nobodys_leak() {
    let (mut giver, mut taker) = (App::python(), App::python());
    let watch = Watch::of(giver.pid());
    let peer = Peer::new();
    let fd = giver.connect("127.0.0.1", peer.port());
    let _accepted = peer.accept();
    let name = unique_name();
    let mailbox: i32 = taker.number(&format!("unix-bind {name}"));
    giver.run(&format!("send-fd {name} {fd}"));
    giver.run(&format!("close {fd}"));
    // It is in the message and in no descriptor table.
    watch.no_finding_for(BUDGET * 3);
    let taken: i32 = taker.number(&format!("receive-fd {mailbox}"));
    wait::until_true("the receiver to hold it", || {
        let held = watch.held_by(taker.pid());
        held.len() == 1 && held[0].holders() == [(taker.pid(), taken)]
    });
}

/// Waits until a snapshot has seen that all that `pid` holds is close-on-exec.
fn held_with(watch: &Watch, pid: u32) {
    wait::until_true("a snapshot to see the bit", || {
        let held = watch.held_by(pid);
        let mut holders = held.iter().flat_map(|it| &it.holders);
        !held.is_empty() && holders.all(|it| it.close_on_exec == Some(true))
    });
}
