//! Whatever comes, plausible or not: no panic, and no table beyond its capacity.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    correlate::{Config, Correlator},
    model::{
        ClientName, Comm, Cookie, Ends, Holder, KernelEvent, MonoTime, ProcessKey, ReadPosition,
        Snapshot, SnapshotRow, TcpState, Transition,
    },
};

#[derive(Clone, Debug)]
enum Input {
    Event(KernelEvent),
    Snapshot(Snapshot),
    Loss(MonoTime, u64),
    Timeout(MonoTime),
}

/// Mostly close together, so that they collide; sometimes at the ends of time.
fn time() -> impl Strategy<Value = MonoTime> {
    prop_oneof![
        8 => (0..40_u64).prop_map(|seconds| MonoTime::from_nanos(seconds * 1_000_000_000)),
        1 => any::<u64>().prop_map(MonoTime::from_nanos),
        1 => Just(MonoTime::from_nanos(u64::MAX)),
    ]
}

fn cookie() -> impl Strategy<Value = Cookie> {
    (0..12_u64).prop_map(Cookie)
}

fn key() -> impl Strategy<Value = ProcessKey> {
    (0..8_u32, 0..3_u64)
        .prop_map(|(pid, start)| ProcessKey { pid, start_ns: start * 5_000_000_000 })
}

fn fd() -> impl Strategy<Value = i32> {
    prop_oneof![0..6_i32, Just(-1), Just(i32::MAX)]
}

fn state() -> impl Strategy<Value = TcpState> {
    select(&TcpState::ALL[..])
}

fn comm() -> impl Strategy<Value = Comm> {
    vec(any::<u8>(), 0..16).prop_map(|bytes| Comm::from_bytes(&bytes))
}

fn ends() -> impl Strategy<Value = Ends> {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    (0..3_u16, 0..3_u16)
        .prop_map(move |(local, remote)| Ends::new((address, local), (address, remote)))
}

fn position() -> impl Strategy<Value = ReadPosition> {
    let number = || prop_oneof![0..4_u32, any::<u32>()];
    (number(), number()).prop_map(|(copied_seq, unread)| ReadPosition { copied_seq, unread })
}

fn transition() -> impl Strategy<Value = KernelEvent> {
    let first = (time(), cookie(), state(), state(), ends());
    let rest = (0..2_u32, option::of(key()), option::of(fd()), option::of(position()));
    (first, rest).prop_map(|((time, cookie, old, new, ends), (netns, owner, fd, read))| {
        let context_pid = 0;
        KernelEvent::Transition(Transition {
            time,
            cookie,
            old,
            new,
            ends,
            netns,
            owner,
            fd,
            context_pid,
            read,
        })
    })
}

fn event() -> impl Strategy<Value = KernelEvent> {
    let process = || (time(), key(), comm(), any::<bool>());
    let descriptor = || (time(), option::of(cookie()), key(), fd());
    prop_oneof![
        4 => transition(),
        1 => (time(), cookie()).prop_map(|(time, cookie)| KernelEvent::Destroyed { time, cookie }),
        2 => (time(), cookie(), 0..3_u16).prop_map(|(time, cookie, id)| {
            let client_id = Arc::from(id.to_string());
            let name = ClientName { client_id, is_cut: false, keep_alive: id, level: 4 };
            KernelEvent::Named { time, cookie, name }
        }),
        2 => descriptor().prop_map(|(time, cookie, process, fd)| {
            KernelEvent::Accepted { time, cookie, process, fd }
        }),
        2 => descriptor().prop_map(|(time, cookie, process, fd)| {
            KernelEvent::Closed { time, cookie, process, fd, references: 1 }
        }),
        1 => process().prop_map(|(time, child, comm, watched)| {
            KernelEvent::Forked { time, parent: 1, child, comm, watched }
        }),
        1 => process().prop_map(|(time, process, comm, watched)| {
            KernelEvent::Executed { time, process, comm, watched }
        }),
        1 => (time(), key()).prop_map(|(time, process)| KernelEvent::Exited { time, process }),
    ]
}

fn row() -> impl Strategy<Value = SnapshotRow> {
    let holder = (key(), comm(), fd());
    let holder = (holder, any::<Option<bool>>());
    let holder = holder.prop_map(|((process, comm, fd), close_on_exec)| Holder {
        process,
        comm,
        fd,
        close_on_exec,
    });
    let first = (time(), cookie(), state(), ends(), 0..2_u32, option::of(holder));
    let rest = (position(), any::<u32>(), time(), time());
    (first, rest).prop_map(
        |((time, cookie, state, ends, netns, holder), (read, write_seq, sent, received))| {
            SnapshotRow {
                time,
                cookie,
                state,
                ends,
                netns,
                holder,
                read,
                unacked: 0,
                write_seq,
                last_sent: sent,
                last_received: received,
            }
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (time(), time(), vec(row(), 0..12), any::<bool>(), 0..2_u32).prop_map(
        |(began, ended, rows, lists_unheld, unheld_netns)| Snapshot {
            began,
            ended,
            rows,
            lists_unheld,
            unheld_netns,
            ..Snapshot::default()
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        8 => event().prop_map(Input::Event),
        2 => snapshot().prop_map(Input::Snapshot),
        1 => (time(), 0..3_u64).prop_map(|(now, lost)| Input::Loss(now, lost)),
        2 => time().prop_map(Input::Timeout),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_panics_and_nothing_grows(
        inputs in vec(input(), 1..120),
        sockets in 0..8_usize,
        processes in 0..6_usize,
        budget in 0..3_u64,
    ) {
        let mut config = Config {
            socket_capacity: sockets,
            process_capacity: processes,
            ..Config::default()
        };
        for kind in crate::detect::Kind::ALL {
            config.budgets.set(kind, Duration::from_secs(budget * 5));
        }
        let mut correlator = Correlator::new(config, MonoTime::from_nanos(0));
        for input in inputs {
            match input {
                Input::Event(event) => correlator.handle_event(event),
                Input::Snapshot(snapshot) => correlator.handle_snapshot(snapshot),
                Input::Loss(now, lost) => correlator.handle_loss(now, lost),
                Input::Timeout(now) => correlator.handle_timeout(now),
            }
            while correlator.poll_output().is_some() {}
            let table = correlator.table();
            prop_assert!(table.len() <= sockets.max(1));
            prop_assert!(table.processes().count() <= processes.max(1));
            let indexed: usize = table.processes().map(|process| process.descriptors()).sum();
            let held: usize = table.sockets().map(|socket| socket.holders.len()).sum();
            prop_assert_eq!(indexed, held, "each holder is in the index, and nothing else");
            for incident in correlator.open_incidents() {
                if let Some(cookie) = incident.finding.cookie() {
                    prop_assert!(table.socket(cookie).is_some(), "an incident outlives its socket");
                }
            }
        }
    }
}
