//! What stands between a broker's bytes and rumqttc: a walk over the whole packet that refuses
//! what rumqttc 0.25.1 would read wrongly, or take for a packet that is not complete.
//!
//! | rumqttc 0.25.1 | what guards |
//! |---|---|
//! | lets properties run over their length, into the payload | [`Walk::part`] ends where the length says |
//! | says "wait for more bytes" for a length that is cut off inside a whole packet | the frame is decided before; inside it, the end is an error |
//! | DISCONNECT of MQTT 5: with no bytes an error, with the reason alone a wait for ever | [`incoming`](super::incoming) reads both |
//! | PUBLISH of MQTT 5: counts each subscription identifier one byte too long, so that after two of them the last property falls into the payload | [`publish`](super::publish) cuts them out first |
//! | AUTH is an invalid type | reported as unexpected, by name |
//! | CONNACK of MQTT 5 with a code of 3.1.1 is an error, and one without properties a wait for ever; in 3.1.1 each code above 5 is an error | `incoming` reads the code |
//! | reason codes that it does not list are errors; reserved ones below 0x80 too | `incoming`: from 0x80 on any refusal is one; below, only what the packet may carry |
//! | the second of two equal properties replaces the first | [`properties`](super::properties) counts them |
//! | properties with values outside their range: flags above 1, a receive maximum, packet size or subscription identifier of 0 | `properties` |
//! | takes any topic in MQTT 5, UTF-8 or not; in both versions with U+0000, wildcards, or nothing in it | [`Walk::string`] and `publish` |
//! | takes topic aliases, which we never allow | `publish` |
//! | ignores the flags of the fixed header, and a duplicate with QoS 0 | [`frame`](super::frame) |
//! | ignores bytes after the end of PINGRESP, CONNACK and acknowledgements, and after their properties | [`Walk::end`] |
//! | ignores the reserved flags of CONNACK | `incoming` |
//! | takes packet identifier 0 in acknowledgements | [`Walk::packet_id`] |
//! | holds its limit against the size without the fixed header | `frame` |
//! | takes lengths with more bytes than needed, which MQTT 5 forbids | `frame`, [`Walk::variable_integer`] |
//!
//! No input was found that makes its readers panic once they see one whole packet: they check
//! before each read. Its writers can, and are not used (see [`outgoing`](super::outgoing)).

use super::frame::variable_integer;
use crate::error::ProtocolError;
use crate::packet::Version;

/// A complaint about one packet.
pub(super) fn malformed(packet: &'static str, problem: impl Into<String>) -> ProtocolError {
    ProtocolError::Malformed { packet, problem: problem.into() }
}

