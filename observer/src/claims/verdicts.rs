//! Where the claims of a process and the kernel differ: one function for each kind.

use std::{sync::Arc, time::Duration};

use super::{
    Doubt, Stage,
    claimant::{Claimant, Known},
    is_live,
};
use crate::{
    detect::{Budgets, Kind},
    incident::DeviceFacts,
    model::{Cookie, MonoTime},
    table::{Socket, Table},
};

/// Overlaps of one device that are told of. Chosen: more say nothing new of it.
const MOST_PAIRS: usize = 8;

impl Claimant {
    /// All that is wrong or will be, as of `now`.
    pub(super) fn doubts(
        &self,
        table: &Table,
        budgets: &Budgets,
        now: MonoTime,
        all: &mut Vec<Doubt>,
    ) {
        self.orphans(table, budgets.get(Kind::Orphan), now, all);
        self.ghosts(budgets.get(Kind::Ghost), all);
        self.overlaps(budgets.get(Kind::Overlap), now, all);
    }

    /// Connections to where its devices connect to, that it did not claim when it spoke a budget
    /// after they were established. They then have one more budget to be claimed or to end: a
    /// socket that was taken from the registry may still say goodbye.
    fn orphans(&self, table: &Table, budget: Duration, now: MonoTime, all: &mut Vec<Doubt>) {
        let Some(spoken) = self.said.settled(now, budget) else { return };
        let loose = self.remotes.keys().filter_map(|remote| self.loose.get(remote)).flatten();
        for cookie in loose {
            let Some(known) = self.sockets.get(cookie) else { continue };
            let Some(established) = known.established else { continue };
            let dropped = known.dropped;
            let since = dropped.map_or(established, |dropped| dropped.at.max(established));
            let counts_from = dropped.map_or(since, |dropped| dropped.counts_from.max(since));
            if spoken < counts_from.max(established.after(budget)) {
                continue;
            }
            if table.socket(*cookie).is_some_and(|socket| self.made(socket)) {
                let device = known.device.clone().map(facts);
                let due = spoken.after(budget);
                all.push(self.doubt(Kind::Orphan, *cookie, known, since, due, device));
            }
        }
    }

    /// Claimed to be online, and not ESTABLISHED any more for a budget when it spoke.
    fn ghosts(&self, budget: Duration, all: &mut Vec<Doubt>) {
        for cookie in &self.fallen {
            let Some(known) = self.sockets.get(cookie) else { continue };
            let Some(left) = known.left else { continue };
            let Some(held) = self.claims.get(&known.ends) else { continue };
            let due = left.after(budget);
            let is_said_since = self.said.last().is_some_and(|last| last >= due);
            if is_said_since && held.stage == Stage::Online {
                let device = Some(facts(Arc::clone(&held.device)));
                all.push(self.doubt(Kind::Ghost, *cookie, known, left, due, device));
            }
        }
    }

    /// Two claims for one device, and both sockets are live. The budget is for how long they are.
    fn overlaps(&self, budget: Duration, now: MonoTime, all: &mut Vec<Doubt>) {
        for device in &self.doubled {
            let Some(ends) = self.devices.get(device) else { continue };
            let live = |cookie: Cookie| {
                let known = self.sockets.get(&cookie).filter(|known| is_live(known.state))?;
                Some((known.established?, cookie))
            };
            let mut sockets: Vec<(MonoTime, Cookie)> =
                ends.iter().filter_map(|ends| live(*self.by_ends.get(ends)?)).collect();
            sockets.sort_unstable();
            for pair in sockets.windows(2).take(MOST_PAIRS) {
                let ((_, older), (since, younger)) = (pair[0], pair[1]);
                let Some(known) = self.sockets.get(&younger) else { continue };
                let device = DeviceFacts {
                    other: Some(older),
                    overlap: Some(now.since(since)),
                    ..facts(Arc::clone(device))
                };
                let due = since.after(budget);
                all.push(self.doubt(Kind::Overlap, younger, known, since, due, Some(device)));
            }
        }
    }

    /// Whether the process made this connection itself, as far as is known.
    fn made(&self, socket: &Socket) -> bool {
        match &socket.owner {
            Some(owner) => owner.process.pid == self.pid,
            // It was there before us: whose it is cannot be told if others hold it too.
            None => socket.holders.iter().all(|holder| holder.process.pid == self.pid),
        }
    }

    fn doubt(
        &self,
        kind: Kind,
        cookie: Cookie,
        known: &Known,
        since: MonoTime,
        due: MonoTime,
        device: Option<DeviceFacts>,
    ) -> Doubt {
        Doubt { kind, cookie, pid: self.pid, ends: known.ends, since, due, device }
    }
}

/// What a finding says of a device that has no numbered sessions.
fn facts(device: Arc<str>) -> DeviceFacts {
    DeviceFacts { device, generation: None, other: None, overlap: None }
}
