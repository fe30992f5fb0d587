//! A reader of the daemon's stream of events.

use crate::clock;
use crate::http::{Connection, Place};
use crate::wait::PATIENCE;
use serde_json::Value;

/// One reader.
#[derive(Debug)]
pub struct Events {
    connection: Connection,
    buffer: String,
    /// What came and was not taken yet.
    entries: Vec<Value>,
}

impl Events {
    /// Follows from now on; `accept` chooses the format.
    #[track_caller]
    pub fn follow(place: &Place, accept: &str) -> Self {
        let connection = place.follow("/api/v1/events", accept);
        Self { connection, buffer: String::new(), entries: Vec::new() }
    }

    /// The first entry that `pick` takes. The others stay for later questions, as two findings may
    /// come in any order.
    #[track_caller]
    pub fn await_entry(&mut self, what: &str, pick: impl Fn(&Value) -> bool) -> Value {
        let deadline = clock::now() + PATIENCE;
        loop {
            if let Some(place) = self.entries.iter().position(&pick) {
                return self.entries.remove(place);
            }
            assert!(clock::now() < deadline, "no {what}: {:#?}", self.entries);
            let Some(chunk) = self.connection.chunk() else {
                panic!("the stream ended before {what}: {:#?}", self.entries);
            };
            self.buffer.push_str(&String::from_utf8_lossy(&chunk));
            self.split();
        }
    }

    /// The next finding with this event of a process.
    #[track_caller]
    pub fn await_finding(&mut self, event: &str, kind: &str, pid: u32) -> Value {
        self.await_entry(&format!("{event} {kind} of {pid}"), |entry| {
            entry["type"] == "finding"
                && entry["event"] == event
                && entry["kind"] == kind
                && entry["pid"] == pid
        })
    }

    /// Whole lines become entries. A server-sent event has its object behind `data:`; its other
    /// lines, and comments, are no entries.
    fn split(&mut self) {
        while let Some((line, rest)) = self.buffer.split_once('\n') {
            let line = line.strip_prefix("data:").unwrap_or(line).trim();
            if line.starts_with('{') {
                self.entries.push(serde_json::from_str(line).expect("an object a line"));
            }
            self.buffer = rest.to_owned();
        }
    }
}
