//! EDGE: between the observer and the pool of the same process.
//!
//! Claims come over as the pool publishes them, receipts and hints go back. Nothing here decides:
//! the [ledger](crate::ledger) does.

mod receipts;

use std::sync::Arc;

use pool::{
    Pool,
    registry::{Change, Claim},
};
use tokio::sync::{Notify, broadcast};

pub use self::receipts::KernelReceipts;
use crate::{ledger::Output, model::Cookie};

/// The observer's end of the pool.
#[derive(Debug)]
pub struct Join {
    pool: Pool,
    changes: broadcast::Receiver<Change>,
    /// All claims, when changes were missed or nothing was read yet.
    all: Option<Vec<Claim>>,
    receipts: Arc<KernelReceipts>,
}

/// What the registry says.
#[derive(Debug)]
pub enum Said {
    /// Changes since the last time.
    Changes(Vec<Change>),
    /// Everything: changes were missed.
    All(Vec<Claim>),
}

impl Join {
    /// Follows the registry of `pool`, whose receipts are `receipts`.
    pub fn new(pool: Pool, receipts: Arc<KernelReceipts>) -> Self {
        let (claims, changes) = pool.registry().subscribe();
        Self { pool, changes, all: Some(claims), receipts }
    }

    /// What the registry says by now; `None`: nothing new.
    pub fn read(&mut self) -> Option<Said> {
        if let Some(claims) = self.all.take() {
            return Some(Said::All(claims));
        }
        let mut changes = Vec::new();
        loop {
            match self.changes.try_recv() {
                Ok(change) => changes.push(change),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    log::debug!("{missed} changes of the registry were missed: reading all of it");
                    let (claims, receiver) = self.pool.registry().subscribe();
                    self.changes = receiver;
                    self.receipts.keep(&claims);
                    return Some(Said::All(claims));
                }
                Err(_empty_or_closed) => break,
            }
        }
        for change in &changes {
            if let Change::Retracted { cookie, .. } = change {
                self.receipts.forget(*cookie);
            }
        }
        (!changes.is_empty()).then_some(Said::Changes(changes))
    }

    /// Tells the pool what the ledger says.
    pub fn tell(&self, output: Output) {
        match output {
            Output::Receipt(Cookie(cookie), receipt) => {
                // Kept until the claim is retracted. If it is by now, that was read before, and
                // nobody would ever fetch it.
                self.receipts.prove(cookie, receipt);
                if self.pool.registry().claim_of(cookie).is_none() {
                    return self.receipts.forget(cookie);
                }
                self.pool.deliver_receipt(cookie, receipt);
            }
            Output::Congestion => self.pool.congestion_hint(),
        }
    }

    /// Woken when the pool waits for a receipt.
    pub fn awaited(&self) -> Arc<Notify> {
        self.receipts.awaited()
    }

    /// Receipts for which the kernel was asked, because its events did not say it in time.
    pub fn queries(&self) -> u64 {
        self.receipts.queries()
    }
}
