//! PURE. The pool's registry against the kernel's table: two ledgers, one truth.
//!
//! The registry says which socket is which device's, and the pool changes it; the kernel says what
//! became of the socket. The ledger keeps both words about each socket, matched by cookie, and says
//! where they differ. It also reads off the kernel's word what the pool waits for: the receipt
//! that a closed socket is gone.
//!
//! Two orders are promised and used. The claim is published before connect(2), and the pool
//! says that a socket is closed after close(2) has returned. What the kernel says of a claim that
//! is not here yet is kept until it is.

mod entry;
mod verdicts;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use pool::{
    DeviceId, Receipt,
    registry::{Change, Claim},
};

use self::entry::{ClaimStage, Claimed, Entry};
use crate::{
    by_cookie::ByCookie,
    detect::Kind,
    incident::DeviceFacts,
    model::{Cookie, KernelEvent, MonoTime, Snapshot, TcpState, Transition},
    reading::RegistryReading,
    table::{Socket, Table},
};

/// Broker addresses that are remembered. Chosen: a name resolves to a few, and a redirect adds one.
const MOST_BROKERS: usize = 1_024;

/// Sockets that came and went and may yet be claimed. Chosen: the registry is read after each look
/// at the ring, so only foreign code in the same process, in a great hurry, fills this.
const MOST_PASSED: usize = 16_384;

/// The pool's registry, and what the kernel said of each of its sockets.
#[derive(Debug)]
pub struct Ledger {
    /// The process of the pool: it lives as long as this does, so its number names it.
    pid: u32,
    entries: ByCookie<Entry>,
    /// The sockets of each device, in the order of their claims: one, or two while one replaces
    /// the other.
    devices: HashMap<DeviceId, Vec<Cookie>>,
    brokers: HashSet<SocketAddr>,
    /// Gone before anybody claimed them: the registry may not have been read since.
    passed: VecDeque<Cookie>,
    /// When the newest snapshot began.
    looked_at: Option<MonoTime>,
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

impl Ledger {
    /// An empty one, for the pool of process `pid`.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            entries: ByCookie::default(),
            devices: HashMap::new(),
            brokers: HashSet::new(),
            passed: VecDeque::new(),
            looked_at: None,
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

    /// Takes in changes of the registry, told at `now`: all that were published before the last
    /// record that was handled, and maybe more.
    pub fn handle_changes(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        table: &Table,
        now: MonoTime,
    ) {
        for change in changes {
            match change {
                Change::Claimed(claim) => self.claimed(claim, table, now),
                Change::Retracted { cookie, with_receipt } => {
                    self.retracted(Cookie(cookie), with_receipt, now);
                }
            }
        }
        self.forget_passed(0);
    }

    /// Takes in the whole registry, after changes were missed.
    pub fn handle_registry(&mut self, mut claims: Vec<Claim>, table: &Table, now: MonoTime) {
        let present: HashSet<_> = claims.iter().map(|claim| Cookie(claim.cookie)).collect();
        let gone: Vec<_> = self
            .entries
            .iter()
            .filter(|(cookie, entry)| entry.is_registered() && !present.contains(cookie))
            .map(|(cookie, entry)| (cookie, entry.receipt().is_some()))
            .collect();
        for (cookie, with_receipt) in gone {
            // Nobody told us of its receipt: the kernel's own word decides.
            self.retracted(cookie, with_receipt, now);
        }
        // In the order in which they were made, as changes come.
        claims.sort_by_cached_key(|claim| {
            let entry = self.entries.get(Cookie(claim.cookie));
            (claim.generation, entry.and_then(|entry| entry.connected), claim.cookie)
        });
        for claim in claims {
            self.claimed(claim, table, now);
        }
        self.forget_passed(0);
    }

    /// Takes in what the kernel said, after the table has.
    pub fn handle_event(&mut self, event: &KernelEvent) {
        match event {
            KernelEvent::Transition(transition) => self.transition(transition),
            KernelEvent::Destroyed { time, cookie } => {
                if let Some(entry) = self.entries.get_mut(*cookie) {
                    entry.go(*time);
                    self.settle(*cookie);
                }
            }
            // The process may have other connections, to elsewhere.
            KernelEvent::SynRetransmitted { cookie, .. } if self.is_claimed(*cookie) => {
                self.syn_retransmits += 1;
                self.outputs.push(Output::Congestion);
            }
            _ => {}
        }
    }

