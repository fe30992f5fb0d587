//! How many connects may be in flight: fixed, or following what the broker can take.
//!
//! The adaptive window is Gradient2 of Netflix's concurrency-limits (`Gradient2Limit.java`), not
//! Vegas (`VegasLimit.java`): both steer by latency, before anything is refused, but Vegas compares
//! with the *least* latency ever seen. On a broker that does one connect after the other (55 µs
//! each in Mosquitto), a lone connect in a quiet hour is an unfair measure, and a window that held
//! to it would starve as soon as the host's own scheduling costs as much. Gradient2 compares with
//! what is *usual*, an average that forgets slowly, and has the one knob that `Adaptive::tolerance`
//! is. What differs here:
//!
//! - It steps once per round and not per sample. As in TCP, a round ends when a connect that began
//!   within it ends.
//! - Latencies are averaged as logarithms: one connect of 5 s among eighty of 1 ms moves the
//!   average by a tenth.
//! - Slow start (RFC 5681 §3.1), doubling per round, until latency is no longer as usual.
//! - A failure that [`Cause::is_congestion`](crate::Cause::is_congestion) halves it, but not a
//!   second time for a connect that began before the last halving (RFC 6582's `recover`).

use super::Outcome;
use crate::policy::Adaptive;
use std::time::{Duration, Instant};

/// What the window grows by in a round with usual latency, before smoothing (Gradient2).
const QUEUE: f64 = 4.0;
/// How much of a step is taken (Gradient2).
const SMOOTHING: f64 = 0.2;
/// The largest step down is to this part (Gradient2).
const STEEPEST: f64 = 0.5;
/// How many rounds the usual latency is the moving average of (Gradient2).
const MEMORY: f64 = 600.0;
/// Over the first connects it is the plain average, until there were so many (Gradient2).
const WARM_UP: u32 = 10;
/// When latency is less than half of the usual one, the usual one is lowered by so much a round,
/// because the average would take too long (Gradient2).
const FALL: f64 = 0.9;
/// A SYN is sent again after so long at the earliest (`TCP_TIMEOUT_INIT`, RFC 6298 §2.1).
const SYN_TIMEOUT: Duration = Duration::from_secs(1);
/// After so long without a connect, what was learned is old (RFC 5681 §4.1). Chosen.
const IDLE: Duration = Duration::from_secs(30);

/// How many connects may be in flight.
#[derive(Debug)]
pub(super) struct Window {
    max: usize,
    follower: Option<Follower>,
}

/// The adaptive part. Latencies are natural logarithms of seconds.
#[derive(Debug)]
struct Follower {
    settings: Adaptive,
    size: f64,
    is_slow_start: bool,
    usual: Option<f64>,
    /// How many samples went into `usual`, up to [`WARM_UP`].
    samples: u32,
    round: Round,
    /// Connects before this number began before the last halving, and none after it has ended.
    recovering: Option<u64>,
    halved_at: Option<Instant>,
    last_change: Option<Instant>,
}

#[derive(Debug, Default)]
struct Round {
    /// The number of the first connect that begins after the round did; `None` before any ended.
    ends_with: Option<u64>,
    samples: u32,
    sum: f64,
    /// The most in flight.
    peak: usize,
}

impl Window {
    /// `max` is 1 to 65,535.
    pub(super) fn new(max: usize, adaptive: Option<Adaptive>) -> Self {
        Self { max: max.max(1), follower: adaptive.map(Follower::new) }
    }

    /// Keeps what was learned if it stays adaptive.
    pub(super) fn set(&mut self, max: usize, adaptive: Option<Adaptive>) {
        self.max = max.max(1);
        self.follower = match (self.follower.take(), adaptive) {
            (Some(follower), Some(settings)) => Some(Follower { settings, ..follower }),
            (None, Some(settings)) => Some(Follower::new(settings)),
            (_, None) => None,
        };
        self.clamp();
    }

