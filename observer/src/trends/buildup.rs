//! `close-wait-buildup`: many sockets of one process are in CLOSE_WAIT.
//!
//! They are counted by every record, for between two snapshots the number may have fallen: two
//! kicks are no buildup.

use std::collections::{HashMap, HashSet};

use super::{Suspicion, View};
use crate::{
    detect::Kind,
    incident::{Detail, Evidence, Subject},
    model::{Cookie, KernelEvent, MonoTime, ProcessKey, TcpState},
    table::{Socket, Table},
};

/// The sockets in CLOSE_WAIT, and how many each process has. Bounded by the table: after a
/// snapshot they are those that it has.
#[derive(Debug, Default)]
pub(super) struct Buildup {
    sockets: HashMap<Cookie, Waiting>,
    processes: HashMap<ProcessKey, Held>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    process: ProcessKey,
    since: MonoTime,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    sockets: u64,
    /// Since when there are too many.
    over: Option<MonoTime>,
    /// Records were lost since then.
    is_doubtful: bool,
}

impl Held {
    /// Whether there are too many or are not any more, by this.
    fn judge(&mut self, most: u64, now: MonoTime) -> bool {
        let was_over = self.over.is_some();
        if self.sockets <= most {
            self.over = None;
            self.is_doubtful = false;
        } else {
            self.over.get_or_insert(now);
        }
        self.over.is_some() != was_over
    }
}

impl Buildup {
    /// Takes in an event that the table has taken in. More than `most` sockets are too many; says
    /// whether they are or are not any more, by this.
    pub(super) fn handle_event(&mut self, event: &KernelEvent, table: &Table, most: u64) -> bool {
        let now = event.time();
        match event {
            KernelEvent::Transition(it)
                if it.new == TcpState::CloseWait || self.sockets.contains_key(&it.cookie) =>
            {
                self.look(it.cookie, table, most, now)
            }
            KernelEvent::Destroyed { cookie, .. }
            | KernelEvent::Closed { cookie: Some(cookie), .. }
            | KernelEvent::Accepted { cookie: Some(cookie), .. } => {
                self.look(*cookie, table, most, now)
            }
            KernelEvent::Exited { process, .. } => self.forget(*process),
            _ => false,
        }
    }

    /// Counts anew.
    pub(super) fn handle_snapshot(&mut self, table: &Table, most: u64, now: MonoTime) {
        self.sockets.clear();
        self.processes.values_mut().for_each(|held| held.sockets = 0);
        for socket in table.unordered() {
            if let Some(waiting) = waiting(socket, table) {
                self.processes.entry(waiting.process).or_default().sockets += 1;
                self.sockets.insert(socket.cookie, waiting);
            }
        }
        self.processes.retain(|_, held| {
            held.judge(most, now);
            held.sockets > 0
        });
    }

    /// Records are missing: a fall may have been among them.
    pub(super) fn lose(&mut self) {
        self.processes.values_mut().for_each(|held| held.is_doubtful = held.over.is_some());
    }

    pub(super) fn suspicions(&mut self, view: &View<'_>, all: &mut Vec<Suspicion>) {
        let most = view.thresholds.close_wait_sockets;
        let budget = view.budgets.get(Kind::CloseWaitBuildup);
        self.processes.values_mut().for_each(|held| {
            held.judge(most, view.now);
        });
        let over: HashSet<_> = self
            .processes
            .iter()
            .filter(|(_, held)| held.over.is_some())
            .map(|(process, _)| *process)
            .collect();
        if over.is_empty() {
            return;
        }
        let mut oldest: HashMap<ProcessKey, MonoTime> = HashMap::new();
        for waiting in self.sockets.values().filter(|waiting| over.contains(&waiting.process)) {
            let oldest = oldest.entry(waiting.process).or_insert(waiting.since);
            *oldest = (*oldest).min(waiting.since);
        }
        let known = all.len();
        for (process, oldest) in oldest {
            let Some(held) = self.processes.get(&process) else { continue };
            let Some(since) = held.over else { continue };
            all.push(Suspicion {
                kind: Kind::CloseWaitBuildup,
                subject: Subject::Process(process),
                process,
                since,
                due: since.after(budget),
                evidence: match held.is_doubtful {
                    true => Evidence::Reconstructed,
                    false => Evidence::Complete,
                },
                detail: Detail::Buildup { sockets: held.sockets, oldest: view.now.since(oldest) },
            });
        }
        all[known..].sort_unstable_by_key(|suspicion| suspicion.subject);
    }

    /// Something about this socket changed.
    fn look(&mut self, cookie: Cookie, table: &Table, most: u64, now: MonoTime) -> bool {
        let is = table.socket(cookie).and_then(|socket| waiting(socket, table));
        let was = match is {
            Some(is) => self.sockets.insert(cookie, is),
            None => self.sockets.remove(&cookie),
        };
        let (is, was) = (is.map(|it| it.process), was.map(|it| it.process));
        if is == was {
            return false;
        }
        let mut is_news = false;
        if let Some(process) = is {
            let held = self.processes.entry(process).or_default();
            held.sockets += 1;
            is_news |= held.judge(most, now);
        }
        if let Some(process) = was
            && let Some(held) = self.processes.get_mut(&process)
        {
            held.sockets = held.sockets.saturating_sub(1);
            is_news |= held.judge(most, now);
            if held.sockets == 0 {
                self.processes.remove(&process);
            }
        }
        is_news
    }

    fn forget(&mut self, process: ProcessKey) -> bool {
        let held = self.processes.remove(&process);
        if held.is_some() {
            self.sockets.retain(|_, waiting| waiting.process != process);
        }
        held.is_some_and(|held| held.over.is_some())
    }
}

/// Who keeps a socket in CLOSE_WAIT. One that nobody has accepted yet is nobody's.
fn waiting(socket: &Socket, table: &Table) -> Option<Waiting> {
    if socket.state != TcpState::CloseWait {
        return None;
    }
    let owner = socket.owner.as_ref().map(|owner| owner.process);
    // An owner whose descriptor is not known has one all the same, or the socket would have gone
    // on to LAST_ACK.
    let unseen = |owner: &ProcessKey| {
        socket.holders.is_empty() && socket.released.is_none() && table.process(*owner).is_some()
    };
    let process = owner
        .filter(|owner| socket.is_held_by(*owner) || unseen(owner))
        .or_else(|| socket.holders.first().map(|holder| holder.process))?;
    Some(Waiting { process, since: socket.state_since })
}

#[cfg(test)]
mod tests;
