//! A model of programs that connect, and a correlator that follows them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use proptest::test_runner::Config as ProptestConfig;

use crate::{
    correlate::{Config, Correlator, Output},
    detect::Kind,
    incident::{Finding, FindingEvent},
    model::{
        ClientName, Comm, Cookie, Ends, Holder, KernelEvent, MonoTime, ProcessKey, ReadPosition,
        Snapshot, SnapshotRow, TcpState, Transition,
    },
};

const NETNS: u32 = 1;

#[derive(Clone, Debug)]
struct Sock {
    process: ProcessKey,
    fd: i32,
    state: TcpState,
    ends: Ends,
    read: u32,
    written: u32,
    last_sent: MonoTime,
    last_received: MonoTime,
}

/// Programs and their sockets.
pub(super) struct World {
    pub(super) now: MonoTime,
    pub(super) correlator: Correlator,
    pub(super) findings: Vec<Finding>,
    socks: BTreeMap<Cookie, Sock>,
    cookies: u64,
    /// Records do not come.
    pub(super) is_deaf: bool,
    /// All records from now on, if they are wanted.
    pub(super) records: Option<Vec<KernelEvent>>,
}

/// How properties are tested.
pub(super) fn settings() -> ProptestConfig {
    ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() }
}

/// A process of the model.
pub(super) fn process(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ns: u64::from(pid) }
}

