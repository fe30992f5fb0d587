//! How long after the end of its budget a leak is reported; and whether each is, and no other.

use super::Setting;
use crate::bench::child::{self, Running};
use crate::bench::figure::Figure;
use crate::clock;
use crate::failure::{Failure, OrFail as _, Result};
use crate::sh;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const USUAL_REPS: u32 = 5;
const BAR_MS: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(60);
const NEXT: &str = "run `sockwarden demo --quick` and read what it says";

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» The demo's leaks: {reps} runs.");
    let one = |rep| {
        let worst = worst_latency(&setting.binary)?;
        eprintln!("  {}/{reps}: {worst:.1} ms", rep + 1);
        Ok(worst)
    };
    let samples = (0..reps).map(one).collect::<Result<_>>()?;
    Ok(vec![Figure::new("observer.latency_after_budget_ms", "ms", Some(BAR_MS), samples)?])
}

fn worst_latency(binary: &Path) -> Result<f64> {
    let mut command = child::mortal(binary);
    command.args(["demo", "--quick", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let begin = clock::now();
    let demo = Running::start("sockwarden demo", &mut command)?;
    let worst = loop {
        let line = demo.line(PATIENCE)?;
        if let Some(worst) = read(&line)? {
            break worst;
        }
    };
    let ended = demo.wait(begin, PATIENCE)?;
    if ended.status.success() {
        return Ok(worst);
    }
    Err(Failure::new(format!("sockwarden demo {}", sh::outcome(ended.status)), NEXT))
}

/// The worst latency, if this is the demo's last line; a failure if it missed or invented a leak.
fn read(line: &str) -> Result<Option<f64>> {
    let said: Value = serde_json::from_str(line).or_fail(format!("`{line}`"), NEXT)?;
    if said["type"] != "demo" {
        return Ok(None);
    }
    let number = |field: &str| said[field].as_u64();
    let is_right = number("planted").is_some_and(|planted| planted > 0)
        && number("found") == number("planted")
        && number("invented") == Some(0);
    match said["worst_latency_ms"].as_f64().filter(|_| is_right) {
        Some(worst) => Ok(Some(worst)),
        None => Err(Failure::new(format!("the demo missed or invented a leak: {line}"), NEXT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: u32, invented: u32, worst: &str, expected: Option<f64>) {
        let line = format!(
            r#"{{"type":"demo","planted":5,"found":{found},"invented":{invented},"worst_latency_ms":{worst}}}"#
        );
        assert_eq!(read(&line).ok().flatten(), expected, "{line}");
    }

    #[test]
    fn only_a_demo_without_a_mistake_has_a_latency() {
        check(5, 0, "51.6", Some(51.6));
        check(4, 0, "51.6", None);
        check(5, 1, "51.6", None);
        check(5, 0, "null", None);
    }

    #[test]
    fn other_lines_are_passed_over_and_other_text_is_an_error() {
        assert_eq!(read(r#"{"type":"leak","found":true}"#).ok(), Some(None));
        assert!(read("Segmentation fault").is_err());
    }
}
