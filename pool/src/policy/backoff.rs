use super::invalid;
use crate::error::CallerError;
use std::time::Duration;

/// How long a device waits after a failed connect: exponential, with full jitter.
///
/// The first connect after a stable session waits for its turn only; admission spreads a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The upper bound of the first wait; each further one doubles. 1 ms to 1 hour. Default 1 s.
    pub base: Duration,
    /// The upper bound of any wait. At least `base`, at most 24 hours. Default 2 minutes.
    pub max: Duration,
    /// A session that lived for so long sets the count of failures to zero. At most 24 hours;
    /// 0 resets at each CONNACK. Default 20 s.
    pub stable_after: Duration,
}

impl BackoffPolicy {
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] for the first value outside its range.
    pub fn check(&self) -> Result<(), CallerError> {
        let day = Duration::from_secs(24 * 3_600);
        if !(Duration::from_millis(1)..=Duration::from_secs(3_600)).contains(&self.base) {
            return Err(invalid("backoff.base", self.base, "1 ms to 1 hour"));
        }
        if !(self.base..=day).contains(&self.max) {
            return Err(invalid("backoff.max", self.max, "backoff.base to 24 hours"));
        }
        if self.stable_after > day {
            return Err(invalid("backoff.stable_after", self.stable_after, "0 to 24 hours"));
        }
        Ok(())
    }
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            max: Duration::from_secs(120),
            stable_after: Duration::from_secs(20),
        }
    }
}
