//! PURE. The one table of sockets, holders and processes.
//!
//! Two sources feed it. Events are fast and exact, but some may be lost; a snapshot is true, but
//! tells nothing of the moments. Where both speak of the same thing the newer one is believed.
//!
//! It is bounded: a full table gives up the member that is missed least, and counts it.

mod capacity;
mod clients;
mod close_on_exec;
mod events;
mod flow;
mod handover;
mod history;
mod holders;
mod process;
mod recent;
mod recorder;
mod snapshot;
mod socket;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use self::{
    capacity::{Order, Worth},
    clients::Clients,
    history::Losses,
    process::Processes,
    recent::Recent,
};
pub use self::{
    close_on_exec::CloseOnExec,
    events::Question,
    flow::{Flow, Moved},
    history::Step,
    process::Process,
    recorder::{Hand, Recorder, What},
    socket::{Evidence, HolderEntry, Owner, Release, ReleaseKind, Socket},
};
use crate::{
    by_cookie::ByCookie,
    model::{Comm, Cookie, Holder, MonoTime, ProcessKey},
};

/// How large a table may grow, and what it must know of the host's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sockets, at least 1.
    pub sockets: usize,
    /// Processes, at least 1.
    pub processes: usize,
    /// `CLOCK_BOOTTIME` minus `CLOCK_MONOTONIC`: the time spent suspended since boot.
    pub boot_offset: Duration,
}

/// Why a socket left the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// A snapshot did not find it any more.
    Absent,
    /// The kernel gave it up.
    Destroyed,
    /// The table was full.
    Evicted,
}

/// What an event or a snapshot changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something about this socket.
    Touched(Cookie),
    /// This socket left the table.
    Left(Cookie, Gone),
}

/// All sockets that are known, who holds them, and the processes that do.
#[derive(Debug)]
pub struct Table {
    limits: Limits,
    sockets: ByCookie<Socket>,
    socket_order: Order<Cookie>,
    /// By process number: an older life of the same number is gone.
    processes: Processes,
    process_order: Order<u32>,
    clients: Clients,
    evicted: u64,
    evicted_processes: u64,
    losses: u64,
    lost_at: Losses,
    closed: Recent<(ProcessKey, i32)>,
    destroyed: Recent<Cookie>,
    exited: Recent<ProcessKey>,
    /// Accepted descriptors whose socket is not known yet.
    accepted: HashMap<(ProcessKey, i32), MonoTime>,
    changes: Vec<Change>,
}

