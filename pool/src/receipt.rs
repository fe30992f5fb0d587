//! The kernel's proof that a destroyed socket is gone.

use crate::driver::fate::{FateProbe, SocketFate};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// What is proved of a closed socket, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Receipt {
    /// Nobody holds it any more.
    Released,
    /// It left ESTABLISHED and CLOSE_WAIT: nothing can be sent on it.
    Disconnected,
    /// The kernel has freed it, or keeps only its TIME_WAIT.
    Destroyed,
}

impl Receipt {
    /// All of them, in ascending order.
    pub const ALL: [Self; 3] = [Self::Released, Self::Disconnected, Self::Destroyed];

    /// Its name for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Disconnected => "disconnected",
            Self::Destroyed => "destroyed",
        }
    }
}

/// A socket that the pool has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSocket {
    /// The number that the kernel never uses again.
    pub cookie: u64,
    /// Our end, when it had one.
    pub local: Option<SocketAddr>,
    /// The broker's end.
    pub remote: SocketAddr,
}

/// Who gives receipts. The default asks the kernel by inet_diag; an observer of the kernel's
/// events can answer without a syscall.
pub trait ReceiptSource: Debug + Send + Sync {
    /// What is proved of the socket by now; `None`: nothing yet, ask again. Called right after
    /// close(2) returned and then again at growing intervals until the receipt timeout. It must
    /// not block.
    fn check(&self, socket: &ClosedSocket) -> Option<Receipt>;
}

/// The default: close(2) has returned, and inet_diag says what became of the socket.
///
/// Where the kernel gives no inet_diag (a sandbox that forbids netlink), the return of close(2)
/// is all there is, and counts as [`Receipt::Released`].
#[derive(Debug, Default)]
pub struct InetDiagReceipts {
    probe: Mutex<FateProbe>,
}

impl ReceiptSource for InetDiagReceipts {
    fn check(&self, socket: &ClosedSocket) -> Option<Receipt> {
        let Some(local) = socket.local else {
            // It never had an address, so it never was in the kernel's tables.
            return Some(Receipt::Destroyed);
        };
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        match probe.ask(local, socket.remote, socket.cookie) {
            Ok(SocketFate::Gone) => Some(Receipt::Destroyed),
            Ok(SocketFate::Disconnected { .. }) => Some(Receipt::Disconnected),
            Ok(SocketFate::Alive { held: false }) | Err(_) => Some(Receipt::Released),
            Ok(SocketFate::Alive { held: true }) => None,
        }
    }
}
