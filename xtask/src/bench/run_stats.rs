//! The kernel's own count of what each BPF program costs: `kernel.bpf_stats_enabled`.

use crate::failure::{Failure, OrFail as _, Result};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";
const NEXT: &str = "this needs root on the host, and Linux 5.1 or later";

/// Counting is on or off while this lives; then it is as it was before.
pub(super) struct RunStats {
    /// Writes the old value back at the end of its input, so also when we are killed.
    restorer: Child,
}

impl RunStats {
    pub(super) fn set(enabled: bool) -> Result<Self> {
        let before = fs::read_to_string(SYSCTL).or_fail(SYSCTL, NEXT)?;
        let before = before.trim();
        if !before.chars().all(|c| c.is_ascii_digit()) {
            return Err(Failure::new(format!("{SYSCTL} says `{before}`"), NEXT));
        }
        let restorer = Command::new("sh")
            .args(["-c", &format!("read -r _; echo {before} > {SYSCTL}")])
            .stdin(Stdio::piped())
            // Ctrl-C goes to the whole foreground group; this one has to live a little longer.
            .process_group(0)
            .spawn()
            .or_fail("sh", NEXT)?;
        let stats = Self { restorer };
        fs::write(SYSCTL, if enabled { "1" } else { "0" }).or_fail(SYSCTL, NEXT)?;
        Ok(stats)
    }
}

impl Drop for RunStats {
    fn drop(&mut self) {
        drop(self.restorer.stdin.take());
        if !self.restorer.wait().is_ok_and(|status| status.success()) {
            eprintln!("  {SYSCTL} could not be restored: look at it by hand");
        }
    }
}
