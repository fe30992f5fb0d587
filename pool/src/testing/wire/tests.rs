use super::read::{frame_length, read};
use super::*;
use crate::testing::behaviour::{Announcement, Answer};
use bytes::BytesMut;
use proptest::prelude::*;
use rumqttc::mqttbytes::{self, v4};
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};

#[track_caller]
fn check(version: Version, packet: &[u8], expected: &str) {
    let shown = match read(version, packet) {
        Ok(packet) => format!("{packet:?}"),
        Err(malformed) => format!("{:#x} {}", malformed.code, malformed.problem),
    };
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn packets_of_rumqttc_3_1_1_are_read() {
    let check = |packet: v4::Packet, expected: &str| {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, 1 << 20).expect("invariant: small");
        assert_eq!(frame_length(&bytes, None), Ok(Some(bytes.len())));
        check(Version::V311, &bytes, expected);
    };
    let mut connect = v4::Connect::new("device-7");
    connect.set_login("user", "password");
    connect.last_will = Some(v4::LastWill::new("gone", "yes", mqttbytes::QoS::AtLeastOnce, true));
    check(
        v4::Packet::Connect(connect),
        "client_id: \"device-7\", clean_start: true, keep_alive: 10",
    );
    let mut publish = v4::Publish::new("a/b", mqttbytes::QoS::ExactlyOnce, "payload");
    (publish.pkid, publish.dup) = (7, true);
    check(v4::Packet::Publish(publish), "duplicate: true, id: 7");
    let mut subscribe = v4::Subscribe::new("a/+", mqttbytes::QoS::AtLeastOnce);
    subscribe.pkid = 8;
    check(v4::Packet::Subscribe(subscribe), "filter: \"a/+\", qos: AtLeastOnce");
    let mut unsubscribe = v4::Unsubscribe::new("a/+");
    unsubscribe.pkid = 9;
    check(v4::Packet::Unsubscribe(unsubscribe), "Unsubscribe { id: 9, filters: [\"a/+\"] }");
    check(v4::Packet::PubAck(v4::PubAck::new(1)), "PubAck { id: 1 }");
    check(v4::Packet::PubRec(v4::PubRec::new(2)), "PubRec { id: 2, code: 0 }");
    check(v4::Packet::PubRel(v4::PubRel::new(3)), "PubRel { id: 3 }");
    check(v4::Packet::PubComp(v4::PubComp::new(4)), "PubComp { id: 4 }");
    check(v4::Packet::PingReq, "PingReq");
    check(v4::Packet::Disconnect, "Disconnect { code: 0");
}

#[test]
fn packets_of_rumqttc_5_are_read() {
    let check = |packet: v5::Packet, expected: &str| {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).expect("invariant: small");
        check(Version::V5, &bytes, expected);
    };
    let properties = v5::ConnectProperties {
        session_expiry_interval: Some(77),
        receive_maximum: Some(5),
        max_packet_size: Some(1_000),
        user_properties: vec![("name".to_owned(), "value".to_owned())],
        ..v5::ConnectProperties::new()
    };
    let connect = v5::Connect {
        keep_alive: 30,
        client_id: "device-7".to_owned(),
        clean_start: false,
        properties: Some(properties),
    };
    let will = v5::LastWill::new("gone", "yes", QoS5::AtLeastOnce, false, None);
    let login = v5::Login { username: "user".to_owned(), password: "password".to_owned() };
    check(
        v5::Packet::Connect(connect, Some(will), Some(login)),
        "session_expiry: 77, receive_maximum: Some(5), maximum_packet: Some(1000)",
    );
    let properties = v5::PublishProperties {
        message_expiry_interval: Some(9),
        topic_alias: Some(3),
        content_type: Some("text".to_owned()),
        ..v5::PublishProperties::default()
    };
    let mut publish = v5::Publish::new("a/b", QoS5::AtLeastOnce, "payload", Some(properties));
    publish.pkid = 7;
    check(v5::Packet::Publish(publish.clone()), "id: 7, alias: Some(3)");
    check(v5::Packet::Publish(publish), r#"properties: b"\x03\0\x04text", expiry: Some(9)"#);
    let mut subscribe = v5::Subscribe::new(v5::Filter::new("a", QoS5::ExactlyOnce), None);
    subscribe.pkid = 8;
    check(v5::Packet::Subscribe(subscribe), "filter: \"a\", qos: ExactlyOnce");
    let disconnect = v5::Disconnect::new(v5::DisconnectReasonCode::DisconnectWithWillMessage);
    check(v5::Packet::Disconnect(disconnect), "Disconnect { code: 4");
}

