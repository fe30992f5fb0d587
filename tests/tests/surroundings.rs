//! What the scenarios take for granted, checked without an observer: when one of these fails, the
//! machine is at fault and not the product.

use harness::cgroup::Cgroup;
use harness::netns::Netns;
use harness::peer::{self, FullBacklog, Peer};
use harness::{App, require_root, ss, unique_name, wait};
use std::fs;

/// What `ss` says that `pid` holds: state and descriptor.
fn held(pid: u32) -> Vec<(String, i32)> {
    let mut held = Vec::new();
    for row in ss::rows() {
        let fds = row.holders.iter().filter(|(holder, _)| *holder == pid).map(|(_, fd)| *fd);
        held.extend(fds.map(|fd| (row.state.clone(), fd)));
    }
    held.sort();
    held
}

fn state(name: &str, fd: i32) -> (String, i32) {
    (name.to_owned(), fd)
}

#[test]
fn the_programs_do_to_their_descriptors_what_they_are_told() {
    require_root();
    let mut app = App::python();
    let peer = Peer::new();
    let fds: Vec<i32> = app.numbers(&format!("connect-many 4 127.0.0.1 {}", peer.port()));
    let mut accepted = peer.accept_many(4);
    peer::reset(accepted.remove(3));
    drop(accepted.remove(2));
    wait::until_true("ss to see three of four", || {
        let expected = [
            state("CLOSE_WAIT", fds[2]),
            state("ESTABLISHED", fds[0]),
            state("ESTABLISHED", fds[1]),
        ];
        held(app.pid()) == expected
    });
    app.run(&format!("close-range {} {}", fds[2], fds[3]));
    app.run(&format!("dup2 {} {}", fds[0], fds[1]));
    wait::until_true("one socket with two descriptors to be left", || {
        held(app.pid()) == [state("ESTABLISHED", fds[0]), state("ESTABLISHED", fds[1])]
    });
    app.run("exec");
    assert!(held(app.pid()).is_empty(), "exec closes them");
}

#[test]
fn descriptors_travel_between_processes() {
    require_root();
    let (mut giver, mut taker) = (App::python(), App::python());
    let peer = Peer::new();
    let fd = giver.connect("127.0.0.1", peer.port());
    let name = unique_name();
    let mailbox: i32 = taker.number(&format!("unix-bind {name}"));
    giver.run(&format!("send-fd {name} {fd}"));
    giver.run(&format!("close {fd}"));
    let taken: i32 = taker.number(&format!("receive-fd {mailbox}"));
    assert_eq!(held(taker.pid()), [state("ESTABLISHED", taken)]);
    assert!(held(giver.pid()).is_empty());

    let child: u32 = taker.number(&format!("handover {taken}"));
    assert_eq!(held(child), [state("ESTABLISHED", taken)]);
    taker.run(&format!("reap {child}"));
    assert!(held(child).is_empty());
}

#[test]
fn a_full_backlog_answers_nobody() {
    require_root();
    let mut app = App::python();
    let mut backlog = FullBacklog::new();
    let fd: i32 = app.number(&format!("connect-start 127.0.0.1 {}", backlog.port()));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(held(app.pid()), [state("SYN_SENT", fd)]);
    backlog.accept_all();
    wait::until_true("the connect to get through", || {
        held(app.pid()) == [state("ESTABLISHED", fd)]
    });
}

#[test]
fn a_process_number_can_be_used_again() {
    require_root();
    let mut app = App::python();
    let peer = Peer::new();
    let worked = (0..20).any(|_| {
        let child: i64 = app.number("fork");
        let answer: Vec<i64> = app.numbers(&format!("replace {child} 127.0.0.1 {}", peer.port()));
        app.run(&format!("reap {}", answer[0]));
        answer[0] == child && answer[2] < 1000
    });
    assert!(worked, "/proc/sys/kernel/ns_last_pid has no effect");
}

#[test]
fn namespaces_and_control_groups_can_be_made() {
    let netns = Netns::new();
    let app = App::python_through(&netns.wrapper());
    assert!(ss::rows_in(&netns).is_empty());
    let ours = fs::read_link("/proc/self/ns/net").expect("we are running");
    assert_ne!(fs::read_link(format!("/proc/{}/ns/net", app.pid())).expect("it is running"), ours);

    let group = Cgroup::new();
    let wrapper = group.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let app = App::python_through(&wrapper);
    let members = fs::read_to_string(group.path().join("cgroup.procs")).expect("it is ours");
    assert_eq!(members.trim(), app.pid().to_string());
}

#[test]
fn node_and_rust_programs_run() {
    require_root();
    let peer = Peer::new();
    let mut node = App::node();
    node.run(&format!("connect 127.0.0.1 {}", peer.port()));
    assert_eq!(held(node.pid()).len(), 1);
    let mut rust = App::rust();
    let fd = rust.connect("127.0.0.1", peer.port());
    assert_eq!(held(rust.pid()), [state("ESTABLISHED", fd)]);
    assert_eq!(rust.run("churn 1000 127.0.0.1 127.0.0.2"), "1000");
}
