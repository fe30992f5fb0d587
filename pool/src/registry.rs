//! The pool's ledger: which socket is which device's. The kernel's table is the other ledger.
//!
//! A claim is published before the socket connects, so that the kernel's first event about it
//! finds the claim, and retracted only when the receipt for the closed socket is there.

use crate::device::{DeviceId, Generation};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// How many changes a reader may fall behind before it has to take a snapshot again.
const BACKLOG: usize = 16_384;

/// The statement that a socket is a device's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The socket, by the number that the kernel never uses again (`SO_COOKIE`).
    pub cookie: u64,
    /// Whose it is.
    pub device: DeviceId,
    /// Which of its sessions.
    pub generation: Generation,
    /// Where the session is.
    pub stage: Stage,
    /// The broker's address.
    pub remote: SocketAddr,
}

/// Where a claimed socket's session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// From before the connect to CONNACK.
    Connecting,
    /// After CONNACK.
    Online,
    /// Closed by us; the receipt is awaited.
    Closed,
}

/// One change of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new claim, or a new stage of one.
    Claimed(Claim),
    /// The kernel has let go of the socket, or we gave up waiting for it.
    Retracted {
        /// Which socket.
        cookie: u64,
        /// Whether there was a receipt.
        with_receipt: bool,
    },
}

/// All claims. Reading it never waits for the pool.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    claims: HashMap<u64, Claim>,
    /// Made when the first reader comes: it costs a megabyte.
    changes: Option<broadcast::Sender<Change>>,
}

impl Registry {
    /// All claims at this moment, in no order.
    pub fn snapshot(&self) -> Vec<Claim> {
        self.lock().claims.values().cloned().collect()
    }

    /// All claims at this moment, and every change after it. A reader that falls 16,384 changes
    /// behind is told so and takes a new snapshot.
    pub fn subscribe(&self) -> (Vec<Claim>, broadcast::Receiver<Change>) {
        let mut inner = self.lock();
        let changes = inner.changes.get_or_insert_with(|| broadcast::channel(BACKLOG).0);
        let receiver = changes.subscribe();
        (inner.claims.values().cloned().collect(), receiver)
    }

    /// The claim to a socket.
    pub fn claim_of(&self, cookie: u64) -> Option<Claim> {
        self.lock().claims.get(&cookie).cloned()
    }

    /// How many sockets are claimed.
    pub fn len(&self) -> usize {
        self.lock().claims.len()
    }

    /// Whether no socket is claimed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn publish(&self, claim: Claim) {
        let mut inner = self.lock();
        inner.tell(|| Change::Claimed(claim.clone()));
        inner.claims.insert(claim.cookie, claim);
    }

    pub(crate) fn set_stage(&self, cookie: u64, stage: Stage) {
        let mut inner = self.lock();
        let Some(claim) = inner.claims.get_mut(&cookie) else { return };
        claim.stage = stage;
        let claim = claim.clone();
        inner.tell(|| Change::Claimed(claim));
    }

    pub(crate) fn retract(&self, cookie: u64, with_receipt: bool) {
        let mut inner = self.lock();
        if inner.claims.remove(&cookie).is_some() {
            inner.tell(|| Change::Retracted { cookie, with_receipt });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic half way, so what is there is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tell(&self, change: impl FnOnce() -> Change) {
        if let Some(changes) = &self.changes
            && changes.receiver_count() > 0
        {
            let _nobody_listens = changes.send(change());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(cookie: u64) -> Claim {
        Claim {
            cookie,
            device: DeviceId::new("d").expect("invariant: one letter"),
            generation: Generation::default(),
            stage: Stage::Connecting,
            remote: ([127, 0, 0, 1], 1883).into(),
        }
    }

    #[test]
    fn a_reader_has_every_claim_once() {
        let registry = Registry::default();
        registry.publish(claim(1));
        let (before, mut changes) = registry.subscribe();
        registry.publish(claim(2));
        registry.set_stage(2, Stage::Online);
        registry.retract(1, true);
        registry.retract(1, true);
        assert_eq!(before, [claim(1)]);
        let online = Claim { stage: Stage::Online, ..claim(2) };
        let retracted = Change::Retracted { cookie: 1, with_receipt: true };
        let expected = [Change::Claimed(claim(2)), Change::Claimed(online.clone()), retracted];
        for change in expected {
            assert_eq!(changes.try_recv(), Ok(change));
        }
        assert!(changes.try_recv().is_err());
        assert_eq!(registry.snapshot(), [online]);
    }
}
