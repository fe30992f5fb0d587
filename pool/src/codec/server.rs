//! The other side of the codec, for brokers inside tests: reads what a client sends, and writes
//! what a broker sends.
//!
//! rumqttc reads, so that what we write is judged by somebody else's eyes. Only acknowledgements,
//! whose codes it gives no numbers of, and a DISCONNECT of MQTT 5 without bytes, which it cannot
//! read, are read here. A password that is not UTF-8 is an error to it. What is written can be as
//! wrong as a test wants it: codes are plain numbers, and nothing is checked.

mod write;

pub(crate) use write::encode;

use super::publish::for_application;
use crate::message::{Properties, QoS};
use crate::packet::{IncomingPublish, Version};
use bytes::{Buf, Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

/// What a broker sends: the same words as on our side of the connection.
pub(crate) use crate::packet::Incoming as ToClient;

/// What a client sends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FromClient {
    Connect(Box<ClientConnect>),
    Publish {
        publish: IncomingPublish,
        /// MQTT 5. The topic is empty where the alias stands for it.
        topic_alias: Option<u16>,
    },
    PubAck {
        id: u16,
        code: u8,
    },
    PubRec {
        id: u16,
        code: u8,
    },
    PubRel {
        id: u16,
        code: u8,
    },
    PubComp {
        id: u16,
        code: u8,
    },
    Subscribe {
        id: u16,
        filters: Vec<(String, QoS)>,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    PingReq,
    Disconnect {
        code: u8,
    },
}

/// A CONNECT, with what the pool may put into it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientConnect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) clean_start: bool,
    /// In seconds.
    pub(crate) keep_alive: u16,
    /// Both empty and none are the same to rumqttc.
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) will: Option<ClientWill>,
    /// In seconds.
    pub(crate) session_expiry: Option<u32>,
    pub(crate) receive_maximum: Option<u16>,
    /// In bytes with headers.
    pub(crate) maximum_packet: Option<u32>,
}

/// The will of a CONNECT.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientWill {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// In seconds.
    pub(crate) delay: Option<u32>,
    pub(crate) properties: Option<Box<Properties>>,
}

/// Takes one packet of a client off the front of `buffer`, or `Ok(None)` while it is not whole.
///
/// A CONNECT is read by the version that it names, and all others by `version`.
///
/// # Errors
///
/// What is wrong with it, in rumqttc's words.
pub(crate) fn decode(
    version: Version,
    buffer: &mut BytesMut,
) -> Result<Option<FromClient>, String> {
    let Some(size) = packet_size(buffer) else { return Ok(None) };
    if buffer.len() < size {
        return Ok(None);
    }
    let mut packet = buffer.split_to(size);
    if let Some(acknowledgement) = acknowledgement(&packet) {
        return Ok(Some(acknowledgement));
    }
    let read = match connect_version(&packet).unwrap_or(version) {
        Version::V311 => v4::Packet::read(&mut packet, usize::MAX)
            .map_err(|error| error.to_string())
            .and_then(from_v4),
        Version::V5 if packet[..] == [0xE0, 0] => Ok(FromClient::Disconnect { code: 0 }),
        Version::V5 => {
            v5::Packet::read(&mut packet, None).map_err(|error| error.to_string()).and_then(from_v5)
        }
    };
    read.map(Some)
}

fn acknowledgement(packet: &[u8]) -> Option<FromClient> {
    let (first, id, code) = match *packet {
        [first, 2, high, low] => (first, u16::from_be_bytes([high, low]), 0),
        [first, 3, high, low, code] | [first, 4, high, low, code, 0] => {
            (first, u16::from_be_bytes([high, low]), code)
        }
        _ => return None,
    };
    match first {
        0x40 => Some(FromClient::PubAck { id, code }),
        0x50 => Some(FromClient::PubRec { id, code }),
        0x62 => Some(FromClient::PubRel { id, code }),
        0x70 => Some(FromClient::PubComp { id, code }),
        _ => None,
    }
}

fn packet_size(buffer: &[u8]) -> Option<usize> {
    let mut remaining = 0;
    for (index, &byte) in buffer.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(2 + index + remaining);
        }
    }
    None
}

fn connect_version(packet: &[u8]) -> Option<Version> {
    if packet.first() != Some(&0x10) {
        return None;
    }
    let mut rest = packet.get(1..)?;
    while rest.try_get_u8().ok()? & 0x80 != 0 {}
    // "MQTT" with its length, then the level.
    match rest.get(6)? {
        4 => Some(Version::V311),
        5 => Some(Version::V5),
        _ => None,
    }
}

