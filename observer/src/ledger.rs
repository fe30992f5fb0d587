//! PURE. The pool's registry against the kernel's table: two ledgers, one truth.
//!
//! The registry says which socket is which device's, and the pool changes it; the kernel says what
//! became of the socket. The ledger keeps both words about each socket, matched by cookie, and says
//! where they differ. It also reads off the kernel's word what the pool waits for: the receipt
//! that a closed socket is gone.
//!
//! Two orders are promised and used. The claim is published before connect(2), and the pool's loop
//! says that a socket is closed after close(2) has returned. What the kernel says of a claim that
//! is not here yet is kept until it is.

mod verdicts;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use pool::{
    DeviceId, Receipt,
    registry::{Change, Claim, Stage},
};

use crate::{
    detect::Kind,
    incident::DeviceFacts,
    model::{Cookie, KernelEvent, MonoTime, TcpState, Transition},
    reading::RegistryReading,
    table::{Socket, Table},
};

/// Broker addresses that are remembered. Chosen: a name resolves to a few, and a redirect adds one.
const MOST_BROKERS: usize = 1_024;

/// The pool's registry, and what the kernel said of each of its sockets.
#[derive(Debug)]
pub struct Ledger {
    /// The process of the pool: it lives as long as this does, so its number names it.
    pid: u32,
    entries: HashMap<Cookie, Entry>,
    /// The sockets of each device, oldest first: one, or two while one replaces the other.
    devices: HashMap<DeviceId, Vec<Cookie>>,
    brokers: HashSet<SocketAddr>,
    outputs: Vec<Output>,
    touched: Vec<Cookie>,
    syn_retransmits: u64,
    receipts: u64,
}

/// What the ledger says to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The kernel has let go of a socket that the pool has closed.
    Receipt(Cookie, Receipt),
    /// The way to a broker is congested.
    Congestion,
}

/// Both words about one socket of the pool's process.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// The registry's word.
    claim: Option<Claimed>,
    /// When connect(2) began.
    connected: Option<MonoTime>,
    /// When it was last known to be in a state in which data can flow or may come to flow.
    alive: Option<MonoTime>,
    /// When it left those states; not later than it did, where that was not seen.
    ended: Option<MonoTime>,
    /// When the kernel gave it up.
    destroyed: Option<MonoTime>,
    /// When a snapshot first did not find it any more.
    absent: Option<MonoTime>,
    /// Where it was connected to, for a socket without a claim.
    remote: Option<SocketAddr>,
    /// The receipt went out.
    is_receipted: bool,
}

