//! The permission to begin one connect, held until CONNACK or failure.
//!
//! One of these stands before all dials of a pool. It is told the time and decides; it does
//! nothing else. Four rules must allow a dial: somebody is due (`queue`), there is a place in
//! flight (`window`), the stock has one (`reservoir`), and the last dial was long enough ago
//! (`interval`). That one device dials not too often comes in by its due time.
//!
//! The caller loops over [`Admission::next_expired`] and [`Admission::take`] until both say
//! `None`, after each change and at [`Admission::poll_timeout`].

mod interval;
mod queue;
mod reservoir;
mod window;

#[cfg(test)]
mod broker;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod storms;

use crate::device::Priority;
use crate::policy::Limits;
use interval::Interval;
use queue::Queue;
use reservoir::{Demand, Reservoir};
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};
use window::Window;

/// The limiter. `K` is who asks: small, and unique among those who ask.
#[derive(Debug)]
pub(crate) struct Admission<K> {
    limits: Limits,
    queue: Queue<K>,
    /// Each with the number of its dial.
    in_flight: HashMap<K, u64>,
    interval: Interval,
    reservoir: Option<Reservoir>,
    window: Window,
    counts: Counts,
}

/// A wish to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Who goes first.
    pub(crate) priority: Priority,
    /// Not before. A past time is due at once, before those that became due later.
    pub(crate) due: Instant,
    /// Not at this time or later; `None` waits for ever.
    pub(crate) deadline: Option<Instant>,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enqueued {
    /// It waits.
    New,
    /// One wish waits already. It kept its arrival, and took the higher priority, the earlier due
    /// time, and the deadline that was given last.
    Merged,
}

/// How a connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With a CONNACK of success, so long after the dial began.
    Accepted {
        /// From the dial to CONNACK.
        latency: Duration,
    },
    /// In a way that says nothing about load: a wrong password, a certificate, a cancelled dial.
    Failed,
    /// In a way that says "too fast": [`Cause::is_congestion`](crate::Cause::is_congestion).
    Congested,
}

/// What happened since the limiter was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Dials that began.
    pub(crate) granted: u64,
    /// Wishes that a caller took back.
    pub(crate) cancelled: u64,
    /// Wishes whose deadline passed.
    pub(crate) expired: u64,
    /// Wishes that became one with another of the same key.
    pub(crate) merged: u64,
    /// Times that congestion halved the window.
    pub(crate) halved: u64,
    /// Ends of connects that were not in flight.
    pub(crate) stray: u64,
}

