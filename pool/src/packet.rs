//! The packets of MQTT 3.1.1 and 5 as the session sees them: one set of types for both versions,
//! with what only one of them has as an option.

use crate::device::Credentials;
use crate::error::Detail;
use crate::message::{Properties, QoS, Subscription, Will};
use bytes::Bytes;
use std::sync::Arc;

/// The version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1.1, level 4.
    #[default]
    V311,
    /// MQTT 5, level 5.
    V5,
}

/// What a broker may send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    ConnAck(ConnAck),
    Publish(IncomingPublish),
    PubAck {
        id: u16,
        code: u8,
    },
    PubRec {
        id: u16,
        code: u8,
    },
    PubRel {
        id: u16,
        code: u8,
    },
    PubComp {
        id: u16,
        code: u8,
    },
    /// One code for each filter, in order: the granted quality of service, or 0x80 and above.
    SubAck {
        id: u16,
        codes: Vec<u8>,
    },
    /// One code for each filter in MQTT 5; empty in 3.1.1.
    UnsubAck {
        id: u16,
        codes: Vec<u8>,
    },
    PingResp,
    /// MQTT 5 only.
    Disconnect {
        code: u8,
        detail: Option<Box<Detail>>,
    },
    /// What only a client may send, or AUTH, which we never asked for: its name.
    Unexpected(&'static str),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ConnAck {
    pub(crate) session_present: bool,
    /// 0 is success; the numbers of refusals differ between the versions.
    pub(crate) code: u8,
    pub(crate) detail: Option<Box<Detail>>,
    /// Defaults when MQTT 5 names none, and in 3.1.1.
    pub(crate) limits: ServerLimits,
    /// MQTT 5: given because we sent an empty client id. We never do.
    pub(crate) assigned_client_id: bool,
    /// MQTT 5, in seconds.
    pub(crate) server_keep_alive: Option<u16>,
    /// MQTT 5, in seconds.
    pub(crate) session_expiry: Option<u32>,
}

/// What the broker takes (MQTT 5 §3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerLimits {
    /// Publishes with QoS above 0 at once. Default 65,535.
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_qos: QoS,
    pub(crate) retain_available: bool,
    /// In bytes with headers.
    pub(crate) maximum_packet: Option<u32>,
    /// Default 0: none.
    pub(crate) topic_alias_maximum: u16,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet: None,
            topic_alias_maximum: 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IncomingPublish {
    pub(crate) duplicate: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Never empty, and valid UTF-8: an alias cannot come, for we allow none.
    pub(crate) topic: String,
    /// 0 exactly for QoS 0.
    pub(crate) id: u16,
    pub(crate) payload: Bytes,
    pub(crate) properties: Option<Box<Properties>>,
}

/// What we send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outgoing<'a> {
    Connect(Connect<'a>),
    Publish(OutgoingPublish<'a>),
    /// A code of 0 is success.
    PubAck {
        id: u16,
        code: u8,
    },
    PubRec {
        id: u16,
        code: u8,
    },
    PubRel {
        id: u16,
        code: u8,
    },
    PubComp {
        id: u16,
        code: u8,
    },
    /// At least one.
    Subscribe {
        id: u16,
        subscriptions: &'a [Subscription],
    },
    /// At least one.
    Unsubscribe {
        id: u16,
        filters: &'a [Arc<str>],
    },
    PingReq,
    /// The code is left away in 3.1.1.
    Disconnect {
        code: u8,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connect<'a> {
    pub(crate) client_id: &'a str,
    /// Clean session in 3.1.1.
    pub(crate) clean_start: bool,
    /// In seconds.
    pub(crate) keep_alive: u16,
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) will: Option<&'a Will>,
    /// MQTT 5, in seconds; `None` ends the session with the connection.
    pub(crate) session_expiry: Option<u32>,
    /// MQTT 5.
    pub(crate) receive_maximum: u16,
    /// MQTT 5, in bytes with headers.
    pub(crate) maximum_packet: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OutgoingPublish<'a> {
    pub(crate) duplicate: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// May be empty in MQTT 5 where an alias stands for it.
    pub(crate) topic: &'a str,
    /// 0 exactly for QoS 0.
    pub(crate) id: u16,
    pub(crate) payload: &'a Bytes,
    pub(crate) properties: Option<&'a Properties>,
    /// MQTT 5.
    pub(crate) topic_alias: Option<u16>,
}