/// The registry's word about a socket.
#[derive(Clone, Debug)]
struct Claimed {
    device: DeviceId,
    generation: u32,
    stage: ClaimStage,
    /// Since when it is in this stage, as far as we were told.
    since: MonoTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimStage {
    Connecting,
    Online,
    /// Closed by the pool.
    Closed,
    /// Closed, and the pool waits for no receipt any more.
    GivenUp,
    /// The pool has its receipt.
    Retracted,
}

impl Ledger {
    /// An empty one, for the pool of process `pid`.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            entries: HashMap::new(),
            devices: HashMap::new(),
            brokers: HashSet::new(),
            outputs: Vec::new(),
            touched: Vec::new(),
            syn_retransmits: 0,
            receipts: 0,
        }
    }

    /// The process of the pool.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Takes in one change of the registry, told at `now`.
    pub fn handle_change(&mut self, change: Change, table: &Table, now: MonoTime) {
        match change {
            Change::Claimed(claim) => self.claimed(claim, table, now),
            Change::Retracted { cookie, with_receipt } => {
                self.retracted(Cookie(cookie), with_receipt, now);
            }
        }
    }

    /// Takes in the whole registry, after changes were missed.
    pub fn handle_registry(&mut self, claims: Vec<Claim>, table: &Table, now: MonoTime) {
        let present: HashSet<_> = claims.iter().map(|claim| Cookie(claim.cookie)).collect();
        let gone: Vec<_> = self
            .entries
            .iter()
            .filter(|(cookie, entry)| entry.is_claimed() && !present.contains(cookie))
            .map(|(cookie, _)| *cookie)
            .collect();
        for cookie in gone {
            self.retracted(cookie, true, now);
        }
        for claim in claims {
            self.claimed(claim, table, now);
        }
    }

    /// Takes in what the kernel said, after the table has.
    pub fn handle_event(&mut self, event: &KernelEvent) {
        match event {
            KernelEvent::Transition(transition) => self.transition(transition),
            KernelEvent::Destroyed { time, cookie } => {
                if let Some(entry) = self.entries.get_mut(cookie) {
                    entry.destroyed.get_or_insert(*time);
                    entry.ended.get_or_insert(*time);
                    self.settle(*cookie);
                }
            }
            KernelEvent::SynRetransmitted { cookie, .. } => {
                if self.entries.contains_key(cookie) {
                    self.syn_retransmits += 1;
                    self.outputs.push(Output::Congestion);
                }
            }
            _ => {}
        }
    }

    /// Takes in what a snapshot showed, after the table has. `is_certain` unless records were lost
    /// or the table is full: then nothing is concluded from what is not there.
    pub fn handle_snapshot(&mut self, table: &Table, began: MonoTime, is_certain: bool) {
        for socket in table.unordered() {
            if self.holds(socket) && self.brokers.contains(&socket.ends.remote) {
                self.found(socket);
            }
        }
        let mut changed = Vec::new();
        for (cookie, entry) in &mut self.entries {
            let known = table.socket(*cookie);
            if let Some(socket) = known {
                if entry.look(socket) {
                    changed.push(*cookie);
                }
            }
            let was_there = entry.connected.is_some_and(|connected| connected < began);
            if known.is_none() && was_there && is_certain && entry.destroyed.is_none() {
                entry.absent.get_or_insert(began);
                entry.end_unseen();
                changed.push(*cookie);
            }
        }
        for cookie in changed {
            self.settle(cookie);
        }
    }

    /// What the pool is to be told, in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// The sockets about which something changed since this was last called.
    pub fn take_touched(&mut self) -> Vec<Cookie> {
        std::mem::take(&mut self.touched)
    }

    /// All sockets in the ledger, in no order.
    pub fn cookies(&self) -> impl Iterator<Item = Cookie> {
        self.entries.keys().copied()
    }

    /// Whose socket it is, by a claim that holds or that was given up.
    pub fn device_of(&self, cookie: Cookie) -> Option<(&DeviceId, u32)> {
        let claim = self.entries.get(&cookie)?.claim.as_ref()?;
        Some((&claim.device, claim.generation))
    }

    /// Where the socket was connected to, if that is known.
    pub fn remote_of(&self, cookie: Cookie) -> Option<SocketAddr> {
        self.entries.get(&cookie)?.remote
    }

    /// Whether a broker of the pool is at `address`.
    pub fn is_broker(&self, address: SocketAddr) -> bool {
        self.brokers.contains(&address)
    }

    /// What a finding says of the registry.
    pub fn facts(&self, kind: Kind, cookie: Cookie, now: MonoTime) -> Option<DeviceFacts> {
        let claim = self.entries.get(&cookie)?.claim.as_ref()?;
        let overlap = (kind == Kind::Overlap).then(|| self.overlap(cookie, now)).flatten();
        Some(DeviceFacts {
            device: Arc::from(claim.device.as_str()),
            generation: claim.generation,
            other: overlap.map(|overlap| overlap.other),
            overlap: overlap.map(|overlap| overlap.length),
        })
    }

    /// The numbers.
    pub fn reading(&self, table: &Table) -> RegistryReading {
        let mut reading = RegistryReading {
            receipts_by_event: self.receipts,
            syn_retransmits: self.syn_retransmits,
            ..RegistryReading::default()
        };
        for (cookie, entry) in &self.entries {
            match entry.claim.as_ref().map(|claim| claim.stage) {
                Some(ClaimStage::Connecting) => reading.connecting += 1,
                Some(ClaimStage::Online) => {
                    reading.online += 1;
                    let state = table.socket(*cookie).map(|socket| socket.state);
                    let is_gone = entry.ended.is_some();
                    if is_gone || state.is_some_and(|state| state != TcpState::Established) {
                        reading.zombies += 1;
                    }
                }
                Some(ClaimStage::Closed | ClaimStage::GivenUp) => reading.closed += 1,
                Some(ClaimStage::Retracted) | None => {}
            }
        }
        reading
    }

    fn claimed(&mut self, claim: Claim, table: &Table, now: MonoTime) {
        let cookie = Cookie(claim.cookie);
        if self.brokers.len() < MOST_BROKERS {
            self.brokers.insert(canonical(claim.remote));
        }
        let stage = match claim.stage {
            Stage::Connecting => ClaimStage::Connecting,
            Stage::Online => ClaimStage::Online,
            Stage::Closed => ClaimStage::Closed,
        };
        let entry = self.entries.entry(cookie).or_default();
        if entry.connected.is_none()
            && let Some(socket) = table.socket(cookie)
        {
            entry.take(socket);
        }
        match &mut entry.claim {
            Some(known) if known.stage == stage => {}
            Some(known) => (known.stage, known.since) = (stage, now),
            None => {
                let (device, generation) = (claim.device, claim.generation.number());
                entry.remote = Some(canonical(claim.remote));
                self.devices.entry(device.clone()).or_default().push(cookie);
                entry.claim = Some(Claimed { device, generation, stage, since: now });
            }
        }
        self.settle(cookie);
    }

    fn retracted(&mut self, cookie: Cookie, with_receipt: bool, now: MonoTime) {
        let Some(entry) = self.entries.get_mut(&cookie) else { return };
        if let Some(claim) = &mut entry.claim {
            let stage = if with_receipt { ClaimStage::Retracted } else { ClaimStage::GivenUp };
            (claim.stage, claim.since) = (stage, now);
        }
        self.settle(cookie);
    }

    fn transition(&mut self, transition: &Transition) {
        let cookie = transition.cookie;
        let is_connect = transition.new == TcpState::SynSent;
        if is_connect && transition.owner.is_some_and(|owner| owner.pid == self.pid) {
            let entry = self.entries.entry(cookie).or_default();
            entry.connected = Some(transition.time);
            entry.alive = Some(transition.time);
            entry.remote = Some(transition.ends.remote);
        }
        let Some(entry) = self.entries.get_mut(&cookie) else { return };
        if is_live(transition.new) {
            entry.alive = entry.alive.max(Some(transition.time));
        } else {
            entry.ended.get_or_insert(transition.time);
            let by_peer = transition.old == TcpState::SynSent && entry.is_wanted();
            if by_peer {
                // Refused or timed out: nobody of ours closed it.
                self.outputs.push(Output::Congestion);
            }
        }
        self.settle(cookie);
    }

    /// A snapshot shows an open socket of ours to a broker.
    fn found(&mut self, socket: &Socket) {
        let entry = self.entries.entry(socket.cookie).or_default();
        if entry.connected.is_none() {
            entry.take(socket);
        }
    }

    /// Gives the receipt if it is due, and forgets the entry if nothing is left to say.
    fn settle(&mut self, cookie: Cookie) {
        let Some(entry) = self.entries.get_mut(&cookie) else { return };
        // Before the pool asks, too: it hears of it when it has closed its descriptor.
        if entry.is_claimed()
            && !entry.is_receipted
            && let Some(receipt) = entry.receipt()
        {
            entry.is_receipted = true;
            self.receipts += 1;
            self.outputs.push(Output::Receipt(cookie, receipt));
        }
        let device = entry.claim.as_ref().map(|claim| &claim.device);
        if let Some(sockets) = device.and_then(|device| self.devices.get(device)) {
            // What ends on one side of an overlap ends it on the other.
            self.touched.extend(sockets.iter().filter(|other| **other != cookie));
        }
        self.touched.push(cookie);
        if entry.is_over() {
            self.forget(cookie);
        }
    }

    /// Whether the pool's process has a descriptor of it.
    fn holds(&self, socket: &Socket) -> bool {
        socket.holders.iter().any(|holder| holder.process.pid == self.pid)
    }

    fn forget(&mut self, cookie: Cookie) {
        let Some(entry) = self.entries.remove(&cookie) else { return };
        let Some(claim) = entry.claim else { return };
        if let Some(sockets) = self.devices.get_mut(&claim.device) {
            sockets.retain(|other| *other != cookie);
            if sockets.is_empty() {
                self.devices.remove(&claim.device);
            }
        }
    }
}

