//! Bytes of a client into packets. Strict: what the standard forbids is an error, so that a client
//! which sends it is found out.

use super::code::{MALFORMED, PROTOCOL_ERROR, TOO_LARGE, UNSUPPORTED_VERSION};
use super::{
    CONNECT, Connect, DISCONNECT, Filter, Incoming, Message, PINGREQ, PUBACK, PUBCOMP, PUBLISH,
    PUBREC, PUBREL, Publish, SUBSCRIBE, UNSUBSCRIBE, Will, property,
};
use crate::message::{QoS, Subscription};
use crate::packet::Version;
use bytes::Bytes;
use std::sync::Arc;

/// Why a packet cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::testing) struct Malformed {
    /// For DISCONNECT, or CONNACK, in MQTT 5.
    pub(in crate::testing) code: u8,
    /// For people.
    pub(in crate::testing) problem: &'static str,
}

type Result<T> = std::result::Result<T, Malformed>;

fn malformed<T>(problem: &'static str) -> Result<T> {
    Err(Malformed { code: MALFORMED, problem })
}

fn forbidden<T>(problem: &'static str) -> Result<T> {
    Err(Malformed { code: PROTOCOL_ERROR, problem })
}

/// How long the packet is that begins here, with its header; `None` until that can be told.
pub(in crate::testing) fn frame_length(bytes: &[u8], limit: Option<u32>) -> Result<Option<usize>> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let whole = length + index + 2;
            if limit.is_some_and(|limit| whole > limit as usize) {
                return Err(Malformed { code: TOO_LARGE, problem: "packet too large" });
            }
            return Ok(Some(whole));
        }
    }
    if bytes.len() > 4 { malformed("remaining length of more than four bytes") } else { Ok(None) }
}

/// Reads one whole packet, of the length that [`frame_length`] gave.
pub(in crate::testing) fn read(version: Version, packet: &[u8]) -> Result<Incoming> {
    let Some((first, rest)) = packet.split_first() else { return malformed("nothing") };
    let header = 1 + rest.iter().take_while(|byte| **byte & 0x80 != 0).count();
    let mut fields = Fields { rest: rest.get(header..).unwrap_or_default(), version };
    let (kind, flags) = (first & 0xF0, first & 0x0F);
    let expected = match kind {
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => 2,
        PUBLISH => flags,
        _ => 0,
    };
    if flags != expected {
        return malformed("wrong flags in the first byte [MQTT-2.2.2-2]");
    }
    let incoming = match kind {
        CONNECT => fields.connect()?,
        PUBLISH => fields.publish(flags)?,
        PUBACK => Incoming::PubAck { id: fields.acknowledgement()?.0 },
        PUBREC => {
            let (id, code) = fields.acknowledgement()?;
            Incoming::PubRec { id, code }
        }
        PUBREL => Incoming::PubRel { id: fields.acknowledgement()?.0 },
        PUBCOMP => Incoming::PubComp { id: fields.acknowledgement()?.0 },
        SUBSCRIBE => fields.subscribe()?,
        UNSUBSCRIBE => fields.unsubscribe()?,
        PINGREQ => Incoming::PingReq,
        DISCONNECT => fields.disconnect()?,
        _ => return forbidden("a packet that no client may send"),
    };
    if fields.rest.is_empty() { Ok(incoming) } else { malformed("more bytes than fields") }
}

struct Fields<'a> {
    rest: &'a [u8],
    version: Version,
}

/// Those properties that the broker uses; the others are only checked.
#[derive(Default)]
struct Properties {
    session_expiry: Option<u32>,
    receive_maximum: Option<u16>,
    maximum_packet: Option<u32>,
    alias: Option<u16>,
    message_expiry: Option<u32>,
    will_delay: u32,
    /// What is forwarded with a message, as it came.
    kept: Vec<u8>,
}

