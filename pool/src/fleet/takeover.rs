use crate::error::Cause;
use crate::policy::TakeoverPolicy;
use std::time::{Duration, Instant};

/// The signs that another client uses the same client id.
#[derive(Debug, Default)]
pub(super) struct Takeovers(Option<Box<Signs>>);

#[derive(Debug)]
struct Signs {
    first: Instant,
    count: u32,
    quarantines: u32,
}

impl Takeovers {
    /// A session ended; says whether it is time to stop fighting.
    pub(super) fn ended(
        &mut self,
        policy: &TakeoverPolicy,
        now: Instant,
        cause: &Cause,
        lived: Option<Duration>,
    ) -> bool {
        if !is_sign(policy, cause, lived) {
            // A session that held for so long has no rival any more.
            if lived.is_some_and(|lived| lived >= policy.within) {
                self.0 = None;
            }
            return false;
        }
        let signs =
            self.0.get_or_insert_with(|| Box::new(Signs { first: now, count: 0, quarantines: 0 }));
        if now.saturating_duration_since(signs.first) > policy.within {
            signs.first = now;
            signs.count = 0;
        }
        signs.count += 1;
        // After a quarantine one sign is enough: the rival is still there.
        signs.count >= policy.times || signs.quarantines > 0
    }

    /// How long to stay away this time.
    pub(super) fn quarantine(&mut self, policy: &TakeoverPolicy) -> Duration {
        let Some(signs) = &mut self.0 else { return policy.quarantine };
        let doubled = policy.quarantine.saturating_mul(1 << signs.quarantines.min(20));
        signs.quarantines += 1;
        signs.count = 0;
        doubled.min(policy.max_quarantine)
    }
}

/// A broker of MQTT 5 says it with 0x8E; others just close, right after they said yes.
fn is_sign(policy: &TakeoverPolicy, cause: &Cause, lived: Option<Duration>) -> bool {
    match cause {
        Cause::TakenOver => true,
        Cause::PeerClosed | Cause::Reset => lived.is_some_and(|lived| lived < policy.early),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[track_caller]
    fn check(ends: &[(u64, Cause, Option<Duration>)], expected: &[bool]) {
        let policy = TakeoverPolicy::default();
        let start = clock::now();
        let mut takeovers = Takeovers::default();
        let found: Vec<bool> = ends
            .iter()
            .map(|(at, cause, lived)| {
                takeovers.ended(
                    &policy,
                    start + SECOND * u32::try_from(*at).unwrap_or(0),
                    cause,
                    *lived,
                )
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn three_early_closes_within_a_minute_are_a_duel() {
        let early = (Cause::PeerClosed, Some(SECOND));
        let ends: Vec<_> = [0, 2, 4].map(|at| (at, early.0.clone(), early.1)).to_vec();
        check(&ends, &[false, false, true]);
    }

    #[test]
    fn closes_far_apart_or_late_are_none() {
        check(
            &[
                (0, Cause::PeerClosed, Some(SECOND)),
                (50, Cause::PeerClosed, Some(SECOND)),
                (100, Cause::PeerClosed, Some(SECOND)),
                (150, Cause::PeerClosed, Some(SECOND)),
            ],
            &[false; 4],
        );
        check(&[(0, Cause::PeerClosed, Some(SECOND * 30)); 1], &[false]);
    }

    #[test]
    fn the_word_of_the_broker_counts_at_any_age() {
        let ends: Vec<_> = [0, 20, 40].map(|at| (at, Cause::TakenOver, Some(SECOND * 19))).to_vec();
        check(&ends, &[false, false, true]);
    }

    #[test]
    fn a_quarantine_doubles_up_to_its_limit_and_one_more_sign_is_enough() {
        let policy = TakeoverPolicy::default();
        let now = clock::now();
        let mut takeovers = Takeovers::default();
        for _ in 0..3 {
            takeovers.ended(&policy, now, &Cause::TakenOver, None);
        }
        let periods: Vec<u64> = (0..6).map(|_| takeovers.quarantine(&policy).as_secs()).collect();
        assert_eq!(periods, [60, 120, 240, 480, 900, 900]);
        assert!(takeovers.ended(&policy, now, &Cause::TakenOver, None));
        takeovers.ended(&policy, now, &Cause::PeerClosed, Some(policy.within));
        assert!(!takeovers.ended(&policy, now, &Cause::TakenOver, None), "a long life forgives");
    }
}
