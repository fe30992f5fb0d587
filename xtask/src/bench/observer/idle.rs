//! What the observer uses while nothing happens.

use super::{Setting, watch};
use crate::bench::figure::Figure;
use crate::bench::{host, schedstat};
use crate::clock;
use crate::failure::Result;
use std::thread;
use std::time::Duration;

const USUAL_REPS: u32 = 3;
const BAR_PERCENT: f64 = 0.5;
/// As long as the time between two snapshots, which is most of the work.
const WINDOW: Duration = Duration::from_secs(10);
/// The window begins in the middle between two snapshots, so that each has exactly one.
const LEAD: Duration = Duration::from_secs(5);

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    host::settle();
    let samples = percents(setting, "an idle host")?;
    Ok(vec![Figure::new("observer.idle_cpu_percent", "%", Some(BAR_PERCENT), samples)?])
}

/// One percentage for each run.
pub(super) fn percents(setting: &Setting, on: &str) -> Result<Vec<f64>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» Watching {on}: {reps} runs of {} s.", (LEAD + WINDOW).as_secs());
    (1..=reps)
        .map(|rep| {
            let percent = percent(setting)?;
            eprintln!("  {rep}/{reps}: {percent:.3} %");
            Ok(percent)
        })
        .collect()
}

fn percent(setting: &Setting) -> Result<f64> {
    let observer = watch::start(&setting.binary, &["--all"])?;
    thread::sleep(LEAD);
    let begin = clock::now();
    let before = schedstat::cpu_time(observer.pid())?;
    thread::sleep(WINDOW);
    let used = schedstat::cpu_time(observer.pid())?.saturating_sub(before);
    let elapsed = clock::now() - begin;
    watch::stop(observer)?;
    Ok(used.as_secs_f64() / elapsed.as_secs_f64() * 100.0)
}
