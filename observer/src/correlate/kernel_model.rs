//! A small kernel: processes with descriptors, sockets with states and queues. It tells of what
//! happens as the real one does, and it knows the truth, which the tests compare with.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use crate::{
    detect::Kind,
    model::{
        ClientName, Comm, Cookie, Ends, Holder, KernelEvent, MonoTime, ProcessKey, ReadPosition,
        Snapshot, SnapshotRow, TcpState, Transition,
    },
};

pub(super) const NETNS: u32 = 1;

/// What may happen. Numbers choose among what there is at that time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Connect(u8),
    /// A client says one of three client ids, with a keep-alive of 20 s.
    Name(u8, u8),
    /// A client connects to a listener; the socket waits to be accepted.
    Arrive,
    Accept(u8),
    Answer(u8),
    Refuse(u8),
    PeerCloses(u8),
    PeerResets(u8),
    Data(u8),
    Read(u8),
    ReadSome(u8),
    Write(u8),
    Close(u8, u8),
    /// close_range(2), or dup2(2) over it.
    CloseUnseen(u8, u8),
    Dup(u8, u8),
    Fork(u8),
    /// Keeps its descriptors or not.
    Exec(u8, bool),
    Exit(u8),
    /// SCM_RIGHTS from one process to another.
    Pass(u8, u8, u8),
    Wait(u16),
}

#[derive(Debug)]
struct Process {
    key: ProcessKey,
    comm: Comm,
    descriptors: BTreeMap<i32, Cookie>,
}

#[derive(Debug)]
struct Sock {
    state: TcpState,
    state_since: MonoTime,
    ends: Ends,
    copied: u32,
    received: u32,
    written: u32,
    last_sent: MonoTime,
    last_received: MonoTime,
    /// Since when data wait that nobody reads.
    waiting_since: MonoTime,
    last_moved: MonoTime,
    last_written: MonoTime,
    waits_for_accept: bool,
    /// This side connected.
    is_client: bool,
    /// The client id that it said, and when.
    name: Option<(u8, MonoTime)>,
    /// When a descriptor of it was first given up.
    given_up: Option<MonoTime>,
}

/// The kernel and the world around it.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) now: MonoTime,
    processes: BTreeMap<u32, Process>,
    sockets: BTreeMap<Cookie, Sock>,
    cookies: u64,
    programs: u32,
    events: Vec<KernelEvent>,
    /// The next connection gets the addresses of this one.
    reused: Option<Ends>,
}

impl Kernel {
    pub(super) fn new(processes: u32) -> Self {
        let mut kernel = Self {
            now: MonoTime::from_nanos(1_000_000_000),
            processes: BTreeMap::new(),
            sockets: BTreeMap::new(),
            cookies: 0,
            programs: 0,
            events: Vec::new(),
            reused: None,
        };
        for pid in 1..=processes {
            let key = ProcessKey { pid, start_ns: u64::from(pid) };
            let comm = kernel.new_comm();
            kernel.processes.insert(pid, Process { key, comm, descriptors: BTreeMap::new() });
        }
        kernel
    }

    /// What it has told since this was last called.
    pub(super) fn events(&mut self) -> Vec<KernelEvent> {
        std::mem::take(&mut self.events)
    }

    /// Gives the next connection the addresses of this one.
    pub(super) fn reuse_port(&mut self, cookie: Cookie) {
        self.reused = self.sockets.get(&cookie).map(|sock| sock.ends);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut rows = Vec::new();
        for process in self.processes.values() {
            for (fd, cookie) in &process.descriptors {
                let (process, comm) = (process.key, process.comm.clone());
                rows.push(
                    self.row(*cookie, Some(Holder { process, comm, fd: *fd, close_on_exec: None })),
                );
            }
        }
        for (cookie, sock) in &self.sockets {
            if self.holders(*cookie).is_empty() && sock.state != TcpState::Close {
                rows.push(self.row(*cookie, None));
            }
        }
        Snapshot {
            began: self.now,
            ended: self.now,
            rows,
            lists_unheld: true,
            unheld_netns: NETNS,
            ..Snapshot::default()
        }
    }