    /// From 1 to `max_in_flight`.
    pub(super) fn size(&self) -> usize {
        let size = self.follower.as_ref().map_or(self.max, |follower| follower.size as usize);
        size.clamp(1, self.max)
    }

    /// A connect began; `in_flight` counts it.
    pub(super) fn began(&mut self, in_flight: usize, now: Instant) {
        let Some(follower) = &mut self.follower else { return };
        if in_flight == 1 && follower.is_stale(now) {
            follower.size = follower.size.min(follower.settings.initial as f64);
            follower.is_slow_start = true;
            follower.round = Round::default();
        }
        follower.last_change = Some(now);
        follower.round.peak = follower.round.peak.max(in_flight);
        self.clamp();
    }

    /// The connect with `number` ended; `following` is the number of the next to begin. True if it
    /// halved the window.
    pub(super) fn ended(
        &mut self,
        number: u64,
        following: u64,
        outcome: Outcome,
        now: Instant,
    ) -> bool {
        let max = self.max;
        let Some(follower) = &mut self.follower else { return false };
        follower.last_change = Some(now);
        let is_before_halving = follower.recovering.is_some_and(|first| number < first);
        if !is_before_halving {
            follower.recovering = None;
        }
        match outcome {
            // It tells of the window before the last halving.
            _ if is_before_halving => {}
            Outcome::Congested => {
                follower.halve(following, now);
                self.clamp();
                return true;
            }
            Outcome::Accepted { latency } => follower.round.add(latency),
            Outcome::Failed => {}
        }
        match follower.round.ends_with {
            None => follower.round.ends_with = Some(following),
            Some(first) if number >= first => {
                follower.step(max);
                follower.round = Round { ends_with: Some(following), ..Round::default() };
            }
            Some(_) => {}
        }
        self.clamp();
        false
    }

    /// A SYN of ours was sent again. True if it halved the window.
    ///
    /// The SYN is at least a second old, so one halving less than a second ago has seen to it.
    pub(super) fn hint(&mut self, following: u64, now: Instant) -> bool {
        let Some(follower) = &mut self.follower else { return false };
        let is_recent = follower
            .halved_at
            .is_some_and(|halved| now.saturating_duration_since(halved) < SYN_TIMEOUT);
        if is_recent || follower.recovering.is_some() {
            return false;
        }
        follower.halve(following, now);
        self.clamp();
        true
    }

    fn clamp(&mut self) {
        if let Some(follower) = &mut self.follower {
            follower.size = follower.size.clamp(1.0, self.max as f64);
        }
    }
}

impl Follower {
    fn new(settings: Adaptive) -> Self {
        Self {
            settings,
            size: settings.initial as f64,
            is_slow_start: true,
            usual: None,
            samples: 0,
            round: Round::default(),
            recovering: None,
            halved_at: None,
            last_change: None,
        }
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.last_change.is_some_and(|last| now.saturating_duration_since(last) >= IDLE)
    }

    fn halve(&mut self, following: u64, now: Instant) {
        self.size /= 2.0;
        self.is_slow_start = false;
        self.recovering = Some(following);
        self.halved_at = Some(now);
        self.round = Round { ends_with: Some(following), ..Round::default() };
    }

    /// The end of a round.
    fn step(&mut self, max: usize) {
        let Some(latency) = self.round.average() else { return };
        let usual = self.learn(latency);
        // A window that is not used says nothing about a larger one (the "app-limited" guard).
        let window = (self.size as usize).clamp(1, max);
        let (is_full, is_half_used) = (self.round.peak >= window, self.round.peak * 2 >= window);
        // No tolerance under 1.0: `Limits::check` says so, and this makes sure of a number.
        let tolerance = self.settings.tolerance.max(1.0).ln();
        let gradient = (tolerance + usual - latency).exp().clamp(STEEPEST, 1.0);
        if self.is_slow_start && gradient >= 1.0 {
            if is_full {
                self.size *= 2.0;
            }
            return;
        }
        self.is_slow_start = false;
        let goal = self.size * gradient + QUEUE;
        let next = self.size + (goal - self.size) * SMOOTHING;
        if (next > self.size && is_full) || (next < self.size && is_half_used) {
            self.size = next;
        }
    }