/// A destination of the model.
pub(super) fn remote(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// Seconds.
pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds.
pub(super) fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

impl World {
    pub(super) fn new(config: Config) -> Self {
        let now = MonoTime::from_nanos(1_000_000_000_000);
        let mut world = Self {
            now,
            correlator: Correlator::new(config, now),
            findings: Vec::new(),
            socks: BTreeMap::new(),
            cookies: 0,
            is_deaf: false,
            records: None,
        };
        world.outputs();
        world
    }

    /// Time goes by.
    pub(super) fn pass(&mut self, duration: Duration) {
        let until = self.now.after(duration);
        while let Some(due) = self.correlator.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.correlator.handle_timeout(self.now);
            self.outputs();
        }
        self.now = until;
    }

    /// connect(2) without an answer yet.
    pub(super) fn dial(&mut self, pid: u32, remote: SocketAddr) -> Cookie {
        self.cookies += 1;
        let cookie = Cookie(self.cookies);
        let port = 10_000 + u16::try_from(self.cookies % 50_000).expect("it fits");
        let sock = Sock {
            process: process(pid),
            fd: i32::try_from(self.cookies).expect("it fits"),
            state: TcpState::Close,
            ends: Ends { local: SocketAddr::from(([10, 0, 0, 9], port)), remote },
            read: 1,
            written: 1,
            last_sent: self.now,
            last_received: MonoTime::from_nanos(0),
        };
        self.socks.insert(cookie, sock);
        self.goes_to(cookie, TcpState::SynSent);
        cookie
    }

    pub(super) fn connect(&mut self, pid: u32, remote: SocketAddr) -> Cookie {
        let cookie = self.dial(pid, remote);
        self.answer(cookie);
        cookie
    }

    /// As [`Self::connect`], and an MQTT CONNECT.
    pub(super) fn connect_as(&mut self, pid: u32, remote: SocketAddr, id: &str) -> Cookie {
        let cookie = self.connect(pid, remote);
        let name = ClientName { client_id: id.into(), is_cut: false, keep_alive: 0, level: 4 };
        self.send(cookie);
        self.event(KernelEvent::Named { time: self.now, cookie, name });
        cookie
    }

    pub(super) fn answer(&mut self, cookie: Cookie) {
        self.goes_to(cookie, TcpState::Established);
        let now = self.now;
        self.sock(cookie).last_sent = now;
    }

    pub(super) fn refuse(&mut self, cookie: Cookie) {
        self.goes_to(cookie, TcpState::Close);
        self.drop(cookie);
    }

    pub(super) fn send(&mut self, cookie: Cookie) {
        let now = self.now;
        let sock = self.sock(cookie);
        sock.written += 10;
        sock.last_sent = now;
    }

    /// Data come and are read.
    pub(super) fn receive(&mut self, cookie: Cookie) {
        let now = self.now;
        let sock = self.sock(cookie);
        sock.read += 10;
        sock.last_received = now;
    }

    pub(super) fn peer_closes(&mut self, cookie: Cookie) {
        self.goes_to(cookie, TcpState::CloseWait);
    }

    pub(super) fn close(&mut self, cookie: Cookie) {
        let Sock { process, fd, state, .. } = *self.sock(cookie);
        let time = self.now;
        self.event(KernelEvent::Closed { time, cookie: Some(cookie), process, fd, references: 1 });
        let next = match state {
            TcpState::CloseWait => TcpState::LastAck,
            _ => TcpState::FinWait1,
        };
        self.goes_to(cookie, next);
        self.drop(cookie);
    }

    pub(super) fn exit(&mut self, pid: u32) {
        self.event(KernelEvent::Exited { time: self.now, process: process(pid) });
        let of = |(cookie, sock): (&Cookie, &Sock)| (sock.process.pid == pid).then_some(*cookie);
        let cookies: Vec<_> = self.socks.iter().filter_map(of).collect();
        for cookie in cookies {
            self.goes_to(cookie, TcpState::FinWait1);
            self.drop(cookie);
        }
    }

    pub(super) fn is_established(&self, cookie: Cookie) -> bool {
        self.socks.get(&cookie).is_some_and(|sock| sock.state == TcpState::Established)
    }

    pub(super) fn process_of(&self, cookie: Cookie) -> ProcessKey {
        self.socks.get(&cookie).expect("it is there").process
    }

    /// Records were lost.
    pub(super) fn lose(&mut self) {
        self.correlator.handle_loss(self.now, 1);
        self.outputs();
    }

    /// The findings of a kind, with the second since `start` at which they were said.
    pub(super) fn told(&self, kind: Kind, start: MonoTime) -> Vec<(FindingEvent, u64)> {
        let of_kind = self.findings.iter().filter(|finding| finding.kind == kind);
        of_kind.map(|finding| (finding.event, finding.time.since(start).as_secs())).collect()
    }

    /// The finding of a kind that was opened last.
    pub(super) fn last(&self, kind: Kind) -> &Finding {
        let opened = |it: &&Finding| it.kind == kind && it.event == FindingEvent::Opened;
        self.findings.iter().rev().find(opened).expect("there is one")
    }

    /// Asserts that nothing of the kinds of this part was found.
    pub(super) fn assert_quiet(&self, what: &str) {
        let kinds =
            [Kind::CloseWaitBuildup, Kind::Overgrowth, Kind::ReconnectStorm, Kind::StaleGeneration];
        let found = self.findings.iter().find(|finding| kinds.contains(&finding.kind));
        assert!(found.is_none(), "{what}: {found:?}");
    }

    fn sock(&mut self, cookie: Cookie) -> &mut Sock {
        self.socks.get_mut(&cookie).expect("it is there")
    }

    fn drop(&mut self, cookie: Cookie) {
        self.socks.remove(&cookie);
        self.event(KernelEvent::Destroyed { time: self.now, cookie });
    }

    fn goes_to(&mut self, cookie: Cookie, new: TcpState) {
        let time = self.now;
        let sock = self.sock(cookie);
        let old = std::mem::replace(&mut sock.state, new);
        let is_birth = new == TcpState::SynSent;
        let transition = Transition {
            time,
            cookie,
            old,
            new,
            ends: sock.ends,
            netns: NETNS,
            owner: is_birth.then_some(sock.process),
            fd: is_birth.then_some(sock.fd),
            context_pid: if new == TcpState::CloseWait { 0 } else { sock.process.pid },
            read: None,
        };
        self.event(KernelEvent::Transition(transition));
    }

    fn event(&mut self, event: KernelEvent) {
        self.records.iter_mut().for_each(|records| records.push(event.clone()));
        if !self.is_deaf {
            self.correlator.handle_event(event);
            self.outputs();
        }
    }

    fn outputs(&mut self) {
        while let Some(output) = self.correlator.poll_output() {
            match output {
                Output::SnapshotWanted(_) => {
                    let snapshot = self.snapshot();
                    self.correlator.handle_snapshot(snapshot);
                }
                Output::Finding(finding) => self.findings.push(finding),
                Output::Pool(_) | Output::Transition(_) => {}
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let row = |(cookie, sock): (&Cookie, &Sock)| SnapshotRow {
            time: self.now,
            cookie: *cookie,
            state: sock.state,
            ends: sock.ends,
            netns: NETNS,
            holder: Some(Holder {
                process: sock.process,
                comm: Comm::from_bytes(b"program"),
                fd: sock.fd,
                close_on_exec: None,
            }),
            read: ReadPosition { copied_seq: sock.read, unread: 0 },
            unacked: 0,
            write_seq: sock.written,
            last_sent: sock.last_sent,
            last_received: sock.last_received,
        };
        Snapshot {
            began: self.now,
            ended: self.now,
            rows: self.socks.iter().map(row).collect(),
            lists_unheld: true,
            unheld_netns: NETNS,
            ..Snapshot::default()
        }
    }
}
