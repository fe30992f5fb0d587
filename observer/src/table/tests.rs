//! What events and snapshots make of each other.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::*;
use crate::model::{Ends, KernelEvent, ReadPosition, Snapshot, SnapshotRow, TcpState, Transition};

const SOCKET: Cookie = Cookie(1);
const NETNS: u32 = 1;

fn table() -> Table {
    Table::new(Limits { sockets: 4, processes: 4, boot_offset: Duration::ZERO })
}

/// Process 5 is older than the socket; others were forked after it was connected.
fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ns: if pid == 5 { 1 } else { 15 } }
}

fn ends(local_port: u16) -> Ends {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Ends::new((address, local_port), (address, 1883))
}

fn transition(time: u64, cookie: Cookie, old: TcpState, new: TcpState, port: u16) -> KernelEvent {
    let connects = old == TcpState::Close;
    KernelEvent::Transition(Transition {
        time: MonoTime::from_nanos(time),
        cookie,
        old,
        new,
        ends: ends(port),
        netns: NETNS,
        owner: connects.then_some(key(5)),
        fd: connects.then_some(7),
        context_pid: 0,
        read: None,
    })
}

/// Connects a socket at 10 and establishes it at 11.
fn connected() -> Table {
    let mut table = table();
    table.apply(&transition(10, SOCKET, TcpState::Close, TcpState::SynSent, 0));
    table.apply(&transition(11, SOCKET, TcpState::SynSent, TcpState::Established, 4000));
    table
}

fn row(time: u64, state: TcpState, holder: Option<(u32, i32, &str)>) -> SnapshotRow {
    let holder = holder.map(|(pid, fd, comm)| {
        let comm = Comm::from_bytes(comm.as_bytes());
        Holder { process: key(pid), comm, fd, close_on_exec: None }
    });
    SnapshotRow {
        time: MonoTime::from_nanos(time),
        cookie: SOCKET,
        state,
        ends: ends(4000),
        netns: NETNS,
        holder,
        read: ReadPosition { copied_seq: 1, unread: 0 },
        unacked: 0,
        write_seq: 1,
        last_sent: MonoTime::from_nanos(0),
        last_received: MonoTime::from_nanos(0),
    }
}

fn snapshot(began: u64, ended: u64, rows: Vec<SnapshotRow>) -> Snapshot {
    let (began, ended) = (MonoTime::from_nanos(began), MonoTime::from_nanos(ended));
    Snapshot { began, ended, rows, lists_unheld: true, unheld_netns: NETNS, ..Snapshot::default() }
}

fn socket(table: &Table) -> &Socket {
    table.socket(SOCKET).expect("the socket is there")
}

fn holders(table: &Table) -> Vec<(u32, i32)> {
    socket(table).holders.iter().map(|entry| (entry.process.pid, entry.fd)).collect()
}

#[test]
fn the_local_port_stays_known_when_the_kernel_forgets_it() {
    let mut table = connected();
    assert_eq!(socket(&table).ends, ends(4000));
    table.apply(&transition(12, SOCKET, TcpState::Established, TcpState::Close, 0));
    assert_eq!(socket(&table).ends, ends(4000));
    assert_eq!(socket(&table).born, Some(MonoTime::from_nanos(10)));
}

#[test]
fn an_older_row_brings_nothing_back() {
    let mut table = connected();
    let rows = vec![
        row(20, TcpState::Established, Some((5, 7, "node"))),
        row(20, TcpState::Established, Some((6, 7, "node"))),
        row(20, TcpState::Established, Some((8, 7, "node"))),
    ];
    let (time, cookie) = (MonoTime::from_nanos(21), Some(SOCKET));
    let closed = KernelEvent::Closed { time, cookie, process: key(5), fd: 7, references: 3 };
    table.apply(&closed);
    table.apply(&KernelEvent::Exited { time, process: key(6) });
    table.apply(&transition(22, SOCKET, TcpState::Established, TcpState::CloseWait, 4000));
    table.apply_snapshot(&snapshot(20, 30, rows.clone()), false, false);
    assert_eq!(holders(&table), [(8, 7)]);
    assert_eq!(socket(&table).state, TcpState::CloseWait);
    table.apply(&KernelEvent::Destroyed { time: MonoTime::from_nanos(40), cookie: SOCKET });
    table.apply_snapshot(&snapshot(35, 45, rows), false, false);
    assert!(table.is_empty());
}

