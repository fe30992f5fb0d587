//! The devices of the daemon: from a file, and from the API.
//!
//! ```text
//! bytes ─▶ file ─▶ specs ─┐
//!          PURE           ├─▶ members ─▶ plan ─▶ roster ─▶ pool
//! store ────────▶ specs ──┘   PURE       PURE    EDGE
//! EDGE             ▲
//!                  template PURE
//! ```
//!
//! What is connected is a function of the file, the store and the template: a reload ends where a
//! restart would.

mod complaints;
mod error;
pub mod file;
mod members;
mod plan;
mod roster;
#[cfg(test)]
mod scratch;
mod spec;
mod store;
mod template;

use std::time::Duration;

pub use complaints::{Complaint, Complaints};
pub use error::FleetError;
pub use members::{Entry, LeftOut, Origin};
pub use roster::{Loaded, Reloaded, Roster};
pub use store::{Store, StoreError};

/// A device as people write it: in a file, in the API. What is `None` comes from the template.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields, default, expecting = "a device: an object or a table with an id")]
pub struct DeviceSpec {
    /// Its name.
    pub id: String,
    /// The MQTT client id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// User name at the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password at the broker. Never shown by the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Keep-alive in whole seconds.
    #[serde(deserialize_with = "spec::keep_alive", skip_serializing_if = "Option::is_none")]
    pub keep_alive_s: Option<u16>,
    /// Who goes first in a storm: `low`, `normal` or `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// What the broker publishes when the session ends without a DISCONNECT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub will: Option<WillSpec>,
    /// Topic filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<Vec<SubscriptionSpec>>,
}

/// A will.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a will: an object or a table with topic, payload, qos and retain"
)]
pub struct WillSpec {
    /// Topic.
    pub topic: String,
    /// Text.
    pub payload: String,
    /// 0, 1 or 2.
    #[serde(deserialize_with = "spec::qos")]
    pub qos: u8,
    /// Whether the broker keeps it.
    pub retain: bool,
}

/// A topic filter and its quality of service.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a subscription: an object or a table with filter and qos"
)]
pub struct SubscriptionSpec {
    /// Topic filter.
    pub filter: String,
    /// 0, 1 or 2.
    #[serde(deserialize_with = "spec::qos")]
    pub qos: u8,
}

/// A text that nobody may see: `Debug` shows dots. It is written only into the store.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

/// What devices have that say nothing else. `{id}` in a text stands for the device's name, `{{` and
/// `}}` for braces. What a device says itself is taken as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The MQTT client id; `None` for the device's name.
    pub client_id: Option<String>,
    /// User name at the broker; `None` for that of the pool.
    pub username: Option<String>,
    /// Password at the broker.
    pub password: Option<Secret>,
    /// `None` for that of the pool.
    pub keep_alive: Option<Duration>,
    /// The will.
    pub will: Option<WillSpec>,
    /// Topic filters.
    pub subscriptions: Vec<SubscriptionSpec>,
}
