//! What the broker says, from CONNACK to DISCONNECT.

use super::*;

#[test]
fn connack_comes_first_and_once() {
    for version in BOTH {
        let early: [(Vec<u8>, &str); 5] = [
            (wire::publish(version, "t", 0, 0, false, b""), "PUBLISH"),
            (wire::ack(version, "PUBACK", 1, 0), "PUBACK"),
            (wire::suback(version, 1, &[0]), "SUBACK"),
            (wire::pingresp(), "PINGRESP"),
            (vec![0xC0, 0], "PINGREQ"),
        ];
        for (bytes, name) in early {
            assert_unexpected(&Rig::new(version).take(&bytes), name);
        }
        let mut rig = Rig::online(version);
        assert_unexpected(&rig.take(&wire::connack(version, false, 0, &[])), "CONNACK");
    }
    let step = Rig::new(Version::V5).take(&wire::disconnect(0x8B, &[]));
    assert_unexpected(&step, "DISCONNECT");
}

#[test]
fn a_refusal_says_why() {
    for (version, code) in [(Version::V311, 5), (Version::V5, 0x97)] {
        let mut rig = Rig::new(version);
        let reason = codec::refusal_name(code);
        let refused = Cause::ConnectRefused { code, reason, detail: None };
        assert_eq!(rig.take(&wire::connack(version, false, code, &[])), Step::Ended(refused));
        assert_eq!(rig.sent(), "");
    }
    let properties = [0x1F, 0, 1, b'r', 0x1C, 0, 1, b's'];
    let step = Rig::new(Version::V5).take(&wire::connack(Version::V5, false, 0x9D, &properties));
    let Step::Ended(Cause::ConnectRefused { detail: Some(detail), .. }) = step else {
        panic!("no detail: {step:?}");
    };
    assert_eq!(detail.reason_string.as_deref(), Some("r"));
    assert_eq!(detail.server_reference.as_deref(), Some("s"));
}

#[test]
fn a_session_that_cannot_be_present_is_a_broken_protocol() {
    for version in BOTH {
        let mut rig = Rig::with(Settings { clean_start: true, ..settings(version) }, device());
        assert_unexpected(&rig.take(&wire::connack(version, true, 0, &[])), "CONNACK");
    }
}

#[test]
fn limits_of_zero_are_a_broken_protocol() {
    // The codec may find it first.
    for properties in [&[0x21, 0, 0][..], &[0x27, 0, 0, 0, 0][..]] {
        let step = Rig::new(Version::V5).take(&wire::connack(Version::V5, false, 0, properties));
        assert!(matches!(step, Step::Ended(Cause::Protocol(_))), "{step:?}");
    }
}

#[test]
fn a_message_is_acknowledged_when_it_is_accepted_and_not_earlier() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        for (qos, id, expected) in [(0, 0, ""), (1, 7, "PUBACK 7"), (2, 8, "PUBREC 8")] {
            let acknowledge = rig.message(qos, id);
            assert_eq!(rig.sent(), "");
            rig.session.accept(rig.now, acknowledge);
            assert_eq!(rig.sent(), expected);
        }
        assert_eq!(rig.ack("PUBREL", 8, 0), Step::Handled);
        assert_eq!(rig.sent(), "PUBCOMP 8");
        assert!(rig.session.carried.is_empty());
    }
}

#[test]
fn a_message_is_handed_over_as_it_came() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let mut bytes = wire::publish(version, "a/b", 1, 7, true, b"payload");
        bytes[0] |= 1;
        let Step::Message(message, _acknowledge) = rig.take(&bytes) else { panic!("no message") };
        let expected = Message {
            device: rig.device.id().clone(),
            topic: "a/b".to_owned(),
            payload: bytes::Bytes::from_static(b"payload"),
            qos: QoS::AtLeastOnce,
            retain: true,
            duplicate: true,
            properties: None,
        };
        assert_eq!(message, expected);
    }
}

