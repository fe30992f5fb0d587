//! A small world: a kernel with sockets, a pool with a registry, foreign code, and an observer that
//! reads the ring and then the registry. It knows the truth.

mod observed;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use pool::{
    DeviceId, Generation,
    registry::{Change, Claim, Stage},
};

use super::{Output as ToPool, cases::POOL, entry::is_live};
use crate::{
    correlate::{Config, Correlator, Output},
    detect::Kind,
    incident::{Finding, FindingEvent},
    model::{
        Comm, Cookie, Ends, Holder, KernelEvent, MonoTime, ProcessKey, ReadPosition, Snapshot,
        SnapshotRow, TcpState, Transition,
    },
};

const NETNS: u32 = 1;
/// Processes from here on are children.
const CHILD: u32 = 100;
pub(super) const DEVICES: u8 = 3;
/// After so long without a receipt the pool dials again.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(2);

/// What may happen. Numbers are devices.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Dial(u8),
    Answer(u8),
    Online(u8),
    Refuse(u8),
    BrokerCloses(u8),
    BrokerResets(u8),
    /// The pool ends the session; by a reset or not.
    Close(u8, bool),
    /// What was closed goes on to its end.
    Finish,
    /// A child gets a copy of the descriptor, or the process itself does.
    Copy(u8, bool),
    EndCopies,
    /// Somebody ends the connection, and the pool does not notice.
    Kill(u8),
    /// The pool dials again though the old socket is open.
    DialTooEarly(u8),
    /// The pool forgets the descriptor, and believes that it is closed.
    Forget(u8),
    /// All faults of the pool are mended.
    Mend,
    Foreign,
    Wait(u16),
}

/// How it is observed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    /// Bit n decides whether record n is lost.
    pub(super) loses: u64,
    /// Bit n decides whether changes were missed at reading n, so that all claims are read.
    pub(super) misses: u64,
    /// Bit n decides whether something happens between reading the ring and the registry, and
    /// during a walk.
    pub(super) races: u64,
}

#[derive(Clone, Debug)]
struct Sock {
    device: Option<u8>,
    state: TcpState,
    holders: BTreeSet<(u32, i32)>,
    connected: MonoTime,
    ended: Option<MonoTime>,
    left: Option<MonoTime>,
    is_gone: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    socket: Option<u64>,
    closed: Option<MonoTime>,
    /// It does not notice what becomes of its socket.
    is_blind: bool,
}

pub(super) struct World {
    pub(super) now: MonoTime,
    sockets: BTreeMap<u64, Sock>,
    slots: [Slot; DEVICES as usize],
    /// Closed, and the slot went on.
    overdue: BTreeSet<u64>,
    forgotten: BTreeSet<u64>,
    registry: BTreeMap<u64, Claim>,
    ring: Vec<KernelEvent>,
    changes: Vec<Change>,
    pub(super) correlator: Correlator,
    pub(super) open: BTreeMap<(Cookie, Kind), Finding>,
    pub(super) opened: Vec<Finding>,
    way: Way,
    records: u32,
    readings: u32,
    races: u32,
    /// What happens in between, if it is given the chance.
    next: Option<Op>,
    cookies: u64,
}

impl World {
    pub(super) fn new(way: Way) -> Self {
        let now = MonoTime::from_nanos(1_000_000_000);
        let mut correlator = Correlator::new(Config::default(), now);
        correlator.follow_registry(POOL);
        let mut world = Self {
            now,
            sockets: BTreeMap::new(),
            slots: Default::default(),
            overdue: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            registry: BTreeMap::new(),
            ring: Vec::new(),
            changes: Vec::new(),
            correlator,
            open: BTreeMap::new(),
            opened: Vec::new(),
            way,
            records: 0,
            readings: 0,
            races: 0,
            next: None,
            cookies: 0,
        };
        world.pump();
        world
    }

    /// Lets something happen after a pause, while the observer may be looking.
    pub(super) fn run(&mut self, pause: Duration, op: Op) {
        let until = self.now.after(pause);
        self.pass(until);
        self.next = Some(op);
        self.pump();
        if let Some(op) = self.next.take() {
            self.act(op);
        }
        if let Op::Wait(milliseconds) = op {
            self.pass(self.now.after(Duration::from_millis(u64::from(milliseconds))));
        }
        self.pump();
    }

    /// Lets time pass; the pool does what it has to.
    pub(super) fn pass(&mut self, until: MonoTime) {
        while self.now < until {
            let step = self.now.after(Duration::from_millis(50)).min(until);
            let due = self
                .correlator
                .poll_timeout()
                .unwrap_or(step)
                .max(MonoTime::from_nanos(self.now.nanos() + 1));
            self.now = due.min(step);
            self.pool_acts();
            self.pump();
        }
    }

