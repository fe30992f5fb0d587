//! The least time between two dials.

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How late a dial may begin without moving the ones after it. Chosen: timers of tokio fire up to
/// 1 ms late, and more on a busy host. Without this, 500 dials at 10 ms each took 5.5 s (measured),
/// with it 5.0 s.
const FORGIVEN: Duration = Duration::from_millis(5);

/// The longest interval that `Limits` allow. governor panics beyond 584 years.
const LONGEST: Duration = Duration::from_secs(60);

type Limiter = RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>;

/// governor's generic cell rate algorithm with a burst of exactly one, told the time.
///
/// Any two dials are at least the interval apart, except after a late wake-up while dials were
/// waiting: then the next one keeps the beat and may come earlier by as much as this one was late,
/// at most by [`FORGIVEN`] and half the interval. Time in which nobody waited is never made up for.
#[derive(Debug)]
pub(super) struct Interval {
    interval: Duration,
    /// `None` when the interval is zero.
    limiter: Option<Limiter>,
    /// What the limiter's nanoseconds count from.
    origin: Instant,
    next: Option<Instant>,
    /// Somebody was refused and still waits, so the next dial is overdue from `next` on.
    is_awaited: bool,
}

/// A clock that shows what it was last told.
#[derive(Debug)]
struct Told(Cell<Nanos>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}

impl Interval {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        let limiter = limiter(interval);
        Self { interval, limiter, origin: now, next: None, is_awaited: false }
    }

    /// Counts the new interval from the last dial.
    pub(super) fn set(&mut self, interval: Duration, now: Instant) {
        if interval == self.interval {
            return;
        }
        let last = self.next.and_then(|next| next.checked_sub(self.interval.min(LONGEST)));
        *self = Self::new(interval, last.unwrap_or(now));
        if let Some(last) = last {
            self.dial(last);
        }
    }

    /// When the next dial may begin; `None` says at once.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Begins a dial, or says no.
    pub(super) fn pass(&mut self, now: Instant) -> bool {
        if self.next.is_some_and(|next| now < next) {
            self.is_awaited = true;
            return false;
        }
        let on_the_beat = match self.next {
            Some(next) if self.is_awaited => {
                let forgiven = FORGIVEN.min(self.interval / 2);
                now.checked_sub(forgiven).map_or(next, |earliest| earliest.max(next))
            }
            _ => now,
        };
        self.dial(on_the_beat);
        true
    }

    /// Nobody could go now, whatever the interval says, so nobody is late from here on.
    pub(super) fn relax(&mut self) {
        self.is_awaited = false;
    }

    fn dial(&mut self, at: Instant) {
        let Some(limiter) = &self.limiter else { return };
        limiter.clock().0.set(nanos(at.saturating_duration_since(self.origin)));
        // It passes: `at` is not before `next`, which is the limiter's own word.
        let _passed = limiter.check();
        // A refusal changes nothing, and says when the next one may pass.
        let next = limiter.check().err().map(|refusal| {
            let wait = Duration::from(refusal.earliest_possible().duration_since(Nanos::new(0)));
            self.origin.checked_add(wait).unwrap_or(at)
        });
        self.next = next;
        self.is_awaited = false;
    }
}

fn limiter(interval: Duration) -> Option<Limiter> {
    let quota = Quota::with_period(interval.min(LONGEST))?;
    Some(RateLimiter::direct_with_clock(quota, Told(Cell::new(Nanos::new(0)))))
}

/// Half of what governor can count, so that its sums cannot overflow: 292 years.
fn nanos(time: Duration) -> Nanos {
    Nanos::new(u64::try_from(time.as_nanos()).map_or(u64::MAX / 2, |ns| ns.min(u64::MAX / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::simulation::origin;

    const MS: Duration = Duration::from_millis(1);

    /// Asks at each time, in ms, and checks what was answered.
    #[track_caller]
    fn check(interval: Duration, asked: &[(u32, bool)]) {
        let origin = origin();
        let mut interval = Interval::new(interval, origin);
        for (ms, expected) in asked {
            assert_eq!(interval.pass(origin + MS * *ms), *expected, "at {ms} ms");
        }
    }

    #[test]
    fn one_passes_and_the_next_waits() {
        check(MS * 10, &[(0, true), (0, false), (9, false), (10, true), (10, false), (20, true)]);
    }

    #[test]
    fn no_burst_is_saved_up() {
        check(MS * 10, &[(0, true), (1_000, true), (1_001, false), (1_009, false), (1_010, true)]);
    }

    #[test]
    fn zero_turns_it_off() {
        check(Duration::ZERO, &[(0, true), (0, true), (0, true)]);
    }

    #[test]
    fn a_late_wake_up_does_not_move_the_beat() {
        check(MS * 10, &[(0, true), (0, false), (11, true), (11, false), (19, false), (20, true)]);
    }

    #[test]
    fn no_more_than_half_the_interval_is_forgiven() {
        let asked = [(0, true), (0, false), (18, true), (18, false), (22, false), (23, true)];
        check(MS * 10, &asked);
        let asked = [(0, true), (0, false), (7, true), (7, false), (8, false), (9, true)];
        check(MS * 4, &asked);
    }

    #[test]
    fn only_who_waited_was_late() {
        let origin = origin();
        let mut interval = Interval::new(MS * 10, origin);
        assert!(interval.pass(origin) && !interval.pass(origin));
        interval.relax();
        assert!(interval.pass(origin + MS * 13));
        assert_eq!(interval.next(), Some(origin + MS * 23));
    }

    #[test]
    fn a_new_interval_counts_from_the_last_dial() {
        let origin = origin();
        let mut interval = Interval::new(MS * 10, origin);
        assert!(interval.pass(origin));
        interval.set(MS * 30, origin + MS * 5);
        assert_eq!(interval.next(), Some(origin + MS * 30));
        interval.set(MS, origin + MS * 5);
        assert!(interval.pass(origin + MS * 5));
        assert_eq!(interval.next(), Some(origin + MS * 6));
        interval.set(Duration::ZERO, origin + MS * 5);
        assert_eq!(interval.next(), None);
    }

    #[test]
    fn absurd_times_do_not_break_it() {
        let origin = origin();
        let century = Duration::from_secs(100 * 365 * 86_400);
        let mut interval = Interval::new(Duration::MAX, origin + century);
        assert!(interval.pass(origin), "before its own beginning");
        for centuries in 2..7 {
            interval.pass(origin + century * centuries);
        }
    }
}
