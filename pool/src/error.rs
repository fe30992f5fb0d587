//! What goes wrong, grouped by who must act.

use crate::device::DeviceId;
use std::time::Duration;

/// Why a call failed, grouped by who must act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Change the call.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// Change this host or the pool's configuration.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The session that had to carry it ended, or the broker refused.
    #[error(transparent)]
    Session(#[from] Cause),
}

/// The call was wrong; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallerError {
    /// The pool is shutting down or gone.
    #[error("the pool is shut down")]
    Closed,
    /// The device is there already.
    #[error("device {0} is in the pool already: remove it first, or give it another id")]
    DuplicateDevice(DeviceId),
    /// Another device uses this MQTT client id: the broker would let only one of them live.
    #[error(
        "client id {client_id:?} is device {other}'s: the broker keeps one session per client id"
    )]
    DuplicateClientId {
        /// The id both want.
        client_id: String,
        /// Who has it.
        other: DeviceId,
    },
    /// A value is outside what is allowed.
    #[error("invalid {field}: given {given}, allowed: {allowed}")]
    InvalidField {
        /// Which one.
        field: &'static str,
        /// What was there.
        given: String,
        /// What may be there.
        allowed: String,
    },
    /// Somebody reads the messages already.
    #[error("the messages have a reader already: share that one, or drop it first")]
    MessagesTaken,
    /// A message is larger than this pool or the broker takes.
    #[error("the packet would have {size} bytes, {by} takes at most {limit}")]
    PacketTooLarge {
        /// In bytes, with headers.
        size: usize,
        /// In bytes.
        limit: usize,
        /// Whose limit.
        by: &'static str,
    },
    /// The pool runs on tokio, and there is no runtime here.
    #[error("there is no tokio runtime here: call this inside one")]
    NoRuntime,
    /// Too much waits for this device already.
    #[error(
        "{waiting} requests wait for device {device}, the limit: await some, or raise `outbox`"
    )]
    OutboxFull {
        /// Which device.
        device: DeviceId,
        /// How many wait.
        waiting: usize,
    },
    /// There is no such device.
    #[error("there is no device {0} in the pool")]
    UnknownDevice(DeviceId),
}

/// This host or the configuration does not allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// A certificate or key cannot be used.
    #[error("{file}: {problem}")]
    Certificate {
        /// The path, or what else it is.
        file: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// One more socket would come too near to the limit of open files.
    #[error(
        "{in_use} descriptors of {limit} are in use or promised, {headroom} stay free for the rest \
         of the process: raise the hard limit (LimitNOFILE= of the unit) or add fewer devices"
    )]
    DescriptorBudget {
        /// The soft limit after it was raised to the hard limit.
        limit: u64,
        /// Open or promised to devices.
        in_use: u64,
        /// Kept free.
        headroom: u64,
    },
    /// One more connection has no local port left.
    #[error(
        "{in_use} of {available} local ports towards {destination} are in use: add source \
         addresses, or widen net.ipv4.ip_local_port_range"
    )]
    PortBudget {
        /// The broker's address.
        destination: String,
        /// Live and in TIME_WAIT.
        in_use: u32,
        /// In the range, of all source addresses together.
        available: u32,
    },
    /// The system has no sockets at all, or forbids them.
    #[error("the system gives no {what}: {problem}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        problem: String,
    },
}

/// Which part of a connect took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Asking for the broker's addresses.
    Resolve,
    /// The handshake of TCP.
    Tcp,
    /// The handshake of TLS.
    Tls,
    /// The upgrade to WebSocket.
    WebSocket,
    /// From CONNECT to CONNACK.
    ConnAck,
}

