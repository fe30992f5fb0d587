//! What a broker sends, to bytes. Nothing is checked: a test may want any of it to be wrong.

use super::ToClient;
use crate::codec::sink::{Block, Measure, Sink};
use crate::error::Detail;
use crate::message::QoS;
use crate::packet::{ConnAck, IncomingPublish, ServerLimits, Version};
use bytes::BytesMut;

/// Writes one packet behind what is in `buffer`.
///
/// Codes are written in full, and in 3.1.1 left away where it has none. An unexpected packet is
/// written with no bytes after its fixed header.
pub(crate) fn encode(version: Version, packet: &ToClient, buffer: &mut BytesMut) {
    let mut measure = Measure::default();
    write(version, packet, &mut measure);
    buffer.byte(first_byte(packet));
    buffer.variable_integer(measure.bytes);
    write(version, packet, buffer);
}

fn first_byte(packet: &ToClient) -> u8 {
    match packet {
        ToClient::ConnAck(_) => 0x20,
        ToClient::Publish(publish) => {
            0x30 | u8::from(publish.duplicate) << 3
                | (publish.qos as u8) << 1
                | u8::from(publish.retain)
        }
        ToClient::PubAck { .. } => 0x40,
        ToClient::PubRec { .. } => 0x50,
        ToClient::PubRel { .. } => 0x62,
        ToClient::PubComp { .. } => 0x70,
        ToClient::SubAck { .. } => 0x90,
        ToClient::UnsubAck { .. } => 0xB0,
        ToClient::PingResp => 0xD0,
        ToClient::Disconnect { .. } => 0xE0,
        ToClient::Unexpected(name) => match *name {
            "CONNECT" => 0x10,
            "SUBSCRIBE" => 0x82,
            "UNSUBSCRIBE" => 0xA2,
            "PINGREQ" => 0xC0,
            "AUTH" => 0xF0,
            _ => 0xE0,
        },
    }
}

fn write<S: Sink>(version: Version, packet: &ToClient, sink: &mut S) {
    let is_5 = version == Version::V5;
    match packet {
        ToClient::ConnAck(connack) => {
            sink.byte(connack.session_present.into());
            sink.byte(connack.code);
            // A broker that speaks nothing but MQTT 5 refuses a client of 3.1.1 with properties.
            let mut properties = Measure::default();
            connack.write(&mut properties);
            if is_5 || connack.code >= 0x80 && properties.bytes > 0 {
                connack.write_with_length(sink);
            }
        }
        ToClient::Publish(publish) => write_publish(version, publish, sink),
        ToClient::PubAck { id, code }
        | ToClient::PubRec { id, code }
        | ToClient::PubRel { id, code }
        | ToClient::PubComp { id, code } => {
            sink.two(*id);
            if is_5 {
                sink.byte(*code);
                sink.byte(0);
            }
        }
        ToClient::SubAck { id, codes } | ToClient::UnsubAck { id, codes } => {
            sink.two(*id);
            if is_5 {
                sink.byte(0);
            }
            sink.raw(codes);
        }
        ToClient::Disconnect { code, detail } if is_5 => {
            sink.byte(*code);
            match detail {
                Some(detail) => detail.write_with_length(sink),
                None => sink.byte(0),
            }
        }
        ToClient::Disconnect { .. } | ToClient::PingResp | ToClient::Unexpected(_) => {}
    }
}

fn write_publish<S: Sink>(version: Version, publish: &IncomingPublish, sink: &mut S) {
    sink.string(&publish.topic);
    if publish.qos != QoS::AtMostOnce {
        sink.two(publish.id);
    }
    if version == Version::V5 {
        match &publish.properties {
            Some(properties) => properties.write_with_length(sink),
            None => sink.byte(0),
        }
    }
    sink.raw(&publish.payload);
}

/// What differs from the defaults (MQTT 5 §3.2.2.3).
impl Block for ConnAck {
    fn write<S: Sink>(&self, sink: &mut S) {
        let least = ServerLimits::default();
        if let Some(session_expiry) = self.session_expiry {
            sink.byte(0x11);
            sink.four(session_expiry);
        }
        if self.limits.receive_maximum != least.receive_maximum {
            sink.byte(0x21);
            sink.two(self.limits.receive_maximum);
        }
        if self.limits.maximum_qos != least.maximum_qos {
            sink.byte(0x24);
            sink.byte(self.limits.maximum_qos as u8);
        }
        if !self.limits.retain_available {
            sink.byte(0x25);
            sink.byte(0);
        }
        if let Some(maximum_packet) = self.limits.maximum_packet {
            sink.byte(0x27);
            sink.four(maximum_packet);
        }
        if self.assigned_client_id {
            sink.byte(0x12);
            sink.string("assigned");
        }
        if self.limits.topic_alias_maximum != least.topic_alias_maximum {
            sink.byte(0x22);
            sink.two(self.limits.topic_alias_maximum);
        }
        if let Some(server_keep_alive) = self.server_keep_alive {
            sink.byte(0x13);
            sink.two(server_keep_alive);
        }
        if let Some(detail) = &self.detail {
            detail.write(sink);
        }
    }
}

impl Block for Detail {
    fn write<S: Sink>(&self, sink: &mut S) {
        if let Some(reason_string) = &self.reason_string {
            sink.byte(0x1F);
            sink.string(reason_string);
        }
        if let Some(server_reference) = &self.server_reference {
            sink.byte(0x1C);
            sink.string(server_reference);
        }
    }
}
