//! Receipts from the kernel's events, without a system call for each socket.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pool::{ClosedSocket, InetDiagReceipts, Receipt, ReceiptSource, registry::Claim};
use tokio::sync::Notify;

/// How often the pool asks before the kernel is asked for this one socket. The pool's intervals
/// double from 1 to 50 ms, so this is after 113 ms. Chosen: longer than a snapshot of a large
/// fleet, which holds up the events behind it. Waiting costs nothing, for a receipt is handed over
/// as soon as it is there; only where records were lost is it the kernel's turn.
const PATIENCE: u32 = 8;

/// The receipts of a pool whose process is observed.
#[derive(Debug, Default)]
pub struct KernelReceipts {
    sockets: Mutex<Sockets>,
    awaited: Arc<Notify>,
    fallback: InetDiagReceipts,
    queries: AtomicU64,
}

#[derive(Debug, Default)]
struct Sockets {
    /// Proved, and not fetched yet.
    proved: HashMap<u64, Receipt>,
    /// How often each was asked for.
    asked: HashMap<u64, u32>,
}

impl KernelReceipts {
    /// The kernel has let go of a socket.
    pub(super) fn prove(&self, cookie: u64, receipt: Receipt) {
        self.lock().proved.insert(cookie, receipt);
    }

    /// Nobody will ask for this socket any more.
    pub(super) fn forget(&self, cookie: u64) {
        let mut sockets = self.lock();
        sockets.proved.remove(&cookie);
        sockets.asked.remove(&cookie);
    }

    /// Changes were missed: nobody will ask for any but these.
    pub(super) fn keep(&self, claims: &[Claim]) {
        let claimed: HashSet<_> = claims.iter().map(|claim| claim.cookie).collect();
        let mut sockets = self.lock();
        sockets.proved.retain(|cookie, _| claimed.contains(cookie));
        sockets.asked.retain(|cookie, _| claimed.contains(cookie));
    }

    pub(super) fn awaited(&self) -> Arc<Notify> {
        Arc::clone(&self.awaited)
    }

    pub(super) fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Sockets> {
        // Nothing in here can panic half way, so what is there is whole.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReceiptSource for KernelReceipts {
    fn check(&self, socket: &ClosedSocket) -> Option<Receipt> {
        if socket.local.is_none() {
            // It never was in the kernel's tables, so no event will tell of it.
            return self.fallback.check(socket);
        }
        let mut sockets = self.lock();
        if let Some(receipt) = sockets.proved.remove(&socket.cookie) {
            sockets.asked.remove(&socket.cookie);
            return Some(receipt);
        }
        let times = sockets.asked.entry(socket.cookie).or_default();
        *times += 1;
        if *times < PATIENCE {
            drop(sockets);
            self.awaited.notify_one();
            return None;
        }
        drop(sockets);
        let receipt = self.fallback.check(socket)?;
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.lock().asked.remove(&socket.cookie);
        Some(receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(cookie: u64) -> ClosedSocket {
        let local = Some(([127, 0, 0, 1], 1).into());
        ClosedSocket { cookie, local, remote: ([127, 0, 0, 1], 2).into() }
    }

    #[test]
    fn a_receipt_is_fetched_once() {
        let receipts = KernelReceipts::default();
        assert_eq!(receipts.check(&socket(1)), None);
        receipts.prove(1, Receipt::Disconnected);
        assert_eq!(receipts.check(&socket(1)), Some(Receipt::Disconnected));
        assert!(receipts.lock().asked.is_empty());
        assert_eq!(receipts.check(&socket(1)), None);
    }

    #[test]
    fn what_no_event_tells_is_asked_of_the_kernel() {
        let receipts = KernelReceipts::default();
        for _ in 1..PATIENCE {
            assert_eq!(receipts.check(&socket(u64::MAX)), None);
        }
        // There is no such socket.
        assert_eq!(receipts.check(&socket(u64::MAX)), Some(Receipt::Destroyed));
        assert_eq!(receipts.queries(), 1);
        assert!(receipts.lock().asked.is_empty());
    }

    #[test]
    fn a_socket_without_an_address_needs_no_event() {
        let receipts = KernelReceipts::default();
        let socket = ClosedSocket { local: None, ..socket(1) };
        assert_eq!(receipts.check(&socket), Some(Receipt::Destroyed));
    }

    #[test]
    fn nothing_is_kept_of_what_is_claimed_no_more_after_changes_were_missed() {
        let receipts = KernelReceipts::default();
        receipts.prove(1, Receipt::Destroyed);
        receipts.check(&socket(2));
        receipts.keep(&[]);
        let sockets = receipts.lock();
        assert!(sockets.proved.is_empty() && sockets.asked.is_empty());
    }

    #[test]
    fn nothing_is_kept_of_a_socket_that_nobody_asks_for() {
        let receipts = KernelReceipts::default();
        receipts.prove(1, Receipt::Destroyed);
        receipts.check(&socket(2));
        receipts.forget(1);
        receipts.forget(2);
        let sockets = receipts.lock();
        assert!(sockets.proved.is_empty() && sockets.asked.is_empty());
    }
}
