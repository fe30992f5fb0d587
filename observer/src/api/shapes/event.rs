//! What happens: findings, losses, and what the pool says.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Finding, millis};

/// An entry of the stream of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum News {
    /// An incident opened, changed or cleared.
    Finding(Box<Finding>),
    /// Records of the kernel are missing.
    Loss {
        /// Why, a stable name: see `docs/json.md`.
        cause: String,
        /// How many.
        lost: u64,
    },
    /// The pool says so.
    Pool(Box<PoolEvent>),
    /// The reader was too slow.
    Gap {
        /// Entries of all types that it missed.
        lost: u64,
    },
}

/// What happened in the pool. Which fields are there depends on `event`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolEvent {
    /// `online`, `ended`, `unreleased`, `quarantined`, `redirected`, `redirect-refused`,
    /// `subscription-refused`, `port-pressure`, `removed` or `other`.
    pub event: String,
    /// Which device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Which of its sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Online: whether the broker still had the session's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_present: Option<bool>,
    /// Online: from the dial to CONNACK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Ended: why, a stable name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Ended: since its CONNACK; not there when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lived_ms: Option<u64>,
    /// Unreleased: the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
    /// Quarantined: for how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<u64>,
    /// Redirected, refused or not: where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Subscription refused: the topic filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Port pressure: whether it is high, or no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_high: Option<bool>,
    /// Port pressure: the broker's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Port pressure: ports that are live or in TIME_WAIT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports_in_use: Option<u32>,
    /// Port pressure: from here on connects are dear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports_half: Option<u32>,
}

impl PoolEvent {
    pub(crate) fn new(event: &pool::Event) -> Self {
        use pool::Event as E;
        let about = |name: &str, device: &pool::DeviceId| Self {
            event: name.to_owned(),
            device: Some(device.as_str().to_owned()),
            ..Self::default()
        };
        match event {
            E::Online { device, generation, session_present, latency } => Self {
                generation: Some(generation.number()),
                session_present: Some(*session_present),
                latency_ms: Some(millis(*latency)),
                ..about("online", device)
            },
            E::Ended { device, generation, cause, lived } => Self {
                generation: Some(generation.number()),
                cause: Some(cause.code().to_owned()),
                message: Some(cause.to_string()),
                lived_ms: lived.map(millis),
                ..about("ended", device)
            },
            E::Unreleased { device, generation, cookie } => Self {
                generation: Some(generation.number()),
                cookie: Some(*cookie),
                ..about("unreleased", device)
            },
            E::Quarantined { device, period } => {
                Self { period_ms: Some(millis(*period)), ..about("quarantined", device) }
            }
            E::Redirected { device, server } => {
                Self { server: Some(server.to_string()), ..about("redirected", device) }
            }
            E::RedirectRefused { device, server } => {
                Self { server: Some(server.clone()), ..about("redirect-refused", device) }
            }
            E::SubscriptionRefused { device, filter, error } => Self {
                filter: Some(filter.to_string()),
                message: Some(error.to_string()),
                ..about("subscription-refused", device)
            },
            E::PortPressure { destination, in_use, half, is_high, .. } => Self {
                event: "port-pressure".to_owned(),
                is_high: Some(*is_high),
                destination: Some(destination.to_string()),
                ports_in_use: Some(*in_use),
                ports_half: Some(*half),
                ..Self::default()
            },
            E::Removed { device } => about("removed", device),
            _ => Self { event: "other".to_owned(), ..Self::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_say_what_they_are_and_leave_out_what_they_do_not_know() {
        let device = pool::DeviceId::new("d").expect("invariant: a valid id");
        let event = pool::Event::Ended {
            device,
            generation: pool::Generation::default(),
            cause: pool::Cause::TakenOver,
            lived: None,
        };
        let json = crate::api::json::to_string(&News::Pool(Box::new(PoolEvent::new(&event))));
        let expected = r#"{"type":"pool","event":"ended","device":"d","generation":0,"cause":"taken-over","message":"another client with the same id took the session"}"#;
        assert_eq!(json.ok().as_deref(), Some(expected));
        let gap = crate::api::json::to_string(&News::Gap { lost: 3 });
        assert_eq!(gap.ok().as_deref(), Some(r#"{"type":"gap","lost":3}"#));
    }
}