    /// Everything ends.
    pub(super) fn end(&mut self) {
        self.act(Op::Mend);
        self.act(Op::EndCopies);
        for device in 0..DEVICES {
            self.act(Op::Close(device, false));
        }
        let foreign: Vec<_> = self.sockets.keys().copied().collect();
        for cookie in foreign {
            let holders = self.sockets[&cookie].holders.clone();
            for (pid, fd) in holders {
                self.drop_descriptor(cookie, pid, fd);
            }
        }
        self.pump();
        for _ in 0..5 {
            self.act(Op::Finish);
            self.pass(self.now.after(Duration::from_secs(6)));
        }
    }

    /// What is wrong now, by the truth, for longer than its budget and a snapshot.
    pub(super) fn wrong(&self) -> BTreeSet<(Cookie, Kind)> {
        let mut wrong = BTreeSet::new();
        let is_broker_known = self.correlator.ledger().is_some_and(|it| it.is_broker(broker()));
        for (cookie, sock) in self.sockets.iter().filter(|(_, sock)| !sock.is_gone) {
            let claim = self.registry.get(cookie).map(|claim| claim.stage);
            let is_held = !sock.holders.is_empty();
            if is_broker_known
                && claim.is_none()
                && sock.holders.iter().any(|(pid, _)| *pid == POOL)
            {
                wrong.insert((Cookie(*cookie), Kind::Orphan));
            }
            if claim == Some(Stage::Closed) && is_held && sock.ended.is_none() {
                wrong.insert((Cookie(*cookie), Kind::Unreleased));
            }
            let older = self.sockets.range(..cookie).filter(|(_, it)| it.device == sock.device);
            let is_double = older.into_iter().any(|(_, it)| it.ended.is_none());
            if sock.device.is_some() && sock.ended.is_none() && is_double {
                wrong.insert((Cookie(*cookie), Kind::Overlap));
            }
        }
        for (cookie, claim) in &self.registry {
            if claim.stage == Stage::Online && self.sockets[cookie].left.is_some() {
                wrong.insert((Cookie(*cookie), Kind::Ghost));
            }
        }
        wrong
    }

    /// Checks that what is open is what is wrong. Where changes were missed, nobody knows whether
    /// the pool had a receipt for a socket that it does not claim any more: then it is one that the
    /// pool has closed and somebody holds.
    pub(super) fn check_open(&self) {
        let open: BTreeSet<_> = self.open.keys().copied().collect();
        let wrong = self.wrong();
        if self.way.misses == 0 {
            return assert_eq!(open, wrong);
        }
        for (cookie, kind) in &wrong {
            let other = if *kind == Kind::Orphan { Kind::Unreleased } else { *kind };
            let is_open = open.contains(&(*cookie, *kind)) || open.contains(&(*cookie, other));
            assert!(is_open, "{kind} of {cookie:?} is missed: {open:?}");
        }
        for (cookie, kind) in open.difference(&wrong) {
            let sock = &self.sockets[&cookie.0];
            let is_held = sock.ended.is_none() && !sock.holders.is_empty();
            assert!(
                *kind == Kind::Unreleased && is_held,
                "{kind} of {cookie:?} is over: {wrong:?}"
            );
        }
    }

    /// All overlaps that ever were, by their younger socket.
    pub(super) fn overlaps(&self) -> BTreeSet<Cookie> {
        let mut overlaps = BTreeSet::new();
        for cookie in self.sockets.keys() {
            if self.true_overlap(*cookie).is_some() {
                overlaps.insert(Cookie(*cookie));
            }
        }
        overlaps
    }

    fn true_overlap(&self, cookie: u64) -> Option<Duration> {
        let younger = &self.sockets[&cookie];
        younger.device?;
        let end = |sock: &Sock| sock.ended.unwrap_or(self.now);
        let older = self.sockets.range(..cookie).filter(|(_, it)| it.device == younger.device);
        let lengths = older.map(|(_, it)| end(it).min(end(younger)).since(younger.connected));
        lengths.max().filter(|length| !length.is_zero())
    }

