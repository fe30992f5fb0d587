//! PURE. Whether the daemon's loops still turn: a ping is due only while every one of them does.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::model::MonoTime;

/// A loop that must not get stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loop {
    /// The one that reads the kernel.
    Observer,
    /// The one of the pool.
    Pool,
    /// The one that answers HTTP, signals and the service manager.
    Front,
}

impl Loop {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Observer, Self::Pool, Self::Front];

    /// A stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observer => "observer",
            Self::Pool => "pool",
            Self::Front => "front",
        }
    }
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Nobody waits for this loop: it has not started, or has ended in order. No loop beats at the very
/// boot of the host, so the moment 0 is free.
const NOT_EXPECTED: u64 = 0;

/// When each loop turned last. A loop writes its own time from whatever thread; clone it freely.
#[derive(Clone, Debug, Default)]
pub struct Beats(Arc<[AtomicU64; Loop::ALL.len()]>);

impl Beats {
    /// `of` turns: from now on it has to go on doing so.
    pub fn beat(&self, of: Loop, now: MonoTime) {
        self.cell(of).store(now.nanos().max(NOT_EXPECTED + 1), Ordering::Relaxed);
    }

    /// `of` ends in order: nobody waits for it any more.
    pub fn retire(&self, of: Loop) {
        self.cell(of).store(NOT_EXPECTED, Ordering::Relaxed);
    }

    /// The loops that have been silent for longer than `patience`.
    pub fn stuck(&self, now: MonoTime, patience: Duration) -> Vec<Stuck> {
        let stuck = |which| {
            let silent = now.since(self.last(which)?);
            (silent > patience).then_some(Stuck { which, silent })
        };
        Loop::ALL.into_iter().filter_map(stuck).collect()
    }

    /// When it turned last; `None` if nobody waits for it.
    fn last(&self, of: Loop) -> Option<MonoTime> {
        match self.cell(of).load(Ordering::Relaxed) {
            NOT_EXPECTED => None,
            time => Some(MonoTime::from_nanos(time)),
        }
    }

    fn cell(&self, of: Loop) -> &AtomicU64 {
        &self.0[of as usize]
    }
}

/// A loop that does not turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Which.
    pub which: Loop,
    /// For how long it has not turned.
    pub silent: Duration,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the loop `{}` has not turned for {} s", self.which, self.silent.as_secs())
    }
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Tell the service manager that all is well.
    pub ping: bool,
    /// Loops that do not turn, for the status line.
    pub stuck: Vec<Stuck>,
    /// Whether these are others than the last time: then they belong in the log.
    pub changed: bool,
}

/// Decides about pings.
#[derive(Debug)]
pub struct Watchdog {
    beats: Beats,
    interval: Duration,
    limit: Duration,
    /// When to look next.
    next: MonoTime,
    manager: bool,
    stuck: Vec<Loop>,
}

/// How often is looked where no service manager waits: only the log profits.
const ALONE: Duration = Duration::from_secs(15);

impl Watchdog {
    /// `timeout`: what the service manager waits for a ping (`WATCHDOG_USEC`), `None` if it does
    /// not. A ping is due at each half of it, as sd_watchdog_enabled(3) recommends, and a loop may
    /// be silent for as long: so a stuck one ends the daemon at the latest one and a half timeouts
    /// after its last beat.
    pub fn new(beats: Beats, timeout: Option<Duration>, now: MonoTime) -> Self {
        let interval = timeout.map_or(ALONE, |timeout| timeout / 2);
        Self {
            beats,
            interval,
            limit: interval,
            next: now,
            manager: timeout.is_some(),
            stuck: Vec::new(),
        }
    }

    /// When [`Watchdog::handle_timeout`] wants to be called again.
    pub fn poll_timeout(&self) -> MonoTime {
        self.next
    }

    /// How long a loop may sleep at most so that it is never taken for stuck, with time to spare.
    pub fn longest_sleep(&self) -> Duration {
        self.limit / 4
    }

