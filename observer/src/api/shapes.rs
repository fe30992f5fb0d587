//! PURE. What the API sends and takes, as JSON. Findings and sockets are those of `--json`.

mod claims;
mod event;
mod message;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    claims::{ClaimLine, ClaimShape, ClaimStage, Claims, ClaimsTaken, Retraction},
    event::{News, PoolEvent},
    message::{Message, MessageNews},
};
pub use super::{
    error::{ErrorBody, ErrorFacts},
    health::Report as Health,
    roster::Origin,
};
pub use crate::sinks::json::shapes::{Finding, Holder, Socket, Step};
use crate::{clock::WallClock, desk::SocketView, model::TcpState, reading::ProcessReading};

/// Some processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessPage {
    /// By process number.
    pub processes: Vec<Process>,
    /// What to give as `after` for the next page; null when there are no more.
    pub next: Option<u32>,
}

/// A process that is watched, or that holds a watched socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// Process number as the host sees it.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its systemd unit, or the last part of its cgroup.
    pub unit: Option<String>,
    /// Whether it is watched by itself.
    pub watched: bool,
    /// Sockets that it holds, by TCP state; every state is there.
    pub sockets: BTreeMap<String, u64>,
    /// Open descriptors of any kind, where the kernel tells.
    pub descriptors: Option<u64>,
    /// Soft limit of descriptors, where the kernel tells.
    pub descriptor_limit: Option<u64>,
    /// Hard limit of descriptors, where the kernel tells.
    pub descriptor_limit_hard: Option<u64>,
    /// Open findings about it, by kind.
    pub findings_open: BTreeMap<String, u64>,
}

/// Some sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SocketPage {
    /// By cookie.
    pub sockets: Vec<KnownSocket>,
    /// What to give as `after` for the next page; null when there are no more.
    pub next: Option<u64>,
}

/// A socket with what is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KnownSocket {
    /// The socket itself.
    #[serde(flatten)]
    pub socket: Socket,
    /// Kinds of the open findings about it.
    pub findings: Vec<String>,
    /// The device of the pool whose it is.
    pub device: Option<String>,
    /// Which of the device's sessions.
    pub generation: Option<u32>,
}

/// Some findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingPage {
    /// Those that are open, by number.
    pub findings: Vec<Finding>,
    /// What to give as `after` for the next page; null when there are no more.
    pub next: Option<u64>,
    /// How many more there would be, of any kind and process, but for rules of the config.
    #[serde(default)]
    pub ignored: u64,
}

/// Some devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DevicePage {
    /// By name.
    pub devices: Vec<Device>,
    /// What to give as `after` for the next page; null when there are no more.
    pub next: Option<String>,
}

/// A device of the pool. Its password is never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its name.
    pub id: String,
    /// Its MQTT client id.
    pub client_id: String,
    /// Where it comes from.
    pub origin: Origin,
    /// `waiting`, `quarantined`, `connecting`, `online`, `stopping` or `releasing`.
    pub state: String,
    /// Its present or last session; 0 before the first.
    pub generation: u32,
    /// For how long it has been in this state, milliseconds.
    pub since_ms: u64,
    /// Why its last session ended: a code; null before that.
    pub last_end: Option<String>,
    /// The same for people.
    pub last_end_message: Option<String>,
    /// Publishes and subscriptions that wait for a session.
    pub waiting: usize,
}

/// Which device was asked to reconnect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reconnected {
    /// Its name.
    pub device: String,
    /// The new session; null where nobody waited for it.
    pub generation: Option<u32>,
}

/// How many devices were asked to reconnect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllReconnected {
    /// Devices in the pool.
    pub devices: usize,
}

/// A message to publish. At most one of `payload` and `payload_base64` is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// Where to.
    pub topic: String,
    /// Its content as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Its content as bytes (base64, RFC 4648 section 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// 0, 1 or 2.
    #[serde(default)]
    pub qos: u8,
    /// Whether the broker keeps it.
    #[serde(default)]
    pub retain: bool,
}

/// What became of a message to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Published {
    /// The device on whose session it goes.
    pub device: String,
    /// Whether it is done: taken by the system for QoS 0, acknowledged by the broker for QoS 1 and
    /// 2. False: it waits for a session, or for the acknowledgement.
    pub delivered: bool,
}

impl Process {
    pub(super) fn new(reading: &ProcessReading) -> Self {
        let counts = TcpState::ALL.iter().zip(reading.sockets);
        let limit = reading.descriptor_limit;
        Self {
            pid: reading.process.pid,
            comm: reading.comm.as_str().to_owned(),
            unit: reading.unit.clone(),
            watched: reading.watched,
            sockets: counts.map(|(state, count)| (state.name().to_owned(), count)).collect(),
            descriptors: reading.descriptors,
            descriptor_limit: limit.map(|(soft, _)| soft),
            descriptor_limit_hard: limit.map(|(_, hard)| hard),
            findings_open: reading
                .findings_open
                .iter()
                .map(|(kind, count)| (kind.code().to_owned(), *count))
                .collect(),
        }
    }
}

impl KnownSocket {
    pub(super) fn new(view: &SocketView, clock: WallClock) -> Self {
        let (device, generation) =
            view.device.as_ref().map(|(id, it)| (id.to_string(), *it)).unzip();
        Self {
            socket: Socket::new(&view.socket, &view.holders, view.evidence, clock),
            findings: view.findings.iter().map(|kind| kind.code().to_owned()).collect(),
            device,
            generation,
        }
    }
}

impl Device {
    pub(super) fn new(entry: super::Entry, status: &pool::DeviceStatus) -> Self {
        Self {
            id: entry.id,
            client_id: entry.client_id,
            origin: entry.origin,
            state: status.state.name().to_owned(),
            generation: status.generation.number(),
            since_ms: millis(status.since),
            last_end: status.last_end.as_ref().map(|cause| cause.code().to_owned()),
            last_end_message: status.last_end.as_ref().map(ToString::to_string),
            waiting: status.waiting_requests,
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