/// Where properties stand, which says which ones may (MQTT 5 §2.2.2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Connect,
    Will,
    Publish,
    Subscribe,
    Disconnect,
    /// Acknowledgements and UNSUBSCRIBE: nothing but words for people.
    Other,
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return malformed("fewer bytes than fields");
        };
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Result<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn variable(&mut self) -> Result<usize> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        malformed("variable byte integer of more than four bytes")
    }

    fn binary(&mut self) -> Result<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<&'a str> {
        match std::str::from_utf8(self.binary()?) {
            Ok(text) if !text.contains('\0') => Ok(text),
            Ok(_) => malformed("U+0000 in a string [MQTT-1.5.3-2]"),
            Err(_) => malformed("a string is not UTF-8 [MQTT-1.5.3-1]"),
        }
    }

    fn id(&mut self) -> Result<u16> {
        match self.u16()? {
            0 => forbidden("packet id 0 [MQTT-2.3.1-1]"),
            id => Ok(id),
        }
    }

    fn topic(&mut self) -> Result<&'a str> {
        let topic = self.text()?;
        if topic.contains(['+', '#']) {
            return malformed("a wildcard in a topic [MQTT-3.3.2-2]");
        }
        Ok(topic)
    }

    /// Nothing in 3.1.1, which has no properties.
    fn properties(&mut self, place: Place) -> Result<Properties> {
        let mut found = Properties::default();
        if self.version == Version::V311 {
            return Ok(found);
        }
        let length = self.variable()?;
        let mut fields = Fields { rest: self.take(length)?, version: self.version };
        let mut seen = 0_u64;
        while !fields.rest.is_empty() {
            let before = fields.rest;
            let name = fields.byte()?;
            fields.property(name, place, &mut found)?;
            if name != property::USER_PROPERTY {
                let bit = 1_u64 << (name & 63);
                if seen & bit != 0 {
                    return forbidden("a property twice");
                }
                seen |= bit;
            }
            if place == Place::Will || place == Place::Publish {
                let forwarded = !matches!(
                    name,
                    property::TOPIC_ALIAS | property::MESSAGE_EXPIRY | property::WILL_DELAY
                );
                if forwarded {
                    let used = before.len() - fields.rest.len();
                    found.kept.extend_from_slice(&before[..used]);
                }
            }
        }
        Ok(found)
    }

    fn property(&mut self, name: u8, place: Place, found: &mut Properties) -> Result<()> {
        use Place::{Connect, Disconnect, Publish, Subscribe, Will};
        match (name, place) {
            (property::USER_PROPERTY, _) => {
                self.text()?;
                self.text()?;
            }
            (property::REASON_STRING, Place::Disconnect | Place::Other) => {
                self.text()?;
            }
            (property::SESSION_EXPIRY, Connect | Disconnect) => {
                found.session_expiry = Some(self.u32()?);
            }
            (property::RECEIVE_MAXIMUM, Connect) => match self.u16()? {
                0 => return forbidden("receive maximum 0"),
                maximum => found.receive_maximum = Some(maximum),
            },
            (property::MAXIMUM_PACKET, Connect) => match self.u32()? {
                0 => return forbidden("maximum packet size 0"),
                maximum => found.maximum_packet = Some(maximum),
            },
            (property::TOPIC_ALIAS_MAXIMUM, Connect) => {
                self.u16()?;
            }
            (property::REQUEST_PROBLEM | property::REQUEST_RESPONSE, Connect)
            | (property::PAYLOAD_FORMAT, Publish | Will) => {
                if self.byte()? > 1 {
                    return forbidden("a property that is neither 0 nor 1");
                }
            }
            (property::AUTHENTICATION_METHOD, Connect)
            | (property::CONTENT_TYPE, Publish | Will) => {
                self.text()?;
            }
            (property::RESPONSE_TOPIC, Publish | Will) => {
                self.topic()?;
            }
            (property::AUTHENTICATION_DATA, Connect)
            | (property::CORRELATION_DATA, Publish | Will) => {
                self.binary()?;
            }
            (property::MESSAGE_EXPIRY, Publish | Will) => found.message_expiry = Some(self.u32()?),
            (property::WILL_DELAY, Will) => found.will_delay = self.u32()?,
            (property::TOPIC_ALIAS, Publish) => found.alias = Some(self.u16()?),
            (property::SUBSCRIPTION_ID, Subscribe) => {
                self.variable()?;
            }
            _ => return forbidden("a property that has no place here"),
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<Incoming> {
        let unsupported = Malformed { code: UNSUPPORTED_VERSION, problem: "no version we speak" };
        if self.text()? != "MQTT" {
            return Err(unsupported);
        }
        self.version = match self.byte()? {
            4 => Version::V311,
            5 => Version::V5,
            _ => return Err(unsupported),
        };
        let flags = self.byte()?;
        if flags & 0x01 != 0 {
            return malformed("the reserved flag of CONNECT is set [MQTT-3.1.2-3]");
        }
        let clean_start = flags & 0x02 != 0;
        let keep_alive = self.u16()?;
        let properties = self.properties(Place::Connect)?;
        let client_id = self.text()?.to_owned();
        let will = self.will(flags)?;
        let (has_name, has_password) = (flags & 0x80 != 0, flags & 0x40 != 0);
        if has_name {
            self.text()?;
        }
        if has_password {
            if !has_name && self.version == Version::V311 {
                return malformed("a password without a user name [MQTT-3.1.2-22]");
            }
            self.binary()?;
        }
        let session_expiry = match self.version {
            Version::V311 if clean_start => 0,
            Version::V311 => u32::MAX,
            Version::V5 => properties.session_expiry.unwrap_or(0),
        };
        Ok(Incoming::Connect(Box::new(Connect {
            version: self.version,
            client_id,
            clean_start,
            keep_alive,
            will,
            session_expiry,
            receive_maximum: properties.receive_maximum,
            maximum_packet: properties.maximum_packet,
        })))
    }

    fn will(&mut self, flags: u8) -> Result<Option<Box<Will>>> {
        if flags & 0x04 == 0 {
            if flags & 0x38 != 0 {
                return malformed("flags of a will without a will [MQTT-3.1.2-11]");
            }
            return Ok(None);
        }
        let qos = quality((flags >> 3) & 3)?;
        let properties = self.properties(Place::Will)?;
        let topic = self.topic()?;
        if topic.is_empty() {
            return malformed("a will without a topic");
        }
        let message = Message {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(self.binary()?),
            qos,
            retain: flags & 0x20 != 0,
            properties: properties.kept.into(),
            expiry: properties.message_expiry,
            expires: None,
        };
        Ok(Some(Box::new(Will { message: Arc::new(message), delay: properties.will_delay })))
    }

    fn publish(&mut self, flags: u8) -> Result<Incoming> {
        let qos = quality((flags >> 1) & 3)?;
        let duplicate = flags & 0x08 != 0;
        if duplicate && qos == QoS::AtMostOnce {
            return malformed("DUP with QoS 0 [MQTT-3.3.1-2]");
        }
        let topic = self.topic()?;
        let id = if qos == QoS::AtMostOnce { 0 } else { self.id()? };
        let properties = self.properties(Place::Publish)?;
        if properties.alias == Some(0) {
            return Err(Malformed { code: super::code::BAD_ALIAS, problem: "topic alias 0" });
        }
        if topic.is_empty() && properties.alias.is_none() {
            return forbidden("neither a topic nor an alias [MQTT-4.7.3-1]");
        }
        let payload = Bytes::copy_from_slice(self.take(self.rest.len())?);
        Ok(Incoming::Publish(Box::new(Publish {
            duplicate,
            id,
            alias: properties.alias,
            message: Message {
                topic: topic.into(),
                payload,
                qos,
                retain: flags & 0x01 != 0,
                properties: properties.kept.into(),
                expiry: properties.message_expiry,
                expires: None,
            },
        })))
    }

    /// The packet id and the code, 0 where none is.
    fn acknowledgement(&mut self) -> Result<(u16, u8)> {
        let id = self.id()?;
        if self.version == Version::V311 || self.rest.is_empty() {
            return Ok((id, 0));
        }
        let code = self.byte()?;
        if !self.rest.is_empty() {
            self.properties(Place::Other)?;
        }
        Ok((id, code))
    }

    fn subscribe(&mut self) -> Result<Incoming> {
        let id = self.id()?;
        self.properties(Place::Subscribe)?;
        let mut filters = Vec::new();
        while !self.rest.is_empty() {
            let filter = self.text()?.to_owned();
            let options = self.byte()?;
            let allowed = if self.version == Version::V5 { 0x3F } else { 0x03 };
            if options & !allowed != 0 {
                return malformed("reserved bits of the subscription are set [MQTT-3.8.3-4]");
            }
            if (options >> 4) & 3 == 3 {
                return forbidden("retain handling 3");
            }
            filters.push(Filter {
                filter,
                qos: quality(options & 3)?,
                no_local: options & 0x04 != 0,
                keep_retain: options & 0x08 != 0,
            });
        }
        if filters.is_empty() {
            return forbidden("SUBSCRIBE without a filter [MQTT-3.8.3-3]");
        }
        Ok(Incoming::Subscribe { id, filters })
    }

    fn unsubscribe(&mut self) -> Result<Incoming> {
        let id = self.id()?;
        self.properties(Place::Other)?;
        let mut filters = Vec::new();
        while !self.rest.is_empty() {
            let filter = self.text()?;
            if Subscription::new(filter, QoS::AtMostOnce).is_err() {
                return malformed("not a topic filter");
            }
            filters.push(filter.to_owned());
        }
        if filters.is_empty() {
            return forbidden("UNSUBSCRIBE without a filter [MQTT-3.10.3-2]");
        }
        Ok(Incoming::Unsubscribe { id, filters })
    }

    fn disconnect(&mut self) -> Result<Incoming> {
        if self.version == Version::V311 || self.rest.is_empty() {
            return Ok(Incoming::Disconnect { code: 0, session_expiry: None });
        }
        let code = self.byte()?;
        let mut session_expiry = None;
        if !self.rest.is_empty() {
            session_expiry = self.properties(Place::Disconnect)?.session_expiry;
        }
        Ok(Incoming::Disconnect { code, session_expiry })
    }
}

fn quality(number: u8) -> Result<QoS> {
    match number {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => malformed("QoS 3 [MQTT-3.3.1-4]"),
    }
}
