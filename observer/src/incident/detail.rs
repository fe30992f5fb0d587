//! What a finding says beyond its socket, process and time: one shape a kind.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

use crate::model::{Call, Cookie, Lack, OpenFiles};

/// The facts of one kind. In JSON an object with these fields; durations are in milliseconds and
/// say so in their names.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Detail {
    /// duplicate-client-id.
    Duplicate {
        /// The client id that both carry: untrusted text.
        client_id: Arc<str>,
        /// The newer connection.
        #[serde(serialize_with = "number")]
        newer_cookie: Cookie,
        /// The process that has the newer one.
        newer_pid: Option<u32>,
        /// Its descriptor there.
        newer_fd: Option<i32>,
    },
    /// silent-peer.
    Silent {
        /// Keep-alive from the CONNECT packet, seconds.
        keep_alive: u16,
        /// The client id, where known: untrusted text.
        client_id: Option<Arc<str>>,
    },
    /// close-wait-buildup.
    Buildup {
        /// Sockets in CLOSE_WAIT.
        sockets: u64,
        /// How long the oldest of them has been there.
        #[serde(rename = "oldest_ms", serialize_with = "millis")]
        oldest: Duration,
    },
    /// exhausted.
    Exhausted {
        /// The call that was refused last.
        #[serde(serialize_with = "call_name")]
        call: Call,
        /// What there was none of.
        #[serde(rename = "error", serialize_with = "error_name")]
        lacks: Lack,
        /// Refusals since it opened.
        refused: u64,
    },
    /// fd-limit-low.
    Limit {
        /// Soft limit of descriptors.
        limit: u64,
        /// Hard limit of descriptors.
        hard_limit: u64,
        /// TCP connections.
        connections: u64,
    },
    /// fd-pressure.
    Pressure {
        /// Open descriptors.
        open: u64,
        /// Soft limit of descriptors.
        limit: u64,
        /// They by kind.
        by_kind: OpenFiles,
        /// How many more there are every minute.
        per_minute: i64,
        /// How long until the limit is reached at this pace; `None` if it is not growing.
        #[serde(rename = "exhausted_in_ms", serialize_with = "some_millis")]
        exhausted_in: Option<Duration>,
        /// What grows, the fastest first, at most five.
        growing: Vec<Growing>,
    },
    /// overgrowth.
    Overgrowth {
        /// Live connections.
        sockets: u64,
        /// How many there should be at the most: the declared fleet, or the level from which it
        /// climbs.
        expected: u64,
        /// Whether `expected` was declared.
        declared: bool,
        /// Connections opened since then.
        opened: u64,
        /// Connections closed since then.
        closed: u64,
        /// Client ids that look like one device's, the older and the newer, at most five pairs:
        /// untrusted text.
        twins: Vec<(Arc<str>, Arc<str>)>,
    },
    /// port-pressure.
    Ports {
        /// Our address.
        source: IpAddr,
        /// Ports in use, those in TIME_WAIT included.
        in_use: u64,
        /// Of these in TIME_WAIT.
        time_wait: u64,
        /// Ports of the cheap half.
        half: u64,
        /// Ports of the whole range.
        range: u64,
    },
    /// reconnect-storm.
    Storm {
        /// New connections within the window.
        connections: u64,
        /// The window.
        #[serde(rename = "window_ms", serialize_with = "millis")]
        window: Duration,
        /// Where most of them went.
        destination: Option<std::net::SocketAddr>,
    },
    /// stale-generation.
    Generations {
        /// Generations that are silent or half-closed.
        generations: u64,
        /// Connections in them.
        stale: u64,
        /// Connections to the destination in all.
        live: u64,
    },
    /// takeover-duel.
    Duel {
        /// Sessions that were taken over within the window.
        takeovers: u64,
        /// The window.
        #[serde(rename = "window_ms", serialize_with = "millis")]
        window: Duration,
        /// Half of the connections lived no longer.
        #[serde(rename = "median_life_ms", serialize_with = "millis")]
        median_life: Duration,
        /// Whose sessions, those with the most take-overs first, at most twenty.
        client_ids: Vec<Named>,
        /// How many different client ids were seen in it.
        client_id_count: u64,
    },
}

/// Something that grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Growing {
    /// A destination `ip:port`, or `sockets`, `pipes`, `files` or `others`.
    pub what: String,
    /// How many there are.
    pub open: u64,
    /// How many more every minute.
    pub per_minute: i64,
}

/// A client id in a duel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// The client id: untrusted text.
    pub client_id: Arc<str>,
    /// How often its session was taken over within the window.
    pub takeovers: u64,
}

impl Detail {
    /// The device that it is about, if it names one alone.
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Duplicate { client_id, .. } => Some(client_id),
            Self::Silent { client_id, .. } => client_id.as_deref(),
            Self::Duel { client_ids, .. } => match &client_ids[..] {
                [one] => Some(&one.client_id),
                _ => None,
            },
            _ => None,
        }
    }
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn some_millis<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

fn number<S: Serializer>(cookie: &Cookie, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(cookie.0)
}

fn call_name<S: Serializer>(call: &Call, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(call.name())
}

fn error_name<S: Serializer>(lacks: &Lack, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(lacks.error())
}
