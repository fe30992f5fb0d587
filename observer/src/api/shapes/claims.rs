//! What a process says of its sockets, as JSON.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The whole registry of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The process, as the host numbers it; that of the client unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// At most 65,536. None withdraws everything.
    pub claims: Vec<ClaimShape>,
    /// After how many seconds they are withdrawn if no other registry follows: 5 to 3600, 60 unless
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<u32>,
}

/// That a socket is a device's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Claim)]
pub struct ClaimShape {
    /// This end: `ip:port`, or `[ip]:port` for IPv6.
    #[schema(value_type = String)]
    pub local: SocketAddr,
    /// The other end.
    #[schema(value_type = String)]
    pub remote: SocketAddr,
    /// The name of the device, 1 to 1,024 bytes.
    pub device: String,
    /// How far its session is.
    pub stage: ClaimStage,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClaimStage {
    /// It is being made.
    Connecting,
    /// It is up.
    Online,
}

/// Both ends of a socket that is nobody's any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retraction {
    /// This end.
    #[schema(value_type = String)]
    pub local: SocketAddr,
    /// The other end.
    #[schema(value_type = String)]
    pub remote: SocketAddr,
}

/// A line of a stream of claims: an object with one of these fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClaimLine {
    /// This socket is a device's.
    Claim(ClaimShape),
    /// This socket is nobody's any more.
    Retract(Retraction),
    /// This is the whole registry. A stream should begin with it.
    Snapshot(Vec<ClaimShape>),
}

/// What became of the claims of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimsTaken {
    /// The process.
    pub pid: u32,
    /// Claims whose socket is known.
    pub matched: usize,
    /// Claims whose socket is not known: they wait until it is.
    pub unmatched: usize,
}
