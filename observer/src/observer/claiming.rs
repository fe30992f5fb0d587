//! What other processes claim, on its way to the core.

use std::sync::Weak;

use super::Observer;
use crate::{
    claims::{Counts, Refusal},
    clock,
    desk::Claiming,
    model::MonoTime,
};

/// The streams by which processes claim, and whether they last.
pub(super) type ClaimStreams = Vec<(u32, Weak<()>)>;

impl Observer {
    /// Takes in what a process claims.
    pub(super) fn take_claims(&mut self, claiming: Claiming) -> Result<Counts, Refusal> {
        let Claiming { pid, statements, stream } = claiming;
        if pid == std::process::id() {
            return Err(Refusal::Ourselves);
        }
        // What the kernel said before goes first, so that sockets are known to their claims.
        self.drain();
        if !self.follows(pid) {
            return Err(Refusal::NotWatched);
        }
        let counts = self.correlator.handle_claims(pid, statements, clock::now())?;
        self.claim_streams.extend(stream.map(|stream| (pid, stream)));
        Ok(counts)
    }

    /// Tells the core which streams have ended.
    pub(super) fn end_claim_streams(&mut self, now: MonoTime) {
        let Self { claim_streams, correlator, .. } = self;
        claim_streams.retain(|(pid, stream)| {
            let lasts = stream.strong_count() > 0;
            if !lasts {
                correlator.handle_claims_end(*pid, now);
            }
            lasts
        });
    }

    /// Whether the sockets of a process are followed: it is watched, or made one on a port that is.
    fn follows(&self, pid: u32) -> bool {
        let table = self.correlator.table();
        self.selection.all
            || self.watched.contains(&pid)
            || table.process_by_pid(pid).is_some_and(|process| process.watched)
            || table
                .unordered()
                .any(|socket| socket.owner.as_ref().is_some_and(|owner| owner.process.pid == pid))
    }
}
