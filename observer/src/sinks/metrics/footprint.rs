//! EDGE: what the daemon takes of the host, by its own files in /proc.

use std::time::Duration;

use procfs::process::Process;

use crate::procs;

/// What the daemon takes of the host; `None` where /proc does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Memory in RAM, bytes.
    pub resident_bytes: Option<u64>,
    /// Open descriptors.
    pub open_descriptors: Option<u64>,
    /// CPU time of all threads, user and system, to a tick (10 ms).
    pub cpu_time: Option<Duration>,
}

impl Footprint {
    /// Reads it now. It never waits; with 15,000 descriptors on a kernel before 6.2, which cannot
    /// tell their number without listing them, it takes some milliseconds.
    pub fn read() -> Self {
        let open_descriptors = procs::descriptors(std::process::id());
        let process = Process::myself();
        let memory = process.as_ref().ok().and_then(|process| process.statm().ok());
        let stat = process.as_ref().ok().and_then(|process| process.stat().ok());
        Self {
            resident_bytes: memory.map(|it| it.resident.saturating_mul(procfs::page_size())),
            open_descriptors,
            cpu_time: stat.map(|it| ticks(it.utime.saturating_add(it.stime))),
        }
    }
}

fn ticks(ticks: u64) -> Duration {
    let per_second = procfs::ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1_000) / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_descriptors_and_time() {
        let before = Footprint::read();
        let files: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null")).collect();
        let after = Footprint::read();
        assert!(files.iter().all(Result::is_ok));
        // Other tests of this process open and close some too.
        let grown = after.open_descriptors.zip(before.open_descriptors).map(|(a, b)| a.abs_diff(b));
        assert!(grown.is_some_and(|grown| (50..150).contains(&grown)), "{before:?} {after:?}");
        let resident = after.resident_bytes.expect("/proc/self/statm is there");
        assert!((1 << 20..1 << 32).contains(&resident), "{resident}");
        let time = after.cpu_time.expect("/proc/self/stat is there");
        assert!(time < Duration::from_secs(3_600), "{time:?}");
    }

    #[test]
    fn ticks_are_hundredths_of_a_second() {
        // USER_HZ is 100 on every architecture that we build for (include/asm-generic/param.h).
        assert_eq!(ticks(250), Duration::from_millis(2_500));
        assert!(ticks(u64::MAX) > Duration::from_secs(1));
    }
}
