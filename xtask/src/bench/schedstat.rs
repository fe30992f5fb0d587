//! The CPU time of a process, to the nanosecond: /proc/PID/task/TID/schedstat.

use crate::failure::{Failure, OrFail as _, Result};
use std::time::Duration;
use std::{fs, thread};

const NEXT: &str = "a kernel with CONFIG_SCHED_INFO has these files";

/// What all threads of the process that are alive have used so far.
///
/// It is exact for threads that sleep, and up to one tick late for one that runs.
pub(super) fn cpu_time(pid: u32) -> Result<Duration> {
    let dir = format!("/proc/{pid}/task");
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(&dir).or_fail(&dir, "the process has ended: look for why above")? {
        let file = thread.or_fail(&dir, NEXT)?.path().join("schedstat");
        // A thread may end between the two reads.
        if let Ok(text) = fs::read_to_string(&file) {
            sum += parse(&text)?;
        }
    }
    Ok(sum)
}

/// What this process has used so far, exactly.
pub(super) fn own_cpu_time() -> Result<Duration> {
    // The kernel brings the account up to date when a thread leaves the CPU.
    thread::sleep(Duration::from_millis(1));
    cpu_time(std::process::id())
}

/// The first field; the others are the time spent waiting, and the number of turns.
fn parse(text: &str) -> Result<Duration> {
    let nanoseconds = text.split_whitespace().next().and_then(|it| it.parse().ok());
    let broken = || Failure::new(format!("schedstat says `{}`", text.trim()), NEXT);
    nanoseconds.map(Duration::from_nanos).ok_or_else(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::child::{Running, mortal};
    use crate::clock;

    #[test]
    fn the_first_field_counts() {
        let parsed = parse("2187391 33112 17\n").expect("invariant: as the kernel writes it");
        assert_eq!(parsed, Duration::from_nanos(2_187_391));
    }

    #[test]
    fn other_text_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse("many 0 0").is_err());
    }

    // A child and not this process: other tests are threads of this one, and what a thread used
    // leaves the sum when it ends.
    #[test]
    fn work_shows_in_the_account_of_a_process() {
        let mut busy = mortal("sh");
        let busy = Running::start("sh", busy.args(["-c", "while :; do :; done"]))
            .expect("invariant: every host has a shell");
        let first = cpu_time(busy.pid());
        let deadline = clock::now() + Duration::from_secs(10);
        let grown = loop {
            let now = cpu_time(busy.pid());
            let grown = matches!((&first, &now), (Ok(first), Ok(now)) if now > first);
            if grown || clock::now() > deadline {
                break grown;
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(grown, "a busy loop used no CPU time in 10 s");
    }
}
