//! Packets of the broker into bytes.

use super::{
    CONNACK, ConnAck, DISCONNECT, Delivery, Outgoing, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC,
    PUBREL, SUBACK, UNSUBACK, property,
};
use crate::message::QoS;
use crate::packet::Version;
use crate::testing::behaviour::Answer;

impl Outgoing {
    /// Appends it.
    pub(in crate::testing) fn write(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Self::ConnAck(connack) => connack.write(version, out),
            Self::Publish(delivery) => delivery.write(version, out),
            Self::PubAck { id, code } => acknowledgement(PUBACK, version, *id, *code, out),
            Self::PubRec { id, code } => acknowledgement(PUBREC, version, *id, *code, out),
            Self::PubRel { id, code } => acknowledgement(PUBREL | 2, version, *id, *code, out),
            Self::PubComp { id, code } => acknowledgement(PUBCOMP, version, *id, *code, out),
            Self::SubAck { id, codes } => {
                list(SUBACK, version, *id, codes, out);
            }
            Self::UnsubAck { id, codes } => {
                let codes = if version == Version::V5 { codes.as_slice() } else { &[] };
                list(UNSUBACK, version, *id, codes, out);
            }
            Self::PingResp => out.extend_from_slice(&[PINGRESP, 0]),
            Self::Disconnect { code } => {
                if version == Version::V5 {
                    out.extend_from_slice(&[DISCONNECT, 1, *code]);
                }
            }
        }
    }
}

impl ConnAck {
    fn write(&self, version: Version, out: &mut Vec<u8>) {
        let present = u8::from(self.session_present);
        if version == Version::V311 {
            out.extend_from_slice(&[CONNACK, 2, present, self.code]);
            return;
        }
        let mut properties = Vec::new();
        self.properties(&mut properties);
        let mut body = vec![present, self.code];
        variable(properties.len(), &mut body);
        body.append(&mut properties);
        packet(CONNACK, &body, out);
    }

    fn properties(&self, out: &mut Vec<u8>) {
        let announce = &self.behaviour.announce;
        if let Some(reason) = &announce.reason_string {
            out.push(property::REASON_STRING);
            text(reason, out);
        }
        for (name, value) in &announce.user_properties {
            out.push(property::USER_PROPERTY);
            text(name, out);
            text(value, out);
        }
        if let Answer::Redirect { server } = &self.behaviour.connack {
            out.push(property::SERVER_REFERENCE);
            text(server, out);
        }
        if self.code != 0 {
            return;
        }
        if let Some(expiry) = announce.session_expiry {
            out.push(property::SESSION_EXPIRY);
            out.extend_from_slice(&expiry.to_be_bytes());
        }
        if let Some(maximum) = announce.receive_maximum {
            out.push(property::RECEIVE_MAXIMUM);
            out.extend_from_slice(&maximum.to_be_bytes());
        }
        // 2 is the default, and must not be sent (MQTT 5 §3.2.2.3.4).
        if let Some(qos) = announce.maximum_qos.filter(|qos| *qos < QoS::ExactlyOnce) {
            out.extend_from_slice(&[property::MAXIMUM_QOS, qos as u8]);
        }
        if let Some(available) = announce.retain_available {
            out.extend_from_slice(&[property::RETAIN_AVAILABLE, u8::from(available)]);
        }
        if let Some(maximum) = announce.maximum_packet_size {
            out.push(property::MAXIMUM_PACKET);
            out.extend_from_slice(&maximum.to_be_bytes());
        }
        if let Some(client_id) = &self.assigned {
            out.push(property::ASSIGNED_CLIENT_ID);
            text(client_id, out);
        }
        if let Some(maximum) = announce.topic_alias_maximum {
            out.push(property::TOPIC_ALIAS_MAXIMUM);
            out.extend_from_slice(&maximum.to_be_bytes());
        }
        if let Some(seconds) = announce.server_keep_alive {
            out.push(property::SERVER_KEEP_ALIVE);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
    }
}

impl Delivery {
    /// In bytes with headers.
    pub(in crate::testing) fn size(&self, version: Version) -> usize {
        let body = self.body_size(version);
        1 + variable_size(body) + body
    }

    fn body_size(&self, version: Version) -> usize {
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let mut size = 2 + self.message.topic.len() + id + self.message.payload.len();
        if version == Version::V5 {
            let properties = self.properties_size();
            size += variable_size(properties) + properties;
        }
        size
    }

    fn properties_size(&self) -> usize {
        self.message.properties.len() + if self.expiry.is_some() { 5 } else { 0 }
    }

    fn write(&self, version: Version, out: &mut Vec<u8>) {
        let flags = u8::from(self.duplicate) << 3 | (self.qos as u8) << 1 | u8::from(self.retain);
        out.reserve(self.size(version));
        out.push(PUBLISH | flags);
        variable(self.body_size(version), out);
        text(&self.message.topic, out);
        if self.qos != QoS::AtMostOnce {
            out.extend_from_slice(&self.id.to_be_bytes());
        }
        if version == Version::V5 {
            variable(self.properties_size(), out);
            if let Some(expiry) = self.expiry {
                out.push(property::MESSAGE_EXPIRY);
                out.extend_from_slice(&expiry.to_be_bytes());
            }
            out.extend_from_slice(&self.message.properties);
        }
        out.extend_from_slice(&self.message.payload);
    }
}

/// The code is left away where it is success, as MQTT 5 allows (§3.4.2.1), and in 3.1.1.
fn acknowledgement(first: u8, version: Version, id: u16, code: u8, out: &mut Vec<u8>) {
    let [high, low] = id.to_be_bytes();
    if version == Version::V5 && code != 0 {
        out.extend_from_slice(&[first, 3, high, low, code]);
    } else {
        out.extend_from_slice(&[first, 2, high, low]);
    }
}

fn list(first: u8, version: Version, id: u16, codes: &[u8], out: &mut Vec<u8>) {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    body.extend_from_slice(codes);
    packet(first, &body, out);
}

fn packet(first: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    variable(body.len(), out);
    out.extend_from_slice(body);
}

/// What is too long for MQTT is cut, at the end of a character: it comes from a test's own
/// settings, and those may be absurd.
fn text(text: &str, out: &mut Vec<u8>) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    let length = u16::try_from(text.len()).expect("invariant: cut above");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A variable byte integer (MQTT 5 §1.5.5).
pub(in crate::testing) fn variable(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn variable_size(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
