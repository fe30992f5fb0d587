//! Every knob of the pool: its unit, its default, why that, and how to turn it off.

mod backoff;
mod buffers;
mod limits;
mod takeover;
mod timeouts;

pub use backoff::BackoffPolicy;
pub use buffers::{Buffers, Overflow};
pub use limits::{Adaptive, Limits, Reservoir};
pub use takeover::TakeoverPolicy;
pub use timeouts::Timeouts;

use crate::error::CallerError;
use std::fmt::Debug;

/// A complaint about one value.
fn invalid(field: &'static str, given: impl Debug, allowed: &str) -> CallerError {
    CallerError::InvalidField { field, given: format!("{given:?}"), allowed: allowed.to_owned() }
}
