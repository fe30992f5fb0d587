//! Waiting for conditions, never for time.

use crate::clock;
use std::thread;
use std::time::Duration;

/// How long anything may take on a busy machine before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often a condition without a notification is looked at. Chosen: short against every budget.
const STEP: Duration = Duration::from_millis(10);

/// Calls `attempt` until it has something, or panics with what the last one said.
#[track_caller]
pub fn until<T>(what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, attempt)
}

/// As [`until`], for what takes longer by its nature.
#[track_caller]
pub fn within<T>(
    patience: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = clock::now() + patience;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) if clock::now() > deadline => {
                panic!("waited {patience:?} for {what}:\n{why}")
            }
            Err(_) => thread::sleep(STEP),
        }
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || if condition() { Ok(()) } else { Err("it is not so".to_owned()) });
}
