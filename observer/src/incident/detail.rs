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
        /// What there was none of. The error is `EMFILE` for descriptors unless it is proven that
        /// the host had none.
        #[serde(rename = "error", serialize_with = "error_name")]
        lacks: Lack,
        /// Refusals of this since it opened, of all calls.
        refused: u64,
        /// Descriptors that the process had open when a snapshot last showed it; `None` if none
        /// has.
        open: Option<u64>,
        /// Its soft limit of descriptors at that time; `u64::MAX` for no limit.
        limit: Option<u64>,
    },
    /// fd-limit-low.
    Limit {
        /// Soft limit of descriptors.
        limit: u64,
        /// Hard limit of descriptors: up to this one the process may raise the soft limit itself.
        hard_limit: u64,
        /// Descriptors of TCP sockets.
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
        /// How many more there are every minute: in the present climb if there is a forecast, else
        /// over the last 5 minutes, where it may be negative.
        per_minute: i64,
        /// How long until the limit is reached at this pace, counted from the last sample; `None`
        /// without a forecast.
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
        /// Sockets of the process that has the most of them.
        of_process: u64,
        /// Ports of one parity: those that connect(2) tries first.
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
    /// A destination `ip:port` of connections that the process made; `tcp` for its other TCP
    /// sockets (accepted, listening, half-closed); `sockets`, `pipes`, `files` or `others`.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::detect::Kind;

    /// The page that promises the format.
    const PAGE: &str = include_str!("../../../docs/json.md");

    fn kind(detail: &Detail) -> Kind {
        match detail {
            Detail::Duplicate { .. } => Kind::DuplicateClientId,
            Detail::Silent { .. } => Kind::SilentPeer,
            Detail::Buildup { .. } => Kind::CloseWaitBuildup,
            Detail::Exhausted { .. } => Kind::Exhausted,
            Detail::Limit { .. } => Kind::FdLimitLow,
            Detail::Pressure { .. } => Kind::FdPressure,
            Detail::Overgrowth { .. } => Kind::Overgrowth,
            Detail::Ports { .. } => Kind::PortPressure,
            Detail::Storm { .. } => Kind::ReconnectStorm,
            Detail::Generations { .. } => Kind::StaleGeneration,
            Detail::Duel { .. } => Kind::TakeoverDuel,
        }
    }

    /// One of each.
    fn examples() -> Vec<Detail> {
        let second = Duration::from_millis(1_500);
        let id: Arc<str> = "meter-7".into();
        let growing = Growing { what: "pipes".to_owned(), open: 8, per_minute: 3 };
        let named = Named { client_id: Arc::clone(&id), takeovers: 2 };
        vec![
            Detail::Duplicate {
                client_id: Arc::clone(&id),
                newer_cookie: Cookie(9),
                newer_pid: Some(7),
                newer_fd: None,
            },
            Detail::Silent { keep_alive: 60, client_id: Some(Arc::clone(&id)) },
            Detail::Buildup { sockets: 101, oldest: second },
            Detail::Exhausted {
                call: Call::Accept,
                lacks: Lack::HostDescriptors,
                refused: 3,
                open: Some(100),
                limit: Some(1_024),
            },
            Detail::Limit { limit: 1_024, hard_limit: u64::MAX, connections: 1_000 },
            Detail::Pressure {
                open: 900,
                limit: 1_024,
                by_kind: OpenFiles::default(),
                per_minute: -2,
                exhausted_in: Some(second),
                growing: vec![growing],
            },
            Detail::Overgrowth {
                sockets: 12_010,
                expected: 12_000,
                declared: true,
                opened: 10,
                closed: 0,
                twins: vec![(Arc::clone(&id), id)],
            },
            Detail::Ports {
                source: IpAddr::from([10, 0, 0, 1]),
                in_use: 12_000,
                time_wait: 300,
                of_process: 11_700,
                half: 14_116,
                range: 28_232,
            },
            Detail::Storm { connections: 501, window: second, destination: None },
            Detail::Generations { generations: 3, stale: 7, live: 9 },
            Detail::Duel {
                takeovers: 5,
                window: second,
                median_life: second,
                client_ids: vec![named],
                client_id_count: 1,
            },
        ]
    }

    /// What the page says of the detail of a kind: from its name to the next one.
    fn section(kind: Kind) -> &'static str {
        let (_, after) = PAGE.split_once("\n### `detail`\n").expect("the page has that part");
        let (part, _) = after.split_once("\n## ").expect("another part follows");
        let start = part
            .find(&format!("\n\n`{}`", kind.code()))
            .unwrap_or_else(|| panic!("{kind} is not described"));
        let rest = &part[start + 2..];
        let table_end = rest.find("|\n\n").or_else(|| rest.rfind('|')).expect("there is a table");
        &rest[..=table_end]
    }

    /// The names of fields, those of objects within the object included.
    fn names(value: &serde_json::Value, found: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    found.insert(name.clone());
                    names(value, found);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_field_is_described_and_no_other() {
        let mut kinds = BTreeSet::new();
        for detail in examples() {
            let kind = kind(&detail);
            kinds.insert(kind);
            let value = serde_json::to_value(&detail).expect("a detail is an object");
            let section = section(kind);
            let mut found = BTreeSet::new();
            names(&value, &mut found);
            for name in &found {
                let is_described = [format!("| `{name}`"), format!("\"{name}\"")]
                    .iter()
                    .any(|word| section.contains(word));
                assert!(is_described, "{kind}: `{name}` is not described in docs/json.md");
            }
            let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
            for name in rows.filter_map(|row| row.split('`').next()) {
                assert!(value.get(name).is_some(), "{kind}: docs/json.md invents `{name}`");
            }
        }
        assert_eq!(kinds.len(), 11);
    }

    #[test]
    fn units_are_those_of_the_names() {
        for detail in examples() {
            let value = serde_json::to_value(&detail).expect("a detail is an object");
            let fields = value.as_object().expect("a detail is an object");
            for (name, value) in fields.iter().filter(|(name, _)| name.ends_with("_ms")) {
                assert_eq!(value.as_u64(), Some(1_500), "{name}");
            }
        }
    }
}
