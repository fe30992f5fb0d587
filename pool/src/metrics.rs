//! What the pool counts, as plain numbers that any exporter can read.

mod histogram;

pub use histogram::Histogram;

use crate::error::Cause;
use crate::fleet::State;
use crate::receipt::Receipt;
use histogram::AtomicHistogram;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A reading of everything that is counted. Counters grow from the pool's start.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Devices by [`State`], in the order of [`State::ALL`].
    pub devices: [usize; State::ALL.len()],
    /// Devices that wait for their turn, or until they are due.
    pub queued: usize,
    /// Connects under way, from dial to CONNACK.
    pub in_flight: usize,
    /// How many connects may be under way at the moment.
    pub window: usize,
    /// Dials that may still begin in this window of time; `None` without a reservoir.
    pub reservoir: Option<usize>,
    /// Requests for a connect that joined one which waited already.
    pub requests_merged: u64,
    /// Requests whose deadline passed before their turn came.
    pub requests_expired: u64,
    /// How often the window was halved because the broker or the way to it was congested.
    pub window_halvings: u64,
    /// Dials begun.
    pub dials: u64,
    /// Sessions that came online.
    pub connected: u64,
    /// Sessions that ended after they were online, by [`Cause::CODES`].
    pub ended: [u64; Cause::CODES.len()],
    /// Connects that failed, by [`Cause::CODES`].
    pub failed: [u64; Cause::CODES.len()],
    /// From the dial to CONNACK.
    pub connect_time: Histogram,
    /// From due to granted.
    pub admission_wait: Histogram,
    /// Receipts by level, in the order of [`Receipt::ALL`].
    pub receipts: [u64; Receipt::ALL.len()],
    /// Sockets without a receipt in time; the next dial went ahead.
    pub unreleased: u64,
    /// Events of a session that was not its slot's any more. They changed nothing.
    pub late_events: u64,
    /// Devices quarantined because another client uses their client id.
    pub quarantines: u64,
    /// Sockets of the pool, by the registry.
    pub sockets: usize,
    /// Messages handed to the application.
    pub messages_received: u64,
    /// Messages dropped because the application was too slow, by policy.
    pub messages_dropped: u64,
    /// Bytes of messages that wait for the application.
    pub messages_waiting_bytes: usize,
    /// Sessions that read nothing at the moment, because the application is too slow.
    pub sessions_paused: usize,
    /// Publishes handed to a session.
    pub messages_sent: u64,
    /// Subscriptions that a broker refused.
    pub subscriptions_refused: u64,
    /// Bytes read from sockets, without TLS.
    pub received_bytes: u64,
    /// Bytes written to sockets, without TLS.
    pub sent_bytes: u64,
    /// Descriptors that the process may have.
    pub descriptor_limit: u64,
    /// Descriptors promised to devices.
    pub descriptors_promised: u64,
    /// Local ports in use towards the destination that has the most of them, TIME_WAIT included.
    pub ports_in_use: u32,
    /// Half of the ports there are for it: from there on a connect costs 25 times more.
    pub ports_half: u32,
}

/// The counters that drivers and the loop share.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) dials: AtomicU64,
    pub(crate) connected: AtomicU64,
    ended: [AtomicU64; Cause::CODES.len()],
    failed: [AtomicU64; Cause::CODES.len()],
    pub(crate) connect_time: AtomicHistogram,
    pub(crate) admission_wait: AtomicHistogram,
    receipts: [AtomicU64; Receipt::ALL.len()],
    pub(crate) unreleased: AtomicU64,
    pub(crate) quarantines: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) messages_sent: AtomicU64,
    pub(crate) subscriptions_refused: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) sessions_paused: AtomicUsize,
}

impl Counters {
    /// A session is over; `lived` says whether it ever was online.
    pub(crate) fn session_ended(&self, cause: &Cause, lived: Option<Duration>) {
        let by_code = if lived.is_some() { &self.ended } else { &self.failed };
        if let Some(index) = Cause::CODES.iter().position(|code| *code == cause.code()) {
            add(&by_code[index], 1);
        }
    }

    pub(crate) fn receipt(&self, receipt: Receipt) {
        add(&self.receipts[receipt as usize], 1);
    }

    /// Fills in what is counted here.
    pub(crate) fn read(&self, metrics: &mut Metrics) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        metrics.dials = load(&self.dials);
        metrics.connected = load(&self.connected);
        metrics.ended = self.ended.each_ref().map(load);
        metrics.failed = self.failed.each_ref().map(load);
        metrics.connect_time = self.connect_time.read();
        metrics.admission_wait = self.admission_wait.read();
        metrics.receipts = self.receipts.each_ref().map(load);
        metrics.unreleased = load(&self.unreleased);
        metrics.quarantines = load(&self.quarantines);
        metrics.messages_received = load(&self.messages_received);
        metrics.messages_sent = load(&self.messages_sent);
        metrics.subscriptions_refused = load(&self.subscriptions_refused);
        metrics.received_bytes = load(&self.received_bytes);
        metrics.sent_bytes = load(&self.sent_bytes);
        metrics.sessions_paused = self.sessions_paused.load(Ordering::Relaxed);
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_counter() {
        let causes =
            [Cause::Replaced, Cause::Rejected { code: 0x80, reason: "x" }, Cause::TakenOver];
        let counters = Counters::default();
        for cause in &causes {
            counters.session_ended(cause, None);
            counters.session_ended(cause, Some(Duration::ZERO));
        }
        let mut metrics = Metrics::default();
        counters.read(&mut metrics);
        assert_eq!(metrics.ended.iter().sum::<u64>(), 3);
        assert_eq!(metrics.failed.iter().sum::<u64>(), 3);
    }
}
