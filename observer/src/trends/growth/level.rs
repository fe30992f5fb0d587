//! Whether a number stands still.
//!
//! A number that climbs does not stand, however slowly it does.

use std::time::Duration;

use crate::model::MonoTime;

/// How long a number must stay to be a level. Chosen: a fleet that starts behind a limiter makes
/// no pause of half a minute.
const STANDING: Duration = Duration::from_secs(30);

/// How many connections more or fewer are nothing, however few there are. Chosen: a device or two
/// reconnect at any time.
const SLACK: u64 = 2;

/// One in so many may come and go without leaving the level: 5 %.
const SHARE: u64 = 20;

/// Whether the number of live connections stands: for half a minute there was no new highest, few
/// were missing from it, and few were opened. Whatever breaks that begins the half minute anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    began: MonoTime,
    highest: u64,
    attempts: u64,
}

impl Level {
    /// From now on, with this number.
    pub(super) fn new(live: u64, now: MonoTime) -> Self {
        Self { began: now, highest: live, attempts: 0 }
    }

    /// Time has come to `now` and nothing changed: the level, said once for each [`STANDING`].
    pub(super) fn pass(&mut self, now: MonoTime) -> Option<u64> {
        if self.highest == 0 || now.since(self.began) < STANDING {
            return None;
        }
        (self.began, self.attempts) = (now, 0);
        Some(self.highest)
    }

    /// connect(2) was called, at `live` connections. Whoever tries again and again wants more than
    /// it has.
    pub(super) fn attempt(&mut self, live: u64, now: MonoTime) {
        self.attempts += 1;
        if self.attempts > tolerance(self.highest) {
            *self = Self::new(live, now);
        }
    }

    /// The number is `live` from now on.
    pub(super) fn moved(&mut self, live: u64, now: MonoTime) {
        if live > self.highest || self.highest - live > tolerance(self.highest) {
            *self = Self::new(live, now);
        }
    }
}

fn tolerance(level: u64) -> u64 {
    SLACK.max(level / SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    /// Name, times in milliseconds with the number from then on, and the levels at which it stood.
    type Case = (&'static str, &'static [(u64, u64)], &'static [u64]);

    /// The levels at which a number stood that changes as told, with an attempt for each step up.
    fn levels(changes: &[(u64, u64)]) -> Vec<u64> {
        let (start, mut live) = changes[0];
        let mut level = Level::new(live, at(start));
        let mut stood = Vec::new();
        for (time, next) in &changes[1..] {
            stood.extend(level.pass(at(*time)));
            (0..next.saturating_sub(live)).for_each(|_| level.attempt(live, at(*time)));
            level.moved(*next, at(*time));
            live = *next;
        }
        stood
    }

    #[test]
    fn when_a_number_stands() {
        let cases: &[Case] = &[
            ("too short", &[(0, 40), (29_999, 41)], &[]),
            ("half a minute", &[(0, 40), (30_000, 41)], &[40]),
            ("one more begins anew", &[(0, 40), (1_000, 41), (30_000, 50)], &[]),
            ("one more, and it stays", &[(0, 40), (1_000, 41), (31_000, 50)], &[41]),
            ("two fewer are nothing", &[(0, 9), (9_000, 7), (9_500, 9), (30_000, 20)], &[9]),
            ("three fewer are not", &[(0, 9), (9_000, 6), (9_500, 9), (30_000, 20)], &[]),
            ("a dip within 5 %", &[(0, 100), (9_000, 95), (9_500, 100), (30_000, 99)], &[100]),
            ("a dip beyond it", &[(0, 100), (9_000, 94), (9_500, 100), (30_000, 99)], &[]),
            ("nothing is no level", &[(0, 0), (60_000, 9)], &[]),
            ("a slow climb", &[(0, 6), (25_000, 7), (50_000, 8), (75_000, 9)], &[]),
            ("said every half minute", &[(0, 9), (30_000, 8), (59_000, 9), (60_000, 8)], &[9, 9]),
        ];
        for (name, changes, expected) in cases {
            assert_eq!(levels(changes), *expected, "{name}");
        }
    }

    #[test]
    fn whoever_tries_in_vain_wants_more() {
        let mut level = Level::new(40, at(0));
        (0..3).for_each(|_| level.attempt(40, at(1_000)));
        assert_eq!(level.pass(at(30_000)), None);
        (0..2).for_each(|_| level.attempt(40, at(30_500)));
        assert_eq!(level.pass(at(31_000)), Some(40), "two are nothing");
        (0..2).for_each(|_| level.attempt(40, at(32_000)));
        assert_eq!(level.pass(at(61_000)), Some(40), "nor two more, half a minute later");
    }
}