#[test]
fn packets_that_rumqttc_cannot_read_are_read() {
    check(Version::V5, &[0xE0, 0], "Disconnect { code: 0, session_expiry: None }");
    check(Version::V5, &[0xE0, 1, 4], "Disconnect { code: 4, session_expiry: None }");
    check(Version::V5, &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9], "session_expiry: Some(9)");
    let binary_password = [
        0x10, 19, 0, 4, b'M', b'Q', b'T', b'T', 4, 0xC2, 0, 60, 0, 1, b'c', 0, 0, 0, 2, 0xFF, 0xFE,
    ];
    check(Version::V311, &binary_password, "client_id: \"c\"");
}

#[test]
fn what_the_standard_forbids_is_refused() {
    let (old, new) = (Version::V311, Version::V5);
    check(old, &[0x60, 2, 0, 1], "wrong flags");
    check(old, &[0x80, 6, 0, 1, 0, 1, b'a', 0], "wrong flags");
    check(old, &[0x82, 6, 0, 0, 0, 1, b'a', 0], "packet id 0");
    check(old, &[0x82, 6, 0, 1, 0, 1, b'a', 3], "QoS 3");
    check(old, &[0x82, 6, 0, 1, 0, 1, b'a', 4], "reserved bits");
    check(new, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x40], "reserved bits");
    check(old, &[0x82, 2, 0, 1], "without a filter");
    check(old, &[0xA2, 2, 0, 1], "without a filter");
    check(old, &[0x30, 4, 0, 2, b'a', b'#'], "a wildcard in a topic");
    check(old, &[0x30, 3, 0, 1, 0], "U+0000");
    check(old, &[0x30, 3, 0, 1, 0xFF], "not UTF-8");
    check(old, &[0x30, 2, 0, 0], "neither a topic nor an alias");
    check(old, &[0x38, 3, 0, 1, b'a'], "DUP with QoS 0");
    check(old, &[0x36, 5, 0, 1, b'a', 0, 1], "QoS 3");
    check(new, &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0], "alias 0");
    check(new, &[0x30, 10, 0, 1, b'a', 6, 0x23, 0, 1, 0x23, 0, 1], "a property twice");
    check(new, &[0x30, 6, 0, 1, b'a', 2, 0x21, 0], "no place here");
    check(old, &[0x40, 3, 0, 1, 0], "more bytes than fields");
    check(old, &[0x40, 1, 0], "fewer bytes than fields");
    check(old, &[0xE0, 1, 0], "more bytes than fields");
    check(old, &[0x20, 2, 0, 0], "no client may send");
    check(old, &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 3, 2, 0, 0, 0, 0], "no version we speak");
    check(old, &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 3, 0, 0, 0, 0], "the reserved flag");
    check(old, &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x42, 0, 0, 0, 0], "without a user");
    check(old, &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x0A, 0, 0, 0, 0], "without a will");
}

fn written(version: Version, packet: &Outgoing) -> BytesMut {
    let mut bytes = Vec::new();
    packet.write(version, &mut bytes);
    bytes.as_slice().into()
}

fn delivery() -> Delivery {
    Delivery {
        duplicate: true,
        qos: QoS::ExactlyOnce,
        id: 7,
        retain: true,
        expiry: Some(9),
        message: Arc::new(Message {
            topic: "a/b".into(),
            payload: Bytes::from(vec![b'x'; 300]),
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: Bytes::from_static(b"\x03\0\x04text"),
            expiry: Some(10),
            expires: None,
        }),
    }
}

#[test]
fn rumqttc_3_1_1_reads_what_is_written() {
    let packets = [
        (Outgoing::Publish(Box::new(delivery())), "Qos = ExactlyOnce, Retain = true, Pkid = 7"),
        (Outgoing::PubAck { id: 1, code: 0x80 }, "PubAck { pkid: 1"),
        (Outgoing::PubRec { id: 2, code: 0 }, "PubRec { pkid: 2"),
        (Outgoing::PubRel { id: 3, code: 0 }, "PubRel { pkid: 3"),
        (Outgoing::PubComp { id: 4, code: 0x92 }, "PubComp { pkid: 4"),
        (Outgoing::SubAck { id: 5, codes: vec![1, 0x80] }, "[Success(AtLeastOnce), Failure]"),
        (Outgoing::UnsubAck { id: 6, codes: vec![0] }, "UnsubAck { pkid: 6"),
        (Outgoing::PingResp, "PingResp"),
        (Outgoing::ConnAck(Box::new(connack(5))), "code: NotAuthorized"),
    ];
    for (packet, expected) in packets {
        let mut bytes = written(Version::V311, &packet);
        let read = v4::Packet::read(&mut bytes, 1 << 20).expect("invariant: well-formed");
        assert!(format!("{read:?}").contains(expected), "{read:?}");
        assert!(bytes.is_empty());
    }
    assert!(written(Version::V311, &Outgoing::Disconnect { code: 0x8E }).is_empty());
}

