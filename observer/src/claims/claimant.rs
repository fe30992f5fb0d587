//! One claiming process: its registry, and what the kernel said of its sockets.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use super::{
    Claim, Counts, Refusal, STREAM_LEASE, Stage, Statement, is_coming, is_live, said::Said,
};
use crate::{
    model::{Cookie, Ends, MonoTime, ProcessKey, TcpState},
    table::{Gone, Socket, Table},
};

/// Sockets that are gone and that nobody claims, but may yet claim, for a statement may be late.
/// Chosen: those of some seconds. Without one a late claim waits, and a ghost is not told of.
const MOST_PASSED: usize = 4_096;

/// A claim as it stands.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) device: Arc<str>,
    pub(super) stage: Stage,
}

/// A socket of the process.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) ends: Ends,
    pub(super) state: TcpState,
    /// Since when it has been ESTABLISHED, at the least.
    pub(super) established: Option<MonoTime>,
    /// Since when it has been neither that nor on its way to it, at the least.
    pub(super) left: Option<MonoTime>,
    /// How its last claim ended; `None` if there was none.
    pub(super) dropped: Option<Dropped>,
    /// Whose it was by that claim.
    pub(super) device: Option<Arc<str>>,
    is_gone: bool,
}

/// How a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    /// When the statement without it was received.
    pub(super) at: MonoTime,
    /// The last word before, which may have had it, if that may have been newer: lines of a stream
    /// come in order, but whole registries may overtake each other.
    pub(super) heard: Option<MonoTime>,
}

impl Dropped {
    /// From when on a statement without it counts.
    pub(super) fn counts_from(self, budget: Duration) -> MonoTime {
        self.heard.map_or(self.at, |heard| heard.after(budget))
    }
}

/// A claiming process.
#[derive(Debug)]
pub(super) struct Claimant {
    pub(super) pid: u32,
    /// Which life of the number, once a record has shown it.
    key: Option<ProcessKey>,
    pub(super) claims: HashMap<Ends, Held>,
    /// How many claims go to each remote address.
    pub(super) remotes: BTreeMap<SocketAddr, u32>,
    /// The claims of each device: almost always one.
    pub(super) devices: HashMap<Arc<str>, HashSet<Ends>>,
    pub(super) doubled: BTreeSet<Arc<str>>,
    pub(super) sockets: HashMap<Cookie, Known>,
    /// The newest socket between two addresses.
    pub(super) by_ends: HashMap<Ends, Cookie>,
    /// Connections that are there and not claimed, by remote address.
    pub(super) loose: BTreeMap<SocketAddr, BTreeSet<Cookie>>,
    /// Those that are claimed to be online and are not ESTABLISHED any more.
    pub(super) fallen: BTreeSet<Cookie>,
    passed: VecDeque<Cookie>,
    pub(super) said: Said,
    pub(super) lease_until: Option<MonoTime>,
    streams: u32,
}

impl Claimant {
    /// The process `pid`, with the sockets that the table has of it.
    pub(super) fn new(pid: u32, table: &Table, now: MonoTime) -> Self {
        let mut claimant = Self {
            pid,
            key: None,
            claims: HashMap::new(),
            remotes: BTreeMap::new(),
            devices: HashMap::new(),
            doubled: BTreeSet::new(),
            sockets: HashMap::new(),
            by_ends: HashMap::new(),
            loose: BTreeMap::new(),
            fallen: BTreeSet::new(),
            passed: VecDeque::new(),
            said: Said::default(),
            lease_until: None,
            streams: 0,
        };
        claimant.begin_life(table, now);
        claimant.fill(table);
        claimant
    }

    /// Looks at which life of the number the table knows. Another one than before: the process that
    /// claimed has exited, though nobody told.
    pub(super) fn begin_life(&mut self, table: &Table, now: MonoTime) {
        let Some(key) = table.process_by_pid(self.pid).map(|process| process.key) else { return };
        if self.key.is_some_and(|known| known != key) {
            self.replace(Vec::new(), Dropped { at: now, heard: None });
            self.sockets.clear();
            self.by_ends.clear();
            self.loose.clear();
            self.passed.clear();
            self.fill(table);
        }
        self.key = Some(key);
    }

