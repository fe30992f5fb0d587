//! What the kernel's side tells beside changes of state: refusals, what processes have open, and
//! local ports in use.

use harness::facts::Facts;
use harness::netns::Netns;
use harness::peer::Peer;
use harness::{App, wait};
use observer::model::{Call, Lack, OpenFiles, PortRow, ProcessRow};
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Errors (include/uapi/asm-generic/errno*.h).
const EMFILE: i32 = 24;
const EADDRNOTAVAIL: i32 = 99;
const ENETUNREACH: i32 = 101;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;

/// So many descriptors, and no more: Python has a few for itself.
const LIMIT: usize = 40;

/// The targets of all its descriptors.
fn open_files(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it is running");
    let target = |entry: std::io::Result<fs::DirEntry>| {
        Some(fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned())
    };
    entries.filter_map(target).collect()
}

#[test]
fn socket_without_a_descriptor_is_a_refusal() {
    let mut app = App::python();
    let mut facts = Facts::of(app.pid());
    let fd: i32 = app.number(&format!("fill {LIMIT}"));
    for family in ["127.0.0.1", "::1"] {
        assert_eq!(app.number::<i32>(&format!("errno unconnected {family}")), EMFILE);
    }
    assert_eq!(facts.refusals(), [(Call::Socket, Lack::Descriptors); 2]);
    // One is given back: socket(2) succeeds, and closing it destroys the socket like any other.
    app.run(&format!("close {fd}"));
    let fd: i32 = app.number("unconnected 127.0.0.1");
    app.run(&format!("close {fd}"));
    assert_eq!(facts.refusals().len(), 2);
}

#[test]
fn accept_without_a_descriptor_is_a_refusal() {
    let mut app = App::python();
    let (listener, port) = app.listen("127.0.0.1");
    let mut facts = Facts::of(app.pid());
    let _waiting = harness::peer::connect("127.0.0.1", port);
    let _next = harness::peer::connect("127.0.0.1", port);
    let fd: i32 = app.number(&format!("fill {LIMIT}"));
    assert_eq!(app.number::<i32>(&format!("errno accept {listener}")), EMFILE);
    assert_eq!(facts.refusals(), [(Call::Accept, Lack::Descriptors)]);
    app.run(&format!("close {fd}"));
    app.run(&format!("accept {listener}"));
    assert_eq!(facts.refusals().len(), 1);
}

#[test]
fn connect_without_a_port_is_a_refusal_and_other_failures_are_none() {
    let netns = Netns::new();
    let mut app = App::python_through(&netns.wrapper());
    let (_listener, port) = app.listen("127.0.0.1");
    let (_listener6, port6) = app.listen("::1");
    let sysctl = |setting: &str| {
        let status = netns.command().args(["sysctl", "-qw", setting]).status();
        assert!(status.expect("sysctl is installed").success(), "{setting}");
    };
    let mut facts = Facts::of(app.pid());
    let mut errno = |order: &str| app.number::<i32>(&format!("errno {order}"));

    // Other failures come first, while there are ports.
    assert_eq!(errno("connect 127.0.0.1 1"), ECONNREFUSED);
    assert_eq!(errno("connect ::1 1"), ECONNREFUSED);
    assert_eq!(errno("connect 192.0.2.1 1883"), ENETUNREACH);
    sysctl("net.ipv4.tcp_syn_retries=1");
    let status = netns.command().args(["ip", "route", "add", "192.0.2.0/24", "dev", "lo"]).status();
    assert!(status.expect("ip is installed").success());
    assert_eq!(errno("connect 192.0.2.1 1883"), ETIMEDOUT, "nobody answers");
    // This local port is in use towards the peer; others are not.
    assert_eq!(errno(&format!("bound 127.0.0.1 1024 {port}")), 0);
    assert_eq!(errno(&format!("bound 127.0.0.1 1024 {port}")), EADDRNOTAVAIL);
    // A connect(2) that is given up by close(2).
    assert_eq!(errno("connect-start 192.0.2.1 1883"), 0);
    assert_eq!(facts.refusals(), []);

    sysctl("net.ipv4.ip_local_port_range=2000 2009");
    for _ in 0..10 {
        assert_eq!(errno(&format!("connect 127.0.0.1 {port}")), 0);
    }
    for _ in 0..3 {
        assert_eq!(errno(&format!("connect 127.0.0.1 {port}")), EADDRNOTAVAIL);
    }
    assert_eq!(facts.refusals(), [(Call::Connect, Lack::Ports); 3]);
    // The ports towards another destination are free.
    for _ in 0..10 {
        assert_eq!(errno(&format!("connect ::1 {port6}")), 0);
    }
    assert_eq!(facts.refusals().len(), 3);
    assert_eq!(errno(&format!("connect ::1 {port6}")), EADDRNOTAVAIL);
    assert_eq!(facts.refusals().len(), 4);
}

