//! The fixed header (MQTT 3.1.1 §2.2, MQTT 5 §2.1): what a packet is and where it ends.

use super::guard::malformed;
use crate::error::ProtocolError;
use crate::message::QoS;
use crate::packet::Version;
use bytes::{Buf, BytesMut};

/// The types of packets (MQTT 5 §2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect = 1,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
    Auth,
}

/// One packet of which all bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// The first byte: type and flags.
    pub(super) first: u8,
    /// Bytes of the fixed header, 2 to 5.
    pub(super) header: usize,
    /// Bytes after the fixed header.
    pub(super) remaining: usize,
}

impl Frame {
    /// `None` when `buffer` does not hold the whole packet yet. A packet that cannot be right is
    /// refused from its first bytes.
    pub(super) fn read(
        version: Version,
        buffer: &[u8],
        limit: u32,
    ) -> Result<Option<Self>, ProtocolError> {
        let Some((&first, rest)) = buffer.split_first() else { return Ok(None) };
        let kind = kind(version, first, buffer)?;
        let Some((remaining, length)) = variable_integer(kind.name(), version, rest)? else {
            return Ok(None);
        };
        let frame = Self { kind, first, header: 1 + length, remaining };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if frame.size() > limit {
            return Err(ProtocolError::Oversized { size: frame.size(), limit });
        }
        Ok((buffer.len() >= frame.size()).then_some(frame))
    }

    /// In bytes, with the fixed header.
    pub(super) fn size(&self) -> usize {
        self.header + self.remaining
    }

    /// What follows the fixed header.
    pub(super) fn body<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        buffer.get(self.header..self.size()).expect("invariant: a frame is whole")
    }

    /// Takes the packet off the front.
    pub(super) fn drop_from(&self, buffer: &mut BytesMut) {
        buffer.advance(self.size());
    }

    /// Of a PUBLISH.
    pub(super) fn duplicate(&self) -> bool {
        self.first & 0b1000 != 0
    }

    /// Of a PUBLISH.
    pub(super) fn qos(&self) -> QoS {
        match self.first >> 1 & 0b11 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Of a PUBLISH.
    pub(super) fn retain(&self) -> bool {
        self.first & 0b0001 != 0
    }
}

impl Kind {
    /// As in the standard.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

/// The type, when the flags are right too (MQTT 3.1.1 §2.2.2, MQTT-2.2.2-2).
fn kind(version: Version, first: u8, buffer: &[u8]) -> Result<Kind, ProtocolError> {
    let kind = match first >> 4 {
        1 => Kind::Connect,
        2 => Kind::ConnAck,
        3 => Kind::Publish,
        4 => Kind::PubAck,
        5 => Kind::PubRec,
        6 => Kind::PubRel,
        7 => Kind::PubComp,
        8 => Kind::Subscribe,
        9 => Kind::SubAck,
        10 => Kind::Unsubscribe,
        11 => Kind::UnsubAck,
        12 => Kind::PingReq,
        13 => Kind::PingResp,
        14 => Kind::Disconnect,
        15 if version == Version::V5 => Kind::Auth,
        reserved => {
            let problem = format!("type {reserved} is reserved{}", not_mqtt(buffer));
            return Err(malformed("packet", problem));
        }
    };
    let flags = first & 0b1111;
    let problem = match kind {
        Kind::Publish if flags & 0b0110 == 0b0110 => "QoS 3".to_owned(),
        // MQTT-3.3.1-2, in both versions.
        Kind::Publish if flags & 0b1110 == 0b1000 => "a duplicate with QoS 0".to_owned(),
        Kind::Publish => return Ok(kind),
        Kind::PubRel | Kind::Subscribe | Kind::Unsubscribe if flags == 0b0010 => return Ok(kind),
        Kind::PubRel | Kind::Subscribe | Kind::Unsubscribe => {
            format!("flags {flags:#06b} in place of 0b0010{}", not_mqtt(buffer))
        }
        _ if flags == 0 => return Ok(kind),
        _ => format!("flags {flags:#06b} in place of 0b0000{}", not_mqtt(buffer)),
    };
    Err(malformed(kind.name(), problem))
}

/// What an operator has to hear when a port speaks something else. Both begin with bytes whose
/// flags MQTT forbids.
fn not_mqtt(buffer: &[u8]) -> &'static str {
    if buffer.starts_with(b"HTTP") {
        "; this is HTTP: a port for WebSocket, or no broker at all?"
    } else if buffer.starts_with(&[0x15, 0x03]) {
        "; this is an alert of TLS: the port wants TLS"
    } else {
        ""
    }
}