impl Entry {
    /// Takes over what the table knows of a socket whose events came before its claim, or not at
    /// all.
    fn take(&mut self, socket: &Socket) {
        self.connected = Some(socket.born.unwrap_or(socket.state_since));
        self.alive = self.connected;
        self.remote = Some(socket.ends.remote);
        self.look(socket);
    }

    /// Learns from the table whether it lives. `true` if that it has ended is new.
    fn look(&mut self, socket: &Socket) -> bool {
        if is_live(socket.state) {
            self.alive = self.alive.max(socket.confirmed_at());
            return false;
        }
        let is_new = self.ended.is_none();
        if socket.state_entered {
            self.ended.get_or_insert(socket.state_since);
        } else {
            self.end_unseen();
        }
        is_new
    }

    /// It has ended, and nobody saw when: what is said of it must not rest on more than is known.
    fn end_unseen(&mut self) {
        if self.ended.is_none() {
            self.ended = self.alive.or(self.connected);
        }
    }

    /// Whether the registry speaks for it.
    fn is_claimed(&self) -> bool {
        let stage = self.claim.as_ref().map(|claim| claim.stage);
        stage.is_some_and(|stage| stage != ClaimStage::Retracted)
    }

    /// Whether the pool still wants it.
    fn is_wanted(&self) -> bool {
        let stage = self.claim.as_ref().map(|claim| claim.stage);
        matches!(stage, Some(ClaimStage::Connecting | ClaimStage::Online))
    }

    /// What is proved of the socket.
    fn receipt(&self) -> Option<Receipt> {
        if self.destroyed.is_some() || self.absent.is_some() {
            Some(Receipt::Destroyed)
        } else {
            self.ended.map(|_| Receipt::Disconnected)
        }
    }

    /// Whether neither side will say anything more about it.
    fn is_over(&self) -> bool {
        let is_gone = self.destroyed.is_some() || self.absent.is_some();
        is_gone && !self.is_claimed()
    }
}

/// Whether data can flow, or may come to flow: a socket that has left these states is disconnected.
pub(crate) fn is_live(state: TcpState) -> bool {
    use TcpState::{CloseWait, Established, NewSynRecv, SynRecv, SynSent};
    matches!(state, SynSent | SynRecv | NewSynRecv | Established | CloseWait)
}

/// As the table writes addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