    /// Whether this may be the life of the process that claims.
    pub(super) fn may_be(&self, process: ProcessKey) -> bool {
        self.pid == process.pid && self.key.is_none_or(|key| key == process)
    }

    /// How many claims it has.
    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }

    /// When its claims run out.
    pub(super) fn lease_ends(&self) -> Option<MonoTime> {
        self.lease_until.filter(|_| self.streams == 0)
    }

    /// Whether its claims have run out.
    pub(super) fn is_over(&self, now: MonoTime) -> bool {
        self.lease_ends().is_some_and(|end| end <= now)
    }

    /// Takes in one statement. `room` is for how many claims there is room.
    pub(super) fn take(
        &mut self,
        statement: Statement,
        room: usize,
        now: MonoTime,
    ) -> Result<(), Refusal> {
        match statement {
            Statement::All { claims, lease } => {
                if claims.len() > room {
                    return Err(Refusal::TooManyClaims);
                }
                self.lease_until = lease.map(|lease| now.after(lease)).or(self.lease_until);
                // An older registry may come late: what it leaves out may stand.
                let heard = lease.map(|_| self.said.last().unwrap_or(now));
                self.replace(claims, Dropped { at: now, heard });
            }
            Statement::Claim(claim) => {
                if self.claims.len() >= room && !self.claims.contains_key(&claim.ends) {
                    return Err(Refusal::TooManyClaims);
                }
                self.claim(claim);
            }
            Statement::Retract(ends) => self.retract(ends, Dropped { at: now, heard: None }),
            Statement::Confirm => {}
            Statement::Begin => self.streams = self.streams.saturating_add(1),
        }
        Ok(())
    }

    /// Something was said at `now`, and it stands by the rest. `has_lease`: it said for how long.
    /// `budgets`: all that somebody may have for orphans.
    pub(super) fn heard(&mut self, has_lease: bool, budgets: &[Duration], now: MonoTime) {
        self.said.push(now, budgets);
        if self.streams == 0 && !has_lease {
            // Lines of a stream that outlived the process, or its claims.
            self.lease_until = self.lease_until.max(Some(now.after(STREAM_LEASE)));
        }
    }

    /// A stream has ended: without another one the claims run out.
    pub(super) fn end_stream(&mut self, now: MonoTime) {
        self.streams = self.streams.saturating_sub(1);
        self.lease_until = self.lease_until.max(Some(now.after(STREAM_LEASE)));
    }

    /// How many claims have a socket.
    pub(super) fn counts(&self) -> Counts {
        let matched = self.claims.keys().filter(|ends| self.by_ends.contains_key(ends)).count();
        Counts { matched, unmatched: self.claims.len() - matched }
    }

    /// Whether it claims this socket.
    pub(super) fn is_claimed(&self, cookie: Cookie) -> bool {
        self.device_of(cookie).is_some()
    }

    /// Whose it says that this socket is.
    pub(super) fn device_of(&self, cookie: Cookie) -> Option<&Arc<str>> {
        let ends = self.sockets.get(&cookie)?.ends;
        let is_newest = self.by_ends.get(&ends) == Some(&cookie);
        self.claims.get(&ends).filter(|_| is_newest).map(|held| &held.device)
    }

    /// Whether this was a socket of its before.
    pub(super) fn knows(&self, cookie: Cookie) -> bool {
        self.sockets.contains_key(&cookie)
    }

    /// When a statement will be old enough to say something about sockets that it left out.
    pub(super) fn next_settled(&self, now: MonoTime) -> Option<MonoTime> {
        let is_any = self.remotes.keys().any(|remote| self.loose.contains_key(remote));
        is_any.then(|| self.said.next_settled(now)).flatten()
    }

    /// Takes in what the table knows of a socket of the process. Whether anything is new.
    pub(super) fn meet(&mut self, socket: &Socket) -> bool {
        let Socket { cookie, ends, state, state_since, .. } = *socket;
        let is_connected = ends.local.port() != 0 && ends.remote.port() != 0;
        if !is_connected || state == TcpState::Listen {
            return false;
        }
        let before = self.sockets.get(&cookie).map(|known| (known.ends, known.state, known.left));
        if before.is_none() && state == TcpState::Close {
            // It was no connection of its while anybody looked.
            return false;
        }
        if before.is_some_and(|(known, _, _)| known != ends) {
            self.loosen(cookie);
            self.unname(cookie);
        }
        let known = self.sockets.entry(cookie).or_insert_with(|| Known {
            ends,
            state,
            established: None,
            left: None,
            dropped: None,
            device: None,
            is_gone: false,
        });
        known.ends = ends;
        known.state = state;
        if is_coming(state) {
            // connect(2) again, on the same socket.
            (known.established, known.left) = (None, None);
        } else if is_live(state) {
            known.left = None;
            known.established.get_or_insert(state_since);
        } else {
            if state == TcpState::CloseWait {
                known.established.get_or_insert(state_since);
            }
            known.left.get_or_insert(state_since);
        }
        let after = Some((known.ends, known.state, known.left));
        if before == after {
            return false;
        }
        self.name(cookie);
        self.sort(cookie);
        true
    }

    /// The table does not have this socket any more. Whether that is new.
    pub(super) fn left(&mut self, cookie: Cookie, gone: Gone, now: MonoTime) -> bool {
        if !self.sockets.contains_key(&cookie) {
            return false;
        }
        if gone == Gone::Evicted {
            // What becomes of it is not known, so nothing is said of it.
            self.forget(cookie);
            return true;
        }
        let known = self.sockets.get_mut(&cookie).expect("invariant: looked up above");
        known.state = TcpState::Close;
        known.is_gone = true;
        known.left.get_or_insert(now);
        self.sort(cookie);
        if !self.is_claimed(cookie) {
            self.pass(cookie);
        }
        true
    }

    /// Lets go of sockets that left the table without a word.
    pub(super) fn drop_unknown(&mut self, table: &Table, now: MonoTime) {
        let is_unknown =
            |(cookie, known): (&Cookie, &Known)| !known.is_gone && table.socket(*cookie).is_none();
        let unknown: Vec<Cookie> = self
            .sockets
            .iter()
            .filter(|(cookie, known)| is_unknown((cookie, known)))
            .map(|(cookie, _)| *cookie)
            .collect();
        for cookie in unknown {
            self.left(cookie, Gone::Absent, now);
        }
    }

    fn fill(&mut self, table: &Table) {
        let pid = self.pid;
        let is_its = |socket: &&Socket| {
            socket.holders.iter().any(|holder| holder.process.pid == pid)
                || socket.owner.as_ref().is_some_and(|owner| owner.process.pid == pid)
        };
        for socket in table.unordered().filter(is_its) {
            self.meet(socket);
        }
    }

    /// Its whole registry.
    fn replace(&mut self, claims: Vec<Claim>, dropped: Dropped) {
        let kept: HashSet<Ends> = claims.iter().map(|claim| claim.ends).collect();
        let left_out: Vec<Ends> =
            self.claims.keys().filter(|ends| !kept.contains(ends)).copied().collect();
        for ends in left_out {
            self.retract(ends, dropped);
        }
        for claim in claims {
            self.claim(claim);
        }
    }

    fn claim(&mut self, claim: Claim) {
        let Claim { ends, device, stage } = claim;
        match self.claims.get_mut(&ends) {
            Some(held) if held.device == device => held.stage = stage,
            Some(_) => {
                self.disown(ends);
                self.own(ends, device, stage);
            }
            None => {
                *self.remotes.entry(ends.remote).or_default() += 1;
                self.own(ends, device, stage);
            }
        }
        if let Some(cookie) = self.by_ends.get(&ends).copied() {
            self.sort(cookie);
        }
    }

    fn retract(&mut self, ends: Ends, dropped: Dropped) {
        if !self.claims.contains_key(&ends) {
            return;
        }
        let device = self.disown(ends);
        if let Some(count) = self.remotes.get_mut(&ends.remote) {
            *count -= 1;
            if *count == 0 {
                self.remotes.remove(&ends.remote);
            }
        }
        let Some(cookie) = self.by_ends.get(&ends).copied() else { return };
        let Some(known) = self.sockets.get_mut(&cookie) else { return };
        (known.dropped, known.device) = (Some(dropped), device);
        let is_gone = known.is_gone;
        self.sort(cookie);
        if is_gone {
            self.pass(cookie);
        }
    }

    fn own(&mut self, ends: Ends, device: Arc<str>, stage: Stage) {
        let of_device = self.devices.entry(Arc::clone(&device)).or_default();
        of_device.insert(ends);
        if of_device.len() == 2 {
            self.doubled.insert(Arc::clone(&device));
        }
        self.claims.insert(ends, Held { device, stage });
    }

    fn disown(&mut self, ends: Ends) -> Option<Arc<str>> {
        let Held { device, .. } = self.claims.remove(&ends)?;
        let of_device = self.devices.get_mut(&device)?;
        of_device.remove(&ends);
        if of_device.len() < 2 {
            self.doubled.remove(&device);
        }
        if of_device.is_empty() {
            self.devices.remove(&device);
        }
        Some(device)
    }

    /// Makes a socket the one that is meant by its addresses, unless another one is live there or
    /// is newer.
    fn name(&mut self, cookie: Cookie) {
        let Some(known) = self.sockets.get(&cookie) else { return };
        let rank = |cookie: Cookie, known: &Known| {
            (
                known.left.is_none(),
                known.established.unwrap_or(MonoTime::from_nanos(u64::MAX)),
                cookie,
            )
        };
        let ends = known.ends;
        let other = self.by_ends.get(&ends).copied().filter(|other| *other != cookie);
        let Some(other) = other else {
            self.by_ends.insert(ends, cookie);
            return;
        };
        let is_newer =
            self.sockets.get(&other).is_none_or(|it| rank(cookie, known) > rank(other, it));
        if is_newer {
            self.by_ends.insert(ends, cookie);
            self.fallen.remove(&other);
            self.sort(other);
            if self.sockets.get(&other).is_some_and(|it| it.is_gone) {
                self.pass(other);
            }
        }
    }

    /// Takes a socket's addresses away from it.
    fn unname(&mut self, cookie: Cookie) {
        let Some(known) = self.sockets.get(&cookie) else { return };
        if self.by_ends.get(&known.ends) == Some(&cookie) {
            self.by_ends.remove(&known.ends);
        }
    }

    /// Puts a socket among the loose, the fallen, or neither.
    fn sort(&mut self, cookie: Cookie) {
        let Some(known) = self.sockets.get(&cookie) else { return };
        let (ends, is_left) = (known.ends, known.left.is_some());
        let is_open = matches!(known.state, TcpState::Established | TcpState::CloseWait);
        let is_named = self.by_ends.get(&ends) == Some(&cookie);
        let claim = self.claims.get(&ends).filter(|_| is_named);
        let is_claimed = claim.is_some();
        if claim.is_some_and(|held| held.stage == Stage::Online) && is_left {
            self.fallen.insert(cookie);
        } else {
            self.fallen.remove(&cookie);
        }
        if is_open && !is_claimed {
            self.loose.entry(ends.remote).or_default().insert(cookie);
        } else {
            self.loosen(cookie);
        }
    }

    /// Takes a socket from the loose ones.
    fn loosen(&mut self, cookie: Cookie) {
        let Some(known) = self.sockets.get(&cookie) else { return };
        if let Some(there) = self.loose.get_mut(&known.ends.remote) {
            there.remove(&cookie);
            if there.is_empty() {
                self.loose.remove(&known.ends.remote);
            }
        }
    }

    /// A socket that is gone and not claimed is kept for a while.
    fn pass(&mut self, cookie: Cookie) {
        self.passed.push_back(cookie);
        while self.passed.len() > MOST_PASSED {
            let Some(oldest) = self.passed.pop_front() else { return };
            let is_gone = self.sockets.get(&oldest).is_some_and(|known| known.is_gone);
            if is_gone && !self.is_claimed(oldest) {
                self.forget(oldest);
            }
        }
    }

    fn forget(&mut self, cookie: Cookie) {
        self.loosen(cookie);
        self.unname(cookie);
        self.fallen.remove(&cookie);
        self.sockets.remove(&cookie);
    }
}
