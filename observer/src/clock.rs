//! EDGE: the only place that asks for the time.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::model::MonoTime;

/// Now, on the clock with which the kernel stamps its records.
pub fn now() -> MonoTime {
    MonoTime(read(ClockId::Monotonic))
}

/// How much `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`: the time spent suspended. The start of
/// a process is told on the former.
pub fn boot_offset() -> Duration {
    Duration::from_nanos(read(ClockId::Boottime).saturating_sub(now().0))
}

/// Turns moments of the kernel into wall-clock time, as it was set when this was made.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    offset_ns: i128,
}

impl WallClock {
    /// With the wall clock as it is set now.
    #[expect(clippy::disallowed_methods, reason = "the edge that asks for the time")]
    pub fn read() -> Self {
        let wall = Timestamp::now().as_nanosecond();
        Self { offset_ns: wall - i128::from(now().0) }
    }

    /// A clock that was at `wall` at the moment `at`.
    pub fn at(at: MonoTime, wall: Timestamp) -> Self {
        Self { offset_ns: wall.as_nanosecond() - i128::from(at.0) }
    }

    /// The wall-clock time of `moment`.
    pub fn wall(self, moment: MonoTime) -> Timestamp {
        Timestamp::from_nanosecond(self.offset_ns + i128::from(moment.0)).unwrap_or(Timestamp::MAX)
    }
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("invariant: clocks of the boot are positive");
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
