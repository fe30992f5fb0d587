//! Single packets, byte by byte.

use crate::codec::{decode, encode};
use crate::device::Credentials;
use crate::error::Detail;
use crate::message::{Properties, Publish, QoS, Subscription, Will};
use crate::packet::{
    ConnAck, Connect, Incoming, IncomingPublish, Outgoing, OutgoingPublish, ServerLimits, Version,
};
use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use std::sync::Arc;
use std::time::Duration;

const LIMIT: u32 = 256 << 10;

#[track_caller]
fn check(version: Version, bytes: &[u8], wanted: Result<Incoming, &str>) {
    let mut buffer = BytesMut::from(bytes);
    let found = decode(version, &mut buffer, LIMIT).map_err(|error| error.to_string());
    assert_eq!(found, wanted.map(Some).map_err(str::to_owned));
    if found.is_ok() {
        assert!(buffer.is_empty(), "{buffer:?} is left");
    }
}

fn refused(code: u8) -> Incoming {
    Incoming::ConnAck(ConnAck { code, ..ConnAck::default() })
}

fn message(payload: &'static [u8], properties: Option<Properties>) -> Incoming {
    Incoming::Publish(IncomingPublish {
        duplicate: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "t".to_owned(),
        id: 0,
        payload: Bytes::from_static(payload),
        properties: properties.map(Box::new),
    })
}

#[test]
fn a_broker_of_another_version_refuses_in_its_own_words() {
    check(Version::V5, &[0x20, 2, 0, 1], Ok(refused(1)));
    check(Version::V5, &[0x20, 3, 0, 5, 0], Ok(refused(5)));
    check(Version::V5, &[0x20, 2, 0, 0x84], Ok(refused(0x84)));
    // And one that speaks nothing else refuses us, on a session of 3.1.1, in its own words.
    check(Version::V311, &[0x20, 3, 0, 0x84, 0], Ok(refused(0x84)));
    let detail = Detail { reason_string: Some("v5".to_owned()), server_reference: None };
    let refusal = ConnAck { code: 0x84, detail: Some(Box::new(detail)), ..ConnAck::default() };
    let bytes = [0x20, 8, 0, 0x84, 5, 0x1F, 0, 2, b'v', b'5'];
    check(Version::V311, &bytes, Ok(Incoming::ConnAck(refusal)));
    let problem = "malformed CONNACK: it ends within its length of properties";
    check(Version::V5, &[0x20, 2, 0, 0], Err(problem));
}

#[test]
fn each_code_of_a_connack_but_0_is_a_refusal() {
    for code in 1..=u8::MAX {
        check(Version::V311, &[0x20, 2, 0, code], Ok(refused(code)));
        check(Version::V5, &[0x20, 3, 0, code, 0], Ok(refused(code)));
        // A refusal has no session, whatever it says.
        check(Version::V311, &[0x20, 2, 1, code], Ok(refused(code)));
    }
    let session_present = ConnAck { session_present: true, ..ConnAck::default() };
    check(Version::V311, &[0x20, 2, 1, 0], Ok(Incoming::ConnAck(session_present)));
    let problem = "malformed CONNACK: reserved flags 0b00000010";
    check(Version::V311, &[0x20, 2, 2, 0], Err(problem));
    check(Version::V311, &[0x20, 3, 0, 0, 0], Err("malformed CONNACK: 1 bytes after its end"));
    check(Version::V311, &[0x20, 1, 0], Err("malformed CONNACK: 1 bytes too short for its code"));
}

#[test]
fn a_disconnect_may_be_short() {
    let disconnect = |code| Ok(Incoming::Disconnect { code, detail: None });
    check(Version::V5, &[0xE0, 0], disconnect(0));
    check(Version::V5, &[0xE0, 1, 0x8E], disconnect(0x8E));
    check(Version::V5, &[0xE0, 2, 0x8B, 0], disconnect(0x8B));
    check(Version::V5, &[0xE0, 2, 0xFE, 0], disconnect(0xFE));
    check(Version::V5, &[0xE0, 3, 0, 0, 0], Err("malformed DISCONNECT: 1 bytes after its end"));
    check(Version::V311, &[0xE0, 0], Ok(Incoming::Unexpected("DISCONNECT")));
    // A session expiry is not for a server to send, and changes nothing.
    check(Version::V5, &[0xE0, 7, 0x9C, 5, 0x11, 0, 0, 0, 1], disconnect(0x9C));
}