    /// Takes in what a snapshot showed, after the table has, and after the registry was read for
    /// the last record. `is_certain` unless records were lost:
    /// then nothing is concluded from what is not there.
    pub fn handle_snapshot(&mut self, snapshot: &Snapshot, table: &Table, is_certain: bool) {
        let began = snapshot.began;
        self.looked_at = Some(began);
        for row in &snapshot.rows {
            if let Some(entry) = self.entries.get_mut(row.cookie) {
                entry.row(row, began);
                continue;
            }
            let is_ours = row.holder.as_ref().is_some_and(|it| it.process.pid == self.pid);
            let is_foreign = is_ours && self.brokers.contains(&row.ends.remote);
            if is_foreign && table.socket(row.cookie).is_some() {
                self.entries.get_or_insert_with(row.cookie, Entry::default).row(row, began);
            }
        }
        let mut changed = Vec::new();
        for (cookie, entry) in self.entries.iter_mut() {
            let is_missing = is_certain && !entry.is_shown(began) && entry.was_there(began);
            if is_missing && table.socket(cookie).is_none() {
                entry.go(began);
            }
            if entry.receipt().is_some() {
                changed.push(cookie);
            }
        }
        for cookie in changed {
            self.settle(cookie);
        }
        // A socket that was met in CLOSE and was never connected is none of ours.
        self.entries.retain(|entry| entry.claim.is_some() || entry.connected.is_some());
        self.forget_passed(0);
    }

    /// What the pool is to be told, in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// The sockets about which something changed since this was last called, each once.
    pub fn take_touched(&mut self) -> Vec<Cookie> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// The sockets about which there may be something to say, in no order: few of many. All but
    /// those that are claimed, live, and their device's only one.
    pub fn suspects(&self) -> Vec<Cookie> {
        let odd = self.entries.iter().filter(|(_, entry)| !entry.is_in_order());
        let twins = self.devices.values().filter(|sockets| sockets.len() > 1).flatten().copied();
        odd.map(|(cookie, _)| cookie).chain(twins).collect()
    }

    /// All sockets in the ledger, in no order.
    pub fn cookies(&self) -> impl Iterator<Item = Cookie> {
        self.entries.iter().map(|(cookie, _)| cookie)
    }

    /// Whose socket it is, by a claim that holds or that was given up.
    pub fn device_of(&self, cookie: Cookie) -> Option<(&DeviceId, u32)> {
        let claim = self.entries.get(cookie)?.claim.as_ref()?;
        Some((&claim.device, claim.generation))
    }

    /// Whether the socket is a device's now.
    pub fn is_claimed(&self, cookie: Cookie) -> bool {
        self.entries.get(cookie).is_some_and(Entry::is_claimed)
    }

    /// Where the socket was connected to, if that is known.
    pub fn remote_of(&self, cookie: Cookie) -> Option<SocketAddr> {
        self.entries.get(cookie)?.remote
    }

    /// Whether a broker of the pool is at `address`.
    pub fn is_broker(&self, address: SocketAddr) -> bool {
        self.brokers.contains(&address)
    }