/// Why a session ended, or did not begin. [`Cause::code`] is its name for metrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    // Ours.
    /// [`Pool::reconnect`](crate::Pool::reconnect) asked for a new session.
    #[error("replaced by a new session")]
    Replaced,
    /// The device was removed.
    #[error("the device was removed")]
    Removed,
    /// The pool shuts down.
    #[error("the pool shuts down")]
    Shutdown,
    /// The request's deadline passed before its turn came.
    #[error("the deadline passed before its turn came")]
    Deadline,

    // The operator's.
    /// No descriptor, no port, no memory; the pool refused it, or the system did.
    #[error(transparent)]
    Operator(#[from] OperatorError),

    // The network's.
    /// The broker's name has no address.
    #[error("cannot resolve {host}: {problem}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        problem: String,
    },
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No route to there.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The whole connect took longer than allowed.
    #[error("no session after {after:?}, in the phase {phase:?}")]
    ConnectTimeout {
        /// The limit.
        after: Duration,
        /// Where it was.
        phase: Phase,
    },
    /// The peer sent a reset.
    #[error("reset by the peer")]
    Reset,
    /// Data stayed unacknowledged for `TCP_USER_TIMEOUT`, or probes stayed unanswered.
    #[error("the peer answers no more (TCP timed out)")]
    TcpTimeout,
    /// The peer closed, without a word of MQTT.
    #[error("closed by the peer")]
    PeerClosed,
    /// The handshake of TLS failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The upgrade to WebSocket failed, or a frame was wrong.
    #[error("WebSocket: {0}")]
    WebSocket(String),
    /// Anything else the system says of a socket.
    #[error("{0}")]
    Io(String),

    // The broker's.
    /// CONNACK with a reason that is not success.
    #[error("the broker refused the connect: {reason} ({code:#04x}){}", detail_text(.detail))]
    ConnectRefused {
        /// The code: 1 to 5 in MQTT 3.1.1 (§3.2.2.3), 0x80 and above in MQTT 5 (§3.2.2.2).
        code: u8,
        /// Its name.
        reason: &'static str,
        /// Reason string and server reference of MQTT 5.
        detail: Option<Box<Detail>>,
    },
    /// The broker said DISCONNECT (MQTT 5).
    #[error("the broker disconnected: {reason} ({code:#04x}){}", detail_text(.detail))]
    Disconnected {
        /// The code (MQTT 5 §3.14.2.1), never 0x8E.
        code: u8,
        /// Its name.
        reason: &'static str,
        /// Reason string and server reference.
        detail: Option<Box<Detail>>,
    },
    /// Another client took the session: the broker said so (0x8E).
    #[error("another client with the same id took the session")]
    TakenOver,
    /// Nothing came from the broker for 1.5 times the keep-alive.
    #[error("the broker was silent for {0:?}, 1.5 times the keep-alive")]
    KeepAlive(Duration),
    /// The broker broke the protocol; see [`ProtocolError`].
    #[error("the broker broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The broker refused a subscription or a publish.
    #[error("the broker refused: {reason} ({code:#04x})")]
    Rejected {
        /// The code (MQTT 5 §2.4, or 0x80 of a SUBACK in 3.1.1).
        code: u8,
        /// Its name.
        reason: &'static str,
    },
}

/// What MQTT 5 adds to a reason code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// For people.
    pub reason_string: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
}

/// How a broker broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A packet cannot be read.
    #[error("malformed {packet}: {problem}")]
    Malformed {
        /// Its name as in the standard, or "packet".
        packet: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A packet is larger than we allow.
    #[error("a packet of {size} bytes, at most {limit} are allowed")]
    Oversized {
        /// In bytes, with headers.
        size: usize,
        /// In bytes.
        limit: usize,
    },
    /// A packet that has no place here.
    #[error("unexpected {packet}: {problem}")]
    Unexpected {
        /// Its name as in the standard.
        packet: &'static str,
        /// Why it has no place.
        problem: &'static str,
    },
    /// More messages at once than our receive maximum.
    #[error("more than {0} unacknowledged messages at once")]
    ReceiveMaximum(u16),
    /// A packet was begun and not ended for too long.
    #[error("a packet was begun and not ended within {0:?}")]
    SlowPacket(Duration),
}

impl Cause {
    /// Its name for metrics and logs: lower case, hyphens, never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
            Self::Deadline => "deadline",
            Self::Operator(_) => "operator",
            Self::Resolve { .. } => "resolve",
            Self::Refused => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::ConnectTimeout { .. } => "connect-timeout",
            Self::Reset => "reset",
            Self::TcpTimeout => "tcp-timeout",
            Self::PeerClosed => "peer-closed",
            Self::Tls(_) => "tls",
            Self::WebSocket(_) => "websocket",
            Self::Io(_) => "io",
            Self::ConnectRefused { .. } => "connect-refused",
            Self::Disconnected { .. } => "disconnected",
            Self::TakenOver => "taken-over",
            Self::KeepAlive(_) => "keep-alive",
            Self::Protocol(_) => "protocol",
            Self::Rejected { .. } => "rejected",
        }
    }

    /// All of [`Cause::code`], in the order of the variants.
    pub const CODES: [&'static str; 21] = [
        "replaced",
        "removed",
        "shutdown",
        "deadline",
        "operator",
        "resolve",
        "refused",
        "unreachable",
        "connect-timeout",
        "reset",
        "tcp-timeout",
        "peer-closed",
        "tls",
        "websocket",
        "io",
        "connect-refused",
        "disconnected",
        "taken-over",
        "keep-alive",
        "protocol",
        "rejected",
    ];

    /// The broker or the way to it is overloaded: admission should slow down.
    pub fn is_congestion(&self) -> bool {
        match self {
            Self::Refused | Self::Reset | Self::ConnectTimeout { .. } | Self::TcpTimeout => true,
            // 3: server unavailable (3.1.1); server unavailable, server busy, quota exceeded,
            // connection rate exceeded (MQTT 5 §3.2.2.2).
            Self::ConnectRefused { code, .. } => matches!(code, 3 | 0x88 | 0x89 | 0x97 | 0x9F),
            _ => false,
        }
    }
}

fn detail_text(detail: &Option<Box<Detail>>) -> String {
    let Some(detail) = detail else { return String::new() };
    let mut text = String::new();
    if let Some(reason) = &detail.reason_string {
        text.push_str(": ");
        text.push_str(reason);
    }
    if let Some(server) = &detail.server_reference {
        text.push_str("; it names ");
        text.push_str(server);
    }
    text
}