fn from_v4(packet: v4::Packet) -> Result<FromClient, String> {
    use v4::Packet;
    Ok(match packet {
        Packet::Connect(connect) => FromClient::Connect(Box::new(ClientConnect {
            version: Version::V311,
            client_id: connect.client_id,
            clean_start: connect.clean_session,
            keep_alive: connect.keep_alive,
            username: connect.login.as_ref().map_or_else(String::new, |l| l.username.clone()),
            password: connect.login.map_or_else(String::new, |login| login.password),
            will: connect.last_will.map(|will| ClientWill {
                topic: will.topic,
                payload: will.message,
                qos: qos(will.qos as u8),
                retain: will.retain,
                delay: None,
                properties: None,
            }),
            session_expiry: None,
            receive_maximum: None,
            maximum_packet: None,
        })),
        Packet::Publish(publish) => FromClient::Publish {
            publish: IncomingPublish {
                duplicate: publish.dup,
                qos: qos(publish.qos as u8),
                retain: publish.retain,
                topic: publish.topic,
                id: publish.pkid,
                payload: publish.payload,
                properties: None,
            },
            topic_alias: None,
        },
        Packet::Subscribe(subscribe) => FromClient::Subscribe {
            id: subscribe.pkid,
            filters: subscribe
                .filters
                .into_iter()
                .map(|filter| (filter.path, qos(filter.qos as u8)))
                .collect(),
        },
        Packet::Unsubscribe(unsubscribe) => {
            FromClient::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.topics }
        }
        Packet::PingReq => FromClient::PingReq,
        Packet::Disconnect => FromClient::Disconnect { code: 0 },
        other => return Err(format!("a client sent {other:?}")),
    })
}

fn from_v5(packet: v5::Packet) -> Result<FromClient, String> {
    use v5::Packet;
    Ok(match packet {
        Packet::Connect(connect, will, login) => {
            let read = connect.properties.unwrap_or_default();
            FromClient::Connect(Box::new(ClientConnect {
                version: Version::V5,
                client_id: connect.client_id,
                clean_start: connect.clean_start,
                keep_alive: connect.keep_alive,
                username: login.as_ref().map_or_else(String::new, |l| l.username.clone()),
                password: login.map_or_else(String::new, |login| login.password),
                will: will.map(client_will).transpose()?,
                session_expiry: read.session_expiry_interval,
                receive_maximum: read.receive_maximum,
                maximum_packet: read.max_packet_size,
            }))
        }
        Packet::Publish(publish) => FromClient::Publish {
            topic_alias: publish.properties.as_ref().and_then(|read| read.topic_alias),
            publish: IncomingPublish {
                duplicate: publish.dup,
                qos: qos(publish.qos as u8),
                retain: publish.retain,
                topic: text(&publish.topic)?,
                id: publish.pkid,
                payload: publish.payload,
                properties: publish.properties.and_then(for_application),
            },
        },
        Packet::Subscribe(subscribe) => FromClient::Subscribe {
            id: subscribe.pkid,
            filters: subscribe
                .filters
                .into_iter()
                .map(|filter| (filter.path, qos(filter.qos as u8)))
                .collect(),
        },
        Packet::Unsubscribe(unsubscribe) => {
            FromClient::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.filters }
        }
        Packet::PingReq(_) => FromClient::PingReq,
        Packet::Disconnect(disconnect) => {
            FromClient::Disconnect { code: disconnect.reason_code as u8 }
        }
        other => return Err(format!("a client sent {other:?}")),
    })
}

fn client_will(will: v5::LastWill) -> Result<ClientWill, String> {
    Ok(ClientWill {
        topic: text(&will.topic)?,
        payload: will.message,
        qos: qos(will.qos as u8),
        retain: will.retain,
        delay: will.properties.as_ref().and_then(|read| read.delay_interval),
        properties: will.properties.and_then(|read| {
            for_application(v5::PublishProperties {
                payload_format_indicator: read.payload_format_indicator,
                message_expiry_interval: read.message_expiry_interval,
                response_topic: read.response_topic,
                correlation_data: read.correlation_data,
                user_properties: read.user_properties,
                content_type: read.content_type,
                ..v5::PublishProperties::default()
            })
        }),
    })
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
}

/// rumqttc has one type for each version.
fn qos(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}
