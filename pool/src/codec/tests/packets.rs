//! Packets of all kinds, made up by proptest.

use crate::codec::server::{ClientConnect, ClientWill, FromClient};
use crate::device::Credentials;
use crate::error::Detail;
use crate::message::{Properties, Publish, QoS, Subscription, Will};
use crate::packet::{
    ConnAck, Connect, Incoming, IncomingPublish, Outgoing, OutgoingPublish, ServerLimits, Version,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

/// What a broker may send in that version.
pub(super) fn incoming(version: Version) -> BoxedStrategy<Incoming> {
    let id = 1..=u16::MAX;
    match version {
        Version::V311 => {
            prop_oneof![
                (any::<bool>(), any::<u8>()).prop_map(|(session, code)| Incoming::ConnAck(
                    ConnAck { session_present: session && code == 0, code, ..ConnAck::default() }
                )),
                incoming_publish(Just(None).boxed()).prop_map(Incoming::Publish),
                id.clone().prop_map(|id| Incoming::PubAck { id, code: 0 }),
                id.clone().prop_map(|id| Incoming::PubRec { id, code: 0 }),
                id.clone().prop_map(|id| Incoming::PubRel { id, code: 0 }),
                id.clone().prop_map(|id| Incoming::PubComp { id, code: 0 }),
                (id.clone(), vec(prop_oneof![0..3_u8, Just(0x80)], 1..5))
                    .prop_map(|(id, codes)| Incoming::SubAck { id, codes }),
                id.prop_map(|id| Incoming::UnsubAck { id, codes: Vec::new() }),
                Just(Incoming::PingResp),
                prop::sample::select(vec![
                    "CONNECT",
                    "SUBSCRIBE",
                    "UNSUBSCRIBE",
                    "PINGREQ",
                    "DISCONNECT"
                ])
                .prop_map(Incoming::Unexpected),
            ]
            .boxed()
        }
        Version::V5 => prop_oneof![
            connack_5().prop_map(Incoming::ConnAck),
            incoming_publish(option::of(properties().prop_map(Box::new)).boxed())
                .prop_map(Incoming::Publish),
            (id.clone(), prop_oneof![Just(0), Just(0x10), 0x80..=u8::MAX])
                .prop_map(|(id, code)| Incoming::PubAck { id, code }),
            (id.clone(), prop_oneof![Just(0), Just(0x10), 0x80..=u8::MAX])
                .prop_map(|(id, code)| Incoming::PubRec { id, code }),
            (id.clone(), prop_oneof![Just(0), 0x80..=u8::MAX])
                .prop_map(|(id, code)| Incoming::PubRel { id, code }),
            (id.clone(), prop_oneof![Just(0), 0x80..=u8::MAX])
                .prop_map(|(id, code)| Incoming::PubComp { id, code }),
            (id.clone(), vec(prop_oneof![0..3_u8, 0x80..=u8::MAX], 1..5))
                .prop_map(|(id, codes)| Incoming::SubAck { id, codes }),
            (id, vec(prop_oneof![Just(0), Just(0x11), 0x80..=u8::MAX], 1..5))
                .prop_map(|(id, codes)| Incoming::UnsubAck { id, codes }),
            Just(Incoming::PingResp),
            (any::<u8>(), detail())
                .prop_map(|(code, detail)| Incoming::Disconnect { code, detail }),
            prop::sample::select(vec!["CONNECT", "SUBSCRIBE", "UNSUBSCRIBE", "PINGREQ", "AUTH"])
                .prop_map(Incoming::Unexpected),
        ]
        .boxed(),
    }
}

fn connack_5() -> impl Strategy<Value = ConnAck> {
    let limits = (
        prop_oneof![Just(u16::MAX), 1..=u16::MAX],
        qos(),
        any::<bool>(),
        option::of(1..=u32::MAX),
        prop_oneof![Just(0), any::<u16>()],
    )
        .prop_map(
            |(
                receive_maximum,
                maximum_qos,
                retain_available,
                maximum_packet,
                topic_alias_maximum,
            )| {
                ServerLimits {
                    receive_maximum,
                    maximum_qos,
                    retain_available,
                    maximum_packet,
                    topic_alias_maximum,
                }
            },
        );
    (
        (any::<bool>(), prop_oneof![Just(0), any::<u8>()], detail(), limits),
        (any::<bool>(), option::of(any::<u16>()), option::of(any::<u32>())),
    )
        .prop_map(|((session, code, detail, limits), (assigned_client_id, alive, expiry))| {
            ConnAck {
                session_present: session && code == 0,
                code,
                detail,
                limits,
                assigned_client_id,
                server_keep_alive: alive,
                session_expiry: expiry,
            }
        })
}

fn detail() -> impl Strategy<Value = Option<Box<Detail>>> {
    (option::of(text()), option::of(text())).prop_map(|(reason_string, server_reference)| {
        let detail = Detail { reason_string, server_reference };
        (detail != Detail::default()).then(|| Box::new(detail))
    })
}

fn incoming_publish(
    properties: BoxedStrategy<Option<Box<Properties>>>,
) -> impl Strategy<Value = IncomingPublish> {
    (any::<bool>(), qos(), any::<bool>(), topic(), 1..=u16::MAX, payload(), properties).prop_map(
        |(duplicate, qos, retain, topic, id, payload, properties)| IncomingPublish {
            duplicate: duplicate && qos != QoS::AtMostOnce,
            qos,
            retain,
            topic,
            id: if qos == QoS::AtMostOnce { 0 } else { id },
            payload,
            properties: properties.filter(|properties| **properties != Properties::default()),
        },
    )
}

fn properties() -> impl Strategy<Value = Properties> {
    (
        option::of(any::<bool>()),
        option::of(any::<u32>()),
        option::of(topic()),
        option::of(payload()),
        option::of(text()),
        vec((text(), text()), 0..3),
    )
        .prop_map(
            |(is_text, expiry, topic, correlation_data, content_type, user_properties)| {
                Properties {
                    is_text,
                    expiry: expiry.map(|seconds| Duration::from_secs(seconds.into())),
                    response_topic: topic,
                    correlation_data,
                    content_type,
                    user_properties,
                }
            },
        )
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn payload() -> impl Strategy<Value = Bytes> {
    // Around 127 and 128 the fixed header grows; around 1,024 a payload becomes a slice.
    prop_oneof![
        4 => vec(any::<u8>(), 0..150),
        1 => vec(any::<u8>(), 1_000..1_050),
    ]
    .prop_map(Bytes::from)
}

fn topic() -> impl Strategy<Value = String> {
    "[a-z/$é ☂]{1,12}"
}

fn text() -> impl Strategy<Value = String> {
    "[^\0]{0,8}"
}

/// An [`Outgoing`] with something to borrow from.
#[derive(Clone, Debug)]
pub(super) enum OwnedOutgoing {
    Connect(Box<OwnedConnect>),
    Publish(IncomingPublish, Option<u16>),
    PubAck(u16, u8),
    PubRec(u16, u8),
    PubRel(u16, u8),
    PubComp(u16, u8),
    Subscribe(u16, Vec<Subscription>),
    Unsubscribe(u16, Vec<Arc<str>>),
    PingReq,
    Disconnect(u8),
}

#[derive(Clone, Debug)]
pub(super) struct OwnedConnect {
    client_id: String,
    clean_start: bool,
    keep_alive: u16,
    credentials: Option<Credentials>,
    will: Option<Will>,
    session_expiry: Option<u32>,
    receive_maximum: u16,
    maximum_packet: u32,
}

pub(super) fn outgoing() -> impl Strategy<Value = OwnedOutgoing> {
    let id = 1..=u16::MAX;
    let refusal = prop::sample::select(vec![0, 0x80, 0x83, 0x87, 0x97]);
    let not_found = prop::sample::select(vec![0, 0x92]);
    let filter = (topic(), qos())
        .prop_map(|(topic, qos)| Subscription::new(topic, qos).expect("invariant: no wildcards"));
    prop_oneof![
        connect().prop_map(|connect| OwnedOutgoing::Connect(Box::new(connect))),
        (
            incoming_publish(option::of(properties().prop_map(Box::new)).boxed()),
            option::of(1..=u16::MAX),
        )
            .prop_map(|(publish, alias)| OwnedOutgoing::Publish(publish, alias)),
        (id.clone(), refusal.clone()).prop_map(|(id, code)| OwnedOutgoing::PubAck(id, code)),
        (id.clone(), refusal).prop_map(|(id, code)| OwnedOutgoing::PubRec(id, code)),
        (id.clone(), not_found.clone()).prop_map(|(id, code)| OwnedOutgoing::PubRel(id, code)),
        (id.clone(), not_found).prop_map(|(id, code)| OwnedOutgoing::PubComp(id, code)),
        (id.clone(), vec(filter, 1..5)).prop_map(|(id, all)| OwnedOutgoing::Subscribe(id, all)),
        (id, vec(topic().prop_map(Arc::from), 1..5))
            .prop_map(|(id, filters)| OwnedOutgoing::Unsubscribe(id, filters)),
        Just(OwnedOutgoing::PingReq),
        prop::sample::select(vec![0, 4, 0x81, 0x82, 0x93, 0x95])
            .prop_map(OwnedOutgoing::Disconnect),
    ]
}

fn connect() -> impl Strategy<Value = OwnedConnect> {
    let credentials = (text(), option::of("[a-z]{1,8}".prop_map(Bytes::from)))
        .prop_map(|(username, password)| Credentials { username, password });
    let will = (topic(), qos(), payload(), any::<bool>(), option::of(properties()), any::<u32>())
        .prop_map(|(topic, qos, payload, is_retained, properties, delay)| {
            let mut publish =
                Publish::new(topic, qos, payload).expect("invariant: no wildcards in it");
            publish.retain = is_retained;
            publish.properties = properties.map(Box::new);
            let will = Will::new(publish).expect("invariant: its payload is short");
            will.delay(Duration::from_secs(delay.into()))
        });
    (
        (text(), any::<bool>(), any::<u16>(), option::of(credentials), option::of(will)),
        (option::of(any::<u32>()), 1..=u16::MAX, 1..=u32::MAX),
    )
        .prop_map(
            |((client_id, clean_start, keep_alive, credentials, will), (expiry, r, m))| {
                OwnedConnect {
                    client_id,
                    clean_start,
                    keep_alive,
                    credentials,
                    will,
                    session_expiry: expiry,
                    receive_maximum: r,
                    maximum_packet: m,
                }
            },
        )
}

/// With QoS 0.
pub(super) fn publish<'a>(topic: &'a str, payload: &'a Bytes) -> OutgoingPublish<'a> {
    OutgoingPublish {
        duplicate: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        id: 0,
        payload,
        properties: None,
        topic_alias: None,
    }
}

impl OwnedOutgoing {
    pub(super) fn connect(client_id: &str) -> Self {
        Self::Connect(Box::new(OwnedConnect {
            client_id: client_id.to_owned(),
            clean_start: true,
            keep_alive: 60,
            credentials: None,
            will: None,
            session_expiry: None,
            receive_maximum: 16,
            maximum_packet: 1_024,
        }))
    }

    pub(super) fn borrowed(&self) -> Outgoing<'_> {
        match self {
            Self::Connect(connect) => Outgoing::Connect(Connect {
                client_id: &connect.client_id,
                clean_start: connect.clean_start,
                keep_alive: connect.keep_alive,
                credentials: connect.credentials.as_ref(),
                will: connect.will.as_ref(),
                session_expiry: connect.session_expiry,
                receive_maximum: connect.receive_maximum,
                maximum_packet: connect.maximum_packet,
            }),
            Self::Publish(message, topic_alias) => Outgoing::Publish(OutgoingPublish {
                duplicate: message.duplicate,
                qos: message.qos,
                retain: message.retain,
                id: message.id,
                properties: message.properties.as_deref(),
                topic_alias: *topic_alias,
                ..publish(&message.topic, &message.payload)
            }),
            &Self::PubAck(id, code) => Outgoing::PubAck { id, code },
            &Self::PubRec(id, code) => Outgoing::PubRec { id, code },
            &Self::PubRel(id, code) => Outgoing::PubRel { id, code },
            &Self::PubComp(id, code) => Outgoing::PubComp { id, code },
            Self::Subscribe(id, subscriptions) => Outgoing::Subscribe { id: *id, subscriptions },
            Self::Unsubscribe(id, filters) => Outgoing::Unsubscribe { id: *id, filters },
            Self::PingReq => Outgoing::PingReq,
            &Self::Disconnect(code) => Outgoing::Disconnect { code },
        }
    }

    /// What a broker has to understand of it.
    pub(super) fn as_read_by_broker(&self, version: Version) -> FromClient {
        let is_5 = version == Version::V5;
        let code_of = |code| if is_5 { code } else { 0 };
        match self.clone() {
            Self::Connect(connect) => FromClient::Connect(Box::new(ClientConnect {
                version,
                client_id: connect.client_id,
                clean_start: connect.clean_start,
                keep_alive: connect.keep_alive,
                username: connect
                    .credentials
                    .as_ref()
                    .map_or_else(String::new, |c| c.username.clone()),
                password: connect
                    .credentials
                    .and_then(|credentials| credentials.password)
                    .map_or_else(String::new, |p| String::from_utf8_lossy(&p).into_owned()),
                will: connect.will.map(|will| ClientWill {
                    topic: will.publish.topic.to_string(),
                    payload: will.publish.payload,
                    qos: will.publish.qos,
                    retain: will.publish.retain,
                    delay: u32::try_from(will.delay.as_secs()).ok().filter(|s| is_5 && *s > 0),
                    properties: will
                        .publish
                        .properties
                        .filter(|properties| is_5 && **properties != Properties::default()),
                }),
                session_expiry: connect.session_expiry.filter(|_| is_5),
                receive_maximum: is_5.then_some(connect.receive_maximum),
                maximum_packet: is_5.then_some(connect.maximum_packet),
            })),
            Self::Publish(message, alias) => FromClient::Publish {
                publish: IncomingPublish {
                    properties: message.properties.filter(|_| is_5),
                    ..message
                },
                topic_alias: alias.filter(|_| is_5),
            },
            Self::PubAck(id, code) => FromClient::PubAck { id, code: code_of(code) },
            Self::PubRec(id, code) => FromClient::PubRec { id, code: code_of(code) },
            Self::PubRel(id, code) => FromClient::PubRel { id, code: code_of(code) },
            Self::PubComp(id, code) => FromClient::PubComp { id, code: code_of(code) },
            Self::Subscribe(id, subscriptions) => FromClient::Subscribe {
                id,
                filters: subscriptions.iter().map(|s| (s.filter.to_string(), s.qos)).collect(),
            },
            Self::Unsubscribe(id, filters) => FromClient::Unsubscribe {
                id,
                filters: filters.iter().map(ToString::to_string).collect(),
            },
            Self::PingReq => FromClient::PingReq,
            Self::Disconnect(code) => FromClient::Disconnect { code: code_of(code) },
        }
    }
}
