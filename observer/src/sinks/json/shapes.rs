//! PURE. Findings and sockets as JSON: the same in the lines of `--json` and in the HTTP API.
//!
//! The format is a promise: `docs/json.md`. Clients read it back into the same types.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::WallClock,
    incident,
    model::{Comm, Ends, MonoTime},
    table::{self, Evidence},
};

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// `opened`, `updated` or `cleared`.
    pub event: String,
    /// Number of the incident.
    pub id: u64,
    /// A code of `docs/findings.md`.
    pub kind: String,
    /// The process that has to act.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The socket; null for a finding about a process or a destination.
    pub cookie: Option<u64>,
    /// Its TCP state.
    pub state: Option<String>,
    /// This end, `ip:port`.
    pub local: Option<String>,
    /// The other end, `ip:port`; also of a finding about a destination.
    pub remote: Option<String>,
    /// Every descriptor that refers to the socket.
    pub holders: Vec<Holder>,
    /// When the cause began, RFC 3339.
    pub since: String,
    /// How long it has lasted, milliseconds.
    pub age_ms: u64,
    /// How long it may last, milliseconds.
    pub budget_ms: u64,
    /// `complete` or `reconstructed`.
    pub evidence: String,
    /// Whether the socket is older than the watch.
    pub born_before_observer: bool,
    /// A sentence for people.
    pub message: String,
    /// `critical`, `error` or `warning`.
    pub severity: String,
    /// The device: the pool's, for a finding about the registry; else the MQTT client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Which of the device's sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// For how long two sockets of the device were alive, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_us: Option<u64>,
    /// What else this kind says, an object that `docs/json.md` describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub detail: Option<serde_json::Value>,
}

/// A TCP socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Socket {
    /// The kernel's number for it.
    pub cookie: u64,
    /// Its TCP state.
    pub state: String,
    /// This end, `ip:port`.
    pub local: String,
    /// The other end, `ip:port`.
    pub remote: String,
    /// Network namespace.
    pub netns: u32,
    /// Its owner, or the first who holds it.
    pub pid: Option<u32>,
    /// The name of that process.
    pub comm: Option<String>,
    /// Every descriptor that refers to it.
    pub holders: Vec<Holder>,
    /// When it entered its state, RFC 3339.
    pub since: String,
    /// Whether it is older than the watch.
    pub born_before_observer: bool,
    /// `complete` or `reconstructed`.
    pub evidence: String,
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The descriptor.
    pub fd: i32,
}

impl Finding {
    /// `finding` with its age at `as_of`.
    pub fn new(finding: &incident::Finding, as_of: MonoTime, clock: WallClock) -> Self {
        let device = finding.device.as_ref();
        let socket = finding.socket.as_ref();
        Self {
            event: finding.event.code().to_owned(),
            id: finding.id,
            kind: finding.kind.code().to_owned(),
            pid: finding.process.pid,
            comm: name(&finding.comm),
            cookie: finding.cookie().map(|cookie| cookie.0),
            state: socket.map(|socket| socket.state.name().to_owned()),
            local: socket.map(|socket| socket.ends.local.to_string()),
            remote: finding.remote().map(|remote| remote.to_string()),
            holders: holders(&finding.holders),
            since: rfc3339(clock.wall(finding.since)),
            age_ms: millis(as_of.since(finding.since)),
            budget_ms: millis(finding.budget),
            evidence: finding.evidence.code().to_owned(),
            born_before_observer: socket.is_some_and(|socket| socket.born_before_observer),
            message: finding.message.clone(),
            severity: finding.kind.severity().name().to_owned(),
            device: finding.device_name().map(str::to_owned),
            generation: device.map(|facts| facts.generation),
            overlap_us: device.and_then(|facts| facts.overlap).map(micros),
            detail: finding.detail.as_ref().and_then(|detail| serde_json::to_value(detail).ok()),
        }
    }
}

impl Socket {
    /// `socket`, held by `held_by`.
    pub fn new(
        socket: &table::Socket,
        held_by: &[crate::model::Holder],
        evidence: Evidence,
        clock: WallClock,
    ) -> Self {
        let (local, remote) = ends(&socket.ends);
        let owner = socket.owner.as_ref().map(|owner| (owner.process.pid, name(&owner.comm)));
        // As in the stream: where nobody was seen to connect or accept it, the first who has it.
        let first = || held_by.first().map(|holder| (holder.process.pid, name(&holder.comm)));
        let (pid, comm) = owner.or_else(first).unzip();
        Self {
            cookie: socket.cookie.0,
            state: socket.state.name().to_owned(),
            local,
            remote,
            netns: socket.netns,
            pid,
            comm,
            holders: holders(held_by),
            since: rfc3339(clock.wall(socket.state_since)),
            born_before_observer: socket.born_before_observer,
            evidence: evidence.code().to_owned(),
        }
    }
}

pub(super) fn ends(ends: &Ends) -> (String, String) {
    (ends.local.to_string(), ends.remote.to_string())
}

pub(super) fn rfc3339(time: Timestamp) -> String {
    // Always six digits, so that lines sort as text.
    format!("{time:.6}")
}

fn holders(holders: &[crate::model::Holder]) -> Vec<Holder> {
    holders
        .iter()
        .map(|holder| Holder { pid: holder.process.pid, comm: name(&holder.comm), fd: holder.fd })
        .collect()
}

fn name(comm: &Comm) -> String {
    comm.as_str().to_owned()
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
