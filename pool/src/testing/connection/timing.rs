//! When something is due on a connection although nothing comes.

use super::super::broker::Shared;
use super::super::line::{End, Line};
use super::reader::{Phase, Reader};
use std::time::{Duration, Instant};

/// For a CONNECT to come (MQTT 3.1.1 §3.1.4: "a reasonable amount of time"). Chosen.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// From CONNACK on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// When CONNECT was answered.
    pub(super) since: Instant,
    /// For how long the client may be silent.
    pub(super) patience: Option<Duration>,
}

impl Reader {
    /// When [`Reader::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Fresh => Some(self.heard + CONNECT_TIMEOUT),
            Phase::Delayed { until, .. } => Some(*until),
            Phase::Answered { behaviour, timing, .. } => {
                let after_connack = [behaviour.close_after_connack, behaviour.reset_after_connack];
                let ends = after_connack.into_iter().flatten().map(|after| timing.since + after);
                ends.chain(self.silence_limit()).min()
            }
        }
    }

    /// Ends a connection that is over its time.
    pub(super) fn handle_late(&self, shared: &Shared, line: &Line, now: Instant) {
        let Phase::Answered { behaviour, timing, .. } = &self.phase else {
            shared.with_hub(|hub| hub.counters.connect_timeouts += 1);
            line.end(End::Close);
            return;
        };
        let is_over =
            |after: Option<Duration>| after.is_some_and(|after| now >= timing.since + after);
        if is_over(behaviour.reset_after_connack) {
            line.end(End::Reset);
        } else if is_over(behaviour.close_after_connack) {
            line.end(End::Close);
        } else {
            shared.with_hub(|hub| hub.handle_silence(line.id));
        }
    }

    /// None for a peer that plays dead: it would not count the time.
    fn silence_limit(&self) -> Option<Instant> {
        let Phase::Answered { timing, .. } = &self.phase else { return None };
        timing.patience.filter(|_| !self.is_half_open()).map(|patience| self.heard + patience)
    }
}