    fn act(&mut self, op: Op) {
        use TcpState::{Close, CloseWait, Established, SynSent};
        let socket = |world: &Self, device: u8| {
            let slot = world.slots[usize::from(device % DEVICES)];
            slot.socket.filter(|_| slot.closed.is_none())
        };
        match op {
            Op::Dial(device) => {
                if self.slots[usize::from(device % DEVICES)].socket.is_none() {
                    self.dial(device % DEVICES);
                }
            }
            Op::Answer(device) => self.step(socket(self, device), &[SynSent], Established),
            Op::Refuse(device) => self.step(socket(self, device), &[SynSent], Close),
            Op::BrokerCloses(device) => self.step(socket(self, device), &[Established], CloseWait),
            Op::BrokerResets(device) => {
                self.step(socket(self, device), &[Established, CloseWait], Close);
            }
            Op::Online(device) => {
                let Some(cookie) = socket(self, device) else { return };
                if self.sockets[&cookie].state == Established {
                    self.stage(cookie, Stage::Online);
                }
            }
            Op::Close(device, resets) => self.close(device % DEVICES, resets),
            Op::Finish => self.finish(),
            Op::Copy(device, to_child) => {
                let Some(cookie) = socket(self, device) else { return };
                let fd = 1_000 + fd_of(cookie);
                let holder = (if to_child { CHILD } else { POOL }, fd);
                let sock = self.sockets.get_mut(&cookie).expect("it was just there");
                sock.holders.insert(holder);
            }
            Op::EndCopies => {
                let cookies: Vec<_> = self.sockets.keys().copied().collect();
                for cookie in cookies {
                    let copies = self.sockets[&cookie].holders.clone();
                    for (pid, fd) in copies {
                        if pid == CHILD || fd >= 1_000 {
                            self.drop_descriptor(cookie, pid, fd);
                        }
                    }
                }
            }
            Op::Kill(device) => {
                if let Some(cookie) = socket(self, device) {
                    self.slots[usize::from(device % DEVICES)].is_blind = true;
                    self.step(Some(cookie), &[SynSent, Established, CloseWait], Close);
                }
            }
            Op::DialTooEarly(device) => {
                if let Some(cookie) = socket(self, device) {
                    self.stage(cookie, Stage::Closed);
                    self.overdue.insert(cookie);
                    self.forgotten.insert(cookie);
                    self.slots[usize::from(device % DEVICES)] = Slot::default();
                    self.dial(device % DEVICES);
                }
            }
            Op::Forget(device) => {
                if let Some(cookie) = socket(self, device) {
                    self.stage(cookie, Stage::Closed);
                    self.retract(cookie, true);
                    self.forgotten.insert(cookie);
                    self.slots[usize::from(device % DEVICES)] = Slot::default();
                }
            }
            Op::Mend => {
                for cookie in std::mem::take(&mut self.forgotten) {
                    self.drop_descriptor(cookie, POOL, fd_of(cookie));
                }
                for slot in &mut self.slots {
                    slot.is_blind = false;
                }
            }
            Op::Foreign => {
                let cookie = self.make(None);
                self.connect(cookie);
            }
            Op::Wait(_) => {}
        }
    }

    fn pool_acts(&mut self) {
        for device in 0..DEVICES {
            let slot = self.slots[usize::from(device)];
            let Some(cookie) = slot.socket else { continue };
            let sock = &self.sockets[&cookie];
            match slot.closed {
                None if slot.is_blind => {}
                None if matches!(sock.state, TcpState::Close | TcpState::CloseWait) => {
                    self.close(device, false);
                }
                None => {}
                Some(_) if sock.ended.is_some() => {
                    self.slots[usize::from(device)] = Slot::default();
                    self.retract(cookie, true);
                }
                Some(since) if self.now.since(since) >= RECEIPT_TIMEOUT => {
                    self.slots[usize::from(device)] = Slot::default();
                    self.overdue.insert(cookie);
                }
                Some(_) => {}
            }
        }
        let ended = |cookie: &u64| self.sockets[cookie].ended.is_some();
        let released: Vec<_> = self.overdue.iter().copied().filter(ended).collect();
        for cookie in released {
            self.overdue.remove(&cookie);
            self.retract(cookie, true);
        }
    }

    fn dial(&mut self, device: u8) {
        let cookie = self.make(Some(device));
        self.slots[usize::from(device)].socket = Some(cookie);
        let claim = Claim {
            cookie,
            device: DeviceId::new(format!("d{device}")).expect("a valid name"),
            generation: Generation::default(),
            stage: Stage::Connecting,
            remote: broker(),
        };
        self.changes.push(Change::Claimed(claim.clone()));
        self.registry.insert(cookie, claim);
        self.connect(cookie);
    }

