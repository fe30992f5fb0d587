//! Who is online, and the lines about it.

use super::report::{self, Report};
use super::{Args, raise_descriptor_limit};
use crate::clock;
use clap::Parser as _;
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The fleet as its tasks share it.
#[derive(Debug)]
pub struct Fleet {
    /// The command line.
    pub args: Args,
    /// Where lines go.
    pub report: Report,
    messages: AtomicU64,
    presence: Mutex<Presence>,
}

/// Changes together, so it is behind one lock.
#[derive(Debug)]
struct Presence {
    begin: Instant,
    cpu_at_begin: Duration,
    online: u32,
    connects: u64,
    disconnects: u64,
    failures: u64,
    /// Whether all were online at some time.
    was_complete: bool,
    /// How many were lost since all were online, and when the first of them was.
    lost: Option<(u32, Instant)>,
}

impl Fleet {
    /// Reads the command line; ends the process where it is wrong.
    pub fn from_command_line() -> Self {
        let args = Args::parse();
        raise_descriptor_limit();
        let presence = Presence {
            begin: clock::now(),
            cpu_at_begin: report::cpu_time(),
            online: 0,
            connects: 0,
            disconnects: 0,
            failures: 0,
            was_complete: false,
            lost: None,
        };
        Self {
            report: Report::new(args.json),
            args,
            messages: AtomicU64::new(0),
            presence: Mutex::new(presence),
        }
    }

    /// To be called right before the first dial: what is measured counts from here.
    pub fn begin(&self) {
        self.report.say("start", json!({ "rss_bytes": report::rss_bytes() }));
        self.with(|presence| {
            presence.begin = clock::now();
            presence.cpu_at_begin = report::cpu_time();
        });
    }

    /// A device is online.
    pub fn up(&self) {
        let devices = self.args.devices;
        let said = self.with(|presence| {
            presence.online += 1;
            presence.connects += 1;
            if presence.online < devices {
                return None;
            }
            if !presence.was_complete {
                presence.was_complete = true;
                presence.lost = None;
                let seconds = presence.begin.elapsed().as_secs_f64();
                let cpu = report::cpu_time().saturating_sub(presence.cpu_at_begin).as_secs_f64();
                let online = json!({ "devices": devices, "seconds": seconds, "cpu_seconds": cpu });
                return Some(("online", online));
            }
            let (lost, since) = presence.lost.take()?;
            let seconds = since.elapsed().as_secs_f64();
            Some(("recovered", json!({ "devices": lost, "seconds": seconds })))
        });
        if let Some((kind, fields)) = said {
            self.report.say(kind, fields);
        }
    }

    /// A device that was online is no more.
    pub fn down(&self) {
        self.with(|presence| {
            presence.online = presence.online.saturating_sub(1);
            presence.disconnects += 1;
            let lost = presence.lost.get_or_insert_with(|| (0, clock::now()));
            lost.0 += 1;
        });
    }

    /// A connect failed.
    pub fn failed(&self) {
        self.with(|presence| presence.failures += 1);
    }

    /// A device got a message.
    pub fn message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers the order of that name.
    pub fn status(&self) {
        let fields = self.with(|presence| {
            json!({
                "online": presence.online,
                "connects": presence.connects,
                "disconnects": presence.disconnects,
                "failures": presence.failures,
                "messages": self.messages.load(Ordering::Relaxed),
                "rss_bytes": report::rss_bytes(),
                "cpu_seconds": report::cpu_time().as_secs_f64(),
            })
        });
        self.report.say("status", fields);
    }

    fn with<T>(&self, change: impl FnOnce(&mut Presence) -> T) -> T {
        let mut presence = self.presence.lock().expect("invariant: nothing panics under the lock");
        change(&mut presence)
    }
}