    pub(super) fn holders(&self, cookie: Cookie) -> Vec<(ProcessKey, i32)> {
        let mut holders = Vec::new();
        for process in self.processes.values() {
            for (fd, held) in &process.descriptors {
                if *held == cookie {
                    holders.push((process.key, *fd));
                }
            }
        }
        holders.sort_unstable();
        holders
    }

    pub(super) fn cookies(&self) -> Vec<Cookie> {
        self.sockets.keys().copied().collect()
    }

    /// Since when something of this kind is truly wrong with a socket. For `inherited` it is a
    /// moment before which it cannot be: what is a hand-over is a matter of opinion.
    pub(super) fn wrong_since(&self, cookie: Cookie, kind: Kind) -> Option<MonoTime> {
        use TcpState::{Close, CloseWait, Established, SynSent};
        let sock = self.sockets.get(&cookie)?;
        if self.holders(cookie).is_empty() {
            return None;
        }
        let data =
            sock.received - sock.copied - u32::from(sock.state == CloseWait && !sock.read_fin());
        match (kind, sock.state) {
            (Kind::CloseWait, CloseWait) => Some(sock.state_since.max(sock.last_moved)),
            (Kind::DeadFd, Close) => Some(sock.state_since),
            (Kind::StuckConnect, SynSent) => Some(sock.state_since),
            (Kind::Undrained, Established | CloseWait) if data > 0 => Some(sock.waiting_since),
            (Kind::Inherited, _) => sock.given_up,
            (Kind::DuplicateClientId, Established) => {
                // Not before it had a name; a newer one that is gone may have come right then.
                let (id, named) = sock.name?;
                let newer = (Bound::Excluded(cookie), Bound::Unbounded);
                let is_rival = |(cookie, other): (&Cookie, &Sock)| {
                    other.state == Established
                        && other.name.is_some_and(|(other, _)| other == id)
                        && !self.holders(*cookie).is_empty()
                };
                self.sockets.range(newer).any(is_rival).then_some(named)
            }
            (Kind::SilentPeer, Established) => {
                let (_, named) = sock.name?;
                let moved = named.max(sock.last_sent).max(sock.last_received);
                Some(moved.after(Duration::from_secs(30)))
            }
            _ => None,
        }
    }

    pub(super) fn last_written(&self, cookie: Cookie) -> Option<MonoTime> {
        self.sockets.get(&cookie).map(|sock| sock.last_written)
    }

    pub(super) fn state(&self, cookie: Cookie) -> Option<TcpState> {
        self.sockets.get(&cookie).map(|sock| sock.state)
    }

    pub(super) fn comm(&self, key: ProcessKey) -> Option<&Comm> {
        let process = self.processes.get(&key.pid).filter(|process| process.key == key)?;
        Some(&process.comm)
    }

    pub(super) fn run(&mut self, op: Op) {
        match op {
            Op::Connect(who) => self.connect(who),
            Op::Name(which, id) => self.name(which, id % 3),
            Op::Arrive => self.arrive(),
            Op::Accept(who) => self.accept(who),
            Op::Answer(which) => {
                if let Some(cookie) = self.choose(which, &[TcpState::SynSent]) {
                    self.enter(cookie, TcpState::Established);
                }
            }
            Op::Refuse(which) => {
                if let Some(cookie) = self.choose(which, &[TcpState::SynSent]) {
                    self.enter(cookie, TcpState::Close);
                }
            }
            Op::PeerCloses(which) => self.peer_closes(which),
            Op::PeerResets(which) => {
                use TcpState::{CloseWait, Established, FinWait1, LastAck};
                let states = [Established, CloseWait, FinWait1, LastAck];
                if let Some(cookie) = self.choose(which, &states) {
                    self.end(cookie);
                }
            }
            Op::Data(which) => self.data(which),
            Op::Read(which) => self.read(which, 1),
            Op::ReadSome(which) => self.read(which, 2),
            Op::Write(which) => self.write(which),
            Op::Close(who, which) => self.close(who, which, true),
            Op::CloseUnseen(who, which) => self.close(who, which, false),
            Op::Dup(who, which) => {
                if let Some((pid, _, cookie)) = self.descriptor(who, which) {
                    self.install(pid, cookie);
                }
            }
            Op::Fork(who) => self.fork(who),
            Op::Exec(who, keeps) => self.exec(who, keeps),
            Op::Exit(who) => self.exit(who),
            Op::Pass(from, which, to) => {
                if let (Some((_, _, cookie)), Some(to)) =
                    (self.descriptor(from, which), self.process(to))
                {
                    self.install(to, cookie);
                }
            }
            Op::Wait(_) => {}
        }
    }