#[test]
fn an_exiting_process_is_seen_with_descriptors_a_little_longer() {
    let mut table = connected();
    table.apply(&KernelEvent::Exited { time: MonoTime::from_nanos(20), process: key(5) });
    for began in [25, 35] {
        let rows = vec![row(began + 1, TcpState::Established, Some((5, 7, "node")))];
        table.apply_snapshot(&snapshot(began, began + 5, rows), false, false);
        assert_eq!(holders(&table), []);
    }
}

#[test]
fn the_name_of_a_program_is_not_taken_from_before_its_exec() {
    let mut table = connected();
    let (comm, process) = (Comm::from_bytes(b"curl"), key(5));
    table.apply(&KernelEvent::Executed {
        time: MonoTime::from_nanos(25),
        process,
        comm,
        watched: true,
    });
    let rows = vec![row(21, TcpState::Established, Some((5, 7, "sh")))];
    table.apply_snapshot(&snapshot(20, 30, rows), false, false);
    assert_eq!(table.comm(key(5)).as_str(), "curl");
}

#[test]
fn a_descriptor_that_is_used_again_is_another_socket() {
    let mut table = connected();
    let other = Cookie(2);
    table.apply(&transition(20, other, TcpState::Close, TcpState::SynSent, 0));
    assert_eq!(holders(&table), []);
    let released = socket(&table).released.expect("the owner has no descriptor of it any more");
    assert_eq!(
        (released.earliest, released.time),
        (MonoTime::from_nanos(10), MonoTime::from_nanos(20))
    );
    let late = KernelEvent::Closed {
        time: MonoTime::from_nanos(15),
        cookie: Some(SOCKET),
        process: key(5),
        fd: 7,
        references: 1,
    };
    table.apply(&late);
    assert_eq!(socket(&table).closed_by_owner(), Some(MonoTime::from_nanos(15)));
    let other = table.socket(other).expect("it was just connected");
    assert!(other.is_held_by(key(5)));
}

#[test]
fn another_life_of_a_process_number_ends_the_former_one() {
    let mut table = connected();
    let next = ProcessKey { pid: 5, start_ns: 18 };
    let (comm, time) = (Comm::from_bytes(b"sh"), MonoTime::from_nanos(20));
    table.apply(&KernelEvent::Forked { time, parent: 1, child: next, comm, watched: true });
    assert_eq!(holders(&table), []);
    let late = KernelEvent::Accepted { time, cookie: Some(SOCKET), process: key(5), fd: 9 };
    table.apply(&late);
    assert_eq!(holders(&table), [], "a former life gains nothing");
}

#[test]
fn a_state_of_which_no_record_came_is_not_certain() {
    let mut table = connected();
    assert_eq!(table.evidence(socket(&table)), Evidence::Complete);
    let rows = vec![row(21, TcpState::CloseWait, Some((5, 7, "node")))];
    table.apply_snapshot(&snapshot(20, 30, rows), false, false);
    assert_eq!(socket(&table).state_since, MonoTime::from_nanos(21));
    assert_eq!(table.evidence(socket(&table)), Evidence::Reconstructed);
    table.apply(&transition(40, SOCKET, TcpState::CloseWait, TcpState::LastAck, 4000));
    assert_eq!(table.evidence(socket(&table)), Evidence::Complete);
    table.apply(&transition(41, SOCKET, TcpState::Closing, TcpState::Close, 0));
    assert_eq!(table.evidence(socket(&table)), Evidence::Reconstructed, "it does not follow");
}

