//! How long connections lived: a sum that things can be taken out of again.

use std::time::Duration;

/// Steps for each doubling. Chosen: a median that is at most an eighth too long.
const STEPS: usize = 8;

/// Enough for 69 years in milliseconds; what lives longer counts as that.
const BUCKETS: usize = STEPS * 39;

/// The bucket of a life: lives of up to 7 ms have one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket(u16);

impl Bucket {
    pub(super) fn of(life: Duration) -> Self {
        let milliseconds = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let Some(octave) = milliseconds.checked_ilog2().filter(|octave| *octave >= 3) else {
            return Self(u16::try_from(milliseconds).unwrap_or_default());
        };
        let step = usize::try_from(milliseconds >> (octave - 3)).unwrap_or_default() & (STEPS - 1);
        let index = STEPS * (octave as usize - 2) + step;
        Self(u16::try_from(index.min(BUCKETS - 1)).unwrap_or_default())
    }

    /// The longest life in it.
    fn longest(self) -> Duration {
        let index = usize::from(self.0);
        if index < STEPS {
            return Duration::from_millis(u64::from(self.0));
        }
        let (octave, step) = (index / STEPS + 2, index % STEPS);
        Duration::from_millis((((STEPS + step + 1) as u64) << (octave - 3)) - 1)
    }
}

/// How many there are in each bucket.
#[derive(Debug)]
pub(super) struct Lives {
    counts: Box<[u32; BUCKETS]>,
    sum: u64,
}

impl Default for Lives {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), sum: 0 }
    }
}

impl Lives {
    pub(super) fn add(&mut self, bucket: Bucket) {
        self.counts[usize::from(bucket.0)] += 1;
        self.sum += 1;
    }

    /// Takes out what was added before.
    pub(super) fn remove(&mut self, bucket: Bucket) {
        self.counts[usize::from(bucket.0)] -= 1;
        self.sum -= 1;
    }

    /// Half of them lived no longer, to an eighth.
    pub(super) fn median(&self) -> Duration {
        let mut left = self.sum.div_ceil(2);
        for (index, count) in (0_u16..).zip(self.counts.iter()) {
            match left.checked_sub(u64::from(*count)) {
                Some(rest) if rest > 0 => left = rest,
                _ if *count > 0 => return Bucket(index).longest(),
                _ => {}
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_at_most_an_eighth_too_long() {
        for life in (0..5_000).chain([86_400_000, 1 << 40]) {
            let mut lives = Lives::default();
            lives.add(Bucket::of(Duration::from_millis(life)));
            let median = u64::try_from(lives.median().as_millis()).expect("it is short");
            assert!((life..=life + life / 8).contains(&median), "{life} ms: {median} ms");
        }
        assert!(Bucket::of(Duration::MAX).longest() > Duration::from_secs(60 * 86_400 * 365));
    }

    #[test]
    fn half_lives_no_longer_and_what_was_taken_out_is_gone() {
        let bucket = |life| Bucket::of(Duration::from_millis(life));
        let mut lives = Lives::default();
        assert_eq!(lives.median(), Duration::ZERO);
        for life in [1, 2, 3, 4, 100, 100, 100] {
            lives.add(bucket(life));
        }
        assert_eq!(lives.median(), Duration::from_millis(4));
        for life in [1, 2] {
            lives.remove(bucket(life));
        }
        assert_eq!(lives.median(), Duration::from_millis(103));
    }
}