/// A variable byte integer (MQTT 5 §1.5.5) and its length in bytes, or `None` when it goes on
/// behind the end of `bytes`. Only MQTT 5 forbids more bytes than needed (MQTT-1.5.5-1).
pub(super) fn variable_integer(
    packet: &'static str,
    version: Version,
    bytes: &[u8],
) -> Result<Option<(usize, usize)>, ProtocolError> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 && version == Version::V5 {
                return Err(malformed(packet, "a length that is written with too many bytes"));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 {
        return Ok(None);
    }
    Err(malformed(packet, "a length of more than 4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: Version, bytes: &[u8], wanted: Result<Option<usize>, &str>) {
        let found = Frame::read(version, bytes, 1_000).map(|frame| frame.map(|f| f.size()));
        assert_eq!(found.map_err(|error| error.to_string()), wanted.map_err(str::to_owned));
    }

    #[test]
    fn a_packet_ends_where_its_fixed_header_says() {
        check(Version::V311, &[], Ok(None));
        check(Version::V311, &[0xD0], Ok(None));
        check(Version::V311, &[0xD0, 0], Ok(Some(2)));
        check(Version::V311, &[0xD0, 0, 0xD0], Ok(Some(2)));
        check(Version::V311, &[0x30, 0x80], Ok(None));
        check(Version::V311, &[0x30, 0x80, 0x01], Ok(None));
        check(Version::V311, &[&[0x30, 0x80, 0x01][..], &[0; 128]].concat(), Ok(Some(131)));
    }

    #[test]
    fn the_limit_counts_headers_and_is_decided_at_once() {
        let oversized = |size: usize| format!("a packet of {size} bytes, at most 1000 are allowed");
        check(Version::V5, &[0x30, 0xE5, 0x07], Ok(None));
        check(Version::V5, &[0x30, 0xE6, 0x07], Err(&oversized(1_001)));
        check(Version::V5, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F], Err(&oversized(268_435_460)));
    }

    #[test]
    fn a_length_has_at_most_four_bytes() {
        let problem = "malformed PUBLISH: a length of more than 4 bytes";
        check(Version::V311, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF], Err(problem));
        check(Version::V311, &[0x30, 0xFF, 0xFF, 0xFF], Ok(None));
    }

    #[test]
    fn only_mqtt_5_forbids_a_length_with_more_bytes_than_needed() {
        check(Version::V311, &[0xD0, 0x80, 0x00], Ok(Some(3)));
        let problem = "malformed PINGRESP: a length that is written with too many bytes";
        check(Version::V5, &[0xD0, 0x80, 0x00], Err(problem));
    }

    #[test]
    fn types_and_flags_are_refused_from_the_first_byte() {
        let flags = |name: &str, flags: u8, wanted: &str| {
            format!("malformed {name}: flags {flags:#06b} in place of {wanted}")
        };
        check(Version::V5, &[0x00], Err("malformed packet: type 0 is reserved"));
        check(Version::V311, &[0xF0], Err("malformed packet: type 15 is reserved"));
        check(Version::V5, &[0xF0], Ok(None));
        check(Version::V5, &[0x36], Err("malformed PUBLISH: QoS 3"));
        check(Version::V5, &[0x38], Err("malformed PUBLISH: a duplicate with QoS 0"));
        check(Version::V5, &[0x3B], Ok(None));
        check(Version::V5, &[0x60], Err(&flags("PUBREL", 0, "0b0010")));
        check(Version::V5, &[0x62], Ok(None));
        for kind in [2, 4, 5, 7, 9, 11, 13, 14_u8] {
            for flag in 1..16 {
                Frame::read(Version::V311, &[kind << 4 | flag], 1_000)
                    .expect_err("invariant: these have no flags");
            }
            check(Version::V311, &[kind << 4], Ok(None));
        }
    }

    #[test]
    fn a_port_that_speaks_something_else_is_named() {
        check(
            Version::V311,
            b"HTTP/1.1 400 Bad Request",
            Err("malformed PUBACK: flags 0b1000 in place of 0b0000; this is HTTP: a port for \
                 WebSocket, or no broker at all?"),
        );
        check(
            Version::V5,
            &[0x15, 0x03, 0x03, 0, 2, 2, 0x50],
            Err(
                "malformed CONNECT: flags 0b0101 in place of 0b0000; this is an alert of TLS: the \
                 port wants TLS",
            ),
        );
    }
}
