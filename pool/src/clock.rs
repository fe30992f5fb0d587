//! The one place that asks what time it is.

use std::time::Instant;

/// Tokio's clock, so that a test which stops it stops the pool too.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
