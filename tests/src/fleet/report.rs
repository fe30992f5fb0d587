//! The lines on stdout, and what they say of this process.

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write as _};
use std::time::Duration;

/// Says things on stdout, for machines or for people.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    json: bool,
}

impl Report {
    /// With `json`, one object a line.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Says one thing; `fields` is an object.
    pub fn say(self, kind: &str, fields: Value) {
        let line = line(self.json, kind, fields);
        // Whoever listened may have gone: then the end of the input follows.
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }

    /// Says why an order is not carried out.
    pub fn refuse(self, complaint: &str) {
        self.say("error", json!({ "message": complaint }));
    }
}

fn line(json: bool, kind: &str, fields: Value) -> String {
    let Value::Object(fields) = fields else {
        return String::new();
    };
    if json {
        let mut object = serde_json::Map::new();
        object.insert("type".to_owned(), kind.into());
        object.extend(fields);
        return Value::Object(object).to_string();
    }
    let words = fields.iter().map(|(name, value)| format!(" {name}={value}"));
    std::iter::once(kind.to_owned()).chain(words).collect()
}

/// The memory that this process has in RAM, in bytes: `VmRSS` of proc_pid_status(5).
pub fn rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// The CPU time of all threads of this process, ended ones too.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Neither is negative, and nanoseconds are below a second: clock_gettime(2).
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