#[test]
fn connections_that_end_while_sockets_are_made_are_no_refusals() {
    let mut app = App::python();
    let mut facts = Facts::of(app.pid());
    let peer = Peer::new();
    for _ in 0..300 {
        let fd = app.connect("127.0.0.1", peer.port());
        drop(peer.accept());
        app.run(&format!("close {fd}"));
    }
    assert_eq!(facts.refusals(), []);
}

#[test]
fn what_a_process_has_open_is_counted_by_kind() {
    let mut app = App::python();
    let peer = Peer::new();
    let mut facts = Facts::of(app.pid());
    let before = open_of(&mut facts, app.pid()).open;
    assert_eq!(before.sum(), open_files(app.pid()).len() as u64, "as /proc counts");
    app.run("everything");
    let (_fds, _accepted) = connect_many(&mut app, "127.0.0.1", &peer, 700);
    app.run("unconnected ::1");
    app.run("limit 1234");
    let after = open_of(&mut facts, app.pid());
    let expected = OpenFiles {
        tcp: before.tcp + 701,
        sockets: before.sockets + 3,
        pipes: before.pipes + 2,
        files: before.files + 2,
        others: before.others + 3,
    };
    assert_eq!(after.open, expected);
    assert_eq!(after.comm.as_str(), app.comm());
    let hard = fs::read_to_string(format!("/proc/{}/limits", app.pid())).expect("it is running");
    let hard = hard.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(after.limit.0, 1_234);
    assert!(hard.contains(&after.limit.1.to_string()), "{hard}: {after:?}");
}

#[test]
fn every_watched_process_is_counted_once_and_no_other() {
    let apps: Vec<App> = (0..3).map(|_| App::python()).collect();
    let mut facts = Facts::of(apps[0].pid());
    for _ in 0..20 {
        let walk = facts.walk();
        let pids: Vec<u32> = walk.processes.iter().map(|it| it.process.pid).collect();
        assert_eq!(pids, [apps[0].pid()]);
    }
}

fn open_of(facts: &mut Facts, pid: u32) -> ProcessRow {
    let mut processes = facts.walk().processes;
    assert_eq!(processes.len(), 1, "{processes:?}");
    let process = processes.pop().expect("invariant: there is one");
    assert_eq!(process.process.pid, pid);
    process
}

#[test]
fn local_ports_are_counted_by_destination_and_time_wait_apart() {
    let mut app = App::python();
    let mut facts = Facts::of(app.pid());
    let (busy, quiet) = (Peer::new(), Peer::new());
    let (fds, mut accepted) = connect_many(&mut app, "127.0.0.1", &busy, 150);
    let (_fds, _accepted) = connect_many(&mut app, "127.0.0.1", &quiet, 90);
    assert_eq!(on(&mut facts, busy.address()), [row("127.0.0.1", busy.address(), 150, 0)]);
    assert_eq!(on(&mut facts, quiet.address()), [], "too few to be told of");
    // This side closes first, then the other.
    for fd in &fds[..60] {
        app.run(&format!("close {fd}"));
    }
    accepted.clear();
    wait::until("60 sockets in TIME_WAIT", || {
        let rows = on(&mut facts, busy.address());
        match rows.as_slice() {
            [row] if (row.sockets, row.time_wait) == (90, 60) => Ok(()),
            _ => Err(format!("{rows:?}")),
        }
    });
}

#[test]
fn both_families_have_routes_and_mapped_addresses_are_ipv4() {
    let mut app = App::python();
    let mut facts = Facts::of(app.pid());
    let (six, four) = (Peer::on("::1"), Peer::new());
    let (_fds, _accepted) = connect_many(&mut app, "::1", &six, 120);
    let (_fds, _plain) = connect_many(&mut app, "127.0.0.1", &four, 70);
    let (_fds, _mapped) = connect_many(&mut app, "::ffff:127.0.0.1", &four, 70);
    assert_eq!(on(&mut facts, six.address()), [row("::1", six.address(), 120, 0)]);
    assert_eq!(on(&mut facts, four.address()), [row("127.0.0.1", four.address(), 140, 0)]);
}

/// Both sides of many connections of the app.
fn connect_many(
    app: &mut App,
    host: &str,
    peer: &Peer,
    count: usize,
) -> (Vec<i32>, Vec<std::net::TcpStream>) {
    let order = format!("connect-many {count} {host} {}", peer.port());
    // The queue of a listener is shorter than this.
    app.send(&order);
    let accepted = peer.accept_many(count);
    let answer = app.answer(&order);
    let fds = answer.split_whitespace().map(|fd| fd.parse().expect("a descriptor")).collect();
    (fds, accepted)
}

fn on(facts: &mut Facts, remote: SocketAddr) -> Vec<PortRow> {
    let mut ports = facts.walk().ports;
    ports.retain(|row| row.remote == remote);
    ports
}

fn row(local: &str, remote: SocketAddr, sockets: u32, time_wait: u32) -> PortRow {
    let local: IpAddr = local.parse().expect("an address");
    PortRow { local, remote, sockets, time_wait }
}
