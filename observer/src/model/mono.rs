//! PURE. The clock by which the kernel stamps its records.

use std::{fmt, num::NonZeroU64, time::Duration};

/// A moment on `CLOCK_MONOTONIC`, nanoseconds since boot without the time spent suspended.
///
/// The kernel stamps its records with this clock; wall-clock time exists only in the sinks. An
/// optional moment takes no more room than a moment: there are a dozen of them in each socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(
    /// One more than the nanoseconds, so that no moment is 0.
    NonZeroU64,
);

impl MonoTime {
    /// The moment `nanos` nanoseconds after the boot. The last nanosecond that fits into 64 bits, in
    /// 584 years, is taken for the one before.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since the boot.
    pub const fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos().saturating_sub(earlier.nanos()))
    }

    /// This moment plus `duration`, at most the end of time.
    pub fn after(self, duration: Duration) -> Self {
        Self::from_nanos(self.nanos().saturating_add(whole(duration)))
    }

    /// This moment minus `duration`, at least the boot.
    pub fn before(self, duration: Duration) -> Self {
        Self::from_nanos(self.nanos().saturating_sub(whole(duration)))
    }
}

impl Default for MonoTime {
    /// The boot.
    fn default() -> Self {
        Self::from_nanos(0)
    }
}

impl fmt::Debug for MonoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MonoTime({})", self.nanos())
    }
}

fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_what_it_was_made_of() {
        for nanos in [0, 1, 42, u64::MAX - 1] {
            assert_eq!(MonoTime::from_nanos(nanos).nanos(), nanos);
        }
        assert_eq!(MonoTime::from_nanos(u64::MAX), MonoTime::from_nanos(u64::MAX - 1));
    }

    #[test]
    fn an_optional_moment_takes_no_more_room() {
        assert_eq!(size_of::<Option<MonoTime>>(), 8);
    }

    #[test]
    fn sums_and_differences_stop_at_both_ends() {
        let (first, last) = (MonoTime::default(), MonoTime::from_nanos(u64::MAX));
        let second = Duration::from_secs(1);
        assert_eq!(first.before(second), first);
        assert_eq!(last.after(Duration::MAX), last);
        assert_eq!(first.since(last), Duration::ZERO);
        assert_eq!(first.after(second).since(first), second);
        assert_eq!(first.after(second), MonoTime::from_nanos(1_000_000_000));
        assert!(first < first.after(second));
    }
}
