//! PURE. What foreign processes claim: which socket is which device's, in the words of a backend in
//! any language, against the kernel's table.
//!
//! ```text
//! statements ─▶ claimants ─▶ doubts ─▶ incidents
//! changes, snapshots ─▲
//! ```
//!
//! Unlike the pool's own [ledger](crate::ledger), nothing is promised about when a statement comes:
//! it may be as old as the budget, and come before or after the kernel's word about the same thing.
//! So whatever is said to be wrong needs a statement that is newer than the fact by the budget at
//! least, and a claim whose socket is not known yet waits and says nothing.

mod claimant;
mod said;
mod statement;
mod verdicts;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use self::claimant::Claimant;
pub use self::statement::{Claim, Counts, Refusal, Stage, Statement};
use crate::{
    detect::Kind,
    incident::DeviceFacts,
    model::{Cookie, Ends, MonoTime, ProcessKey, TcpState},
    table::{Gone, Socket, Table},
    tuning::Allowance,
};

/// Processes that may claim at once. Chosen: a host has a few backends, each with some workers.
pub const MOST_PROCESSES: usize = 64;

/// Claims of one process. Chosen: as many sockets as the table has room for.
pub const MOST_CLAIMS: usize = 65_536;

/// Claims of all processes together. Chosen: some 80 MB in the worst case, which only root and the
/// group of the API's socket can cause.
pub const MOST_CLAIMS_OF_ALL: usize = 262_144;

/// Longest name of a device, bytes. Chosen: more than any broker takes as a client id by default.
pub const LONGEST_DEVICE: usize = 1_024;

/// Shortest time between two judgements while things happen. Chosen: half of the 100 ms within
/// which a finding has to open.
const PACE: Duration = Duration::from_millis(50);

/// How long claims last after the stream that brought them has ended. Chosen: a backend that was
/// restarted or lost its connection is back within it, and a dead one is not believed for long.
const STREAM_LEASE: Duration = Duration::from_secs(30);

/// All claiming processes.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// By process number. Another life of it cannot be mistaken: see [`Claimant::begin_life`].
    claimants: BTreeMap<u32, Claimant>,
    told: Told,
    /// Those for which a snapshot was asked: each asks once.
    asked: BTreeSet<(Cookie, Kind)>,
    /// Something happened since the last judgement.
    is_dirty: bool,
    judged: MonoTime,
    /// When the next judgement says something new, if nothing happens until then.
    due: Option<MonoTime>,
}

/// What was told of. The pool's ledger keeps off it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What is open, and whose it is.
    pub(crate) open: BTreeMap<(Cookie, Kind), u32>,
    /// What rules ignore.
    pub(crate) ignored: BTreeSet<(Cookie, Kind)>,
}

/// What is allowed to whom.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// To a process towards an address.
    pub(crate) allowed: &'a dyn Fn(Kind, u32, SocketAddr) -> Allowance,
    /// The budget with which the incident about a socket opened, if one is open.
    pub(crate) opened: &'a dyn Fn(Kind, Cookie) -> Option<Duration>,
}

impl Terms<'_> {
    fn allowance(self, kind: Kind, pid: u32, remote: SocketAddr) -> Allowance {
        (self.allowed)(kind, pid, remote)
    }

    /// An open incident keeps its budget.
    fn kept(self, kind: Kind, cookie: Cookie, allowance: Allowance) -> Allowance {
        let budget = (self.opened)(kind, cookie).unwrap_or(allowance.budget);
        Allowance { budget, ..allowance }
    }
}

/// Something that is wrong, or will be at `due`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Doubt {
    pub(crate) kind: Kind,
    pub(crate) cookie: Cookie,
    /// The claiming process.
    pub(crate) pid: u32,
    /// Where the socket goes, or went.
    pub(crate) ends: Ends,
    /// Since when it is wrong, at the least.
    pub(crate) since: MonoTime,
    /// When it is a finding; a snapshot has to confirm it then or later.
    pub(crate) due: MonoTime,
    pub(crate) allowance: Allowance,
    pub(crate) device: Option<DeviceFacts>,
}

impl Claims {
    /// Takes in what process `pid` says, received at `now`. All records up to `now` should have
    /// been handled before, but need not have been. `budgets` are all that somebody may have for
    /// orphans.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; the statements before the refused one stay.
    pub(crate) fn handle_statements(
        &mut self,
        pid: u32,
        statements: Vec<Statement>,
        table: &Table,
        budgets: &[Duration],
        now: MonoTime,
    ) -> Result<Counts, Refusal> {
        let others: usize = self
            .claimants
            .iter()
            .filter(|(other, _)| **other != pid)
            .map(|(_, claimant)| claimant.len())
            .sum();
        if !self.claimants.contains_key(&pid) {
            if self.claimants.len() >= MOST_PROCESSES {
                return Err(Refusal::TooManyProcesses);
            }
            self.claimants.insert(pid, Claimant::new(pid, table, now));
        }
        let claimant = self.claimants.get_mut(&pid).expect("invariant: inserted above");
        claimant.begin_life(table, now);
        let room = MOST_CLAIMS.min(MOST_CLAIMS_OF_ALL.saturating_sub(others));
        let has_lease =
            statements.iter().any(|it| matches!(it, Statement::All { lease: Some(_), .. }));
        let mut outcome = Ok(());
        for statement in statements {
            outcome = claimant.take(statement, room, now);
            if outcome.is_err() {
                break;
            }
        }
        claimant.heard(has_lease, budgets, now);
        self.is_dirty = true;
        outcome.map(|()| claimant.counts())
    }

