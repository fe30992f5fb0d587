#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use crate::process;
use pool::{Cause, Metrics, Status};
use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

/// What the fleet prints: a line for people, or objects for machines.
pub(crate) struct Report {
    json: bool,
    terminal: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: std::io::stdout().is_terminal() }
    }

    pub(crate) fn start(&self) {
        if self.json {
            say(&format!(r#"{{"type":"start","rss_bytes":{}}}"#, process::rss_bytes()));
        }
    }

    pub(crate) fn online(&self, devices: usize, seconds: f64) {
        let cpu = process::cpu_seconds();
        if self.json {
            say(&format!(
                r#"{{"type":"online","devices":{devices},"seconds":{seconds:.4},"cpu_seconds":{cpu:.2}}}"#
            ));
        } else {
            say(&format!("{devices} devices are online after {seconds:.2} s; Enter for a storm"));
        }
    }

    pub(crate) fn recovered(&self, devices: u64, seconds: f64) {
        if self.json {
            say(&format!(r#"{{"type":"recovered","devices":{devices},"seconds":{seconds:.4}}}"#));
        } else {
            say(&format!(
                "{devices} sessions ended, and all are online again after {seconds:.2} s"
            ));
        }
    }

    pub(crate) fn limits(&self, profile: &str) {
        if self.json {
            say(&format!(r#"{{"type":"limits","profile":"{profile}"}}"#));
        } else {
            say(&format!("the limits are those of {profile} now"));
        }
    }

    /// Says why a command is not carried out.
    pub(crate) fn refuse(&self, complaint: &str) {
        if self.json {
            say(&format!(r#"{{"type":"error","message":{complaint:?}}}"#));
        } else {
            complain(&complaint);
        }
    }

    pub(crate) fn published(&self, count: u64, seconds: f64) {
        if self.json {
            say(&format!(r#"{{"type":"published","count":{count},"seconds":{seconds:.4}}}"#));
        } else {
            say(&format!("{count} messages in {seconds:.2} s"));
        }
    }

    pub(crate) fn status(&self, status: &Status, metrics: &Metrics, messages: u64) {
        if !self.json {
            return self.line(status, metrics);
        }
        let disconnects: u64 = metrics.ended.iter().sum();
        say(&format!(
            concat!(
                r#"{{"type":"status","online":{},"connecting":{},"queued":{},"window":{},"#,
                r#""connects":{},"disconnects":{},"failures":{},"unreleased":{},"messages":{},"#,
                r#""rss_bytes":{},"cpu_seconds":{:.2}}}"#
            ),
            status.online,
            status.connecting,
            metrics.queued,
            metrics.window,
            metrics.connected,
            disconnects,
            metrics.failed.iter().sum::<u64>(),
            metrics.unreleased,
            messages,
            process::rss_bytes(),
            process::cpu_seconds(),
        ));
    }

    /// One line, which replaces the last one on a terminal.
    pub(crate) fn line(&self, status: &Status, metrics: &Metrics) {
        let text = format!(
            "online {:>6} of {:<6} connecting {:>3}  waiting {:>6}  window {:>3}  sockets {:>6}  {:>6.1} MB",
            status.online,
            status.devices,
            status.connecting,
            metrics.queued,
            status.window,
            metrics.sockets,
            process::rss_bytes() as f64 / 1e6,
        );
        if self.terminal {
            print!("\r{text}\x1b[K");
            let _closed = std::io::stdout().flush();
        } else {
            say(&text);
        }
    }
}

/// On stderr, so that stdout stays readable for machines.
pub(crate) fn complain(problem: &dyn Display) {
    eprintln!("\r{problem}\x1b[K");
}

/// What we asked for ourselves is none.
pub(crate) fn is_trouble(cause: &Cause) -> bool {
    !matches!(cause, Cause::Replaced | Cause::Removed | Cause::Shutdown)
}

fn say(line: &str) {
    println!("{line}");
}
