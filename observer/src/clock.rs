//! EDGE: the only place that asks for the time.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::model::{MonoTime, ProcessKey};

/// Now, on the clock with which the kernel stamps its records.
pub fn now() -> MonoTime {
    MonoTime::from_nanos(read(ClockId::Monotonic))
}

/// How much `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`: the time spent suspended. The start of
/// a process is told on the former.
pub fn boot_offset() -> Duration {
    Duration::from_nanos(read(ClockId::Boottime).saturating_sub(now().nanos()))
}

/// Turns moments of the kernel into wall-clock time, as it was set when this was made.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    offset_ns: i128,
    boot_offset: Duration,
}

impl WallClock {
    /// With the wall clock as it is set now.
    #[expect(clippy::disallowed_methods, reason = "the edge that asks for the time")]
    pub fn read() -> Self {
        let wall = Timestamp::now().as_nanosecond();
        Self { offset_ns: wall - i128::from(now().nanos()), boot_offset: boot_offset() }
    }

    /// A clock that was at `wall` at the moment `at`, on a host that was never suspended.
    pub fn at(at: MonoTime, wall: Timestamp) -> Self {
        let offset_ns = wall.as_nanosecond() - i128::from(at.nanos());
        Self { offset_ns, boot_offset: Duration::ZERO }
    }

    /// When `process` started; `None` where that is not known. Its start is told on
    /// `CLOCK_BOOTTIME`, which like the wall clock goes on while the host is suspended.
    pub fn start(self, process: ProcessKey) -> Option<Timestamp> {
        let known = Some(process.start_ns).filter(|start| *start > 0)?;
        let suspended = i128::try_from(self.boot_offset.as_nanos()).ok()?;
        Timestamp::from_nanosecond(self.offset_ns - suspended + i128::from(known)).ok()
    }

    /// How long `process` had been running at `moment`; `None` where its start is not known.
    pub fn running_for(self, process: ProcessKey, moment: MonoTime) -> Option<Duration> {
        let known = Some(process.start_ns).filter(|start| *start > 0)?;
        Some(moment.after(self.boot_offset).since(MonoTime::from_nanos(known)))
    }

    /// The wall-clock time of `moment`.
    pub fn wall(self, moment: MonoTime) -> Timestamp {
        Timestamp::from_nanosecond(self.offset_ns + i128::from(moment.nanos()))
            .unwrap_or(Timestamp::MAX)
    }

    /// The moment of the kernel at the wall-clock time `wall`; the boot for all times before it.
    pub fn moment(self, wall: Timestamp) -> MonoTime {
        let nanos = wall.as_nanosecond() - self.offset_ns;
        MonoTime::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("invariant: clocks of the boot are positive");
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_counts_the_time_spent_suspended() {
        // The monotonic clock shows 100 s; the host was suspended for 1,000 s before that.
        let wall: Timestamp = "2026-11-22T12:00:00Z".parse().expect("a time");
        let clock = WallClock {
            boot_offset: Duration::from_secs(1_000),
            ..WallClock::at(MonoTime::from_nanos(100_000_000_000), wall)
        };
        let process = |start: u64| ProcessKey { pid: 1, start_ns: start * 1_000_000_000 };
        let now = MonoTime::from_nanos(100_000_000_000);
        let start = clock.start(process(1_040)).map(|start| start.to_string());
        assert_eq!(start.as_deref(), Some("2026-11-22T11:59:00Z"));
        assert_eq!(clock.running_for(process(1_040), now), Some(Duration::from_secs(60)));
        // Before the host was suspended.
        let start = clock.start(process(50)).map(|start| start.to_string());
        assert_eq!(start.as_deref(), Some("2026-11-22T11:42:30Z"));
        assert_eq!(clock.running_for(process(50), now), Some(Duration::from_secs(1_050)));
        assert_eq!(clock.start(process(0)), None);
        assert_eq!(clock.running_for(process(0), now), None);
    }

    #[test]
    fn our_own_start_is_before_now() {
        let stat = procfs::process::Process::myself().and_then(|it| it.stat()).expect("/proc");
        let ticks = procfs::ticks_per_second();
        let key = ProcessKey { pid: 1, start_ns: stat.starttime * (1_000_000_000 / ticks) };
        let clock = WallClock::read();
        let (start, now) = (clock.start(key).expect("known"), clock.wall(now()));
        let age = now.duration_since(start);
        assert!(age.is_positive() && age.as_secs() < 3_600, "{age}");
    }

    #[test]
    fn moments_and_wall_clock_times_are_two_names_for_the_same() {
        let at = |text: &str| text.parse::<Timestamp>().expect("invariant: a time");
        let clock = WallClock::at(MonoTime::from_nanos(5_000_000_000), at("2026-11-23T01:00:00Z"));
        for (moment, wall) in [
            (0, "2026-11-23T00:59:55Z"),
            (5_000_000_000, "2026-11-23T01:00:00Z"),
            (6_500_000_000, "2026-11-23T01:00:01.5Z"),
        ] {
            assert_eq!(clock.wall(MonoTime::from_nanos(moment)), at(wall));
            assert_eq!(clock.moment(at(wall)), MonoTime::from_nanos(moment));
        }
        assert_eq!(
            clock.moment(at("1970-01-01T00:00:00Z")),
            MonoTime::from_nanos(0),
            "before the boot"
        );
    }
}
