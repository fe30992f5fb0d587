//! What `sockwarden watch --json` prints, as types: a line that does not fit fails the test.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::time::Duration;

/// One line.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "a scenario has hundreds of them, not millions")]
pub enum Line {
    /// The programs are attached and the first snapshot is in.
    Ready(Ready),
    /// A socket changed its state.
    Transition(Transition),
    /// A verdict was opened, updated or cleared.
    Finding(Finding),
    /// Something could not be recorded.
    Loss(Loss),
    /// A row of the table.
    Socket(Socket),
    /// The end of the table.
    Sockets(Sockets),
    /// The last line.
    Summary(Summary),
}

/// The observer can see.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    /// `a` or `ab`.
    pub layers: String,
    /// Whether MQTT client ids are seen.
    pub names: bool,
    /// Sockets in the first snapshot.
    pub sockets: u64,
}

/// One change of state.
#[derive(Clone, Debug, Deserialize)]
pub struct Transition {
    /// Wall-clock time.
    pub time: String,
    /// Monotonic time.
    pub t_ns: u64,
    /// The socket.
    pub cookie: u64,
    /// The owner, where known.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<String>,
    /// Its descriptor.
    pub fd: Option<i32>,
    /// State before.
    pub old: String,
    /// State after.
    pub new: String,
    /// This end.
    pub local: String,
    /// The other end.
    pub remote: String,
}

/// What happened to a finding.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The budget ran out.
    Opened,
    /// It is still true, something about it changed.
    Updated,
    /// The cause is gone.
    Cleared,
}

/// One line about a finding.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    /// What happened to it.
    pub event: Event,
    /// The same number from opened to cleared.
    pub id: u64,
    /// `close-wait` and so on.
    pub kind: String,
    /// The process that the finding blames.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The socket; 0 for a finding that is not about one.
    #[serde(deserialize_with = "or_nothing")]
    pub cookie: u64,
    /// State of the socket; empty for a finding that is not about one.
    #[serde(deserialize_with = "or_nothing")]
    pub state: String,
    /// This end.
    #[serde(deserialize_with = "or_nothing")]
    pub local: String,
    /// The other end, or the destination that it is about.
    #[serde(deserialize_with = "or_nothing")]
    pub remote: String,
    /// Who holds it.
    pub holders: Vec<Holder>,
    /// Since when it is so.
    pub since: String,
    /// How long it has been so.
    pub age_ms: u64,
    /// How long it may be so.
    pub budget_ms: u64,
    /// `complete` or `reconstructed`.
    pub evidence: String,
    /// Whether the socket is older than the observer.
    pub born_before_observer: bool,
    /// The sentence for people.
    pub message: String,
    /// The device or MQTT client id that it names.
    #[serde(default)]
    pub device: Option<String>,
    /// What else its kind says.
    #[serde(default)]
    pub detail: serde_json::Value,
    /// When the process started.
    pub started: Option<String>,
    /// Its unit.
    pub unit: Option<String>,
    /// Its container.
    pub container: Option<String>,
    /// What happened to the socket; empty unless it was asked for.
    #[serde(default)]
    pub history: Vec<Step>,
    /// Where in its program the socket was opened.
    pub site: Option<String>,
    /// The functions that opened it; empty unless it was asked for.
    #[serde(default)]
    pub stack: Vec<Frame>,
    /// What of that cannot be known.
    #[serde(default)]
    pub stack_note: Option<String>,
}

/// `null` stands for what does not apply.
fn or_nothing<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Finding {
    /// Process and descriptor of all holders.
    pub fn holders(&self) -> Vec<(u32, i32)> {
        self.holders.iter().map(|holder| (holder.pid, holder.fd)).collect()
    }

    /// Since when, as a time.
    pub fn since(&self) -> Timestamp {
        timestamp(&self.since)
    }
}

/// A process with a descriptor.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The descriptor.
    pub fd: i32,
    /// Whether an exec closes it.
    pub close_on_exec: Option<bool>,
    /// When the process started.
    pub started: Option<String>,
    /// Its unit.
    pub unit: Option<String>,
    /// Its container.
    pub container: Option<String>,
}