/// Goes over the bytes of one packet and never beyond them.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    packet: &'static str,
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    /// Over `bytes` of the packet with that name.
    pub(super) fn new(packet: &'static str, bytes: &'a [u8]) -> Self {
        Self { packet, rest: bytes }
    }

    pub(super) fn take(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<&'a [u8], ProtocolError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| self.too_short(length, field))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn one(&mut self, field: &'static str) -> Result<u8, ProtocolError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn two(&mut self, field: &'static str) -> Result<u16, ProtocolError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn four(&mut self, field: &'static str) -> Result<u32, ProtocolError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Only MQTT 5 has these behind the fixed header.
    pub(super) fn variable_integer(&mut self, field: &'static str) -> Result<usize, ProtocolError> {
        let Some((value, length)) = variable_integer(self.packet, Version::V5, self.rest)? else {
            return Err(self.malformed(format!("it ends within its {field}")));
        };
        self.take(length, field)?;
        Ok(value)
    }

    /// With its length before it.
    pub(super) fn binary(&mut self, field: &'static str) -> Result<&'a [u8], ProtocolError> {
        let length = self.two(field)?;
        self.take(usize::from(length), field)
    }

    /// UTF-8 without U+0000 (MQTT-1.5.3-1 and -2 in 3.1.1, MQTT-1.5.4-1 and -2 in MQTT 5).
    pub(super) fn string(&mut self, field: &'static str) -> Result<&'a str, ProtocolError> {
        let bytes = self.binary(field)?;
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(self.malformed(format!("its {field} is not UTF-8")));
        };
        if bytes.contains(&0) {
            return Err(self.malformed(format!("its {field} contains U+0000")));
        }
        Ok(text)
    }

    /// A string that names one topic (MQTT 3.1.1 §4.7).
    pub(super) fn topic(&mut self, field: &'static str) -> Result<&'a str, ProtocolError> {
        let topic = self.string(field)?;
        if topic.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
            return Err(self.malformed(format!("a wildcard in its {field} {topic:?}")));
        }
        Ok(topic)
    }

    /// Never 0 (MQTT-2.3.1-1 in 3.1.1, MQTT-2.2.1-3 in MQTT 5).
    pub(super) fn packet_id(&mut self) -> Result<u16, ProtocolError> {
        match self.two("packet identifier")? {
            0 => Err(self.malformed("packet identifier 0")),
            id => Ok(id),
        }
    }

    /// The next `length` bytes as a walk of their own.
    pub(super) fn part(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<Self, ProtocolError> {
        Ok(Self { packet: self.packet, rest: self.take(length, field)? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that was not walked over yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// # Errors
    ///
    /// When bytes are left.
    pub(super) fn end(&self) -> Result<(), ProtocolError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.malformed(format!("{left} bytes after its end"))),
        }
    }

    fn array<const LENGTH: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; LENGTH], ProtocolError> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or_else(|| self.too_short(LENGTH, field))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn too_short(&self, length: usize, field: &'static str) -> ProtocolError {
        let missing = length.saturating_sub(self.rest.len());
        self.malformed(format!("{missing} bytes too short for its {field}"))
    }

    pub(super) fn malformed(&self, problem: impl Into<String>) -> ProtocolError {
        malformed(self.packet, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    #[track_caller]
    fn check<T: Debug + PartialEq>(
        bytes: &[u8],
        read: impl for<'a> Fn(&mut Walk<'a>) -> Result<T, ProtocolError>,
        wanted: Result<T, &str>,
    ) {
        let found = read(&mut Walk::new("TEST", bytes)).map_err(|error| error.to_string());
        assert_eq!(found, wanted.map_err(|problem| format!("malformed TEST: {problem}")));
    }

    #[test]
    fn numbers_are_big_endian_and_end_with_the_packet() {
        check(&[1], |walk| walk.one("f"), Ok(1));
        check(&[], |walk| walk.one("f"), Err("1 bytes too short for its f"));
        check(&[1, 2], |walk| walk.two("f"), Ok(0x0102));
        check(&[1], |walk| walk.two("f"), Err("1 bytes too short for its f"));
        check(&[1, 2, 3, 4], |walk| walk.four("f"), Ok(0x0102_0304));
        check(&[0x80], |walk| walk.variable_integer("f"), Err("it ends within its f"));
        check(&[0x80, 1], |walk| walk.variable_integer("f"), Ok(128));
    }

    #[test]
    fn strings_are_utf_8_without_zero() {
        let string = |walk: &mut Walk<'_>| walk.string("f").map(str::to_owned);
        check(&[0, 1, b'a', b'b'], string, Ok("a".to_owned()));
        check(&[0, 2, b'a'], string, Err("1 bytes too short for its f"));
        check(&[0, 1, 0xFF], string, Err("its f is not UTF-8"));
        // A surrogate, which is no character.
        check(&[0, 3, 0xED, 0xA0, 0x80], string, Err("its f is not UTF-8"));
        check(&[0, 2, b'a', 0], string, Err("its f contains U+0000"));
    }

    #[test]
    fn topics_have_no_wildcards() {
        let topic = |walk: &mut Walk<'_>| walk.topic("f").map(str::to_owned);
        check(&[0, 3, b'a', b'/', b'b'], topic, Ok("a/b".to_owned()));
        check(&[0, 3, b'a', b'/', b'#'], topic, Err("a wildcard in its f \"a/#\""));
        check(&[0, 1, b'+'], topic, Err("a wildcard in its f \"+\""));
    }

    #[test]
    fn a_part_ends_before_the_packet_does() {
        let read = |walk: &mut Walk<'_>| walk.part(1, "f").and_then(|mut part| part.two("g"));
        check(&[1, 2, 3], read, Err("1 bytes too short for its g"));
    }

    #[test]
    fn nothing_may_be_left() {
        check(&[1, 2], |walk| walk.one("f").and_then(|_| walk.end()), Err("1 bytes after its end"));
        check(&[0, 0], |walk| walk.packet_id(), Err("packet identifier 0"));
    }
}