impl Table {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        let sockets = limits.sockets.max(1);
        let processes = limits.processes.max(1);
        // A walk takes milliseconds; as many endings as there may be sockets cover it many times.
        let endings = sockets.max(1024);
        Self {
            limits: Limits { sockets, processes, ..limits },
            sockets: ByCookie::default(),
            socket_order: Order::new(),
            processes: Processes::default(),
            process_order: Order::new(),
            clients: Clients::default(),
            evicted: 0,
            evicted_processes: 0,
            losses: 0,
            lost_at: Losses::default(),
            closed: Recent::new(endings),
            destroyed: Recent::new(endings),
            exited: Recent::new(endings),
            accepted: HashMap::new(),
            changes: Vec::new(),
        }
    }

    /// The socket with this cookie.
    pub fn socket(&self, cookie: Cookie) -> Option<&Socket> {
        self.sockets.get(cookie)
    }

    /// All sockets, by cookie.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        let mut sockets: Vec<_> = self.unordered().collect();
        sockets.sort_unstable_by_key(|socket| socket.cookie);
        sockets.into_iter()
    }

    /// All sockets in no order, for sums.
    pub fn unordered(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.values()
    }

    /// How many sockets are known.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// How many sockets there is room for.
    pub fn capacity(&self) -> usize {
        self.limits.sockets
    }

    /// Whether no socket is known.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// This life of a process.
    pub fn process(&self, key: ProcessKey) -> Option<&Process> {
        self.processes.get(&key.pid).filter(|process| process.key == key)
    }

    /// The process that has this number now.
    pub fn process_by_pid(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// All processes that are known, by number.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        let mut processes: Vec<_> = self.processes.values().collect();
        processes.sort_unstable_by_key(|process| process.key);
        processes.into_iter()
    }

    /// The holders of a socket with their names, by process and descriptor.
    pub fn holders(&self, socket: &Socket) -> Vec<Holder> {
        let with_name = |entry: &HolderEntry| Holder {
            process: entry.process,
            comm: self.comm(entry.process),
            fd: entry.fd,
            close_on_exec: entry.close_on_exec.is_set(),
        };
        socket.holders.iter().map(with_name).collect()
    }

    /// The name of a process; empty if it is not known.
    pub fn comm(&self, key: ProcessKey) -> Comm {
        self.process(key).map(|process| process.comm.clone()).unwrap_or_default()
    }

    /// How good the proof of a socket's state is.
    pub fn evidence(&self, socket: &Socket) -> Evidence {
        if socket.certain_at_loss == Some(self.losses) {
            Evidence::Complete
        } else {
            Evidence::Reconstructed
        }
    }

    /// How good the proof of a socket's whole life is: from its birth, with no loss ever since.
    pub fn life_evidence(&self, socket: &Socket) -> Evidence {
        let followed = socket.known_at_loss == self.losses && socket.born.is_some();
        let released = socket.released.is_none_or(|release| release.kind != ReleaseKind::Unseen);
        if followed && released { self.evidence(socket) } else { Evidence::Reconstructed }
    }

    /// How many sockets had to leave a full table.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many processes had to leave a full table.
    pub fn evicted_processes(&self) -> u64 {
        self.evicted_processes
    }

    /// Records are missing, noticed at `now`: nothing that is known is certain any more.
    pub fn lose(&mut self, now: MonoTime) {
        self.losses += 1;
        self.lost_at.push(now);
    }

    /// What has changed since this was last called.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Notes whether an open incident is about this socket: such a socket is kept longest.
    pub fn set_reported(&mut self, cookie: Cookie, reported: bool) {
        if let Some(socket) = self.sockets.get_mut(cookie) {
            socket.reported = reported;
        }
    }

    fn touch(&mut self, cookie: Cookie) {
        if self.changes.last() != Some(&Change::Touched(cookie)) {
            self.changes.push(Change::Touched(cookie));
        }
    }

    fn insert_socket(&mut self, socket: Socket) {
        if self.sockets.len() >= self.limits.sockets {
            self.evict_socket();
        }
        let known = &self.sockets;
        self.socket_order.sweep(known.len(), |cookie| known.contains_key(*cookie));
        self.socket_order.push(socket.touched, socket.cookie);
        self.sockets.insert(socket.cookie, socket);
    }

    fn evict_socket(&mut self) {
        let known = &self.sockets;
        let victim = self.socket_order.victim(|cookie| {
            let socket = known.get(*cookie)?;
            let worth = match (socket.reported, socket.holders.is_empty()) {
                (true, _) => Worth::Reported,
                (false, false) => Worth::Held,
                (false, true) => Worth::Little,
            };
            Some((socket.touched, worth))
        });
        if let Some(cookie) = victim {
            self.evicted += 1;
            self.remove_socket(cookie, Gone::Evicted);
        }
    }

    fn remove_socket(&mut self, cookie: Cookie, gone: Gone) {
        let Some(socket) = self.sockets.remove(cookie) else { return };
        for entry in &socket.holders {
            self.forget_descriptor(entry.process, entry.fd, cookie);
        }
        self.rerank(socket.rank(), None);
        self.changes.push(Change::Left(cookie, gone));
    }

    /// Makes a process known. `false` for a former life of a number that is in use again.
    fn know(&mut self, key: ProcessKey, time: MonoTime) -> bool {
        match self.processes.get_mut(&key.pid) {
            Some(process) if process.key == key => {
                process.touched = process.touched.max(time);
                return true;
            }
            Some(process) if process.key > key => return false,
            Some(process) => {
                let former = process.key;
                self.exit(former, time);
            }
            None => {}
        }
        if self.processes.len() >= self.limits.processes {
            self.evict_process();
        }
        let known = &self.processes;
        self.process_order.sweep(known.len(), |pid| known.contains_key(pid));
        self.process_order.push(time, key.pid);
        self.processes.insert(key.pid, Process::new(key, time));
        true
    }

    fn evict_process(&mut self) {
        let known = &self.processes;
        let victim = self.process_order.victim(|pid| {
            let process = known.get(pid)?;
            let worth = if process.descriptors.is_empty() { Worth::Little } else { Worth::Held };
            Some((process.touched, worth))
        });
        let Some(process) = victim.and_then(|pid| self.processes.remove(&pid)) else { return };
        self.evicted_processes += 1;
        // Not a release: the process lives. The next snapshot finds its descriptors again.
        for (fd, cookie) in &process.descriptors {
            self.change(*cookie, |socket| socket.unhold(process.key, *fd));
        }
        let mut cookies: Vec<_> = process.descriptors.into_values().collect();
        cookies.sort_unstable();
        for cookie in cookies {
            self.touch(cookie);
        }
    }
}

/// What ended at `since` or later.
fn endings<T: Copy + Eq + std::hash::Hash>(recent: &Recent<T>, since: MonoTime) -> HashSet<T> {
    recent.iter().filter(|(time, _)| *time >= since).map(|(_, what)| *what).collect()
}

#[cfg(test)]
mod tests;