    fn row(&self, cookie: Cookie, holder: Option<Holder>) -> SnapshotRow {
        let sock = &self.sockets[&cookie];
        SnapshotRow {
            time: self.now,
            cookie,
            state: sock.state,
            ends: sock.ends,
            netns: NETNS,
            holder,
            read: sock.position(),
            unacked: 0,
            write_seq: sock.written,
            last_sent: sock.last_sent,
            last_received: sock.last_received,
        }
    }

    fn connect(&mut self, who: u8) {
        let Some(pid) = self.process(who) else { return };
        let cookie = self.create(TcpState::SynSent);
        let fd = self.install(pid, cookie);
        let owner = self.processes[&pid].key;
        self.tell(cookie, TcpState::Close, Some((owner, fd)));
    }

    fn name(&mut self, which: u8, id: u8) {
        let is_client = |cookie: &Cookie| self.sockets[cookie].is_client;
        let established =
            self.sockets.iter().filter(|(_, sock)| sock.state == TcpState::Established);
        let clients: Vec<_> = established.map(|(cookie, _)| *cookie).filter(is_client).collect();
        let Some(cookie) = pick(&clients, which) else { return };
        let time = self.now;
        let sock = self.sock(cookie);
        if sock.name.is_none() {
            sock.name = Some((id, time));
            sock.last_sent = time;
            sock.written += 10;
            let client_id = Arc::from(id.to_string());
            let name = ClientName { client_id, is_cut: false, keep_alive: 20, level: 4 };
            self.events.push(KernelEvent::Named { time, cookie, name });
        }
    }

    fn arrive(&mut self) {
        let cookie = self.create(TcpState::Established);
        self.sock(cookie).waits_for_accept = true;
        self.tell(cookie, TcpState::SynRecv, None);
    }

    fn accept(&mut self, who: u8) {
        let Some(pid) = self.process(who) else { return };
        let waiting = self.sockets.iter().find(|(_, sock)| sock.waits_for_accept);
        let Some(cookie) = waiting.map(|(cookie, _)| *cookie) else { return };
        self.sock(cookie).waits_for_accept = false;
        let fd = self.install(pid, cookie);
        let process = self.processes[&pid].key;
        let (time, cookie) = (self.now, Some(cookie));
        self.events.push(KernelEvent::Accepted { time, cookie, process, fd });
    }

    fn peer_closes(&mut self, which: u8) {
        use TcpState::{CloseWait, Established, FinWait1, LastAck};
        let Some(cookie) = self.choose(which, &[Established, FinWait1, LastAck]) else { return };
        if self.sock(cookie).state == Established {
            self.sock(cookie).received += 1;
            self.enter(cookie, CloseWait);
        } else {
            self.end(cookie);
        }
    }

    fn data(&mut self, which: u8) {
        let Some(cookie) = self.choose(which, &[TcpState::Established]) else { return };
        let now = self.now;
        let sock = self.sock(cookie);
        if sock.received == sock.copied {
            sock.waiting_since = now;
        }
        sock.received += 100;
        sock.last_received = now;
    }

