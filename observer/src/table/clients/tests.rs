//! The index is what a search through all sockets would find, whatever happens.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::Rank;
use crate::{
    model::{
        ClientName, Comm, Cookie, Ends, Holder, KernelEvent, MonoTime, ProcessKey, ReadPosition,
        Snapshot, SnapshotRow, TcpState, Transition,
    },
    table::{Limits, Table},
};

#[derive(Clone, Debug)]
enum Input {
    Event(KernelEvent),
    Rows(Vec<SnapshotRow>, bool),
}

fn key() -> impl Strategy<Value = ProcessKey> {
    (0..4_u32, 0..2_u64).prop_map(|(pid, start_ns)| ProcessKey { pid, start_ns })
}

fn cookie() -> impl Strategy<Value = Cookie> {
    (0..6_u64).prop_map(Cookie)
}

/// Mostly what makes connections live.
fn state() -> impl Strategy<Value = TcpState> {
    use TcpState::{Close, CloseWait, Established, FinWait1, SynSent};
    select(vec![Established, Established, Established, SynSent, Close, CloseWait, FinWait1])
}

fn ends() -> impl Strategy<Value = Ends> {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let remote = select(vec![1883_u16, 1883, 1883, 1884]);
    remote.prop_map(move |port| Ends::new((address, 40_000), (address, port)))
}

fn netns() -> impl Strategy<Value = u32> {
    select(vec![1_u32, 1, 1, 2])
}

fn transition() -> impl Strategy<Value = KernelEvent> {
    (cookie(), state(), state(), ends(), netns(), option::of(key()), 0..4_i32).prop_map(
        |(cookie, old, new, ends, netns, owner, fd)| {
            KernelEvent::Transition(Transition {
                time: MonoTime::from_nanos(0),
                cookie,
                old,
                new,
                ends,
                netns,
                owner,
                fd: owner.map(|_| fd),
                context_pid: 0,
                read: None,
            })
        },
    )
}

fn named() -> impl Strategy<Value = KernelEvent> {
    let id = select(vec!["a", "a", "a", "b", ""]);
    (cookie(), id, 0..8_u8).prop_map(|(cookie, id, cut)| {
        let name =
            ClientName { client_id: Arc::from(id), is_cut: cut == 0, keep_alive: 60, level: 4 };
        KernelEvent::Named { time: MonoTime::from_nanos(0), cookie, name }
    })
}

fn event() -> impl Strategy<Value = KernelEvent> {
    let time = MonoTime::from_nanos(0);
    let descriptor = || (option::of(cookie()), key(), 0..4_i32);
    prop_oneof![
        6 => transition(),
        6 => named(),
        3 => descriptor().prop_map(move |(cookie, process, fd)| {
            KernelEvent::Accepted { time, cookie, process, fd }
        }),
        2 => descriptor().prop_map(move |(cookie, process, fd)| {
            KernelEvent::Closed { time, cookie, process, fd, references: 1 }
        }),
        1 => cookie().prop_map(move |cookie| KernelEvent::Destroyed { time, cookie }),
        1 => key().prop_map(move |process| KernelEvent::Exited { time, process }),
    ]
}

