//! Where the claims of a process and the kernel differ: one function for each kind.

use std::sync::Arc;

use super::{
    Doubt, Stage, Terms,
    claimant::{Claimant, Known},
    is_live,
};
use crate::{
    detect::Kind,
    incident::DeviceFacts,
    model::{Cookie, MonoTime},
    table::{Socket, Table},
    tuning::Allowance,
};

/// Overlaps of one device that are told of. Chosen: more say nothing new of it.
const MOST_PAIRS: usize = 8;

impl Claimant {
    /// All that is wrong or will be, as of `now`.
    pub(super) fn doubts(
        &self,
        table: &Table,
        terms: Terms<'_>,
        now: MonoTime,
        all: &mut Vec<Doubt>,
    ) {
        self.orphans(table, terms, now, all);
        self.ghosts(terms, all);
        self.overlaps(terms, now, all);
    }

    /// Connections to where its devices connect to, that it did not claim when it spoke a budget
    /// after they were established. They then have one more budget to be claimed or to end: a
    /// socket that was taken from the registry may still say goodbye.
    fn orphans(&self, table: &Table, terms: Terms<'_>, now: MonoTime, all: &mut Vec<Doubt>) {
        let loose = |remote| Some((remote, self.loose.get(remote)?));
        for (remote, cookies) in self.remotes.keys().filter_map(loose) {
            let allowed = terms.allowance(Kind::Orphan, self.pid, *remote);
            for cookie in cookies {
                let allowance = terms.kept(Kind::Orphan, *cookie, allowed);
                all.extend(self.orphan(table, *cookie, allowance, now));
            }
        }
    }

    fn orphan(
        &self,
        table: &Table,
        cookie: Cookie,
        allowance: Allowance,
        now: MonoTime,
    ) -> Option<Doubt> {
        let budget = allowance.budget;
        let spoken = self.said.settled(now, budget)?;
        let known = self.sockets.get(&cookie)?;
        let established = known.established?;
        let dropped = known.dropped;
        let since = dropped.map_or(established, |dropped| dropped.at.max(established));
        let counts_from = dropped.map_or(since, |dropped| dropped.counts_from(budget).max(since));
        let is_spoken = spoken >= counts_from.max(established.after(budget));
        let is_its = || table.socket(cookie).is_some_and(|socket| self.made(socket));
        let device = known.device.clone().map(facts);
        let due = spoken.after(budget);
        (is_spoken && is_its())
            .then(|| self.doubt(Kind::Orphan, cookie, known, (since, due), allowance, device))
    }

    /// Claimed to be online, and not ESTABLISHED any more for a budget when it spoke.
    fn ghosts(&self, terms: Terms<'_>, all: &mut Vec<Doubt>) {
        for cookie in &self.fallen {
            let Some(known) = self.sockets.get(cookie) else { continue };
            let Some(left) = known.left else { continue };
            let Some(held) = self.claims.get(&known.ends) else { continue };
            let allowed = terms.allowance(Kind::Ghost, self.pid, known.ends.remote);
            let allowance = terms.kept(Kind::Ghost, *cookie, allowed);
            let due = left.after(allowance.budget);
            let is_said_since = self.said.last().is_some_and(|last| last >= due);
            if is_said_since && held.stage == Stage::Online {
                let device = Some(facts(Arc::clone(&held.device)));
                all.push(self.doubt(Kind::Ghost, *cookie, known, (left, due), allowance, device));
            }
        }
    }

    /// Two claims for one device, and both sockets are live. The budget is for how long they are.
    fn overlaps(&self, terms: Terms<'_>, now: MonoTime, all: &mut Vec<Doubt>) {
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
                let kind = Kind::Overlap;
                let allowed = terms.allowance(kind, self.pid, known.ends.remote);
                let allowance = terms.kept(kind, younger, allowed);
                let due = since.after(allowance.budget);
                let times = (since, due);
                all.push(self.doubt(kind, younger, known, times, allowance, Some(device)));
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
        (since, due): (MonoTime, MonoTime),
        allowance: Allowance,
        device: Option<DeviceFacts>,
    ) -> Doubt {
        Doubt { kind, cookie, pid: self.pid, ends: known.ends, since, due, allowance, device }
    }
}

/// What a finding says of a device that has no numbered sessions.
fn facts(device: Arc<str>) -> DeviceFacts {
    DeviceFacts { device, generation: None, other: None, overlap: None }
}