#[test]
fn what_only_a_client_sends_is_named() {
    check(Version::V5, &[0xF0, 0], Ok(Incoming::Unexpected("AUTH")));
    check(Version::V5, &[0xF0, 2, 0x18, 0], Ok(Incoming::Unexpected("AUTH")));
    check(Version::V311, &[0xC0, 0], Ok(Incoming::Unexpected("PINGREQ")));
    check(Version::V311, &[0x10, 1, 9], Ok(Incoming::Unexpected("CONNECT")));
    check(Version::V5, &[0x82, 0], Ok(Incoming::Unexpected("SUBSCRIBE")));
}

#[test]
fn acknowledgements_leave_away_what_is_0() {
    let puback = |code| Ok(Incoming::PubAck { id: 7, code });
    check(Version::V311, &[0x40, 2, 0, 7], puback(0));
    check(Version::V5, &[0x40, 2, 0, 7], puback(0));
    check(Version::V5, &[0x40, 3, 0, 7, 0x97], puback(0x97));
    check(Version::V5, &[0x40, 4, 0, 7, 0x10, 0], puback(0x10));
    check(Version::V5, &[0x40, 8, 0, 7, 0x97, 4, 0x1F, 0, 1, b'a'], puback(0x97));
    check(Version::V311, &[0x40, 3, 0, 7, 0], Err("malformed PUBACK: 1 bytes after its end"));
    check(Version::V311, &[0x40, 2, 0, 0], Err("malformed PUBACK: packet identifier 0"));
    check(Version::V5, &[0x40, 5, 0, 7, 0, 0, 0], Err("malformed PUBACK: 1 bytes after its end"));
    check(Version::V5, &[0x40, 3, 0, 7, 1], Err("malformed PUBACK: reserved code 0x01"));
    check(Version::V5, &[0x62, 3, 0, 7, 0x10], Err("malformed PUBREL: reserved code 0x10"));
    check(Version::V5, &[0x70, 3, 0, 7, 0x92], Ok(Incoming::PubComp { id: 7, code: 0x92 }));
}

#[test]
fn subscriptions_are_answered_by_codes_that_mean_something() {
    let suback = |codes: &[u8]| Ok(Incoming::SubAck { id: 1, codes: codes.to_vec() });
    check(Version::V311, &[0x90, 4, 0, 1, 2, 0x80], suback(&[2, 0x80]));
    check(Version::V311, &[0x90, 3, 0, 1, 0x87], Err("malformed SUBACK: reserved code 0x87"));
    check(Version::V311, &[0x90, 3, 0, 1, 3], Err("malformed SUBACK: reserved code 0x03"));
    check(Version::V311, &[0x90, 2, 0, 1], Err("malformed SUBACK: no code in it"));
    check(Version::V5, &[0x90, 6, 0, 1, 0, 1, 0x87, 0xF0], suback(&[1, 0x87, 0xF0]));
    check(Version::V5, &[0x90, 4, 0, 1, 0, 3], Err("malformed SUBACK: reserved code 0x03"));
    check(Version::V311, &[0xB0, 2, 0, 1], Ok(Incoming::UnsubAck { id: 1, codes: Vec::new() }));
    check(Version::V311, &[0xB0, 3, 0, 1, 0], Err("malformed UNSUBACK: 1 bytes after its end"));
    let unsuback = Incoming::UnsubAck { id: 1, codes: vec![0, 0x11] };
    check(Version::V5, &[0xB0, 5, 0, 1, 0, 0, 0x11], Ok(unsuback));
}

#[test]
fn a_ping_has_no_content() {
    check(Version::V311, &[0xD0, 0], Ok(Incoming::PingResp));
    check(Version::V311, &[0xD0, 1, 0], Err("malformed PINGRESP: 1 bytes after its end"));
}

