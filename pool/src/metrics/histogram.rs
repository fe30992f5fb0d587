use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations, counted by upper bounds that suit loopback as well as a storm of minutes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many were at most [`Histogram::BOUNDS`] each, not cumulated; the last one is for longer
    /// ones.
    pub counts: [u64; Histogram::BOUNDS.len() + 1],
    /// Of all of them.
    pub sum: Duration,
}

impl Histogram {
    /// Upper bounds in seconds.
    pub const BOUNDS: [f64; 14] =
        [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

    /// Counts one more.
    pub fn observe(&mut self, duration: Duration) {
        self.counts[bucket(duration)] += 1;
        self.sum += duration;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A histogram that many may write at once.
#[derive(Debug, Default)]
pub(crate) struct AtomicHistogram {
    counts: [AtomicU64; Histogram::BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

impl AtomicHistogram {
    pub(crate) fn observe(&self, duration: Duration) {
        self.counts[bucket(duration)].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        Histogram {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
        }
    }
}

fn bucket(duration: Duration) -> usize {
    let seconds = duration.as_secs_f64();
    Histogram::BOUNDS.partition_point(|bound| *bound < seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_under_its_bound() {
        let histogram = AtomicHistogram::default();
        for milliseconds in [0, 1, 2, 3, 200_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let read = histogram.read();
        assert_eq!(read.counts[..4], [1, 1, 1, 1]);
        assert_eq!(read.counts[14], 1);
        assert_eq!(read.count(), 5);
        assert_eq!(read.sum, Duration::from_millis(200_006));
    }
}