    fn close(&mut self, device: u8, resets: bool) {
        let slot = &mut self.slots[usize::from(device)];
        let Some(cookie) = slot.socket.filter(|_| slot.closed.is_none()) else { return };
        slot.closed = Some(self.now);
        slot.is_blind = false;
        // shutdown(2) ends it whoever has a copy; SO_LINGER acts at the last close only.
        if !resets {
            self.hang_up(cookie);
        }
        self.drop_descriptor(cookie, POOL, fd_of(cookie));
        self.stage(cookie, Stage::Closed);
    }

    fn finish(&mut self) {
        use TcpState::{Close, FinWait1, FinWait2, LastAck};
        let cookies: Vec<_> = self.sockets.keys().copied().collect();
        for cookie in cookies {
            let sock = &self.sockets[&cookie];
            match sock.state {
                FinWait1 => self.step(Some(cookie), &[FinWait1], FinWait2),
                FinWait2 if sock.holders.is_empty() => self.step(Some(cookie), &[FinWait2], Close),
                LastAck => self.step(Some(cookie), &[LastAck], Close),
                _ => {}
            }
            self.destroy_if_free(cookie);
        }
    }

    fn hang_up(&mut self, cookie: u64) {
        use TcpState::{Close, CloseWait, Established, FinWait1, LastAck, SynSent};
        self.step(Some(cookie), &[SynSent], Close);
        self.step(Some(cookie), &[Established], FinWait1);
        self.step(Some(cookie), &[CloseWait], LastAck);
    }

    fn drop_descriptor(&mut self, cookie: u64, pid: u32, fd: i32) {
        let sock = self.sockets.get_mut(&cookie).expect("cookies are of sockets");
        if !sock.holders.remove(&(pid, fd)) {
            return;
        }
        let is_last = sock.holders.is_empty();
        let (time, process) = (self.now, key(pid));
        let references = 1;
        let closed =
            KernelEvent::Closed { time, cookie: Some(Cookie(cookie)), process, fd, references };
        self.ring.push(closed);
        if is_last {
            self.hang_up(cookie);
            self.destroy_if_free(cookie);
        }
    }

    fn destroy_if_free(&mut self, cookie: u64) {
        let time = self.now;
        let sock = self.sockets.get_mut(&cookie).expect("cookies are of sockets");
        if sock.state == TcpState::Close && sock.holders.is_empty() && !sock.is_gone {
            sock.is_gone = true;
            self.ring.push(KernelEvent::Destroyed { time, cookie: Cookie(cookie) });
        }
    }

    fn make(&mut self, device: Option<u8>) -> u64 {
        self.cookies += 1;
        let sock = Sock {
            device,
            state: TcpState::Close,
            holders: BTreeSet::from([(POOL, fd_of(self.cookies))]),
            connected: self.now,
            ended: None,
            left: None,
            is_gone: false,
        };
        self.sockets.insert(self.cookies, sock);
        self.cookies
    }

    fn connect(&mut self, cookie: u64) {
        self.step(Some(cookie), &[TcpState::Close], TcpState::SynSent);
    }

    fn step(&mut self, cookie: Option<u64>, from: &[TcpState], new: TcpState) {
        let Some((cookie, sock)) = cookie.and_then(|it| Some((it, self.sockets.get_mut(&it)?)))
        else {
            return;
        };
        if !from.contains(&sock.state) || sock.is_gone {
            return;
        }
        let time = self.now;
        let old = std::mem::replace(&mut sock.state, new);
        if !is_live(new) {
            sock.ended.get_or_insert(time);
        }
        if new == TcpState::CloseWait || !is_live(new) {
            sock.left.get_or_insert(time);
        }
        let is_connect = new == TcpState::SynSent;
        self.ring.push(KernelEvent::Transition(Transition {
            time,
            cookie: Cookie(cookie),
            old,
            new,
            ends: ends(),
            netns: NETNS,
            owner: is_connect.then(|| key(POOL)),
            fd: is_connect.then(|| fd_of(cookie)),
            context_pid: 0,
            read: None,
        }));
    }

    fn stage(&mut self, cookie: u64, stage: Stage) {
        let Some(claim) = self.registry.get_mut(&cookie) else { return };
        claim.stage = stage;
        self.changes.push(Change::Claimed(claim.clone()));
    }

    fn retract(&mut self, cookie: u64, with_receipt: bool) {
        if self.registry.remove(&cookie).is_some() {
            self.changes.push(Change::Retracted { cookie, with_receipt });
        }
    }
}

fn fd_of(cookie: u64) -> i32 {
    i32::try_from(cookie).map_or(i32::MAX, |fd| fd % 900 + 3)
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ns: u64::from(pid) }
}

fn broker() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883)
}

fn ends() -> Ends {
    Ends { local: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000), remote: broker() }
}
