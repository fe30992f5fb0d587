//! Clocks: the one place that reads them.

#![expect(
    clippy::disallowed_methods,
    reason = "a scenario compares what it is told with the clock"
)]

use jiff::Timestamp;
use std::time::Instant;

/// Wall-clock time.
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// Time to measure and to wait with.
pub fn now() -> Instant {
    Instant::now()
}
