//! One whole packet to [`Incoming`].

use super::frame::{Frame, Kind};
use super::guard::{Walk, malformed};
use super::{properties, publish};
use crate::error::{Detail, ProtocolError};
use crate::message::QoS;
use crate::packet::{ConnAck, Incoming, ServerLimits, Version};
use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::{ConnAckProperties, DisconnectProperties};

/// Takes the packet of `frame` off the front of `buffer`.
pub(super) fn read(
    version: Version,
    frame: &Frame,
    buffer: &mut BytesMut,
) -> Result<Incoming, ProtocolError> {
    if frame.kind == Kind::Publish {
        return publish::read(version, frame, buffer).map(Incoming::Publish);
    }
    let mut walk = Walk::new(frame.kind.name(), frame.body(buffer));
    let incoming = match frame.kind {
        Kind::ConnAck => Incoming::ConnAck(connack(version, &mut walk)?),
        Kind::PubAck => {
            let (id, code) = acknowledgement(version, frame.kind, &mut walk)?;
            Incoming::PubAck { id, code }
        }
        Kind::PubRec => {
            let (id, code) = acknowledgement(version, frame.kind, &mut walk)?;
            Incoming::PubRec { id, code }
        }
        Kind::PubRel => {
            let (id, code) = acknowledgement(version, frame.kind, &mut walk)?;
            Incoming::PubRel { id, code }
        }
        Kind::PubComp => {
            let (id, code) = acknowledgement(version, frame.kind, &mut walk)?;
            Incoming::PubComp { id, code }
        }
        Kind::SubAck => {
            let (id, codes) = codes(version, frame.kind, &mut walk)?;
            Incoming::SubAck { id, codes }
        }
        Kind::UnsubAck if version == Version::V311 => {
            let id = walk.packet_id()?;
            walk.end()?;
            Incoming::UnsubAck { id, codes: Vec::new() }
        }
        Kind::UnsubAck => {
            let (id, codes) = codes(version, frame.kind, &mut walk)?;
            Incoming::UnsubAck { id, codes }
        }
        Kind::PingResp => {
            walk.end()?;
            Incoming::PingResp
        }
        Kind::Disconnect if version == Version::V5 => disconnect(&mut walk)?,
        Kind::Publish
        | Kind::Connect
        | Kind::Subscribe
        | Kind::Unsubscribe
        | Kind::PingReq
        | Kind::Disconnect
        | Kind::Auth => Incoming::Unexpected(frame.kind.name()),
    };
    frame.drop_from(buffer);
    Ok(incoming)
}

