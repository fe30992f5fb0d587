//! Bytes to packets and back, for MQTT 3.1.1 and MQTT 5.
//!
//! ```text
//! bytes ─▶ frame ─▶ guard ─▶ rumqttc ─▶ Incoming        Outgoing ─▶ measure ─▶ write ─▶ bytes
//! ```
//!
//! rumqttc reads what has substance: the properties of PUBLISH, CONNACK and DISCONNECT, one whole
//! packet at a time, and only after the [`guard`] found nothing in it that rumqttc reads wrongly.
//! What the guard walks over anyway is taken from the walk: topics, payloads, packet identifiers,
//! and reason codes, of which rumqttc knows only some and gives no numbers back. So a PUBLISH is
//! read in place, with one copy of its topic and at most one of its payload.
//!
//! Packets are written here and not by rumqttc, whose writers want owned strings for each packet
//! and are wrong in places (see [`outgoing`]); the tests hold both against each other.

mod frame;
mod guard;
mod incoming;
mod outgoing;
mod properties;
mod publish;
mod reason;
#[cfg(test)]
pub(crate) mod server;
mod sink;
#[cfg(test)]
mod tests;

pub(crate) use outgoing::{TooLarge, encode, encoded_size};
pub(crate) use reason::{reason_name, refusal_name};

use crate::error::ProtocolError;
use crate::packet::{Incoming, Version};
use bytes::BytesMut;
use frame::Frame;

/// Takes one whole packet off the front of `buffer`.
///
/// `Ok(None)` leaves the buffer as it is: the packet needs more bytes. `limit` is in bytes, for
/// the packet with its headers, and is decided as soon as the fixed header is there, so that
/// nobody waits for what will be refused.
///
/// A payload of 1 KiB and more is a slice of `buffer`, a smaller one a copy (see [`publish`]).
///
/// # Errors
///
/// [`ProtocolError::Malformed`], [`ProtocolError::Oversized`], and [`ProtocolError::Unexpected`]
/// for a topic alias, which we never allow. The connection is of no use after any of them, and
/// what is left in `buffer` has no meaning.
pub(crate) fn decode(
    version: Version,
    buffer: &mut BytesMut,
    limit: u32,
) -> Result<Option<Incoming>, ProtocolError> {
    match Frame::read(version, buffer, limit)? {
        Some(frame) => incoming::read(version, &frame, buffer).map(Some),
        None => Ok(None),
    }
}
