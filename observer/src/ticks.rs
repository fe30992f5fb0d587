//! PURE: how long a tick of the kernel is.
//!
//! The kernel stamps a socket's last segments with `jiffies`, whose length (1/HZ) it tells nobody.
//! But it starts the counter at a known value, `INITIAL_JIFFIES`, minus 300 seconds in ticks in
//! the lower 32 bits (include/linux/jiffies.h), so one reading of counter and clock gives HZ.

use std::time::Duration;

/// Ticks a second (`CONFIG_HZ`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickRate(u32);

impl TickRate {
    /// The commonest rate, and the guess until a reading is there.
    pub const HZ_250: Self = Self(250);

    /// The values that `CONFIG_HZ` can have (kernel/Kconfig.hz).
    const POSSIBLE: [u32; 4] = [100, 250, 300, 1000];

    /// Where the counter passes 2^32: this many seconds after boot, whatever the rate.
    const WRAP_SECONDS: i128 = 300;

    /// The rate that fits a reading of the counter at `uptime_ns` of `CLOCK_MONOTONIC`. `None`
    /// close to the wrap at 300 s, where every rate fits.
    pub fn from_reading(uptime_ns: u64, jiffies: u64) -> Option<Self> {
        const SECOND: i128 = 1_000_000_000;
        let since_wrap_ns = i128::from(uptime_ns) - Self::WRAP_SECONDS * SECOND;
        if since_wrap_ns.abs() < 10 * SECOND {
            return None;
        }
        let ticks = i128::from(jiffies) - (1i128 << 32);
        let error = |hz: u32| (ticks * SECOND - since_wrap_ns * i128::from(hz)).abs();
        Self::POSSIBLE.into_iter().min_by_key(|hz| error(*hz)).map(Self)
    }

    /// The length of `ticks`.
    pub fn duration(self, ticks: u32) -> Duration {
        Duration::from_nanos(u64::from(ticks) * 1_000_000_000 / u64::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_tells_the_rate() {
        for hz in TickRate::POSSIBLE {
            for uptime in [2u64, 280, 320, 3_600, 90_000_000] {
                let ticks = (1i128 << 32) + (i128::from(uptime) - 300) * i128::from(hz);
                // The counter starts a little before the clock and stands still while idle.
                for skew in [-20i128, 0, 20] {
                    let jiffies = u64::try_from(ticks + skew).expect("positive");
                    let rate = TickRate::from_reading(uptime * 1_000_000_000, jiffies);
                    assert_eq!(rate, Some(TickRate(hz)), "{hz} Hz at {uptime} s, skew {skew}");
                }
            }
        }
        assert_eq!(TickRate::from_reading(300_000_000_000, 1 << 32), None);
    }

    #[test]
    fn ticks_become_durations() {
        assert_eq!(TickRate::HZ_250.duration(250), Duration::from_secs(1));
        assert_eq!(TickRate::HZ_250.duration(u32::MAX), Duration::from_millis(17_179_869_180));
    }
}