    fn read(&mut self, which: u8, part: u32) {
        use TcpState::{CloseWait, Established};
        let Some(cookie) = self.choose(which, &[Established, CloseWait]) else { return };
        let now = self.now;
        let sock = self.sock(cookie);
        if sock.waits_for_accept {
            return;
        }
        let unread = sock.received - sock.copied;
        let fin = u32::from(sock.state == CloseWait && unread > 0);
        let taken = if unread == fin { fin } else { (unread - fin).div_ceil(part) };
        sock.copied += taken;
        if taken > fin || taken > 0 && unread > fin {
            sock.last_moved = now;
            sock.waiting_since = now;
        }
    }

    fn write(&mut self, which: u8) {
        use TcpState::{CloseWait, Established};
        let Some(cookie) = self.choose(which, &[Established, CloseWait]) else { return };
        let now = self.now;
        let sock = self.sock(cookie);
        if !sock.waits_for_accept {
            sock.written += 10;
            sock.last_sent = now;
            sock.last_moved = now;
            sock.last_written = now;
        }
    }

    fn close(&mut self, who: u8, which: u8, is_seen: bool) {
        let Some((pid, fd, cookie)) = self.descriptor(who, which) else { return };
        let process = self.processes[&pid].key;
        if is_seen {
            let references = u32::try_from(self.holders(cookie).len()).unwrap_or(u32::MAX);
            let (time, cookie) = (self.now, Some(cookie));
            self.events.push(KernelEvent::Closed { time, cookie, process, fd, references });
        }
        self.drop_descriptor(pid, fd);
    }

    fn fork(&mut self, who: u8) {
        let Some(parent) = self.process(who) else { return };
        if self.processes.len() > 12 {
            return;
        }
        let pid = (1..).find(|pid| !self.processes.contains_key(pid)).unwrap_or(u32::MAX);
        let key = ProcessKey { pid, start_ns: self.now.nanos() };
        let (comm, descriptors) =
            (self.processes[&parent].comm.clone(), self.processes[&parent].descriptors.clone());
        self.processes.insert(pid, Process { key, comm: comm.clone(), descriptors });
        let (time, child, watched) = (self.now, key, true);
        self.events.push(KernelEvent::Forked { time, parent, child, comm, watched });
    }

    fn exec(&mut self, who: u8, keeps: bool) {
        let Some(pid) = self.process(who) else { return };
        let comm = self.new_comm();
        let process = self.processes.get_mut(&pid).expect("chosen among those that are there");
        process.comm = comm.clone();
        let (key, descriptors) = (process.key, process.descriptors.clone());
        let (time, watched) = (self.now, true);
        self.events.push(KernelEvent::Executed { time, process: key, comm, watched });
        for (fd, cookie) in descriptors {
            if keeps {
                let now = self.now;
                self.sock(cookie).given_up.get_or_insert(now);
            } else {
                self.drop_descriptor(pid, fd);
            }
        }
    }

    fn exit(&mut self, who: u8) {
        let Some(pid) = self.process(who) else { return };
        if self.processes.len() < 2 {
            return;
        }
        let process = self.processes[&pid].key;
        self.events.push(KernelEvent::Exited { time: self.now, process });
        for fd in self.processes[&pid].descriptors.keys().copied().collect::<Vec<_>>() {
            self.drop_descriptor(pid, fd);
        }
        self.processes.remove(&pid);
    }

    fn drop_descriptor(&mut self, pid: u32, fd: i32) {
        let process = self.processes.get_mut(&pid).expect("chosen among those that are there");
        let Some(cookie) = process.descriptors.remove(&fd) else { return };
        let now = self.now;
        self.sock(cookie).given_up.get_or_insert(now);
        if self.holders(cookie).is_empty() {
            self.last_close(cookie);
        }
    }

    fn last_close(&mut self, cookie: Cookie) {
        use TcpState::{CloseWait, Established, FinWait1, LastAck};
        let sock = self.sock(cookie);
        match sock.state {
            Established if sock.received == sock.copied => self.enter(cookie, FinWait1),
            CloseWait => self.enter(cookie, LastAck),
            _ => self.end(cookie),
        }
    }