/// MQTT 3.1.1 §3.2, MQTT 5 §3.2. Each code but 0 is a refusal, also one that no standard knows:
/// its number is of more use to an operator than a complaint about it.
fn connack(version: Version, walk: &mut Walk<'_>) -> Result<ConnAck, ProtocolError> {
    let flags = walk.one("flags")?;
    if flags > 1 {
        return Err(walk.malformed(format!("reserved flags {flags:#010b}")));
    }
    let code = walk.one("code")?;
    // A refusal never has a session (MQTT-3.2.2-4); one that says so is a refusal all the same.
    let mut connack =
        ConnAck { session_present: flags == 1 && code == 0, code, ..ConnAck::default() };
    // A broker that does not speak our version refuses in the words of its own: of 3.1.1 without
    // properties, or of MQTT 5 with them.
    let is_short = version == Version::V311 && code < 0x80 || code != 0 && walk.is_empty();
    if is_short {
        walk.end()?;
        return Ok(connack);
    }
    let mut block = Bytes::copy_from_slice(walk.rest());
    properties::check(Kind::ConnAck, walk)?;
    walk.end()?;
    let Some(read) = rumqttc("CONNACK", ConnAckProperties::read(&mut block))? else {
        return Ok(connack);
    };
    let least = ServerLimits::default();
    connack.limits = ServerLimits {
        receive_maximum: read.receive_max.unwrap_or(least.receive_maximum),
        maximum_qos: match read.max_qos {
            None => least.maximum_qos,
            Some(0) => QoS::AtMostOnce,
            Some(_) => QoS::AtLeastOnce,
        },
        retain_available: read.retain_available != Some(0),
        maximum_packet: read.max_packet_size,
        topic_alias_maximum: read.topic_alias_max.unwrap_or(least.topic_alias_maximum),
    };
    connack.detail = detail(read.reason_string, read.server_reference);
    connack.assigned_client_id = read.assigned_client_identifier.is_some();
    connack.server_keep_alive = read.server_keep_alive;
    connack.session_expiry = read.session_expiry_interval;
    Ok(connack)
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP: an identifier, and in MQTT 5 a code and properties, both
/// left away at will (§3.4.2).
fn acknowledgement(
    version: Version,
    kind: Kind,
    walk: &mut Walk<'_>,
) -> Result<(u16, u8), ProtocolError> {
    let id = walk.packet_id()?;
    if version == Version::V311 || walk.is_empty() {
        walk.end()?;
        return Ok((id, 0));
    }
    let code = walk.one("reason code")?;
    check_code(version, kind, code, walk)?;
    if !walk.is_empty() {
        properties::check(kind, walk)?;
        walk.end()?;
    }
    Ok((id, code))
}

/// SUBACK, and UNSUBACK of MQTT 5: an identifier and one code for each filter.
fn codes(
    version: Version,
    kind: Kind,
    walk: &mut Walk<'_>,
) -> Result<(u16, Vec<u8>), ProtocolError> {
    let id = walk.packet_id()?;
    if version == Version::V5 {
        properties::check(kind, walk)?;
    }
    let codes = walk.rest();
    if codes.is_empty() {
        return Err(walk.malformed("no code in it"));
    }
    for &code in codes {
        check_code(version, kind, code, walk)?;
    }
    Ok((id, codes.to_vec()))
}

/// MQTT 5 §3.14. The code and the properties may be left away.
fn disconnect(walk: &mut Walk<'_>) -> Result<Incoming, ProtocolError> {
    let code = if walk.is_empty() { 0 } else { walk.one("reason code")? };
    if walk.is_empty() {
        return Ok(Incoming::Disconnect { code, detail: None });
    }
    let mut block = Bytes::copy_from_slice(walk.rest());
    properties::check(Kind::Disconnect, walk)?;
    walk.end()?;
    let read = rumqttc("DISCONNECT", DisconnectProperties::extract(&mut block))?;
    let detail = read.and_then(|read| detail(read.reason_string, read.server_reference));
    Ok(Incoming::Disconnect { code, detail })
}

/// From 0x80 on each code is a refusal, whether this standard knows it or a later one. A code
/// below says how something succeeded, which must be known to be of use.
fn check_code(
    version: Version,
    kind: Kind,
    code: u8,
    walk: &Walk<'_>,
) -> Result<(), ProtocolError> {
    let is_right = match (kind, code) {
        // The only refusal of 3.1.1 (§3.9.3).
        (Kind::SubAck, 0x80..) if version == Version::V311 => code == 0x80,
        (_, 0x80..) => true,
        (Kind::SubAck, code) => code <= 2,
        (Kind::UnsubAck, code) => matches!(code, 0 | 0x11),
        (Kind::PubAck | Kind::PubRec, code) => matches!(code, 0 | 0x10),
        (_, code) => code == 0,
    };
    if is_right { Ok(()) } else { Err(walk.malformed(format!("reserved code {code:#04x}"))) }
}

/// An error of rumqttc is always about a packet that is wrong, and never a wish for more bytes.
pub(super) fn rumqttc<T, E: ToString>(
    packet: &'static str,
    read: Result<T, E>,
) -> Result<T, ProtocolError> {
    read.map_err(|error| malformed(packet, error.to_string()))
}

fn detail(reason_string: Option<String>, server_reference: Option<String>) -> Option<Box<Detail>> {
    (reason_string.is_some() || server_reference.is_some())
        .then(|| Box::new(Detail { reason_string, server_reference }))
}