#[test]
fn a_message_with_qos_2_is_delivered_once() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let first = rig.message(2, 3);
        let again = wire::publish(version, "t", 2, 3, true, b"");
        assert_eq!(rig.take(&again), Step::Handled);
        assert_eq!(rig.sent(), "", "the first one is not accepted yet");
        rig.session.accept(rig.now, first);
        assert_eq!(rig.take(&again), Step::Handled);
        assert_eq!(rig.sent(), "PUBREC 3, PUBREC 3");
        assert_eq!(rig.ack("PUBREL", 3, 0), Step::Handled);
        let missing = if version == Version::V5 { "PUBCOMP 3 0x92" } else { "PUBCOMP 3" };
        assert_eq!(rig.ack("PUBREL", 3, 0), Step::Handled);
        assert_eq!(rig.sent(), format!("PUBCOMP 3, {missing}"));
        let _acknowledge = rig.message(2, 3);
    }
}

#[test]
fn a_pubrel_before_our_pubrec_ends_the_session() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let _acknowledge = rig.message(2, 3);
        assert_unexpected(&rig.ack("PUBREL", 3, 0), "PUBREL");
    }
}

#[test]
fn a_broker_of_mqtt_5_keeps_to_our_receive_maximum() {
    let limit = ProtocolError::ReceiveMaximum(4);
    for (version, expected) in [(Version::V311, None), (Version::V5, Some(limit))] {
        for qos in [1, 2] {
            let mut rig = Rig::online(version);
            let mut acknowledges = Vec::new();
            for id in 1..=4 {
                acknowledges.push(rig.message(qos, id));
            }
            // An exchange that ends makes room for one more.
            rig.session.accept(rig.now, acknowledges.remove(0));
            if qos == 2 {
                assert_eq!(rig.ack("PUBREL", 1, 0), Step::Handled);
            }
            acknowledges.push(rig.message(qos, 5));
            acknowledges.push(rig.message(0, 0));
            let step = rig.take(&wire::publish(version, "t", 3 - qos, 6, false, b""));
            match &expected {
                Some(error) => assert_eq!(step, Step::Ended(error.clone().into())),
                None => assert!(matches!(step, Step::Message(..)), "{step:?}"),
            }
        }
    }
}

#[test]
fn the_brokers_farewell_says_why() {
    let version = Version::V5;
    let mut rig = Rig::online(version);
    assert_eq!(rig.take(&wire::disconnect(0x8E, &[])), Step::Ended(Cause::TakenOver));
    let mut rig = Rig::online(version);
    let step = rig.take(&wire::disconnect(0x9C, &[0x1C, 0, 1, b's']));
    let Step::Ended(Cause::Disconnected { code: 0x9C, detail: Some(detail), .. }) = step else {
        panic!("no detail: {step:?}");
    };
    assert_eq!(detail.server_reference.as_deref(), Some("s"));
    assert_eq!(rig.sent(), "");
    // 3.1.1 has no such packet from a broker.
    let step = Rig::online(Version::V311).take(&[0xE0, 0]);
    assert!(matches!(step, Step::Ended(Cause::Protocol(_))), "{step:?}");
}

#[test]
fn a_packet_over_our_limit_ends_the_session() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let step = rig.take(&[0x30, 0xff, 0xff, 0x7f]);
        let Step::Ended(Cause::Protocol(ProtocolError::Oversized { limit, .. })) = step else {
            panic!("not oversized: {step:?}");
        };
        assert_eq!(limit, 4_096);
        assert_eq!(rig.sent(), if version == Version::V5 { "DISCONNECT 0x95" } else { "" });
    }
}

#[test]
fn a_broker_that_sends_and_does_not_read_is_not_read_for_ever() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let mut count = 0;
        while rig.session.can_receive() {
            assert_eq!(rig.ack("PUBREL", 3, 0), Step::Handled);
            count += 1;
            assert!(count < 10_000);
        }
        rig.sent();
        assert!(rig.session.can_receive());
    }
}
