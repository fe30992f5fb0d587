//! What the broker does wrong, and when.

use crate::message::QoS;
use bytes::Bytes;
use std::time::Duration;

/// How the broker treats one connection, from its CONNECT on. [`Default`] is a correct broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// How long a CONNECT waits for its answer, as if authentication were slow: the session begins,
    /// and an older connection of the client ends, only after it.
    pub connack_delay: Duration,
    /// What a CONNECT gets.
    pub connack: Answer,
    /// So many connections at once; one more is accepted and closed without a word, as Mosquitto
    /// does. Counts only in the behaviour for everybody: the client id is not known yet.
    pub max_connections: Option<usize>,
    /// What becomes of this connection when its client connects again.
    pub takeover: Takeover,
    /// Closes so long after CONNACK.
    pub close_after_connack: Option<Duration>,
    /// Sends a reset so long after CONNACK.
    pub reset_after_connack: Option<Duration>,
    /// Reads everything and says nothing any more after CONNACK: PINGREQ stays unanswered.
    pub silence: bool,
    /// Reads nothing any more after CONNACK, as a peer that lost its power: data piles up in the
    /// sockets, and keep-alive is not enforced.
    pub half_open: bool,
    /// Sends one byte each such interval, CONNACK included.
    pub drip: Option<Duration>,
    /// Sent around CONNACK, in this order.
    pub faults: Vec<Fault>,
    /// What CONNACK tells of the broker (MQTT 5).
    pub announce: Announcement,
    /// Forgets the client's session at each CONNECT: session present is always 0.
    pub lose_session: bool,
    /// Withholds every n-th PUBACK, PUBREC and PUBCOMP of a connection, counted together; 1
    /// withholds all, 0 (the default) none.
    pub drop_acks: u32,
    /// The code of every subscription in SUBACK, instead of granting it: 0x80 in MQTT 3.1.1.
    pub refuse_subscribe: Option<u8>,
    /// MQTT 5: the code of every PUBACK and PUBREC; 0x80 and above means that the message is
    /// thrown away.
    pub refuse_publish: Option<u8>,
}

/// What a CONNECT gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// A CONNACK with success.
    #[default]
    Accept,
    /// A CONNACK with this code as it is, then the connection is closed.
    Refuse {
        /// 1 to 5 in MQTT 3.1.1 (§3.2.2.3), 0x80 and above in MQTT 5 (§3.2.2.2).
        code: u8,
    },
    /// Server unavailable (3) in MQTT 3.1.1, server busy (0x89) in MQTT 5.
    Busy,
    /// Use another server (0x9C) and its name in MQTT 5, server unavailable (3) in MQTT 3.1.1.
    Redirect {
        /// The server reference (MQTT 5 §3.2.2.3.16).
        server: String,
    },
    /// These bytes instead of CONNACK; the connection stays open and has no session.
    Wrong(Bytes),
    /// Nothing; the connection stays open and has no session.
    Never,
}

/// What becomes of a connection when its client connects again [MQTT-3.1.4-2].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takeover {
    /// It is closed without a word, as MQTT 3.1.1 and Mosquitto 2.0.11 do.
    #[default]
    Close,
    /// It gets DISCONNECT with session taken over (0x8E) and is closed; in MQTT 3.1.1, which has
    /// no such packet, only closed.
    Disconnect,
    /// It stays open, which no broker may do: it gets no messages any more, but its own are taken.
    Ignore,
}

/// Something that a broker must not send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A packet before CONNACK.
    Early(Stray),
    /// A packet after CONNACK that answers nothing.
    Late(Stray),
    /// One more CONNACK after the first.
    SecondConnAck,
    /// A PUBLISH with QoS 0 of so many bytes with headers, whatever the client allows. At least
    /// 12, at most 16 MiB.
    Oversized {
        /// The size of the whole packet.
        bytes: u32,
    },
    /// The header of a PUBLISH of 268,435,455 bytes, the largest that can be told, and no more.
    HugeLength,
    /// A remaining length of five bytes; four are allowed (MQTT 3.1.1 §2.2.3).
    EndlessLength,
    /// So many random bytes, the same for the same seed. At most 16 MiB.
    Garbage {
        /// Of the generator.
        seed: u64,
        /// How many.
        bytes: u32,
    },
    /// Half a PUBLISH, then the connection is closed.
    Truncated,
}

/// A packet that has no place where it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// For the packet id 65,501, as in all of these, which small clients never come to.
    PubAck,
    /// The first answer to a QoS 2 publish that was never there.
    PubRec,
    /// The release of a message that the broker never sent.
    PubRel,
    /// The end of a QoS 2 publish that was never there.
    PubComp,
    /// For one filter.
    SubAck,
    /// For one filter.
    UnsubAck,
    /// Without a PINGREQ.
    PingResp,
    /// Only a client may send this one.
    PingReq,
    /// Only a client may send this one.
    Connect,
}

/// What CONNACK tells of the broker in MQTT 5 (§3.2.2.3), and what the broker then enforces.
/// `None` sends nothing, so that the standard's default holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// In seconds; 0 turns keep-alive off.
    pub server_keep_alive: Option<u16>,
    /// Unacknowledged publishes of the client; one more ends the connection with 0x93. 1 or more.
    pub receive_maximum: Option<u16>,
    /// In bytes with headers; a larger one ends the connection with 0x95. 1 or more.
    pub maximum_packet_size: Option<u32>,
    /// In seconds, instead of what the client asked for.
    pub session_expiry: Option<u32>,
    /// A publish above it ends the connection with 0x9B; subscriptions are granted up to it.
    pub maximum_qos: Option<QoS>,
    /// Whether retained messages are taken; if not, one ends the connection with 0x9A.
    pub retain_available: Option<bool>,
    /// Aliases that the client may use; one above ends the connection with 0x94.
    pub topic_alias_maximum: Option<u16>,
    /// For people; also in a refusal.
    pub reason_string: Option<String>,
    /// Names and values; also in a refusal.
    pub user_properties: Vec<(String, String)>,
}