#[test]
fn a_life_with_a_gap_is_not_certain_though_the_state_is() {
    let mut table = connected();
    table.lose(MonoTime::from_nanos(0));
    assert_eq!(table.evidence(socket(&table)), Evidence::Reconstructed);
    table.apply(&transition(20, SOCKET, TcpState::Established, TcpState::CloseWait, 4000));
    assert_eq!(table.evidence(socket(&table)), Evidence::Complete);
    assert_eq!(table.life_evidence(socket(&table)), Evidence::Reconstructed);
}

#[test]
fn how_a_descriptor_went_is_unknown_after_a_loss() {
    for (lost, kind) in [(false, ReleaseKind::Closed), (true, ReleaseKind::Unseen)] {
        let mut table = connected();
        let rows = vec![
            row(20, TcpState::Established, Some((6, 7, "node"))),
            row(20, TcpState::Established, Some((8, 7, "node"))),
        ];
        table.apply_snapshot(&snapshot(20, 30, rows), lost, lost);
        let released = socket(&table).released.expect("the owner has no descriptor any more");
        assert_eq!(
            released,
            Release {
                kind,
                fd: 7,
                earliest: MonoTime::from_nanos(10),
                time: MonoTime::from_nanos(20)
            }
        );
    }
}

#[test]
fn a_socket_that_is_in_no_list_leaves_unless_it_waits_to_be_accepted() {
    for (state, lost, stays) in [
        (TcpState::FinWait1, false, false),
        (TcpState::Close, false, true),
        (TcpState::Close, true, false),
    ] {
        let mut table = table();
        table.apply(&transition(10, SOCKET, TcpState::SynRecv, TcpState::Established, 4000));
        table.apply(&transition(11, SOCKET, TcpState::Established, state, 4000));
        if lost {
            table.lose(MonoTime::from_nanos(0));
        }
        table.apply_snapshot(&snapshot(20, 30, Vec::new()), lost, lost);
        assert_eq!(!table.is_empty(), stays, "{state}, lost: {lost}");
    }
}

#[test]
fn an_accept_before_its_socket_is_known_makes_the_owner() {
    let mut table = table();
    let (time, cookie) = (MonoTime::from_nanos(10), Some(SOCKET));
    let accepted = KernelEvent::Accepted { time, cookie, process: key(5), fd: 7 };
    assert_eq!(table.apply(&accepted), Some(Question::UnknownSocket));
    let rows = vec![row(21, TcpState::Established, Some((5, 7, "node")))];
    table.apply_snapshot(&snapshot(20, 30, rows), false, false);
    let owner = socket(&table).owner.clone().expect("it accepted");
    assert_eq!((owner.process, owner.fd, owner.since), (key(5), Some(7), time));
    assert!(socket(&table).born_before_observer);
}

#[test]
fn what_is_held_outlives_what_is_not() {
    let mut table = connected();
    for cookie in 2..20 {
        let (old, new) = (TcpState::SynRecv, TcpState::Established);
        table.apply(&transition(20 + cookie, Cookie(cookie), old, new, 4000));
    }
    assert_eq!((table.len(), table.evicted()), (4, 15));
    assert_eq!(holders(&table), [(5, 7)]);
}

#[test]
fn sockets_of_a_process_share_its_name() {
    let mut table = table();
    let mut texts = Vec::new();
    for cookie in [Cookie(1), Cookie(2)] {
        table.name(key(5), &Comm::from_bytes(b"node"), MonoTime::from_nanos(10));
        table.apply(&transition(10, cookie, TcpState::Close, TcpState::SynSent, 0));
        let owner = table.socket(cookie).and_then(|socket| socket.owner.as_ref());
        texts.push(owner.map(|owner| owner.comm.as_str().as_ptr()));
    }
    assert!(texts[0].is_some());
    assert_eq!(texts[0], texts[1], "12,000 copies of a name are half a megabyte");
}
