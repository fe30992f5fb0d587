//! What it costs to look at 5,000 TCP descriptors.

use super::{Setting, idle, watch};
use crate::bench::figure::Figure;
use crate::bench::{hold, host, schedstat};
use crate::failure::{Failure, Result};
use std::thread;
use std::time::Duration;

const DESCRIPTORS: u32 = 5_000;
const USUAL_REPS: u32 = 5;
const BAR_MS: f64 = 10.0;
/// Shorter than the rare interval and than the budgets: the rare observer takes no snapshot in it.
const WINDOW: Duration = Duration::from_secs(5);
const OFTEN: &str = "100ms";
const RARELY: &str = "10s";
/// Half of what would be there if a snapshot took no time.
const LEAST: usize = 25;

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    host::settle();
    let _holders = hold::start(DESCRIPTORS)?;
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» Snapshots of {DESCRIPTORS} descriptors: {reps} times 2 runs of 5 s.");
    let mut samples = Vec::new();
    for rep in 1..=reps {
        let sample = per_snapshot(observe(setting, OFTEN)?, observe(setting, RARELY)?)?;
        eprintln!("  {rep}/{reps}: {sample:.2} ms");
        samples.push(sample);
    }
    let idle = idle::percents(setting, "5,000 descriptors that do nothing")?;
    Ok(vec![
        Figure::new("observer.snapshot_5000_cpu_ms", "ms", Some(BAR_MS), samples)?,
        Figure::new("observer.idle_5000_cpu_percent", "%", None, idle)?,
    ])
}

/// What an observer did in the window.
#[derive(Clone, Copy)]
struct Observed {
    cpu: Duration,
    snapshots: usize,
}

fn observe(setting: &Setting, interval: &str) -> Result<Observed> {
    let args = ["--all", "--snapshot-interval", interval];
    let observer = watch::start_with_log(&setting.binary, &args)?;
    // What it does at the start is no part of this.
    thread::sleep(Duration::from_secs(1));
    observer.complaints();
    let before = schedstat::cpu_time(observer.pid())?;
    thread::sleep(WINDOW);
    let cpu = schedstat::cpu_time(observer.pid())?.saturating_sub(before);
    let snapshots = observer.complaints().iter().filter(|line| is_snapshot(line)).count();
    watch::stop(observer)?;
    Ok(Observed { cpu, snapshots })
}

/// The debug log names each snapshot, and why it is taken.
fn is_snapshot(line: &str) -> bool {
    line.contains("a snapshot is wanted")
}

/// Milliseconds of CPU; everything else that the observer does is in both and cancels out.
fn per_snapshot(often: Observed, rarely: Observed) -> Result<f64> {
    let more = often.snapshots.saturating_sub(rarely.snapshots);
    if more < LEAST {
        let what = format!(
            "in {} s the observer's log names {} snapshots every {OFTEN}, and {} every {RARELY}",
            WINDOW.as_secs(),
            often.snapshots,
            rarely.snapshots
        );
        let next = "run `SOCKWARDEN_LOG=debug sockwarden watch --all --snapshot-interval 100ms`";
        return Err(Failure::new(what, next));
    }
    Ok((often.cpu.as_secs_f64() - rarely.cpu.as_secs_f64()) * 1e3 / more as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(cpu_ms: u64, snapshots: usize) -> Observed {
        Observed { cpu: Duration::from_millis(cpu_ms), snapshots }
    }

    #[test]
    fn what_both_observers_do_cancels_out() {
        let sample = per_snapshot(observed(410, 41), observed(10, 1));
        assert!(sample.is_ok_and(|ms| (ms - 10.0).abs() < 1e-9));
    }

    #[test]
    fn a_log_without_snapshots_is_an_error() {
        assert!(per_snapshot(observed(410, 0), observed(10, 0)).is_err());
        assert!(per_snapshot(observed(410, 1), observed(10, 40)).is_err());
    }

    #[test]
    fn snapshots_are_counted_in_the_log() {
        assert!(is_snapshot("sockwarden: debug: a snapshot is wanted: Periodic"));
        assert!(!is_snapshot("sockwarden: debug: a row is not understood: short"));
    }
}
