//! How long one look takes with 15,000 sockets, 500 open findings and a duel under way.
//!
//! ```sh
//! cargo run --release -p sockwarden-observer --example tick
//! ```

#![forbid(unsafe_code)]

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use observer::{
    clock,
    correlate::{Config, Correlator, Output},
    incident::FindingEvent,
    model::{
        Comm, Cookie, Ends, Holder, KernelEvent, MonoTime, ProcessKey, ReadPosition, Snapshot,
        SnapshotRow, TcpState, Transition,
    },
};

const SOCKETS: u64 = 15_000;
const LEAKED: u64 = 500;
const ROUNDS: u64 = 200;
const PROCESS: ProcessKey = ProcessKey { pid: 4_711, start_ns: 1 };

fn main() -> io::Result<()> {
    let mut correlator = Correlator::new(Config::default(), at(0));
    for number in 1..=SOCKETS {
        connect(&mut correlator, number, at(10 + number / 100));
    }
    for number in 1..=LEAKED {
        let change = (TcpState::Established, TcpState::CloseWait);
        correlator.handle_event(transition(number, change, at(1_000)));
    }
    let mut opened = 0;
    let mut quiet = Vec::new();
    let mut busy = Vec::new();
    let mut walked = Vec::new();
    for round in 0..ROUNDS {
        let now = at(12_000 + round * 100);
        let begin = clock::now();
        correlator.handle_timeout(now);
        quiet.push(clock::now().since(begin));
        let number = SOCKETS + 1 + round * 100;
        let begin = clock::now();
        for fresh in number..number + 100 {
            connect(&mut correlator, fresh, now);
            let change = (TcpState::Established, TcpState::FinWait1);
            correlator.handle_event(transition(fresh, change, now));
            correlator.handle_event(KernelEvent::Destroyed { time: now, cookie: Cookie(fresh) });
        }
        correlator.handle_timeout(now.after(Duration::from_millis(60)));
        busy.push(clock::now().since(begin));
        let snapshot = snapshot(now.after(Duration::from_millis(70)));
        let begin = clock::now();
        correlator.handle_snapshot(snapshot);
        walked.push(clock::now().since(begin));
        while let Some(output) = correlator.poll_output() {
            if let Output::Finding(finding) = output {
                opened += u64::from(finding.event == FindingEvent::Opened);
            }
        }
    }
    writeln!(io::stdout(), "{SOCKETS} sockets, {opened} findings opened, {ROUNDS} rounds")?;
    show("a look without news", &mut quiet)?;
    show("a look with 400 events", &mut busy)?;
    show("a look with a snapshot", &mut walked)
}

fn show(what: &str, times: &mut [Duration]) -> io::Result<()> {
    times.sort_unstable();
    let of = |percent: usize| times[(times.len() - 1) * percent / 100];
    let (median, p99, worst) = (of(50), of(99), of(100));
    writeln!(io::stdout(), "{what:<24} median {median:>9.1?}  p99 {p99:>9.1?}  worst {worst:>9.1?}")
}

fn connect(correlator: &mut Correlator, number: u64, time: MonoTime) {
    let change = (TcpState::Close, TcpState::SynSent);
    correlator.handle_event(transition(number, change, time));
    let change = (TcpState::SynSent, TcpState::Established);
    correlator.handle_event(transition(number, change, time));
}

fn transition(number: u64, (old, new): (TcpState, TcpState), time: MonoTime) -> KernelEvent {
    let by_owner = old == TcpState::Close;
    KernelEvent::Transition(Transition {
        time,
        cookie: Cookie(number),
        old,
        new,
        ends: ends(number),
        netns: 1,
        owner: by_owner.then_some(PROCESS),
        fd: by_owner.then_some(fd(number)),
        context_pid: PROCESS.pid,
        read: None,
    })
}

fn snapshot(now: MonoTime) -> Snapshot {
    let row = |number: u64| SnapshotRow {
        time: now,
        cookie: Cookie(number),
        state: if number <= LEAKED { TcpState::CloseWait } else { TcpState::Established },
        ends: ends(number),
        netns: 1,
        holder: Some(Holder {
            process: PROCESS,
            comm: Comm::from_bytes(b"node"),
            fd: fd(number),
            close_on_exec: None,
        }),
        read: ReadPosition { copied_seq: 1, unread: 0 },
        unacked: 0,
        write_seq: 1,
        last_sent: at(20),
        last_received: at(20),
    };
    let rows = (1..=SOCKETS).map(row).collect();
    let (began, ended) = (now, now);
    Snapshot { began, ended, rows, lists_unheld: true, unheld_netns: 1, ..Snapshot::default() }
}

fn ends(number: u64) -> Ends {
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let port = 1_024 + u16::try_from(number % 60_000).expect("invariant: it fits");
    Ends::new((host, port), (host, 1_883))
}

fn fd(number: u64) -> i32 {
    10 + i32::try_from(number).expect("invariant: a small number")
}

const fn at(milliseconds: u64) -> MonoTime {
    MonoTime::from_nanos(milliseconds * 1_000_000)
}