#[test]
fn a_topic_is_there_and_is_text() {
    check(Version::V311, &[0x30, 3, 0, 1, b't'], Ok(message(b"", None)));
    for version in [Version::V311, Version::V5] {
        let check = |bytes: &[u8], problem| check(version, bytes, Err(problem));
        check(&[0x30, 4, 0, 1, b'+', 0], "malformed PUBLISH: a wildcard in its topic \"+\"");
        check(&[0x30, 4, 0, 1, 0xFF, 0], "malformed PUBLISH: its topic is not UTF-8");
        check(&[0x30, 4, 0, 1, 0, 0], "malformed PUBLISH: its topic contains U+0000");
        check(&[0x30, 3, 0, 0, 0], "malformed PUBLISH: an empty topic");
        check(&[0x30, 3, 0, 2, 0], "malformed PUBLISH: 1 bytes too short for its topic");
        check(&[0x32, 6, 0, 1, b't', 0, 0, 0], "malformed PUBLISH: packet identifier 0");
    }
}

#[test]
fn a_topic_alias_is_refused_because_we_allow_none() {
    let problem = "unexpected PUBLISH: it has a topic alias, and we allow none (MQTT 5 section \
                   3.3.2.3.4)";
    check(Version::V5, &[0x30, 6, 0, 0, 3, 0x23, 0, 1], Err(problem));
    check(Version::V5, &[0x30, 7, 0, 1, b't', 3, 0x23, 0, 1], Err(problem));
}

#[test]
fn subscription_identifiers_are_left_out_and_nothing_else() {
    let text = || Some(Properties { is_text: Some(true), ..Properties::default() });
    let publish = |properties: &[u8]| {
        let mut bytes = vec![0x30, 0, 0, 1, b't', properties.len() as u8];
        bytes.extend_from_slice(properties);
        bytes.extend_from_slice(b"payload");
        bytes[1] = bytes.len() as u8 - 2;
        bytes
    };
    check(Version::V5, &publish(&[0x0B, 5]), Ok(message(b"payload", None)));
    check(Version::V5, &publish(&[0x0B, 0xFF, 0x7F]), Ok(message(b"payload", None)));
    check(Version::V5, &publish(&[0x0B, 5, 0x01, 1]), Ok(message(b"payload", text())));
    check(Version::V5, &publish(&[0x01, 1, 0x0B, 5, 0x0B, 6]), Ok(message(b"payload", text())));
    check(Version::V5, &publish(&[0x0B, 5, 0x0B, 6, 0x01, 1]), Ok(message(b"payload", text())));
    check(Version::V5, &publish(&[0x0B, 5, 0x0B, 6, 0x0B, 7]), Ok(message(b"payload", None)));
    let two = publish(&[0x0B, 5, 0x01, 1, 0x0B, 6, 0x02, 0, 0, 0, 9]);
    let expiry = Some(Duration::from_secs(9));
    let properties = Properties { is_text: Some(true), expiry, ..Properties::default() };
    check(Version::V5, &two, Ok(message(b"payload", Some(properties))));
}

#[test]
fn properties_do_not_run_into_the_payload() {
    // A name of 5 bytes in properties of 4.
    let problem = "malformed PUBLISH: 4 bytes too short for its content type";
    check(Version::V5, b"\x30\x0D\x00\x01t\x04\x03\x00\x05apayload", Err(problem));
}

#[test]
fn a_large_payload_is_a_slice_and_a_small_one_a_copy() {
    for (version, length, is_slice) in [
        (Version::V311, 1_023, false),
        (Version::V311, 1_024, true),
        (Version::V5, 1_023, false),
        (Version::V5, 1_024, true),
    ] {
        let payload = Bytes::from(vec![7; length]);
        let mut buffer = BytesMut::new();
        let packet = Outgoing::Publish(super::packets::publish("t", &payload));
        encode(version, &packet, &mut buffer).expect("invariant: it is short");
        let held = buffer.as_ptr_range();
        let Ok(Some(Incoming::Publish(read))) = decode(version, &mut buffer, LIMIT) else {
            panic!("it is a whole PUBLISH");
        };
        assert_eq!(read.payload, payload);
        assert_eq!(held.contains(&read.payload.as_ptr()), is_slice, "{version:?} {length}");
    }
}

