//! What the application asks for.

use super::*;
use crate::error::CallerError;
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

#[test]
fn qos_0_is_done_when_it_is_written() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let mut written = rig.publish("a", AtMostOnce);
        assert_eq!(outcome(&mut written), None);
        assert_eq!(rig.sent(), "PUBLISH 0 a qos0");
        assert_eq!(outcome(&mut written), Some(Ok(())));
        let mut lost = rig.publish("b", AtMostOnce);
        rig.session.output_written(rig.now);
        assert_eq!(outcome(&mut lost), None, "the output is not empty");
        rig.resume(true);
        assert_eq!(outcome(&mut lost), Some(Err(Error::Session(Cause::Reset))));
        assert_eq!(rig.sent(), "");
    }
}

#[test]
fn qos_1_and_2_are_done_at_their_last_acknowledgement() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let mut once = rig.publish("a", ExactlyOnce);
        let mut least = rig.publish("b", AtLeastOnce);
        assert_eq!(rig.sent(), "PUBLISH 1 a qos2, PUBLISH 2 b qos1");
        assert_eq!(rig.ack("PUBACK", 2, 0), Step::Handled);
        assert_eq!(outcome(&mut least), Some(Ok(())));
        assert_eq!(rig.ack("PUBREC", 1, 0), Step::Handled);
        assert_eq!(rig.sent(), "PUBREL 1");
        assert_eq!(outcome(&mut once), None);
        assert_eq!(rig.ack("PUBCOMP", 1, 0), Step::Handled);
        assert_eq!(outcome(&mut once), Some(Ok(())));
        assert!(rig.session.carried.is_empty());
    }
}

#[test]
fn a_refused_publish_is_settled_with_the_reason() {
    let version = Version::V5;
    for (qos, name) in [(AtLeastOnce, "PUBACK"), (ExactlyOnce, "PUBREC")] {
        for (code, expected) in [
            (0x10, None),
            (0x87, Some(rejected(version, 0x87))),
            (0x97, Some(rejected(version, 0x97))),
        ] {
            let mut rig = Rig::online(version);
            let mut delivery = rig.publish("a", qos);
            rig.sent();
            assert_eq!(rig.ack(name, 1, code), Step::Handled);
            if expected.is_none() && qos == ExactlyOnce {
                assert_eq!(rig.sent(), "PUBREL 1");
                assert_eq!(rig.ack("PUBCOMP", 1, 0x92), Step::Handled);
            }
            assert_eq!(outcome(&mut delivery), Some(expected.map_or(Ok(()), Err)));
            assert_eq!(rig.sent(), "");
            assert!(rig.session.carried.is_empty());
        }
    }
}

#[test]
fn the_window_is_the_smaller_one() {
    let two = [0x21, 0, 2];
    for (version, properties, window) in
        [(Version::V311, &[][..], 4), (Version::V5, &[][..], 4), (Version::V5, &two[..], 2)]
    {
        let mut rig = Rig::online_at(settings(version), device(), properties);
        let mut deliveries = Vec::new();
        while rig.session.can_take() {
            deliveries.push(rig.publish("a", ExactlyOnce));
        }
        assert_eq!(deliveries.len(), window);
        // One too many is kept, and sent when there is room.
        deliveries.push(rig.publish("late", AtLeastOnce));
        assert!(!rig.sent().contains("late"));
        assert_eq!(rig.ack("PUBREC", 1, 0), Step::Handled);
        assert_eq!(rig.sent(), "PUBREL 1");
        assert_eq!(rig.ack("PUBCOMP", 1, 0), Step::Handled);
        assert_eq!(rig.sent(), format!("PUBLISH {} late qos1", window + 1));
        assert!(!rig.session.can_take());
        assert_eq!(rig.ack("PUBREC", 2, 0), Step::Handled);
        assert_eq!(rig.ack("PUBCOMP", 2, 0), Step::Handled);
        assert!(rig.session.can_take());
    }
}

#[test]
fn nothing_is_taken_before_connack_or_into_a_full_output() {
    for version in BOTH {
        assert!(!Rig::new(version).session.can_take());
        let mut rig = Rig::online(version);
        let mut taken = 0;
        while rig.session.can_take() {
            let large = Publish::new("a", AtMostOnce, vec![0; 1_000]).expect("invariant: a topic");
            let _delivery = rig.request(|ticket| Request::Publish(large, ticket));
            taken += 1;
        }
        assert_eq!(taken, 17);
        rig.sent();
        assert!(rig.session.can_take());
    }
}