#[test]
fn rumqttc_5_reads_what_is_written() {
    let packets = [
        (Outgoing::Publish(Box::new(delivery())), "message_expiry_interval: Some(9)"),
        (Outgoing::Publish(Box::new(delivery())), "content_type: Some(\"text\")"),
        (Outgoing::PubAck { id: 1, code: 0x80 }, "pkid: 1, reason: UnspecifiedError"),
        (Outgoing::PubRec { id: 2, code: 0 }, "pkid: 2, reason: Success"),
        (Outgoing::PubRel { id: 3, code: 0 }, "pkid: 3, reason: Success"),
        (Outgoing::PubComp { id: 4, code: 0x92 }, "reason: PacketIdentifierNotFound"),
        (Outgoing::SubAck { id: 5, codes: vec![1, 0x87] }, "[Success(AtLeastOnce), NotAuthorized]"),
        (Outgoing::UnsubAck { id: 6, codes: vec![0x11] }, "[NoSubscriptionExisted]"),
        (Outgoing::PingResp, "PingResp"),
        (Outgoing::ConnAck(Box::new(connack(0))), "receive_max: Some(5), max_qos: Some(1)"),
        (Outgoing::ConnAck(Box::new(connack(0))), "server_keep_alive: Some(30)"),
        (Outgoing::ConnAck(Box::new(connack(0))), "assigned_client_identifier: Some(\"given\")"),
        (Outgoing::ConnAck(Box::new(connack(0x9C))), "server_reference: Some(\"other\")"),
    ];
    for (packet, expected) in packets {
        let mut bytes = written(Version::V5, &packet);
        let read = v5::Packet::read(&mut bytes, None).expect("invariant: well-formed");
        assert!(format!("{read:?}").contains(expected), "{read:?}");
        assert!(bytes.is_empty());
    }
}

fn connack(code: u8) -> ConnAck {
    let announce = Announcement {
        server_keep_alive: Some(30),
        receive_maximum: Some(5),
        maximum_packet_size: Some(1_000),
        session_expiry: Some(60),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(true),
        topic_alias_maximum: Some(3),
        reason_string: Some("because".to_owned()),
        user_properties: vec![("name".to_owned(), "value".to_owned())],
    };
    let connack = match code {
        0 => Answer::Accept,
        _ => Answer::Redirect { server: "other".to_owned() },
    };
    let behaviour = Arc::new(Behaviour { announce, connack, ..Behaviour::default() });
    ConnAck { session_present: false, code, assigned: Some("given".into()), behaviour }
}

#[test]
fn disconnect_has_no_properties_as_mosquitto_sends_it() {
    // Allowed (MQTT 5 §3.14.2.2.1), and yet rumqttc 0.25 takes it for half a packet.
    let mut bytes = written(Version::V5, &Outgoing::Disconnect { code: 0x8E });
    assert_eq!(bytes, [0xE0, 1, 0x8E].as_slice());
    assert!(v5::Packet::read(&mut bytes, None).is_err());
}

#[test]
fn the_size_of_a_delivery_is_told_before_it_is_written() {
    for version in [Version::V311, Version::V5] {
        let size = delivery().size(version);
        assert_eq!(written(version, &Outgoing::Publish(Box::new(delivery()))).len(), size);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        first in any::<u8>(),
        rest in prop::collection::vec(any::<u8>(), 0..60),
        is_new in any::<bool>(),
    ) {
        let version = if is_new { Version::V5 } else { Version::V311 };
        let mut packet = vec![first, rest.len() as u8];
        packet.extend_from_slice(&rest);
        let _may_fail = read(version, &packet);
        let _may_fail = read(version, &rest);
        let _may_fail = frame_length(&rest, Some(10));
    }

    #[test]
    fn no_change_of_a_good_connect_makes_it_panic(
        at in 0_usize..60,
        to in any::<u8>(),
        cut in 0_usize..60,
    ) {
        let properties = v5::ConnectProperties {
            session_expiry_interval: Some(77),
            user_properties: vec![("name".to_owned(), "value".to_owned())],
            ..v5::ConnectProperties::new()
        };
        let connect = v5::Connect {
            keep_alive: 30,
            client_id: "device".to_owned(),
            clean_start: true,
            properties: Some(properties),
        };
        let will = v5::LastWill::new("gone", "yes", QoS5::AtLeastOnce, false, None);
        let mut bytes = BytesMut::new();
        v5::Packet::Connect(connect, Some(will), None)
            .write(&mut bytes, None)
            .expect("invariant: small");
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        let _may_fail = read(Version::V311, &bytes);
        bytes.truncate(cut);
        let _may_fail = read(Version::V311, &bytes);
    }
}
