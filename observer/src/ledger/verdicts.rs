//! Where the two ledgers differ: one function for each kind.

use std::time::Duration;

use super::{ClaimStage, Ledger};
use crate::{
    detect::{Kind, Verdict},
    model::{Cookie, MonoTime},
    table::{Socket, Table},
};

/// That two sockets of one device live, or lived, at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overlap {
    /// The older one.
    pub(super) other: Cookie,
    /// For how long both were alive, so far; 0 if the older one was not seen alive since. That it is
    /// not 0 is certain whatever was lost; the number counts on having seen the younger one's end.
    pub(super) length: Duration,
    /// When the younger one began to connect, or from when on both are known.
    pub(super) since: MonoTime,
    /// Whether neither has ended, as far as is known.
    pub(super) is_on: bool,
    /// Whether more of it may come to light.
    may_grow: bool,
}

impl Ledger {
    /// The verdict of `kind` about the socket `cookie`. Kinds that are not the registry's say
    /// nothing here.
    pub fn judge(
        &self,
        kind: Kind,
        cookie: Cookie,
        table: &Table,
        now: MonoTime,
        budget: Duration,
    ) -> Verdict {
        let socket = table.socket(cookie);
        let since = match kind {
            Kind::Ghost => self.ghost(cookie),
            Kind::Orphan => return self.orphan(cookie, socket, now, budget),
            Kind::Unreleased => return self.unreleased(cookie, socket, now, budget),
            Kind::Overlap => return self.overlapping(cookie, budget),
            _ => None,
        };
        since.map_or(Verdict::Fine, |since| Verdict::about(since, now, budget))
    }

    /// Notes that an overlap of this socket with an older one was reported. It is the same one
    /// until one of them ends, and there is no other afterwards.
    pub fn told_overlap(&mut self, cookie: Cookie) {
        if let Some(entry) = self.entries.get_mut(cookie) {
            entry.is_overlap_told = true;
        }
    }

    /// The claim says online; the kernel says gone, or not ESTABLISHED.
    fn ghost(&self, cookie: Cookie) -> Option<MonoTime> {
        let entry = self.entries.get(cookie)?;
        let claim = entry.claim.as_ref().filter(|claim| claim.stage == ClaimStage::Online)?;
        entry.left.map(|left| left.max(claim.since))
    }

    /// An open socket to a broker, and no claim.
    fn orphan(
        &self,
        cookie: Cookie,
        socket: Option<&Socket>,
        now: MonoTime,
        budget: Duration,
    ) -> Verdict {
        let (Some(entry), Some(socket)) = (self.entries.get(cookie), socket) else {
            return Verdict::Fine;
        };
        let remote = entry.remote.unwrap_or(socket.ends.remote);
        if entry.is_claimed() || !self.is_broker(remote) {
            return Verdict::Fine;
        }
        // Retracted, or never claimed.
        let alone = entry.claim.as_ref().map(|claim| claim.since).or(entry.connected);
        let alone = alone.unwrap_or(socket.state_since);
        self.held_since(alone, self.holds(socket), now, budget)
    }

    /// Closed by the pool, and the kernel has not let go.
    fn unreleased(
        &self,
        cookie: Cookie,
        socket: Option<&Socket>,
        now: MonoTime,
        budget: Duration,
    ) -> Verdict {
        let (Some(entry), Some(socket)) = (self.entries.get(cookie), socket) else {
            return Verdict::Fine;
        };
        let stage = entry.claim.as_ref().map(|claim| (claim.stage, claim.since));
        match stage {
            Some((ClaimStage::Closed | ClaimStage::GivenUp, since))
                if entry.receipt().is_none() =>
            {
                self.held_since(since, !socket.holders.is_empty(), now, budget)
            }
            _ => Verdict::Fine,
        }
    }

    /// The verdict about a socket that nobody should hold since `since`. A copy of a descriptor is
    /// made without a record: only a snapshot that began afterwards proves that there is none.
    fn held_since(
        &self,
        since: MonoTime,
        is_held: bool,
        now: MonoTime,
        budget: Duration,
    ) -> Verdict {
        let is_looked_at = self.looked_at.is_some_and(|looked_at| looked_at > since);
        match (is_held, is_looked_at) {
            (true, _) => Verdict::about(since, now, budget),
            (false, false) => Verdict::Suspect { since, due: since.after(budget) },
            (false, true) => Verdict::Fine,
        }
    }

    /// An older socket of the same device lived while this one connected. The budget is for the
    /// length of that, not for its age, and only what was seen counts.
    fn overlapping(&self, cookie: Cookie, budget: Duration) -> Verdict {
        let Some(overlap) = self.overlap(cookie) else { return Verdict::Fine };
        let Overlap { length, since, is_on, may_grow, .. } = overlap;
        let is_told = self.entries.get(cookie).is_some_and(|entry| entry.is_overlap_told);
        match (is_told, is_on) {
            (true, false) => Verdict::Fine,
            (true, true) => Verdict::Leak { since },
            (false, _) if length > budget => Verdict::Leak { since },
            (false, _) if may_grow => Verdict::Suspect { since, due: since.after(budget) },
            (false, _) => Verdict::Fine,
        }
    }

    /// The overlap of a socket with an older one of the same device: one that goes on, or else the
    /// longest.
    pub(super) fn overlap(&self, cookie: Cookie) -> Option<Overlap> {
        let entry = self.entries.get(cookie)?;
        let connected = entry.connected?;
        let device = &entry.claim.as_ref()?.device;
        let older = self.devices.get(device)?.iter().take_while(|other| **other != cookie);
        let overlaps = older.filter_map(|other| {
            let older = self.entries.get(*other)?;
            // The later one: where a record was lost, the older one is known from later on.
            let since = connected.max(older.connected?);
            let both = older.alive?.min(entry.ended.unwrap_or(MonoTime::from_nanos(u64::MAX)));
            let is_on = older.ended.is_none() && entry.ended.is_none();
            let length = both.since(since);
            let is_covered = entry.ended.is_some_and(|ended| older.alive >= Some(ended));
            let may_grow = older.ended.is_none() && !is_covered;
            let is_any = may_grow || length > Duration::ZERO;
            is_any.then_some(Overlap { other: *other, length, since, is_on, may_grow })
        });
        overlaps.max_by_key(|overlap| (overlap.is_on, overlap.length))
    }
}