fn row() -> impl Strategy<Value = SnapshotRow> {
    (cookie(), state(), ends(), netns(), option::of((key(), 0..4_i32))).prop_map(
        |(cookie, state, ends, netns, holder)| SnapshotRow {
            time: MonoTime::from_nanos(0),
            cookie,
            state,
            ends,
            netns,
            holder: holder.map(|(process, fd)| Holder {
                process,
                comm: Comm::default(),
                fd,
                close_on_exec: None,
            }),
            read: ReadPosition { copied_seq: 1, unread: 0 },
            unacked: 0,
            write_seq: 1,
            last_sent: MonoTime::from_nanos(0),
            last_received: MonoTime::from_nanos(0),
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        6 => event().prop_map(Input::Event),
        1 => (vec(row(), 0..8), any::<bool>()).prop_map(|(rows, lost)| Input::Rows(rows, lost)),
    ]
}

/// The event, as it would be at `now`.
fn at(mut event: KernelEvent, now: MonoTime) -> KernelEvent {
    match &mut event {
        KernelEvent::Transition(transition) => transition.time = now,
        KernelEvent::Destroyed { time, .. }
        | KernelEvent::Accepted { time, .. }
        | KernelEvent::Closed { time, .. }
        | KernelEvent::Named { time, .. }
        | KernelEvent::Exited { time, .. } => *time = now,
        _ => {}
    }
    event
}

/// Who is succeeded by whom since when, by a search through all sockets. Somebody who was succeeded
/// all the time, if by others, is so since it began.
fn naive(
    table: &Table,
    before: &HashMap<Cookie, (Rank, MonoTime)>,
) -> HashMap<Cookie, (Rank, Cookie, MonoTime)> {
    let ranks: Vec<_> = table.sockets().filter_map(|socket| socket.rank()).collect();
    let mut succeeded = HashMap::new();
    for rank in &ranks {
        let newer = ranks.iter().filter(|other| {
            let is_same = other.client_id == rank.client_id
                && other.remote == rank.remote
                && other.netns == rank.netns;
            is_same && (other.age, other.cookie) > (rank.age, rank.cookie)
        });
        let Some(newer) = newer.min_by_key(|other| (other.age, other.cookie)) else { continue };
        let begin = |cookie| {
            let socket = table.socket(cookie).expect("it has a rank");
            let named = socket.named_at.expect("it has a rank");
            named.max(socket.state_since)
        };
        let fresh = begin(rank.cookie).max(begin(newer.cookie));
        let since = match before.get(&rank.cookie) {
            Some((as_before, since)) if as_before == rank => *since,
            _ => fresh,
        };
        succeeded.insert(rank.cookie, (rank.clone(), newer.cookie, since));
    }
    succeeded
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_index_is_what_a_search_finds(inputs in vec(input(), 1..100), sockets in 2..7_usize) {
        let boot_offset = Duration::ZERO;
        let mut table = Table::new(Limits { sockets, processes: 3, boot_offset });
        let mut before = HashMap::new();
        for (now, input) in (10_u64..).step_by(10).zip(inputs) {
            let now = MonoTime::from_nanos(now);
            match input {
                Input::Event(event) => {
                    table.apply(&at(event, now));
                }
                Input::Rows(rows, lost) => {
                    let rows = rows.into_iter().map(|row| SnapshotRow { time: now, ..row });
                    let (rows, began, ended) = (rows.collect(), now, now);
                    let snapshot = Snapshot {
                        began, ended, rows, lists_unheld: true, unheld_netns: 1,
                        ..Snapshot::default()
                    };
                    table.apply_snapshot(&snapshot, lost, lost);
                }
            }
            let mut ranks: Vec<_> = table.sockets().filter_map(|socket| socket.rank()).collect();
            ranks.sort();
            prop_assert!(table.clients.iter().eq(&ranks), "{:?} {:?}", table.clients, ranks);
            let expected = naive(&table, &before);
            for socket in table.sockets() {
                let naive = expected.get(&socket.cookie);
                let (known, who) = (socket.succeeded, naive.map(|(_, newer, _)| *newer));
                prop_assert_eq!(known.map(|(newer, _)| newer), who, "{:?}", socket);
                // A snapshot goes row by row, and what it changes in between is not seen here: there
                // may have been no newer one for a moment.
                let since = naive.map(|(_, _, since)| *since);
                let is_right = known.map(|(_, since)| since) == since
                    || known.is_some_and(|(_, since)| since == now) ;
                prop_assert!(is_right, "{:?} and not {:?}", known, since);
            }
            let seen = |socket: &crate::table::Socket| {
                Some((socket.cookie, (socket.rank()?, socket.succeeded?.1)))
            };
            before = table.sockets().filter_map(seen).collect();
        }
    }
}

fn live(table: &mut Table, cookie: u64, time: u64) {
    use TcpState::{Close, Established, SynSent};
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for (time, old, new) in [(time, Close, SynSent), (time + 1, SynSent, Established)] {
        table.apply(&KernelEvent::Transition(Transition {
            time: MonoTime::from_nanos(time),
            cookie: Cookie(cookie),
            old,
            new,
            ends: Ends::new((address, 40_000), (address, 1883)),
            netns: 1,
            owner: (old == Close).then_some(ProcessKey { pid: 1, start_ns: 1 }),
            fd: i32::try_from(cookie).ok().filter(|_| old == Close),
            context_pid: 0,
            read: None,
        }));
    }
    let client_id = Arc::from("a");
    let name = ClientName { client_id, is_cut: false, keep_alive: 60, level: 4 };
    let (time, cookie) = (MonoTime::from_nanos(time + 2), Cookie(cookie));
    table.apply(&KernelEvent::Named { time, cookie, name });
}

/// A program that leaks one connection after the other with one client id must not make each new
/// one dearer.
#[test]
fn a_newcomer_touches_only_its_neighbours() {
    let limits = Limits { sockets: 10_000, processes: 4, boot_offset: Duration::ZERO };
    let mut table = Table::new(limits);
    for cookie in 1..5_000 {
        live(&mut table, cookie, cookie * 10);
        assert!(table.take_changes().len() <= 4);
    }
    let first = table.socket(Cookie(1)).expect("it is there");
    assert_eq!(first.succeeded, Some((Cookie(2), MonoTime::from_nanos(22))));
}
