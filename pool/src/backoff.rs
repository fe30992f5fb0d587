//! How long one device waits after a failed connect.

use crate::policy::BackoffPolicy;
use std::time::Duration;

/// The failures since the last stable session; the whole state that a slot keeps.
///
/// The wait is drawn from the whole range between zero and a bound that doubles ("full jitter").
/// Among the kinds of jitter it needs the fewest calls to get a crowd through: AWS Architecture
/// Blog, "Exponential Backoff And Jitter", 2015. That the count outlives short sessions is the
/// rule of AWS's own MQTT 5 client (`min_connected_time_to_reset_reconnect_delay_ms`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure and draws the wait before the next dial: 0 to `base` at first, and up to
    /// twice as much after each further failure, never more than `max`. `random` is uniform in
    /// 0 to 1; what lies outside counts as the nearer end, NaN as 0.
    pub(crate) fn next(&mut self, policy: &BackoffPolicy, random: f64) -> Duration {
        // Beyond 64 doublings, a nanosecond has become six centuries.
        let doubled = 1_u128 << self.failures.min(64);
        let bound = policy.base.as_nanos().saturating_mul(doubled).min(policy.max.as_nanos());
        self.failures = self.failures.saturating_add(1);
        // A cast from floating point saturates and makes NaN 0, so nothing here can panic.
        let drawn = (bound as f64 * random.clamp(0.0, 1.0)) as u128;
        Duration::from_nanos_u128(drawn.min(bound))
    }

    /// Forgets the failures if the session that ended lived for `stable_after` or longer.
    /// `lived` counts from CONNACK.
    pub(crate) fn session_ended(&mut self, policy: &BackoffPolicy, lived: Duration) {
        if lived >= policy.stable_after {
            self.failures = 0;
        }
    }

    /// Since the last stable session.
    pub(crate) fn failures(self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> BackoffPolicy {
        BackoffPolicy::default()
    }

    #[test]
    fn the_bound_doubles_up_to_the_longest_wait() {
        let mut backoff = Backoff::default();
        let bounds: Vec<u64> = (0..9).map(|_| backoff.next(&policy(), 1.0).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(backoff.failures(), 9);
    }

    #[test]
    fn the_wait_is_drawn_from_the_whole_range() {
        let draw = |random| Backoff { failures: 3 }.next(&policy(), random);
        assert_eq!(draw(0.0), Duration::ZERO);
        assert_eq!(draw(0.25), Duration::from_secs(2));
        assert_eq!(draw(1.0), Duration::from_secs(8));
    }

    #[test]
    fn only_a_stable_session_resets() {
        let mut backoff = Backoff { failures: 5 };
        backoff.session_ended(&policy(), Duration::from_millis(19_999));
        assert_eq!(backoff.failures(), 5);
        backoff.session_ended(&policy(), Duration::from_secs(20));
        assert_eq!(backoff.failures(), 0);
        assert_eq!(backoff.next(&policy(), 1.0), Duration::from_secs(1));
    }

    #[test]
    fn with_no_time_asked_for_each_session_resets() {
        let mut backoff = Backoff { failures: 5 };
        let policy = BackoffPolicy { stable_after: Duration::ZERO, ..policy() };
        backoff.session_ended(&policy, Duration::ZERO);
        assert_eq!(backoff.failures(), 0);
    }

    #[test]
    fn it_is_as_small_as_its_count() {
        assert_eq!(size_of::<Backoff>(), 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn no_count_and_no_number_breaks_it(
            failures: u32,
            random in any::<f64>(),
            base: Duration,
            max: Duration,
        ) {
            let mut backoff = Backoff { failures };
            let policy = BackoffPolicy { base, max, stable_after: Duration::ZERO };
            prop_assert!(backoff.next(&policy, random) <= max);
            prop_assert_eq!(backoff.failures(), failures.saturating_add(1));
        }
    }
}