    /// A stream of process `pid` has ended.
    pub(crate) fn handle_stream_end(&mut self, pid: u32, now: MonoTime) {
        if let Some(claimant) = self.claimants.get_mut(&pid) {
            claimant.end_stream(now);
        }
    }

    /// The table changed this socket.
    pub(crate) fn touched(&mut self, cookie: Cookie, table: &Table) {
        if self.claimants.is_empty() {
            return;
        }
        if let Some(socket) = table.socket(cookie) {
            self.meet(socket);
        }
    }

    /// The table does not have this socket any more.
    pub(crate) fn left(&mut self, cookie: Cookie, gone: Gone, now: MonoTime) {
        for claimant in self.claimants.values_mut() {
            self.is_dirty |= claimant.left(cookie, gone, now);
        }
    }

    /// A process has exited: nobody stands by its claims any more.
    pub(crate) fn exited(&mut self, process: ProcessKey) {
        if self.claimants.get(&process.pid).is_some_and(|it| it.may_be(process)) {
            self.claimants.remove(&process.pid);
            self.is_dirty = true;
        }
    }

    /// A snapshot has put the table right.
    pub(crate) fn handle_snapshot(&mut self, table: &Table, now: MonoTime) {
        if self.claimants.is_empty() {
            return;
        }
        for socket in table.unordered() {
            self.meet(socket);
        }
        for claimant in self.claimants.values_mut() {
            claimant.begin_life(table, now);
            claimant.drop_unknown(table, now);
        }
        self.is_dirty = true;
    }

    /// All that is wrong or will be, as of `now`.
    pub(crate) fn doubts(&mut self, table: &Table, terms: Terms<'_>, now: MonoTime) -> Vec<Doubt> {
        let ended: Vec<u32> = self
            .claimants
            .iter()
            .filter(|(_, claimant)| claimant.is_over(now))
            .map(|(pid, _)| *pid)
            .collect();
        for pid in ended {
            self.claimants.remove(&pid);
        }
        let mut doubts = Vec::new();
        for claimant in self.claimants.values() {
            claimant.doubts(table, terms, now, &mut doubts);
        }
        doubts.retain(|doubt| doubt.kind != Kind::Orphan || !self.is_claimed(doubt.cookie));
        self.is_dirty = false;
        self.judged = now;
        let settles = self.claimants.values().filter_map(|it| it.next_settled(now));
        let dues = doubts.iter().map(|it| it.allowance.opens(it.due)).filter(|due| *due > now);
        self.due = settles.chain(dues).min();
        doubts
    }

    /// When the next judgement is due.
    pub(crate) fn next(&self) -> Option<MonoTime> {
        let pace = self.is_dirty.then(|| self.judged.after(PACE));
        let lease = self.claimants.values().filter_map(Claimant::lease_ends).min();
        [pace, lease, self.due].into_iter().flatten().min()
    }

    /// Whether any process claims this socket now.
    pub(crate) fn is_claimed(&self, cookie: Cookie) -> bool {
        self.claimants.values().any(|claimant| claimant.is_claimed(cookie))
    }

    /// Whether what is said of this kind about this socket comes from a foreign claim.
    pub(crate) fn has_told(&self, cookie: Cookie, kind: Kind) -> bool {
        let key = (cookie, kind);
        self.told.open.contains_key(&key) || self.told.ignored.contains(&key)
    }

    /// Takes out what was told of, to be put back by [`Self::set_told`].
    pub(crate) fn take_told(&mut self) -> Told {
        std::mem::take(&mut self.told)
    }

    /// Notes what was told of.
    pub(crate) fn set_told(&mut self, told: Told) {
        self.told = told;
    }

    /// What is allowed has changed.
    pub(crate) fn judge_again(&mut self) {
        self.is_dirty = !self.claimants.is_empty();
    }

    /// Notes what waits for a snapshot by now. Whether one should be asked for: something is new
    /// in it. What a snapshot did not confirm waits for the next one that comes by itself.
    pub(crate) fn set_waiting(&mut self, waiting: BTreeSet<(Cookie, Kind)>) -> bool {
        let is_new = !waiting.is_subset(&self.asked);
        self.asked = waiting;
        is_new
    }

    fn meet(&mut self, socket: &Socket) {
        for (pid, claimant) in &mut self.claimants {
            let is_its = socket.holders.iter().any(|holder| holder.process.pid == *pid)
                || socket.owner.as_ref().is_some_and(|owner| owner.process.pid == *pid);
            if is_its || claimant.knows(socket.cookie) {
                self.is_dirty |= claimant.meet(socket);
            }
        }
    }
}

/// Whether both ends can talk.
fn is_live(state: TcpState) -> bool {
    state == TcpState::Established
}

/// Whether a connection is on its way to be ESTABLISHED.
fn is_coming(state: TcpState) -> bool {
    matches!(state, TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv)
}