/// Something that happened to a socket.
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    /// When.
    pub time: String,
    /// How long before the report.
    pub ago_ms: u64,
    /// What.
    pub what: String,
    /// The same for people.
    pub text: String,
}

/// A function on a call stack.
#[derive(Clone, Debug, Deserialize)]
pub struct Frame {
    /// Its name.
    pub function: Option<String>,
    /// Its source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The program or library.
    pub module: Option<String>,
    /// Where in that file.
    pub offset: u64,
}

/// Something could not be recorded.
#[derive(Clone, Debug, Deserialize)]
pub struct Loss {
    /// Where.
    pub cause: String,
    /// How much, since the last line of this cause.
    pub lost: u64,
}

/// A row of the table.
#[derive(Clone, Debug, Deserialize)]
pub struct Socket {
    /// The socket.
    pub cookie: u64,
    /// Its state.
    pub state: String,
    /// This end.
    pub local: String,
    /// The other end.
    pub remote: String,
    /// Network namespace, the inode of `/proc/PID/ns/net`.
    pub netns: u32,
    /// The owner, where known.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<String>,
    /// Who holds it.
    pub holders: Vec<Holder>,
    /// Since when it is in this state.
    pub since: String,
    /// Whether it is older than the observer.
    pub born_before_observer: bool,
    /// `complete` or `reconstructed`.
    pub evidence: String,
    /// The MQTT client id with which it connected.
    pub client_id: Option<String>,
}

impl Socket {
    /// Process and descriptor of all holders, ordered.
    pub fn holders(&self) -> Vec<(u32, i32)> {
        let mut holders: Vec<_> =
            self.holders.iter().map(|holder| (holder.pid, holder.fd)).collect();
        holders.sort_unstable();
        holders
    }

    /// Whether `pid` holds it.
    pub fn is_held_by(&self, pid: u32) -> bool {
        self.holders.iter().any(|holder| holder.pid == pid)
    }
}

/// The end of the table.
#[derive(Clone, Debug, Deserialize)]
pub struct Sockets {
    /// How many rows came before.
    pub count: u64,
}

/// The last line.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// Transitions seen.
    pub transitions: u64,
    /// Records lost.
    pub lost: u64,
    /// Sockets in the table.
    pub sockets: u64,
    /// Findings that are open, by kind.
    pub open: BTreeMap<String, u64>,
    /// Findings that were ever opened, by kind.
    pub opened: BTreeMap<String, u64>,
    /// Findings that rules have ignored, by kind.
    pub ignored: BTreeMap<String, u64>,
    /// The same by rules.
    pub ignored_by_rule: Vec<IgnoredByRule>,
    /// Where the sockets of the open findings were opened.
    pub sites: Vec<Site>,
}

/// A place that leaks.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Site {
    /// The kind of finding.
    pub kind: String,
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The place.
    pub site: String,
    /// How many sockets were opened there.
    pub here: u64,
    /// Of how many.
    pub of: u64,
}

/// What a rule has ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct IgnoredByRule {
    /// Why.
    pub reason: String,
    /// How many findings.
    pub findings: u64,
}

impl Summary {
    /// How many findings of `kind` were ever opened.
    pub fn opened(&self, kind: &str) -> u64 {
        self.opened.get(kind).copied().unwrap_or(0)
    }

    /// How many findings of all kinds were ever opened.
    pub fn opened_in_all(&self) -> u64 {
        self.opened.values().sum()
    }

    /// How many findings of all kinds are open.
    pub fn open_in_all(&self) -> u64 {
        self.open.values().sum()
    }
}

/// A time in a line.
pub fn timestamp(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("`{text}` is no RFC 3339 time: {error}"))
}

/// Asserts that `text` is the time `expected`, give or take `slack`.
#[track_caller]
pub fn assert_about(text: &str, expected: Timestamp, slack: Duration) {
    let off = timestamp(text).duration_since(expected);
    assert!(off.unsigned_abs() <= slack, "{text} is {off} away from {expected}");
}
