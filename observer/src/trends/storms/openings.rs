//! How many connections one process has opened within the last seconds.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::heavy::Heavy;
use crate::model::MonoTime;

/// The window of a storm.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// How long the rate must be low before a storm is over. Chosen: reconnects come in waves, and
/// clients wait up to some seconds between two.
const CALM: Duration = Duration::from_secs(5);

/// Connections are counted by this many nanoseconds: 100 ms.
const BUCKET_NS: u64 = 100_000_000;

/// Buckets of a window. The newest is still filling, so the window is never longer than said.
const BUCKETS: u64 = 50;

/// The openings of one process.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// Those of the window in which there were any.
    buckets: VecDeque<Bucket>,
    sum: u64,
    storm: Option<Storm>,
    heavy: Heavy,
}

#[derive(Debug)]
struct Bucket {
    number: u64,
    first: MonoTime,
    count: u64,
}

/// Too many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storm {
    /// The first connection of the window in which there were too many.
    pub(super) since: MonoTime,
    /// When the one came that was too many.
    pub(super) known: MonoTime,
    /// The most that were opened within one window.
    pub(super) connections: u64,
    /// When the rate fell.
    fell: Option<MonoTime>,
}

impl Openings {
    /// One more was opened; more than `most` are a storm.
    pub(super) fn opened(&mut self, remote: SocketAddr, most: u64, now: MonoTime) {
        self.pass(most, now);
        self.heavy.count(remote, now);
        let number = now.nanos() / BUCKET_NS;
        match self.buckets.back_mut() {
            Some(bucket) if bucket.number >= number => bucket.count += 1,
            _ => self.buckets.push_back(Bucket { number, first: now, count: 1 }),
        }
        self.sum += 1;
        if self.sum > most {
            let since = self.buckets.front().map_or(now, |bucket| bucket.first);
            let new = Storm { since, known: now, connections: 0, fell: None };
            let storm = self.storm.get_or_insert(new);
            storm.fell = None;
            storm.connections = storm.connections.max(self.sum);
        }
    }

    /// Time has come to `now`.
    pub(super) fn pass(&mut self, most: u64, now: MonoTime) {
        let newest = now.nanos() / BUCKET_NS;
        let mut fell = now;
        while let Some(bucket) = self.buckets.pop_front_if(|it| it.number + BUCKETS <= newest) {
            let was_too_many = self.sum > most;
            self.sum -= bucket.count;
            if was_too_many && self.sum <= most {
                fell = MonoTime::from_nanos((bucket.number + BUCKETS) * BUCKET_NS);
            }
        }
        let Some(storm) = &mut self.storm else { return };
        if self.sum <= most {
            let fell = *storm.fell.get_or_insert(fell);
            if now.since(fell) >= CALM {
                self.storm = None;
            }
        }
    }

    /// The storm that lasts, or has just ended.
    pub(super) fn storm(&self) -> Option<Storm> {
        self.storm
    }

    /// Where most of them went.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        self.heavy.most()
    }

    /// Whether anything about it matters still.
    pub(super) fn is_busy(&self) -> bool {
        !self.buckets.is_empty() || self.storm.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prop_assert_eq, proptest};

    use super::*;

    fn remote() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 443))
    }

    const fn at(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    fn run(times: &[u64], most: u64) -> Openings {
        let mut openings = Openings::default();
        times.iter().for_each(|time| openings.opened(remote(), most, at(*time)));
        openings
    }

    #[test]
    fn one_too_many_is_a_storm() {
        let storm = |times: &[u64]| run(times, 3).storm().map(|it| (it.since, it.known));
        assert_eq!(storm(&[1000, 1010, 1020]), None);
        assert_eq!(storm(&[1000, 1010, 1020, 1030]), Some((at(1000), at(1030))));
        assert_eq!(storm(&[1000, 1010, 1020, 5990]), Some((at(1000), at(5990))));
        assert_eq!(storm(&[1000, 1010, 1020, 6000]), None, "not within 5 s");
        assert_eq!(storm(&[0, 1000, 1010, 5000, 5010]), Some((at(1000), at(5010))));
    }

    #[test]
    fn a_storm_is_over_after_a_calm() {
        let mut openings = run(&[1000, 1100, 1200, 1300], 3);
        openings.pass(3, at(10_999));
        assert!(openings.storm().is_some(), "the rate fell at 6 s");
        openings.pass(3, at(11_000));
        assert_eq!(openings.storm(), None);
        assert!(!openings.is_busy());
    }

    #[test]
    fn waves_are_one_storm() {
        let mut openings = run(&[1000, 1100, 1200, 1300, 9000, 9100, 9200, 9300, 9400], 3);
        let storm = openings.storm().expect("it lasts");
        assert_eq!((storm.since, storm.known, storm.connections), (at(1000), at(1300), 5));
        openings.pass(3, at(18_999));
        assert!(openings.storm().is_some(), "the rate fell again at 14 s");
        openings.opened(remote(), 3, at(30_000));
        assert_eq!(openings.storm(), None);
    }

    #[test]
    fn memory_is_bounded() {
        let times: Vec<u64> = (0..100_000).collect();
        assert!(run(&times, 500).buckets.len() <= 50);
    }

    proptest! {
        #![proptest_config(crate::trends::world::settings())]

        #[test]
        fn the_sum_is_that_of_a_naive_count(
            pauses in vec((0_u64..20, 1_usize..4), 1..60),
            most in 0_u64..12,
        ) {
            let mut openings = Openings::default();
            let (mut now, mut all) = (3_000_u64, Vec::new());
            // Storm: since, known, and when the rate fell.
            let mut storm: Option<(MonoTime, MonoTime, Option<u64>)> = None;
            for (pause, count) in pauses {
                // The naive one looks at every bucket.
                let pause = pause * 100;
                for time in (now..now + pause).step_by(100) {
                    let sum = count_of(&all, time);
                    if let Some((_, _, fell)) = &mut storm {
                        if sum > most {
                            *fell = None;
                        } else {
                            fell.get_or_insert(time);
                        }
                        if fell.is_some_and(|fell| time >= fell + 5_000) {
                            storm = None;
                        }
                    }
                }
                now += pause;
                if storm.is_some_and(|(_, _, fell)| fell.is_some_and(|it| now >= it + 5_000)) {
                    storm = None;
                }
                for _ in 0..count {
                    openings.opened(remote(), most, at(now));
                    all.push(now);
                    let sum = count_of(&all, now);
                    prop_assert_eq!(openings.sum, sum);
                    if sum > most {
                        let first = all.iter().find(|it| **it / 100 + 50 > now / 100);
                        let first = at(*first.expect("this one is within"));
                        storm = storm.or(Some((first, at(now), None)));
                        storm = storm.map(|(since, known, _)| (since, known, None));
                    }
                }
                let found = openings.storm().map(|it| (it.since, it.known));
                prop_assert_eq!(found, storm.map(|(since, known, _)| (since, known)));
            }
        }
    }

    fn count_of(all: &[u64], now: u64) -> u64 {
        all.iter().filter(|it| **it / 100 + 50 > now / 100).count() as u64
    }
}
