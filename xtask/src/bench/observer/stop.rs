//! How long Ctrl-C takes.

use super::{Setting, watch};
use crate::bench::figure::Figure;
use crate::failure::Result;
use std::thread;
use std::time::Duration;

const USUAL_REPS: u32 = 5;
const BAR_MS: f64 = 200.0;
/// Long enough that it stops from its rest, not from its start.
const LIFE: Duration = Duration::from_millis(500);

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» Stopping: {reps} runs.");
    let one = |_| {
        let observer = watch::start(&setting.binary, &["--all"])?;
        thread::sleep(LIFE);
        Ok(watch::stop(observer)?.as_secs_f64() * 1e3)
    };
    let samples = (0..reps).map(one).collect::<Result<_>>()?;
    Ok(vec![Figure::new("observer.stop_ms", "ms", Some(BAR_MS), samples)?])
}
