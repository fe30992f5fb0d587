use super::invalid;
use crate::error::CallerError;
use std::time::Duration;

/// When to believe that another client uses a device's client id, and to stop fighting for it.
///
/// Two clients with one id take the session from each other at every reconnect, for ever. A
/// session that ends by 0x8E, or by the peer within `early` after its CONNACK, counts as taken.
/// After `times` of them within `within` the device is quarantined: it stays offline for
/// `quarantine`, twice as long each further time, at most `max_quarantine`, and then tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeoverPolicy {
    /// Closed by the peer so soon after CONNACK counts. At most 1 minute; 0 counts 0x8E only.
    /// Default 2 s.
    pub early: Duration,
    /// So many make a duel. 2 to 100. Default 3.
    pub times: u32,
    /// Within so long. 1 s to 1 hour. Default 60 s.
    pub within: Duration,
    /// The first quarantine. 1 s to 24 hours. Default 60 s.
    pub quarantine: Duration,
    /// The longest one. At least `quarantine`, at most 24 hours. Default 15 minutes.
    pub max_quarantine: Duration,
}

impl TakeoverPolicy {
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] for the first value outside its range.
    pub fn check(&self) -> Result<(), CallerError> {
        let second = Duration::from_secs(1);
        let day = Duration::from_secs(24 * 3_600);
        if self.early > Duration::from_secs(60) {
            return Err(invalid("takeover.early", self.early, "0 (0x8E only) to 1 minute"));
        }
        if !(2..=100).contains(&self.times) {
            return Err(invalid("takeover.times", self.times, "2 to 100"));
        }
        if !(second..=Duration::from_secs(3_600)).contains(&self.within) {
            return Err(invalid("takeover.within", self.within, "1 s to 1 hour"));
        }
        if !(second..=day).contains(&self.quarantine) {
            return Err(invalid("takeover.quarantine", self.quarantine, "1 s to 24 hours"));
        }
        if !(self.quarantine..=day).contains(&self.max_quarantine) {
            let allowed = "takeover.quarantine to 24 hours";
            return Err(invalid("takeover.max_quarantine", self.max_quarantine, allowed));
        }
        Ok(())
    }
}

impl Default for TakeoverPolicy {
    fn default() -> Self {
        Self {
            early: Duration::from_secs(2),
            times: 3,
            within: Duration::from_secs(60),
            quarantine: Duration::from_secs(60),
            max_quarantine: Duration::from_secs(900),
        }
    }
}