    /// The connection is over; a socket that nobody holds is given up.
    fn end(&mut self, cookie: Cookie) {
        if self.sock(cookie).state != TcpState::Close {
            self.enter(cookie, TcpState::Close);
        }
        if self.holders(cookie).is_empty() && !self.sock(cookie).waits_for_accept {
            self.sockets.remove(&cookie);
            self.events.push(KernelEvent::Destroyed { time: self.now, cookie });
        }
    }

    fn enter(&mut self, cookie: Cookie, state: TcpState) {
        let now = self.now;
        let sock = self.sock(cookie);
        let old = std::mem::replace(&mut sock.state, state);
        sock.state_since = now;
        self.tell(cookie, old, None);
    }

    fn tell(&mut self, cookie: Cookie, old: TcpState, owner: Option<(ProcessKey, i32)>) {
        let time = self.now;
        let sock = self.sock(cookie);
        let mut ends = sock.ends;
        if matches!(sock.state, TcpState::SynSent | TcpState::Close) {
            ends.local.set_port(0);
        }
        let tells_position = matches!(sock.state, TcpState::Established | TcpState::CloseWait);
        let transition = Transition {
            time,
            cookie,
            old,
            new: sock.state,
            ends,
            netns: NETNS,
            owner: owner.map(|(process, _)| process),
            fd: owner.map(|(_, fd)| fd),
            context_pid: 0,
            read: tells_position.then(|| sock.position()),
        };
        self.events.push(KernelEvent::Transition(transition));
    }

    fn create(&mut self, state: TcpState) -> Cookie {
        self.cookies += 1;
        let cookie = Cookie(self.cookies);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = 30_000 + u16::try_from(self.cookies % 30_000).unwrap_or_default();
        let ends = Ends::new((address, port), (address, 1883));
        let sock = Sock {
            state,
            state_since: self.now,
            ends: self.reused.take().unwrap_or(ends),
            copied: 1,
            received: 1,
            written: 1,
            last_sent: self.now,
            last_received: self.now,
            waiting_since: self.now,
            last_moved: self.now,
            last_written: self.now,
            waits_for_accept: false,
            is_client: state == TcpState::SynSent,
            name: None,
            given_up: None,
        };
        self.sockets.insert(cookie, sock);
        cookie
    }

    fn install(&mut self, pid: u32, cookie: Cookie) -> i32 {
        let process = self.processes.get_mut(&pid).expect("chosen among those that are there");
        let fd = (3..).find(|fd| !process.descriptors.contains_key(fd)).unwrap_or(i32::MAX);
        process.descriptors.insert(fd, cookie);
        fd
    }

    fn sock(&mut self, cookie: Cookie) -> &mut Sock {
        self.sockets.get_mut(&cookie).expect("cookies are chosen among those that are there")
    }

    fn new_comm(&mut self) -> Comm {
        self.programs += 1;
        Comm::from_bytes(format!("program-{}", self.programs).as_bytes())
    }

    fn choose(&self, which: u8, states: &[TcpState]) -> Option<Cookie> {
        let fitting = self.sockets.iter().filter(|(_, sock)| states.contains(&sock.state));
        let fitting: Vec<_> = fitting.map(|(cookie, _)| *cookie).collect();
        pick(&fitting, which)
    }

    fn process(&self, who: u8) -> Option<u32> {
        pick(&self.processes.keys().copied().collect::<Vec<_>>(), who)
    }

    fn descriptor(&self, who: u8, which: u8) -> Option<(u32, i32, Cookie)> {
        let pid = self.process(who)?;
        let descriptors = self.processes[&pid].descriptors.iter();
        let (fd, cookie) = pick(&descriptors.collect::<Vec<_>>(), which)?;
        Some((pid, *fd, *cookie))
    }
}

impl Sock {
    fn position(&self) -> ReadPosition {
        ReadPosition { copied_seq: self.copied, unread: self.received - self.copied }
    }

    fn read_fin(&self) -> bool {
        self.received == self.copied
    }
}

fn pick<T: Copy>(among: &[T], which: u8) -> Option<T> {
    let count = among.len();
    (count > 0).then(|| among[usize::from(which) % count])
}