    /// What a finding says of the registry.
    pub fn facts(&self, kind: Kind, cookie: Cookie) -> Option<DeviceFacts> {
        let claim = self.entries.get(cookie)?.claim.as_ref()?;
        let overlap = (kind == Kind::Overlap).then(|| self.overlap(cookie)).flatten();
        Some(DeviceFacts {
            device: Arc::from(claim.device.as_str()),
            generation: Some(claim.generation),
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
        for (cookie, entry) in self.entries.iter() {
            match entry.stage() {
                Some(ClaimStage::Connecting) => reading.connecting += 1,
                Some(ClaimStage::Online) => {
                    reading.online += 1;
                    let state = table.socket(cookie).map(|socket| socket.state);
                    let is_gone = entry.left.is_some();
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
        let remote = canonical(claim.remote);
        if self.brokers.len() < MOST_BROKERS && self.brokers.insert(remote) {
            self.meet_broker(remote, table);
        }
        let stage = ClaimStage::from(claim.stage);
        let entry = self.entries.get_or_insert_with(cookie, Entry::default);
        if entry.connected.is_none()
            && let Some(socket) = table.socket(cookie)
        {
            entry.take(socket);
        }
        match &mut entry.claim {
            Some(known) if known.stage == stage => return,
            Some(known) => (known.stage, known.since) = (stage, now),
            None => {
                let (device, generation) = (claim.device, claim.generation.number());
                entry.remote = Some(remote);
                // Almost always the only one; a vector would make room for four.
                let only = || Vec::with_capacity(1);
                self.devices.entry(device.clone()).or_insert_with(only).push(cookie);
                entry.claim = Some(Claimed { device, generation, stage, since: now });
            }
        }
        self.settle(cookie);
    }

    /// The sockets of our process to a new broker, which were nobody's business until now.
    fn meet_broker(&mut self, remote: SocketAddr, table: &Table) {
        let sockets = table.unordered().filter(|socket| socket.ends.remote == remote);
        for socket in sockets {
            if !self.holds(socket) {
                continue;
            }
            self.entries.get_or_insert_with(socket.cookie, || {
                let mut entry = Entry::default();
                entry.take(socket);
                entry
            });
            self.touched.push(socket.cookie);
        }
    }

    fn retracted(&mut self, cookie: Cookie, with_receipt: bool, now: MonoTime) {
        let Some(entry) = self.entries.get_mut(cookie) else { return };
        let Some(claim) = &mut entry.claim else { return };
        if with_receipt {
            (claim.stage, claim.since) = (ClaimStage::Retracted, now);
        } else {
            // What is wrong with it is wrong since it was closed.
            let is_closed = claim.stage == ClaimStage::Closed;
            claim.since = if is_closed { claim.since } else { now };
            claim.stage = ClaimStage::GivenUp;
        }
        self.settle(cookie);
    }

    fn transition(&mut self, transition: &Transition) {
        let cookie = transition.cookie;
        let is_connect = transition.new == TcpState::SynSent;
        if is_connect && transition.owner.is_some_and(|owner| owner.pid == self.pid) {
            let entry = self.entries.get_or_insert_with(cookie, Entry::default);
            entry.connect(transition.time, transition.ends.remote);
            return self.settle(cookie);
        }
        let Some(entry) = self.entries.get_mut(cookie) else { return };
        entry.transition(transition);
        if entry.stage() == Some(ClaimStage::Connecting) && self.is_reset_by_others(transition) {
            self.outputs.push(Output::Congestion);
        }
        self.settle(cookie);
    }

    /// Whether a connection was refused, reset or given up by the kernel, and surely not closed by
    /// the pool: close(2) runs in the pool's own process. (So may the kernel's answer to a reset
    /// that comes over the loopback device; that the pool hears by itself.)
    fn is_reset_by_others(&self, transition: &Transition) -> bool {
        transition.new == TcpState::Close && transition.context_pid != self.pid
    }

    /// Gives the receipt if it is due, and forgets the entry if nothing is left to say.
    fn settle(&mut self, cookie: Cookie) {
        let Some(entry) = self.entries.get_mut(cookie) else { return };
        // Before the pool asks, too: it hears of it when it has closed its descriptor.
        if entry.is_registered()
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
        match (entry.is_over(), entry.claim.is_some()) {
            (true, true) => self.forget_if_sure(cookie),
            (true, false) => {
                self.passed.push_back(cookie);
                self.forget_passed(MOST_PASSED);
            }
            (false, _) => {}
        }
    }

    /// Whether the pool's process has a descriptor of it.
    fn holds(&self, socket: &Socket) -> bool {
        socket.holders.iter().any(|holder| holder.process.pid == self.pid)
    }

    /// Forgets all but the last `keep` of those that came and went: who claimed one said so before
    /// it was connected.
    fn forget_passed(&mut self, keep: usize) {
        while self.passed.len() > keep {
            let Some(cookie) = self.passed.pop_front() else { return };
            if self.entries.get(cookie).is_some_and(|entry| entry.claim.is_none()) {
                self.forget(cookie);
            }
        }
    }

    /// Forgets a socket that is over, unless it is not known yet whether an older one outlived its
    /// connect: then it goes together with that one.
    fn forget_if_sure(&mut self, cookie: Cookie) {
        if self.overlap(cookie).is_none() {
            self.forget(cookie);
        }
    }

    fn forget(&mut self, cookie: Cookie) {
        let Some(entry) = self.entries.remove(cookie) else { return };
        let Some(claim) = entry.claim else { return };
        let Some(sockets) = self.devices.get_mut(&claim.device) else { return };
        sockets.retain(|other| *other != cookie);
        if sockets.is_empty() {
            self.devices.remove(&claim.device);
            return;
        }
        for other in sockets.clone() {
            if self.entries.get(other).is_some_and(Entry::is_over) {
                self.forget_if_sure(other);
            }
        }
    }
}

/// As the table writes addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
