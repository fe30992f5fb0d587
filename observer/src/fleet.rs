//! The devices of the daemon: from a file, and from the API.

use std::time::Duration;

/// A device as people write it: in a file, in the API. What is `None` comes from the template.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceSpec {
    /// Its name.
    pub id: String,
    /// The MQTT client id.
    pub client_id: Option<String>,
    /// User name at the broker.
    pub username: Option<String>,
    /// Password at the broker. Never shown by the daemon.
    pub password: Option<Secret>,
    /// Keep-alive in whole seconds.
    pub keep_alive_s: Option<u16>,
    /// Who goes first in a storm: `low`, `normal` or `high`.
    pub priority: Option<String>,
    /// What the broker publishes when the session ends without a DISCONNECT.
    pub will: Option<WillSpec>,
    /// Topic filters.
    pub subscriptions: Option<Vec<SubscriptionSpec>>,
}

/// A will.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WillSpec {
    /// Topic.
    pub topic: String,
    /// Text.
    pub payload: String,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether the broker keeps it.
    pub retain: bool,
}

/// A topic filter and its quality of service.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubscriptionSpec {
    /// Topic filter.
    pub filter: String,
    /// 0, 1 or 2.
    pub qos: u8,
}

/// A text that nobody may see: `Debug` shows dots. It is written only into the store.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// What devices have that say nothing else. `{id}` in a text stands for the device's name.
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
