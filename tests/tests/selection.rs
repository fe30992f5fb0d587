//! Which processes are watched: those that are named, wherever they live and whenever they start.

use harness::cgroup::Cgroup;
use harness::netns::Netns;
use harness::peer::Peer;
use harness::watch::BUDGET;
use harness::{App, TempDir, Watch, oracle, unique_name, wait};
use std::{fs, thread};

#[test]
fn a_program_that_starts_later_is_followed_from_its_first_connect() {
    let directory = TempDir::new();
    let name = unique_name();
    let watch = Watch::builder().args(["--comm", &name]).budgets(BUDGET).start();
    let peer = Peer::new();
    let port = peer.port().to_string();
    let app = App::rust_as(&directory.join(&name), &["connect", "127.0.0.1", &port]);
    let accepted = peer.accept();

    let first = watch.transition(app.pid(), "SYN_SENT");
    assert_eq!(first.comm.as_deref(), Some(name.as_str()));
    assert_eq!(first.remote, peer.address().to_string());
    oracle::assert_agrees(&watch, &[app.pid()]);
    drop(accepted);
    assert_eq!(watch.opened("close-wait", app.pid()).comm, name);
}

#[test]
fn a_program_that_is_there_already_is_found_by_its_name() {
    let directory = TempDir::new();
    let name = unique_name();
    let peer = Peer::new();
    let port = peer.port().to_string();
    let app = App::rust_as(&directory.join(&name), &["connect", "127.0.0.1", &port]);
    let accepted = peer.accept();
    let watch = Watch::builder().args(["--comm", &name]).budgets(BUDGET).start();
    oracle::assert_agrees(&watch, &[app.pid()]);
    assert_eq!(watch.held_by(app.pid()).len(), 1);
    drop(accepted);
    assert!(watch.opened("close-wait", app.pid()).born_before_observer);
}

#[test]
fn a_process_goes_on_when_its_main_thread_ends() {
    let mut app = App::python();
    // The second opinion fails here: /proc shows no descriptors of such a process.
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    app.run("lose-main-thread");
    wait::until_true("the main thread to end", || {
        fs::read_dir(format!("/proc/{}/fd", app.pid())).map_or(0, Iterator::count) == 0
    });
    watch.no_finding_for(BUDGET * 2);
    let held = watch.held_by(app.pid());
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(held[0].holders(), [(app.pid(), fd)], "once, whatever the number of threads");
    drop(accepted);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
}

#[test]
fn children_are_followed_only_when_asked_for() {
    let mut app = App::python();
    let alone = Watch::of(app.pid());
    let family = Watch::builder()
        .pid(app.pid())
        .budgets(BUDGET)
        .args(["--children", "--snapshot-interval", "200ms"])
        .start();
    let child: u32 = app.number("fork");
    let grandchild: u32 = app.number(&format!("in {child} fork"));
    let peer = Peer::new();
    app.run(&format!("in {child} in {grandchild} connect 127.0.0.1 {}", peer.port()));
    drop(peer.accept());

    let finding = family.opened("close-wait", grandchild);
    assert_eq!(finding.pid, grandchild);
    oracle::assert_agrees(&family, &[app.pid(), child, grandchild]);
    assert!(alone.held_by(grandchild).is_empty());
    assert!(alone.findings().is_empty());
}

#[test]
fn every_process_of_a_control_group_is_followed() {
    let group = Cgroup::new();
    let path = group.path().display().to_string();
    let watch = Watch::builder()
        .args(["--cgroup", &path, "--snapshot-interval", "200ms"])
        .budgets(BUDGET)
        .start();
    let wrapper = group.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let (mut inside, mut outside) = (App::python_through(&wrapper), App::python());
    let peer = Peer::new();
    inside.connect("127.0.0.1", peer.port());
    outside.connect("127.0.0.1", peer.port());
    drop(peer.accept_many(2));

    watch.opened("close-wait", inside.pid());
    oracle::assert_agrees(&watch, &[inside.pid()]);
    assert!(watch.held_by(outside.pid()).is_empty());
    let end = watch.stop();
    assert_eq!(end.summary().opened_in_all(), 1, "{:?}", end.summary());
}

#[test]
fn a_process_that_moves_into_a_control_group_is_followed() {
    let group = Cgroup::new();
    let path = group.path().display().to_string();
    let mut app = App::python();
    let peer = Peer::new();
    app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let watch = Watch::builder()
        .args(["--cgroup", &path, "--snapshot-interval", "200ms"])
        .budgets(BUDGET)
        .start();
    watch.no_finding_for(BUDGET);
    fs::write(group.path().join("cgroup.procs"), app.pid().to_string()).expect("root may do so");
    assert!(watch.opened("close-wait", app.pid()).born_before_observer);
    oracle::assert_agrees(&watch, &[app.pid()]);
    // The group can be removed when nobody is in it.
    app.kill();
}

#[test]
fn a_process_in_another_network_namespace_is_followed() {
    let netns = Netns::new();
    let mut app = App::python_through(&netns.wrapper());
    let mut peer = App::python_through(&netns.wrapper());
    let watch = Watch::of(app.pid());
    let (listener, port) = peer.listen("127.0.0.1");
    let fd = app.connect("127.0.0.1", port);
    let accepted: i32 = peer.number(&format!("accept {listener}"));
    oracle::assert_agrees_in(&netns, &watch, &[app.pid()]);
    let inode = fs::read_link(format!("/proc/{}/ns/net", app.pid())).expect("it is running");
    let held = watch.held_by(app.pid());
    assert_eq!(inode.to_string_lossy(), format!("net:[{}]", held[0].netns));

    peer.run(&format!("close {accepted}"));
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
    assert!(watch.held_by(app.pid()).is_empty());
}

#[test]
fn a_process_in_another_pid_namespace_is_named_by_the_number_of_the_host() {
    let mut app = App::python_through(&["unshare", "--pid", "--fork", "--mount-proc"]);
    let status = fs::read_to_string(format!("/proc/{}/status", app.pid())).expect("it is running");
    let numbers = status.lines().find(|line| line.starts_with("NSpid:")).expect("it is listed");
    assert_eq!(numbers.split_whitespace().next_back(), Some("1"), "it is the first one inside");

    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    let transition = watch.transition(app.pid(), "SYN_SENT");
    assert_eq!(transition.remote, peer.address().to_string());
    oracle::assert_agrees(&watch, &[app.pid()]);
}

#[test]
fn a_process_that_is_stopped_while_it_connects_is_still_understood() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let backlog = harness::peer::FullBacklog::new();
    // A blocking connect: it is inside the system call when the signals come.
    app.send(&format!("connect 127.0.0.1 {}", backlog.port()));
    watch.transition(app.pid(), "SYN_SENT");
    harness::watch::signal_process(app.pid(), rustix::process::Signal::STOP);
    let finding = watch.opened("stuck-connect", app.pid());
    assert_eq!(finding.holders[0].pid, app.pid());
    app.kill();
    watch.cleared(&finding);
    thread::sleep(BUDGET);
    assert!(watch.table().is_empty(), "{}", watch.report());
}
