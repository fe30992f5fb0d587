//! The time, for steps that report or limit how long they take.

use std::time::Instant;

/// Now.
#[expect(clippy::disallowed_methods, reason = "xtask waits for real programs, in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