    /// Takes a round into the usual latency, and says what that is.
    fn learn(&mut self, latency: f64) -> f64 {
        let samples = f64::from(self.round.samples);
        let weight = if self.samples < WARM_UP {
            samples / (samples + f64::from(self.samples))
        } else {
            2.0 / (MEMORY + 1.0)
        };
        self.samples = self.samples.saturating_add(self.round.samples).min(WARM_UP);
        let mut usual = self.usual.map_or(latency, |usual| usual + (latency - usual) * weight);
        if usual - latency > std::f64::consts::LN_2 {
            usual += FALL.ln();
        }
        self.usual = Some(usual);
        usual
    }
}

impl Round {
    fn add(&mut self, latency: Duration) {
        // A logarithm of zero is no number.
        self.sum += latency.max(Duration::from_micros(1)).as_secs_f64().ln();
        self.samples += 1;
    }

    fn average(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.sum / f64::from(self.samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::simulation::origin;

    const MS: Duration = Duration::from_millis(1);

    /// A window and what it needs to be driven: all of its places are taken all the time, or as
    /// many as `used`.
    struct Driver {
        window: Window,
        now: Instant,
        begun: u64,
        in_flight: std::collections::VecDeque<u64>,
        used: usize,
    }

    impl Driver {
        fn new(max: usize, initial: usize) -> Self {
            let window = Window::new(max, Some(Adaptive { initial, tolerance: 2.0 }));
            let in_flight = std::collections::VecDeque::new();
            let mut driver = Self { window, now: origin(), begun: 0, in_flight, used: usize::MAX };
            driver.fill();
            driver
        }

        fn fill(&mut self) {
            while self.in_flight.len() < self.window.size().min(self.used) {
                self.in_flight.push_back(self.begun);
                self.begun += 1;
                self.window.began(self.in_flight.len(), self.now);
            }
        }

        fn end(&mut self, outcome: Outcome) -> bool {
            let number = self.in_flight.pop_front().expect("invariant: never empty");
            let halved = self.window.ended(number, self.begun, outcome, self.now);
            self.fill();
            halved
        }

        /// As many rounds as given, each connect with this latency.
        fn rounds(&mut self, rounds: usize, latency: Duration) {
            for _ in 0..rounds {
                self.now += latency;
                for _ in 0..self.in_flight.len() {
                    self.end(Outcome::Accepted { latency });
                }
            }
        }

        fn fail(&mut self, count: usize) -> usize {
            (0..count).filter(|_| self.end(Outcome::Congested)).count()
        }
    }

    #[test]
    fn a_fixed_window_stays_what_it_is() {
        let mut window = Window::new(80, None);
        window.began(1, origin());
        assert!(!window.ended(0, 1, Outcome::Congested, origin()));
        assert!(!window.hint(1, origin()));
        assert_eq!(window.size(), 80);
    }

    #[test]
    fn it_doubles_per_round_while_latency_is_as_usual() {
        let mut driver = Driver::new(1_000, 16);
        let mut sizes = Vec::new();
        for _ in 0..5 {
            driver.rounds(1, MS);
            sizes.push(driver.window.size());
        }
        // The first round ends with the first connect that began within it.
        assert_eq!(sizes, [16, 32, 64, 128, 256]);
    }

    #[test]
    fn it_never_exceeds_the_limit() {
        let mut driver = Driver::new(80, 16);
        driver.rounds(50, MS);
        assert_eq!(driver.window.size(), 80);
        driver.window.set(40, Some(Adaptive { initial: 16, tolerance: 2.0 }));
        assert_eq!(driver.window.size(), 40);
    }

    #[test]
    fn it_shrinks_when_connects_take_longer_than_usual() {
        let mut driver = Driver::new(80, 16);
        driver.rounds(20, MS);
        driver.rounds(30, MS * 10);
        let size = driver.window.size();
        assert!((8..16).contains(&size), "{size}");
    }

    #[test]
    fn up_to_the_tolerance_it_does_not_shrink() {
        let mut driver = Driver::new(80, 16);
        driver.rounds(20, MS * 10);
        driver.rounds(10, MS * 19);
        assert_eq!(driver.window.size(), 80);
    }

    #[test]
    fn one_slow_connect_among_many_does_not_matter() {
        let mut driver = Driver::new(80, 16);
        driver.rounds(20, MS);
        driver.end(Outcome::Accepted { latency: MS * 5_000 });
        driver.rounds(2, MS);
        assert_eq!(driver.window.size(), 80);
    }

    #[test]
    fn a_burst_of_failures_halves_once() {
        let mut driver = Driver::new(80, 16);
        driver.rounds(20, MS);
        assert_eq!(driver.fail(80), 1);
        assert_eq!(driver.window.size(), 40);
        // Those that began after the halving tell of something new.
        assert_eq!(driver.fail(40), 1);
        assert_eq!(driver.window.size(), 20);
    }

    #[test]
    fn it_never_falls_under_one_and_grows_again() {
        let mut driver = Driver::new(80, 16);
        driver.fail(1_000);
        assert_eq!(driver.window.size(), 1);
        driver.rounds(200, MS);
        assert_eq!(driver.window.size(), 80);
    }

    #[test]
    fn it_does_not_grow_when_it_is_not_used() {
        let mut driver = Driver::new(80, 16);
        driver.rounds(1, MS);
        driver.used = 15;
        driver.rounds(1, MS);
        let size = driver.window.size();
        driver.rounds(50, MS);
        assert_eq!(driver.window.size(), size);
        // Nor later, when it grows by steps.
        driver.fail(1);
        assert_eq!(driver.window.size(), size / 2);
        driver.used = size / 2 - 1;
        driver.rounds(50, MS);
        assert_eq!(driver.window.size(), size / 2);
        driver.used = usize::MAX;
        driver.fill();
        driver.rounds(100, MS);
        assert_eq!(driver.window.size(), 80);
    }

    #[test]
    fn hints_of_one_burst_halve_once() {
        let mut driver = Driver::new(80, 16);
        driver.rounds(20, MS);
        let hint = |driver: &mut Driver| {
            let (following, now) = (driver.begun, driver.now);
            driver.window.hint(following, now)
        };
        assert!(hint(&mut driver));
        assert!(!hint(&mut driver));
        driver.rounds(100, MS);
        assert!(!hint(&mut driver), "a SYN sent again within a second is older than the halving");
        driver.rounds(1_000, MS);
        assert!(hint(&mut driver));
    }

    #[test]
    fn after_a_long_rest_it_starts_slowly_again() {
        let mut driver = Driver::new(80, 16);
        driver.rounds(20, MS);
        driver.used = 0;
        driver.rounds(1, MS);
        driver.now += IDLE;
        driver.used = usize::MAX;
        driver.fill();
        assert_eq!(driver.window.size(), 16);
        driver.rounds(2, MS);
        assert_eq!(driver.window.size(), 32);
    }

    #[test]
    fn a_broker_that_became_faster_becomes_the_usual_one() {
        let mut driver = Driver::new(80, 16);
        driver.rounds(10, MS * 100);
        driver.rounds(60, MS);
        driver.rounds(10, MS * 20);
        let size = driver.window.size();
        assert!(size < 40, "{size}: 20 ms are slow by now");
    }

    #[test]
    fn no_latency_breaks_it() {
        let mut driver = Driver::new(80, 16);
        for latency in [Duration::ZERO, Duration::MAX, MS, Duration::ZERO, Duration::MAX] {
            for _ in 0..200 {
                driver.end(Outcome::Accepted { latency });
            }
            assert!((1..=80).contains(&driver.window.size()));
        }
    }
}