#[test]
fn what_the_broker_does_not_take_is_not_sent() {
    #[track_caller]
    fn check(properties: &[u8], publish: Publish, expected: &Error) {
        let mut rig = Rig::online_at(settings(Version::V5), device(), properties);
        let mut delivery = rig.request(|ticket| Request::Publish(publish, ticket));
        assert_eq!(rig.sent(), "");
        assert_eq!(outcome(&mut delivery), Some(Err(expected.clone())));
        assert!(rig.session.carried.is_empty() && rig.session.can_take());
    }
    let publish =
        |qos| Publish::new("a", qos, "0123456789").expect("invariant: a topic without wildcards");
    for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        let size = if qos == AtMostOnce { 16 } else { 18 };
        let large = CallerError::PacketTooLarge { size, limit: 15, by: "the broker" }.into();
        check(&[0x27, 0, 0, 0, 15], publish(qos), &large);
        check(&[0x25, 0], publish(qos).retain(), &rejected(Version::V5, 0x9A));
    }
    check(&[0x24, 1], publish(ExactlyOnce), &rejected(Version::V5, 0x9B));
    check(&[0x24, 0], publish(AtLeastOnce), &rejected(Version::V5, 0x9B));

    let mut rig = Rig::online_at(settings(Version::V5), device(), &[0x27, 0, 0, 0, 18]);
    let _delivery = rig.request(|ticket| Request::Publish(publish(AtLeastOnce), ticket));
    assert_eq!(rig.sent(), "PUBLISH 1 a qos1");
}

#[test]
fn an_answer_to_nothing_ends_the_session() {
    #[track_caller]
    fn check(version: Version, before: fn(&mut Rig) -> Delivery, name: &str, id: u16, code: u8) {
        let mut rig = Rig::online(version);
        let mut delivery = before(&mut rig);
        rig.sent();
        let step = rig.ack(name, id, code);
        if id == 0 {
            // The codec may find it first.
            assert!(matches!(step, Step::Ended(Cause::Protocol(_))), "{step:?}");
        } else {
            assert_unexpected(&step, name);
        }
        assert_eq!(outcome(&mut delivery), None, "it is carried over");
    }
    for version in BOTH {
        for name in ["PUBACK", "PUBCOMP"] {
            check(version, |rig| rig.publish("a", AtLeastOnce), name, 7, 0);
            check(version, |rig| rig.publish("a", AtLeastOnce), name, 0, 0);
            check(version, |rig| rig.publish("a", ExactlyOnce), name, 1, 0);
            check(version, |rig| rig.subscribe("a"), name, 1, 0);
        }
        check(version, |rig| rig.publish("a", AtLeastOnce), "PUBREC", 1, 0);
        check(version, |rig| rig.publish("a", AtLeastOnce), "PUBCOMP", 1, 0);
        check(version, |rig| rig.publish("a", AtLeastOnce), "PUBREC", 0, 0);
        check(version, |rig| rig.publish("a", AtLeastOnce), "PUBREL", 0, 0);
    }
    check(Version::V5, |rig| rig.publish("a", AtLeastOnce), "PUBREC", 9, 0x87);
}

#[test]
fn a_pubrec_for_nothing_is_answered_so_that_the_broker_forgets_it() {
    for (version, expected) in [(Version::V311, "PUBREL 9"), (Version::V5, "PUBREL 9 0x92")] {
        let mut rig = Rig::online(version);
        assert_eq!(rig.ack("PUBREC", 9, 0), Step::Handled);
        assert_eq!(rig.sent(), expected);
        assert_eq!(rig.ack("PUBCOMP", 9, 0), Step::Handled);
        assert_unexpected(&rig.ack("PUBCOMP", 9, 0), "PUBCOMP");
    }
}

#[test]
fn a_pubrec_that_comes_twice_is_answered_twice() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let mut delivery = rig.publish("a", ExactlyOnce);
        rig.sent();
        assert_eq!(rig.ack("PUBREC", 1, 0), Step::Handled);
        assert_eq!(rig.ack("PUBREC", 1, 0), Step::Handled);
        assert_eq!(rig.sent(), "PUBREL 1, PUBREL 1");
        assert_eq!(rig.ack("PUBCOMP", 1, 0), Step::Handled);
        assert_eq!(outcome(&mut delivery), Some(Ok(())));
        assert_eq!(rig.ack("PUBCOMP", 1, 0), Step::Handled);
        assert_unexpected(&rig.ack("PUBCOMP", 1, 0), "PUBCOMP");
    }
}

#[test]
fn nothing_overtakes_what_waits_for_the_output() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let _deliveries = [(); 4].map(|()| {
            let large = Publish::new("a", AtLeastOnce, vec![0; 6_000]);
            let large = large.expect("invariant: a topic");
            rig.request(|ticket| Request::Publish(large, ticket))
        });
        rig.resume(true);
        let output = rig.session.output();
        assert!((16_384..20_000).contains(&output.len()), "three of four are there");
        drop(output.split_to(10_000));
        assert!(!rig.session.can_take(), "the fourth comes first");
    }
}
