//! Where the two ledgers differ: one function for each kind.

use std::time::Duration;

use super::{ClaimStage, Ledger};
use crate::{
    detect::{Kind, Verdict},
    model::{Cookie, MonoTime, TcpState},
    table::{Socket, Table},
};

/// That two sockets of one device lived at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overlap {
    /// The older one.
    pub(super) other: Cookie,
    /// For how long both were alive, so far.
    pub(super) length: Duration,
    /// When the younger one began to connect.
    pub(super) since: MonoTime,
    /// Whether both live still.
    is_on: bool,
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
            Kind::Ghost => self.ghost(cookie, socket),
            Kind::Orphan => self.orphan(cookie, socket),
            Kind::Unreleased => self.unreleased(cookie, socket),
            Kind::Overlap => {
                // The budget is for the length of the overlap, not for its age.
                let overlap = self.overlap(cookie, now);
                let is_leak = overlap.is_some_and(|overlap| overlap.length > budget);
                return match overlap {
                    Some(overlap) if is_leak => Verdict::Leak { since: overlap.since },
                    Some(Overlap { since, is_on: true, .. }) => {
                        Verdict::Suspect { since, due: since.after(budget) }
                    }
                    _ => Verdict::Fine,
                };
            }
            _ => None,
        };
        since.map_or(Verdict::Fine, |since| Verdict::about(since, now, budget))
    }

    /// Whether an overlap that was found is still one: both live.
    pub fn is_overlapping(&self, cookie: Cookie, now: MonoTime) -> bool {
        self.overlap(cookie, now).is_some_and(|overlap| overlap.is_on)
    }

    /// The claim says online; the kernel says gone, or not ESTABLISHED.
    fn ghost(&self, cookie: Cookie, socket: Option<&Socket>) -> Option<MonoTime> {
        let entry = self.entries.get(&cookie)?;
        let claim = entry.claim.as_ref().filter(|claim| claim.stage == ClaimStage::Online)?;
        let left = match socket {
            Some(socket) if socket.state == TcpState::Established => return None,
            Some(socket) => Some(socket.state_since),
            // What is in no ledger of the kernel's has to be proved gone.
            None => entry.destroyed.or(entry.absent),
        };
        left.map(|left| left.max(claim.since))
    }

    /// An open socket to a broker, and no claim.
    fn orphan(&self, cookie: Cookie, socket: Option<&Socket>) -> Option<MonoTime> {
        let entry = self.entries.get(&cookie)?;
        let socket = socket.filter(|socket| self.holds(socket))?;
        let remote = entry.remote.unwrap_or(socket.ends.remote);
        if entry.is_claimed() || !self.is_broker(remote) {
            return None;
        }
        // Retracted, or never claimed.
        let alone = entry.claim.as_ref().map(|claim| claim.since).or(entry.connected);
        Some(alone.unwrap_or(socket.state_since))
    }

    /// Closed by the pool, and the kernel has not let go.
    fn unreleased(&self, cookie: Cookie, socket: Option<&Socket>) -> Option<MonoTime> {
        let entry = self.entries.get(&cookie)?;
        let claim = entry.claim.as_ref()?;
        let is_closed = matches!(claim.stage, ClaimStage::Closed | ClaimStage::GivenUp);
        let is_held = socket.is_some_and(|socket| !socket.holders.is_empty());
        (is_closed && is_held && entry.receipt().is_none()).then_some(claim.since)
    }

    /// The older socket of the same device that lived while this one connected.
    pub(super) fn overlap(&self, cookie: Cookie, now: MonoTime) -> Option<Overlap> {
        let entry = self.entries.get(&cookie)?;
        let connected = entry.connected?;
        let device = &entry.claim.as_ref()?.device;
        let others = self.devices.get(device)?.iter().filter(|other| **other != cookie);
        let overlaps = others.filter_map(|other| {
            let older = self.entries.get(other)?;
            let began = older.connected.filter(|began| (*began, *other) < (connected, cookie))?;
            let until = older.ended.unwrap_or(now).min(entry.ended.unwrap_or(now));
            let is_on = older.ended.is_none() && entry.ended.is_none();
            debug_assert!(began <= connected);
            (until > connected).then(|| Overlap {
                other: *other,
                length: until.since(connected),
                since: connected,
                is_on,
            })
        });
        overlaps.max_by_key(|overlap| overlap.length)
    }
}