#[test]
fn all_properties_of_rumqttc_s_writers_are_understood() {
    let user_properties = vec![("a".to_owned(), "b".to_owned()); 2];
    let mut buffer = BytesMut::new();
    let connack = v5::ConnAckProperties {
        session_expiry_interval: Some(1),
        receive_max: Some(2),
        max_qos: Some(1),
        retain_available: Some(0),
        max_packet_size: Some(3),
        assigned_client_identifier: Some("id".to_owned()),
        topic_alias_max: Some(4),
        reason_string: Some("reason".to_owned()),
        user_properties: user_properties.clone(),
        wildcard_subscription_available: Some(1),
        subscription_identifiers_available: Some(0),
        shared_subscription_available: Some(1),
        server_keep_alive: Some(5),
        response_information: Some("information".to_owned()),
        server_reference: Some("server".to_owned()),
        authentication_method: Some("method".to_owned()),
        authentication_data: Some(Bytes::from_static(b"data")),
    };
    let code = v5::ConnectReturnCode::UseAnotherServer;
    let packet = v5::ConnAck { session_present: false, code, properties: Some(connack) };
    packet.write(&mut buffer).expect("invariant: it is short");
    let detail = Some(Box::new(Detail {
        reason_string: Some("reason".to_owned()),
        server_reference: Some("server".to_owned()),
    }));
    let wanted = ConnAck {
        session_present: false,
        code: 0x9C,
        detail: detail.clone(),
        limits: ServerLimits {
            receive_maximum: 2,
            maximum_qos: QoS::AtLeastOnce,
            retain_available: false,
            maximum_packet: Some(3),
            topic_alias_maximum: 4,
        },
        assigned_client_id: true,
        server_keep_alive: Some(5),
        session_expiry: Some(1),
    };
    check(Version::V5, &buffer, Ok(Incoming::ConnAck(wanted)));

    buffer.clear();
    let properties = v5::DisconnectProperties {
        session_expiry_interval: None,
        reason_string: Some("reason".to_owned()),
        user_properties,
        server_reference: Some("server".to_owned()),
    };
    let reason_code = v5::DisconnectReasonCode::ServerMoved;
    let packet = v5::Disconnect { reason_code, properties: Some(properties) };
    packet.write(&mut buffer).expect("invariant: it is short");
    check(Version::V5, &buffer, Ok(Incoming::Disconnect { code: 0x9D, detail }));
}

#[test]
fn we_write_what_rumqttc_writes_where_it_is_right() {
    #[track_caller]
    fn check(version: Version, ours: &Outgoing<'_>, theirs: impl Fn(&mut BytesMut)) {
        let (mut written, mut wanted) = (BytesMut::new(), BytesMut::new());
        encode(version, ours, &mut written).expect("invariant: it is short");
        theirs(&mut wanted);
        assert_eq!(written, wanted);
    }
    let payload = Bytes::from_static(b"payload");
    let publish = Outgoing::Publish(OutgoingPublish {
        duplicate: true,
        qos: QoS::ExactlyOnce,
        retain: true,
        id: 513,
        ..super::packets::publish("topic", &payload)
    });
    check(Version::V311, &publish, |buffer| {
        let mut publish = v4::Publish::from_bytes(
            "topic",
            rumqttc::mqttbytes::QoS::ExactlyOnce,
            Bytes::from_static(b"payload"),
        );
        (publish.dup, publish.retain, publish.pkid) = (true, true, 513);
        publish.write(buffer).expect("invariant: it is short");
    });
    let credentials = Credentials { username: "user".to_owned(), password: Some("word".into()) };
    let will = Publish::new("will", QoS::AtLeastOnce, "gone").map(Publish::retain);
    let will = will.and_then(Will::new).expect("invariant: it is short");
    let connect = Outgoing::Connect(Connect {
        client_id: "device",
        clean_start: false,
        keep_alive: 258,
        credentials: Some(&credentials),
        will: Some(&will),
        session_expiry: None,
        receive_maximum: 1,
        maximum_packet: 1,
    });
    check(Version::V311, &connect, |buffer| {
        let mut connect = v4::Connect::new("device");
        (connect.clean_session, connect.keep_alive) = (false, 258);
        connect.set_login("user", "word");
        let qos = rumqttc::mqttbytes::QoS::AtLeastOnce;
        connect.last_will = Some(v4::LastWill::new("will", "gone", qos, true));
        connect.write(buffer).expect("invariant: it is short");
    });
    let subscription = Subscription::new("a/+", QoS::AtLeastOnce).expect("invariant: a filter");
    let subscriptions = [subscription];
    check(Version::V5, &Outgoing::Subscribe { id: 9, subscriptions: &subscriptions }, |buffer| {
        let filter = v5::Filter::new("a/+", rumqttc::v5::mqttbytes::QoS::AtLeastOnce);
        let mut subscribe = v5::Subscribe::new(filter, None);
        subscribe.pkid = 9;
        subscribe.write(buffer).expect("invariant: it is short");
    });
    let filters = [Arc::from("a/+")];
    check(Version::V5, &Outgoing::Unsubscribe { id: 9, filters: &filters }, |buffer| {
        let mut unsubscribe = v5::Unsubscribe::new("a/+", None);
        unsubscribe.pkid = 9;
        unsubscribe.write(buffer).expect("invariant: it is short");
    });
}

