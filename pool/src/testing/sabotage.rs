//! Faults in the pool itself, on purpose: what the observer has to find must exist.
//!
//! The code that obeys is compiled for tests only; nothing in a product sets it.

use super::lock;
use crate::device::Generation;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex};

/// What the pool does wrong, with the first session of each device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// The socket stays open when the session ends, and the next one is dialled at once.
    DialBeforeDestroy,
    /// The socket stays open when the session ends, and counts as destroyed.
    ForgetToClose,
    /// The socket stays open when the session ends.
    KeepOpen,
    /// The socket is closed as soon as the session is online, and nobody says so.
    DieSilently,
}

impl Flaw {
    /// Whether the socket of an ended session is not closed.
    pub(crate) fn keeps_open(self) -> bool {
        self != Self::DieSilently
    }
}

/// A flaw, and the sockets that were kept open by it. Clones share them.
#[derive(Clone)]
pub struct Sabotage {
    flaw: Flaw,
    kept: Arc<Mutex<Vec<Box<dyn Any + Send>>>>,
}

impl Sabotage {
    /// A pool with this flaw.
    pub fn new(flaw: Flaw) -> Self {
        Self { flaw, kept: Arc::default() }
    }

    /// Closes what was kept open.
    pub fn mend(&self) {
        lock(&self.kept).clear();
    }

    /// The flaw, if it shows in this session.
    pub(crate) fn in_session(&self, generation: Generation) -> Option<Flaw> {
        (generation == Generation::default().next()).then_some(self.flaw)
    }

    /// Keeps a socket open that should have been closed.
    pub(crate) fn keep(&self, socket: impl Any + Send) {
        lock(&self.kept).push(Box::new(socket));
    }
}

impl fmt::Debug for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sabotage").field(&self.flaw).finish()
    }
}