    /// Looks at the loops. Too early, nothing is due.
    pub fn handle_timeout(&mut self, now: MonoTime) -> Verdict {
        if now < self.next {
            return Verdict::default();
        }
        let stuck = self.beats.stuck(now, self.limit);
        // While one is stuck we look more often: a ping that comes just in time saves the daemon.
        let step = if stuck.is_empty() { self.interval } else { self.interval / 8 };
        self.next = now.after(step.max(Duration::from_millis(1)));
        let names: Vec<Loop> = stuck.iter().map(|stuck| stuck.which).collect();
        let changed = names != self.stuck;
        self.stuck = names;
        Verdict { ping: self.manager && stuck.is_empty(), stuck, changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(1_000_000_000_000).after(Duration::from_secs(seconds))
    }

    fn watchdog() -> (Beats, Watchdog) {
        let beats = Beats::default();
        (beats.clone(), Watchdog::new(beats, Some(TIMEOUT), at(0)))
    }

    #[test]
    fn pings_come_at_half_the_timeout_while_all_turn() {
        let (beats, mut watchdog) = watchdog();
        let mut pings = Vec::new();
        for second in 0..61 {
            Loop::ALL.iter().for_each(|of| beats.beat(*of, at(second)));
            if watchdog.handle_timeout(at(second)).ping {
                pings.push(second);
            }
        }
        assert_eq!(pings, [0, 15, 30, 45, 60]);
    }

    #[test]
    fn one_stuck_loop_stops_the_pings_and_is_named_once() {
        for stuck in Loop::ALL {
            let (beats, mut watchdog) = watchdog();
            beats.beat(stuck, at(0));
            let mut changes = Vec::new();
            for second in 0..100 {
                for other in Loop::ALL.into_iter().filter(|of| *of != stuck) {
                    beats.beat(other, at(second));
                }
                let verdict = watchdog.handle_timeout(at(second));
                if verdict.changed {
                    assert_eq!(verdict.stuck.len(), 1);
                    assert_eq!(verdict.stuck[0].which, stuck);
                    assert!(verdict.stuck[0].to_string().contains(stuck.name()));
                    changes.push(second);
                }
                assert!(second <= 15 || !verdict.ping, "{second}");
            }
            assert_eq!(changes, [30]);
        }
    }

    #[test]
    fn a_loop_that_turns_again_is_well_at_once() {
        let (beats, mut watchdog) = watchdog();
        beats.beat(Loop::Pool, at(0));
        watchdog.handle_timeout(at(0));
        assert!(!watchdog.handle_timeout(at(16)).ping);
        beats.beat(Loop::Pool, at(17));
        let verdict = watchdog.handle_timeout(at(18));
        assert!(verdict.ping && verdict.changed && verdict.stuck.is_empty(), "{verdict:?}");
    }

    #[test]
    fn exactly_the_limit_is_still_well() {
        let (beats, mut watchdog) = watchdog();
        beats.beat(Loop::Observer, at(0));
        watchdog.handle_timeout(at(0));
        assert!(watchdog.handle_timeout(at(15)).ping);
    }

    #[test]
    fn nobody_waits_for_a_loop_that_has_not_begun_or_has_ended() {
        let (beats, mut watchdog) = watchdog();
        assert!(watchdog.handle_timeout(at(500)).ping);
        beats.beat(Loop::Pool, at(500));
        beats.retire(Loop::Pool);
        assert!(watchdog.handle_timeout(at(1_000)).ping);
    }

    #[test]
    fn without_a_manager_nothing_is_pinged_but_a_stuck_loop_is_named() {
        let beats = Beats::default();
        let mut watchdog = Watchdog::new(beats.clone(), None, at(0));
        beats.beat(Loop::Front, at(0));
        assert!(!watchdog.handle_timeout(at(1)).ping);
        let verdict = watchdog.handle_timeout(at(100));
        assert!(!verdict.ping && verdict.changed);
        assert_eq!(verdict.stuck[0].silent, Duration::from_secs(100));
    }

    #[test]
    fn a_timeout_of_nothing_does_not_spin() {
        let mut watchdog = Watchdog::new(Beats::default(), Some(Duration::ZERO), at(0));
        watchdog.handle_timeout(at(0));
        assert!(watchdog.poll_timeout() > at(0));
    }

    #[test]
    fn whoever_sleeps_as_long_as_allowed_is_never_stuck() {
        let (beats, mut watchdog) = watchdog();
        let step = watchdog.longest_sleep();
        let mut now = at(0);
        for _ in 0..100 {
            beats.beat(Loop::Observer, now);
            now = now.after(step);
            assert!(watchdog.handle_timeout(now).stuck.is_empty());
        }
    }
}