#[test]
fn credentials_are_sent_as_they_are() {
    let flags_and_rest = |credentials: &Credentials| {
        let mut buffer = BytesMut::new();
        let connect = Connect {
            client_id: "d",
            clean_start: true,
            keep_alive: 0,
            credentials: Some(credentials),
            will: None,
            session_expiry: None,
            receive_maximum: 1,
            maximum_packet: 1,
        };
        encode(Version::V311, &Outgoing::Connect(connect), &mut buffer)
            .expect("invariant: it is short");
        (buffer[9], buffer[15..].to_vec())
    };
    let credentials = |username: &str, password: Option<&'static [u8]>| Credentials {
        username: username.to_owned(),
        password: password.map(Bytes::from_static),
    };
    assert_eq!(flags_and_rest(&credentials("u", None)), (0x82, b"\0\x01u".to_vec()));
    let binary = credentials("", Some(b"\xFF\0"));
    assert_eq!(flags_and_rest(&binary), (0xC2, b"\0\0\0\x02\xFF\0".to_vec()));
}

/// Each of these is a reason for a line in the guard. When one fails, rumqttc was mended.
#[test]
fn rumqttc_still_has_the_faults_that_we_guard_against() {
    use v5::Packet;
    let read = |bytes: &[u8]| Packet::read(&mut BytesMut::from(bytes), None);
    type Fault = rumqttc::v5::mqttbytes::Error;
    assert!(matches!(read(&[0xE0, 0]), Err(Fault::PayloadRequired)));
    assert!(matches!(read(&[0xE0, 1, 0x8E]), Err(Fault::InsufficientBytes(_))));
    assert!(matches!(read(&[0xF0, 0]), Err(Fault::InvalidPacketType(15))));
    assert!(matches!(read(&[0x20, 3, 0, 1, 0]), Err(Fault::InvalidConnectReturnCode(1))));
    assert!(read(&[0xE0, 2, 0xFE, 0]).is_err());
    assert!(read(&[0x30, 3, 0, 0, 0]).is_ok(), "an empty topic");
    assert!(read(&[0x30, 4, 0, 1, 0xFF, 0]).is_ok(), "a topic that is no text");
    assert!(read(&[0xD0, 1, 0]).is_ok(), "bytes after the end");
    let Ok(Packet::Publish(publish)) = read(b"\x30\x0C\x00\x01t\x06\x0B\x05\x0B\x06\x01\x01pa")
    else {
        panic!("it is a whole PUBLISH");
    };
    assert_eq!(&publish.payload[..], b"\x01\x01pa", "a property in the payload");

    let mut disconnect = BytesMut::new();
    let reason = v5::DisconnectReasonCode::ProtocolError;
    v5::Disconnect::new(reason).write(&mut disconnect).expect("invariant: it is short");
    assert_eq!(&disconnect[..], [0xE0, 1, 0x82, 0], "one byte more than its length says");

    let mut connect = BytesMut::from(&[0xC0; 20][..]);
    v4::Connect::new("d").write(&mut connect).expect("invariant: it is short");
    assert_eq!(connect[9], 0x02, "flags in another packet");
}
