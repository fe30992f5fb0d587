//! The cases of the detectors: what happened to one socket, and what is to be said then.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use crate::{
    detect::{Kind, Verdict, judge},
    model::{
        ClientName, Comm, Cookie, Ends, Holder, KernelEvent, MonoTime, ProcessKey, ReadPosition,
        Snapshot, SnapshotRow, TcpState, Transition,
    },
    table::{Limits, Socket, Table},
};

/// What happens. A process with number N was forked at N ms.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// connect(2) by process 1 with descriptor 7.
    Connects,
    /// listen(2) by process 1.
    Listens,
    /// A CONNECT with this client id and keep-alive in seconds.
    Names(&'static str, u16),
    /// As [`Self::Names`], but only the beginning of the client id is known.
    NamesCut(&'static str, u16),
    /// It happens to another socket; its descriptor from connect(2) is 6 more than this number.
    On(u64, &'static Step),
    /// A transition.
    Moves(TcpState, TcpState),
    Accepts(u32, i32),
    Closes(u32, i32),
    Executes(u32),
    Exits(u32),
    /// A snapshot finds the socket in this state, with these descriptors and this flow.
    Found(TcpState, &'static [(u32, i32)], Seen),
    /// A snapshot finds the socket in ESTABLISHED, idle, with these descriptors, each with its
    /// close-on-exec bit.
    FoundWith(&'static [(u32, i32, bool)]),
    /// A snapshot finds the socket in ESTABLISHED and nobody holding it.
    FoundWaiting(Seen),
    /// A snapshot finds a socket that was never connected.
    FoundFresh(&'static [(u32, i32)]),
}

/// What a row says of the flow.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) copied: u32,
    pub(super) unread: u32,
    pub(super) written: u32,
    pub(super) unacked: u32,
    /// Milliseconds.
    pub(super) sent: u64,
    /// Milliseconds.
    pub(super) received: u64,
}

pub(super) const IDLE: Seen =
    Seen { copied: 1, unread: 0, written: 1, unacked: 0, sent: 0, received: 0 };

/// What is expected: nothing, or something since so many milliseconds.
pub(super) type Expected = Option<u64>;

/// Name, steps with their times in milliseconds, and since when something is wrong.
pub(super) type Case = (&'static str, &'static [(u64, Step)], Expected);

/// Runs the cases of one kind.
pub(super) fn check(kind: Kind, cases: &[Case]) {
    for (name, steps, expected) in cases {
        let mut table = table();
        for (time, step) in *steps {
            apply(&mut table, ms(*time), COOKIE, *step);
        }
        let budget = Duration::from_secs(10);
        let socket = first(&table);
        let last = steps.last().map(|(time, _)| *time).unwrap_or_default();
        let now = expected.map_or(ms(last).after(budget), |since| ms(since).after(budget));
        let before = MonoTime::from_nanos(now.nanos() - 1);
        let (early, late) = match expected.map(ms) {
            Some(since) => (Verdict::Suspect { since, due: now }, Verdict::Leak { since }),
            None => (Verdict::Fine, Verdict::Fine),
        };
        assert_eq!(judge(kind, socket, before, budget), early, "{name}: before the budget is over");
        assert_eq!(judge(kind, socket, now, budget), late, "{name}: when the budget is over");
    }
}

/// Lets `step` happen to the first socket at `time`, milliseconds.
pub(super) fn apply_first(table: &mut Table, time: u64, step: Step) {
    apply(table, ms(time), COOKIE, step);
}

/// A table for a case.
pub(super) fn table() -> Table {
    Table::new(Limits { sockets: 16, processes: 16, boot_offset: Duration::ZERO })
}

/// The first socket.
pub(super) fn first(table: &Table) -> &Socket {
    table.socket(COOKIE).expect("the cases keep the socket")
}

const COOKIE: Cookie = Cookie(1);

/// So many milliseconds.
pub(super) fn ms(time: u64) -> MonoTime {
    MonoTime::from_nanos(time * 1_000_000)
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ns: ms(u64::from(pid)).nanos() }
}

fn ends(remote_port: u16) -> Ends {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Ends::new((address, 40_000), (address, remote_port))
}

fn apply(table: &mut Table, time: MonoTime, cookie: Cookie, step: Step) {
    let own_fd = i32::try_from(cookie.0 + 6).ok();
    let comm = Comm::from_bytes(b"node");
    let transition = |old, new, owner: Option<ProcessKey>, fd, port| {
        KernelEvent::Transition(Transition {
            time,
            cookie,
            old,
            new,
            ends: ends(port),
            netns: 1,
            owner,
            fd,
            context_pid: 0,
            read: None,
        })
    };
    let event = match step {
        Step::Connects => {
            transition(TcpState::Close, TcpState::SynSent, Some(key(1)), own_fd, 1883)
        }
        Step::Listens => transition(TcpState::Close, TcpState::Listen, Some(key(1)), own_fd, 0),
        Step::Names(id, keep_alive) => named(time, cookie, id, keep_alive, false),
        Step::NamesCut(id, keep_alive) => named(time, cookie, id, keep_alive, true),
        Step::On(other, step) => return apply(table, time, Cookie(other), *step),
        Step::Moves(old, new) => transition(old, new, None, None, 1883),
        Step::Accepts(pid, fd) => {
            KernelEvent::Accepted { time, cookie: Some(cookie), process: key(pid), fd }
        }
        Step::Closes(pid, fd) => {
            let (cookie, process) = (Some(cookie), key(pid));
            KernelEvent::Closed { time, cookie, process, fd, references: 2 }
        }
        Step::Executes(pid) => {
            KernelEvent::Executed { time, process: key(pid), comm, watched: true }
        }
        Step::Exits(pid) => KernelEvent::Exited { time, process: key(pid) },
        Step::Found(state, holders, seen) => {
            let holders: Vec<_> = holders.iter().map(|(pid, fd)| (*pid, *fd, None)).collect();
            return found(table, time, cookie, state, &holders, seen, ends(1883));
        }
        Step::FoundWith(holders) => {
            let holders: Vec<_> =
                holders.iter().map(|(pid, fd, bit)| (*pid, *fd, Some(*bit))).collect();
            return found(table, time, cookie, TcpState::Established, &holders, IDLE, ends(1883));
        }
        Step::FoundWaiting(seen) => {
            return found(table, time, cookie, TcpState::Established, &[], seen, ends(1883));
        }
        Step::FoundFresh(holders) => {
            let holders: Vec<_> = holders.iter().map(|(pid, fd)| (*pid, *fd, None)).collect();
            return found(table, time, cookie, TcpState::Close, &holders, IDLE, ends(0));
        }
    };
    table.apply(&event);
}

fn named(time: MonoTime, cookie: Cookie, id: &str, keep_alive: u16, is_cut: bool) -> KernelEvent {
    let name = ClientName { client_id: Arc::from(id), is_cut, keep_alive, level: 4 };
    KernelEvent::Named { time, cookie, name }
}

fn found(
    table: &mut Table,
    time: MonoTime,
    cookie: Cookie,
    state: TcpState,
    holders: &[(u32, i32, Option<bool>)],
    seen: Seen,
    ends: Ends,
) {
    let holder = |(pid, fd, bit): &(u32, i32, Option<bool>)| Holder {
        process: key(*pid),
        comm: Comm::from_bytes(b"node"),
        fd: *fd,
        close_on_exec: *bit,
    };
    let row = |holder| SnapshotRow {
        time,
        cookie,
        state,
        ends,
        netns: 1,
        holder,
        read: ReadPosition { copied_seq: seen.copied, unread: seen.unread },
        unacked: seen.unacked,
        write_seq: seen.written,
        last_sent: ms(seen.sent),
        last_received: ms(seen.received),
    };
    let rows = match holders {
        [] => vec![row(None)],
        holders => holders.iter().map(|held| row(Some(holder(held)))).collect(),
    };
    let snapshot =
        Snapshot { began: time, ended: time, rows, unheld_netns: 1, ..Snapshot::default() };
    table.apply_snapshot(&snapshot, false, false);
}
