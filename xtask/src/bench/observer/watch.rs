//! `sockwarden watch`, from the moment it says that it is ready.

use crate::bench::child::{self, Running};
use crate::failure::{Failure, OrFail as _, Result};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// Most is the time that the kernel needs to attach, on a busy host.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// After an end, a second process waits for the kernel for a third of a second.
const AFTERMATH: Duration = Duration::from_millis(500);
const NEXT: &str = "run `sockwarden watch --all` and read its message";

/// Starts it, and returns when it is attached and its first snapshot is in.
pub(super) fn start(binary: &Path, args: &[&str]) -> Result<Running> {
    launch(binary, args, false)
}

/// The same; what it logs can be read from [`Running::complaints`].
pub(super) fn start_with_log(binary: &Path, args: &[&str]) -> Result<Running> {
    launch(binary, args, true)
}

fn launch(binary: &Path, args: &[&str], log: bool) -> Result<Running> {
    let mut command = child::mortal(binary);
    command.arg("watch").args(args).args(["--no-transitions", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    if log {
        command.env("SOCKWARDEN_LOG", "debug").stderr(Stdio::piped());
    }
    let observer = Running::start("sockwarden watch", &mut command)?;
    let line = observer.line(READY_PATIENCE)?;
    let first: Value = serde_json::from_str(&line).or_fail(format!("`{line}`"), NEXT)?;
    if first["type"] == "ready" {
        return Ok(observer);
    }
    Err(Failure::new(format!("sockwarden watch begins with `{line}`"), NEXT))
}

/// The records that it says it lost since the last call: work that its figures lack.
pub(super) fn lost_records(observer: &Running) -> u64 {
    observer.lines().iter().filter_map(|line| parse_lost(line)).sum()
}

fn parse_lost(line: &str) -> Option<u64> {
    let said: Value = serde_json::from_str(line).ok()?;
    said["lost"].as_u64().filter(|_| said["type"] == "loss")
}

/// Ends it as Ctrl-C does, and returns when nothing of it is left; how long the end itself took.
pub(super) fn stop(observer: Running) -> Result<Duration> {
    let ended = observer.interrupt()?;
    thread::sleep(AFTERMATH);
    // 1 says that a finding is open.
    if matches!(ended.status.code(), Some(0 | 1)) {
        return Ok(ended.after);
    }
    Err(Failure::new(format!("sockwarden watch {}", crate::sh::outcome(ended.status)), NEXT))
}

#[cfg(test)]
mod tests {
    use super::parse_lost;

    #[test]
    fn only_lines_of_losses_count() {
        assert_eq!(parse_lost(r#"{"type":"loss","cause":"ring-full-state","lost":7}"#), Some(7));
        assert_eq!(parse_lost(r#"{"type":"summary","lost":7}"#), None);
        assert_eq!(parse_lost("lost 7"), None);
    }
}
