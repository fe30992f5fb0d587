//! The broker's half of the codec, by hand: what it reads and what it writes.

use crate::packet::Version;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Connect { client_id: String, clean_start: bool, keep_alive: u16, receive_maximum: u16 },
    Publish { duplicate: bool, qos: u8, retain: bool, topic: String, id: u16, payload: Bytes },
    Ack { name: &'static str, id: u16, code: u8 },
    Subscribe { id: u16, filters: Vec<String> },
    Unsubscribe { id: u16, filters: Vec<String> },
    PingReq,
    Disconnect { code: u8 },
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { client_id, clean_start, keep_alive, receive_maximum } => {
                let clean = if *clean_start { " clean" } else { "" };
                write!(f, "CONNECT {client_id}{clean} alive={keep_alive} max={receive_maximum}")
            }
            Self::Publish { duplicate, qos, retain, topic, id, .. } => {
                let duplicate = if *duplicate { " dup" } else { "" };
                let retain = if *retain { " retain" } else { "" };
                write!(f, "PUBLISH {id} {topic} qos{qos}{duplicate}{retain}")
            }
            Self::Ack { name, id, code: 0 } => write!(f, "{name} {id}"),
            Self::Ack { name, id, code } => write!(f, "{name} {id} {code:#04x}"),
            Self::Subscribe { id, filters } => write!(f, "SUBSCRIBE {id} {}", filters.join(" ")),
            Self::Unsubscribe { id, filters } => {
                write!(f, "UNSUBSCRIBE {id} {}", filters.join(" "))
            }
            Self::PingReq => f.write_str("PINGREQ"),
            Self::Disconnect { code: 0 } => f.write_str("DISCONNECT"),
            Self::Disconnect { code } => write!(f, "DISCONNECT {code:#04x}"),
        }
    }
}

/// The next whole packet.
pub(super) fn read(version: Version, buffer: &mut BytesMut) -> Option<Sent> {
    let (mut length, mut head) = (0, 1);
    loop {
        let byte = *buffer.get(head)?;
        length |= usize::from(byte & 0x7f) << (7 * (head - 1));
        head += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if buffer.len() < head + length {
        return None;
    }
    let mut packet = buffer.split_to(head + length).freeze();
    let first = packet[0];
    packet.advance(head);
    Some(parse(version, first, packet))
}

fn parse(version: Version, first: u8, mut packet: Bytes) -> Sent {
    let is_v5 = version == Version::V5;
    match first >> 4 {
        1 => {
            assert_eq!(string(&mut packet), "MQTT");
            assert_eq!(packet.get_u8(), if is_v5 { 5 } else { 4 });
            let flags = packet.get_u8();
            let keep_alive = packet.get_u16();
            let receive_maximum = if is_v5 { receive_maximum(properties(&mut packet)) } else { 0 };
            let client_id = string(&mut packet);
            Sent::Connect { client_id, clean_start: flags & 2 != 0, keep_alive, receive_maximum }
        }
        3 => {
            let topic = string(&mut packet);
            let qos = (first >> 1) & 3;
            let id = if qos > 0 { packet.get_u16() } else { 0 };
            if is_v5 {
                properties(&mut packet);
            }
            let (duplicate, retain) = (first & 8 != 0, first & 1 != 0);
            Sent::Publish { duplicate, qos, retain, topic, id, payload: packet }
        }
        kind @ 4..=7 => {
            let name = ["PUBACK", "PUBREC", "PUBREL", "PUBCOMP"][usize::from(kind) - 4];
            assert_eq!(first & 15, if kind == 6 { 2 } else { 0 });
            let id = packet.get_u16();
            assert!(is_v5 || packet.is_empty());
            Sent::Ack { name, id, code: if packet.has_remaining() { packet.get_u8() } else { 0 } }
        }
        kind @ (8 | 10) => {
            assert_eq!(first & 15, 2);
            let id = packet.get_u16();
            if is_v5 {
                properties(&mut packet);
            }
            let mut filters = Vec::new();
            while packet.has_remaining() {
                filters.push(string(&mut packet));
                if kind == 8 {
                    packet.advance(1);
                }
            }
            if kind == 8 {
                Sent::Subscribe { id, filters }
            } else {
                Sent::Unsubscribe { id, filters }
            }
        }
        12 => Sent::PingReq,
        14 => Sent::Disconnect { code: if packet.has_remaining() { packet.get_u8() } else { 0 } },
        other => panic!("a client sent a packet of type {other}"),
    }
}

fn string(packet: &mut Bytes) -> String {
    let length = packet.get_u16();
    let text = packet.split_to(length.into()).to_vec();
    String::from_utf8(text).expect("invariant: a client sends UTF-8")
}

fn properties(packet: &mut Bytes) -> Bytes {
    let length = packet.get_u8();
    assert!(length < 0x80, "no test needs that many");
    packet.split_to(length.into())
}

fn receive_maximum(mut properties: Bytes) -> u16 {
    while properties.has_remaining() {
        match properties.get_u8() {
            0x21 => return properties.get_u16(),
            0x11 | 0x27 => properties.advance(4),
            0x22 => properties.advance(2),
            0x17 | 0x19 => properties.advance(1),
            other => panic!("an unknown property {other:#04x} in CONNECT"),
        }
    }
    u16::MAX
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        bytes.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

pub(super) fn connack(version: Version, present: bool, code: u8, properties: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::from(present), code];
    if version == Version::V5 {
        body.put_u8(properties.len().try_into().expect("invariant: a few properties"));
        body.extend_from_slice(properties);
    }
    packet(0x20, &body)
}

pub(super) fn publish(
    version: Version,
    topic: &str,
    qos: u8,
    id: u16,
    duplicate: bool,
    payload: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u16(topic.len().try_into().expect("invariant: a short topic"));
    body.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        body.put_u16(id);
    }
    if version == Version::V5 {
        body.put_u8(0);
    }
    body.extend_from_slice(payload);
    packet(0x30 | u8::from(duplicate) << 3 | qos << 1, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(super) fn ack(version: Version, name: &str, id: u16, code: u8) -> Vec<u8> {
    let first = match name {
        "PUBACK" => 0x40,
        "PUBREC" => 0x50,
        "PUBREL" => 0x62,
        "PUBCOMP" => 0x70,
        other => panic!("{other} is no acknowledgement"),
    };
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 && code != 0 {
        body.push(code);
    }
    packet(first, &body)
}

pub(super) fn suback(version: Version, id: u16, codes: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    body.extend_from_slice(codes);
    packet(0x90, &body)
}

pub(super) fn unsuback(version: Version, id: u16, codes: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
        body.extend_from_slice(codes);
    }
    packet(0xB0, &body)
}

pub(super) fn pingresp() -> Vec<u8> {
    packet(0xD0, &[])
}

/// MQTT 5.
pub(super) fn disconnect(code: u8, properties: &[u8]) -> Vec<u8> {
    let mut body = vec![code];
    body.put_u8(properties.len().try_into().expect("invariant: a few properties"));
    body.extend_from_slice(properties);
    packet(0xE0, &body)
}