impl<K: Copy + Eq + Hash> Admission<K> {
    /// The windows of the reservoir count from `now`. The limits must have passed
    /// [`Limits::check`]; absurd ones do no harm, but are brought into range silently.
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            queue: Queue::new(),
            in_flight: HashMap::new(),
            interval: Interval::new(limits.min_interval, now),
            reservoir: limits.reservoir.map(|settings| Reservoir::new(settings, now)),
            window: Window::new(limits.max_in_flight, limits.adaptive),
            counts: Counts::default(),
            limits,
        }
    }

    /// Changes the limits; who waits and what is in flight stay. A smaller window waits until
    /// enough have ended, a changed reservoir begins anew, an unchanged one goes on.
    pub(crate) fn set_limits(&mut self, limits: Limits, now: Instant) {
        self.interval.set(limits.min_interval, now);
        self.reservoir = match (self.reservoir.take(), limits.reservoir) {
            (Some(mut reservoir), Some(settings)) => {
                reservoir.refresh(now);
                reservoir.set(settings, now);
                Some(reservoir)
            }
            (None, Some(settings)) => Some(Reservoir::new(settings, now)),
            (_, None) => None,
        };
        self.window.set(limits.max_in_flight, limits.adaptive);
        self.limits = limits;
    }

    /// The limits in force.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets a key wait for a dial, or merges with its wish that waits. While the key is in flight,
    /// its wish is held back until [`Admission::finished`]: nobody dials twice at once.
    pub(crate) fn enqueue(&mut self, key: K, entry: Entry) -> Enqueued {
        let enqueued = self.queue.put(key, entry, self.in_flight.contains_key(&key));
        if enqueued == Enqueued::Merged {
            self.counts.merged += 1;
        }
        enqueued
    }

    /// Takes a wish back; false if none waits. What is in flight stays so.
    pub(crate) fn cancel(&mut self, key: K) -> bool {
        let waited = self.queue.remove(&key).is_some();
        self.counts.cancelled += u64::from(waited);
        waited
    }

    /// Grants at most one dial; the caller asks again until `None`. The key is in flight until
    /// [`Admission::finished`].
    pub(crate) fn take(&mut self, now: Instant) -> Option<K> {
        // A refresh that is due comes before anything else that happened since the last look.
        if let Some(reservoir) = &mut self.reservoir {
            reservoir.refresh(now);
        }
        self.queue.promote(now);
        self.register();
        let first = self.queue.first(now);
        let has_place = self.in_flight.len() < self.window.size();
        let has_stock = self.reservoir.as_ref().is_none_or(|reservoir| reservoir.next().is_none());
        let Some(key) = first.filter(|_| has_place && has_stock) else {
            self.interval.relax();
            return None;
        };
        // The interval comes last: a dial that it lets pass has begun.
        if !self.interval.pass(now) {
            return None;
        }
        self.queue.remove(&key);
        self.in_flight.insert(key, self.counts.granted);
        self.counts.granted += 1;
        self.window.began(self.in_flight.len(), now);
        if let Some(reservoir) = &mut self.reservoir {
            reservoir.begin();
        }
        self.register();
        Some(key)
    }

    /// Gives one whose deadline has passed. It waits no more, and was not granted.
    pub(crate) fn next_expired(&mut self, now: Instant) -> Option<K> {
        let key = self.queue.next_expired(now)?;
        self.counts.expired += 1;
        Some(key)
    }

    /// Frees the place of a connect that ended. For a key that is not in flight it does nothing
    /// but count. To be called once for each grant: when the key was granted again meanwhile, a
    /// second end of the former connect would free the place of the new one.
    pub(crate) fn finished(&mut self, key: K, now: Instant, outcome: Outcome) {
        let Some(number) = self.in_flight.remove(&key) else {
            self.counts.stray += 1;
            return;
        };
        self.queue.release(&key);
        let halved = self.window.ended(number, self.counts.granted, outcome, now);
        self.counts.halved += u64::from(halved);
    }

    /// The kernel sent a SYN of a connect in flight again: the listen queue of the broker is full,
    /// or the network is. Halves an adaptive window, at most once a second and a round.
    pub(crate) fn congestion_hint(&mut self, now: Instant) {
        let halved = self.window.hint(self.counts.granted, now);
        self.counts.halved += u64::from(halved);
    }

    /// When [`Admission::take`] or [`Admission::next_expired`] may next give something although
    /// nothing else happens; a past time says now, `None` never.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let dial = self.next_dial();
        let deadline = self.queue.next_deadline();
        dial.into_iter().chain(deadline).min()
    }

    /// How many wait.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many connects are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How many may be under way now: 1 to `max_in_flight`.
    pub(crate) fn window(&self) -> usize {
        self.window.size()
    }

    /// What is left in the reservoir until its next refresh.
    pub(crate) fn reservoir(&self) -> Option<usize> {
        self.reservoir.as_ref().map(Reservoir::stock)
    }

    /// What happened so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn next_dial(&self) -> Option<Instant> {
        if self.in_flight.len() >= self.window.size() {
            return None;
        }
        let due = self.queue.next_due()?;
        let stock = self.reservoir.as_ref().and_then(Reservoir::next);
        [Some(due), self.interval.next(), stock].into_iter().flatten().max()
    }

    fn register(&mut self) {
        if let Some(reservoir) = &mut self.reservoir {
            let places = self.window.size().saturating_sub(self.in_flight.len());
            reservoir.register(Demand { places, waiting: self.queue.ready() });
        }
    }
}

impl Entry {
    /// This one with what a later one adds.
    fn merged_with(self, later: Self) -> Self {
        Self {
            priority: self.priority.max(later.priority),
            due: self.due.min(later.due),
            deadline: later.deadline.or(self.deadline),
        }
    }
}
