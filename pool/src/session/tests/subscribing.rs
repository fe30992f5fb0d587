//! The device's subscriptions, and those of run time.

use super::*;
use crate::error::CallerError;

fn device_with(filters: &[&str]) -> Device {
    filters.iter().fold(device(), |device, filter| {
        device.subscribe(filter, QoS::AtLeastOnce).expect("invariant: a filter")
    })
}

fn online_with(version: Version, filters: &[&str]) -> Rig {
    Rig::online_at(settings(version), device_with(filters), &[])
}

#[test]
fn the_devices_own_are_made_unless_the_broker_has_them() {
    for version in BOTH {
        let mut rig = online_with(version, &["a", "b"]);
        assert_eq!(rig.sent(), "SUBSCRIBE 1 a b");
        // Never acknowledged: asked for again.
        rig.resume(true);
        assert_eq!(rig.sent(), "SUBSCRIBE 2 a b");
        assert_eq!(rig.take(&wire::suback(version, 2, &[1, 0])), Step::Handled);
        rig.resume(true);
        assert_eq!(rig.sent(), "");
        rig.resume(false);
        assert_eq!(rig.sent(), "SUBSCRIBE 3 a b");
        rig.resume(false);
        assert_eq!(rig.sent(), "SUBSCRIBE 4 a b");
    }
}

#[test]
fn the_first_session_of_a_process_asks_whatever_the_broker_has() {
    for version in BOTH {
        let mut rig = Rig::with(settings(version), device_with(&["a"]));
        let step = rig.take(&wire::connack(version, true, 0, &[]));
        assert!(matches!(step, Step::Online { session_present: true, .. }));
        assert_eq!(rig.sent(), "SUBSCRIBE 1 a");
    }
}

#[test]
fn one_added_is_made_again_and_one_removed_is_not() {
    for version in BOTH {
        let mut rig = online_with(version, &["own"]);
        let mut added = rig.subscribe("added");
        assert_eq!(rig.sent(), "SUBSCRIBE 1 own, SUBSCRIBE 2 added");
        assert_eq!(rig.take(&wire::suback(version, 2, &[0])), Step::Handled);
        assert_eq!(outcome(&mut added), Some(Ok(())));
        assert_eq!(rig.take(&wire::suback(version, 1, &[0])), Step::Handled);
        rig.resume(true);
        assert_eq!(rig.sent(), "");
        rig.resume(false);
        assert_eq!(rig.sent(), "SUBSCRIBE 3 own added");
        let mut removed = rig.unsubscribe("added");
        assert_eq!(rig.sent(), "UNSUBSCRIBE 4 added");
        assert_eq!(rig.take(&wire::unsuback(version, 4, &[0x11])), Step::Handled);
        assert_eq!(outcome(&mut removed), Some(Ok(())));
        rig.resume(false);
        assert_eq!(rig.sent(), "SUBSCRIBE 5 own");
    }
}

#[test]
fn one_under_way_survives_the_connection_with_its_ticket() {
    for version in BOTH {
        for session_present in [true, false] {
            let mut rig = Rig::online(version);
            let mut subscribed = rig.subscribe("a");
            let mut unsubscribed = rig.unsubscribe("b");
            rig.sent();
            rig.resume(session_present);
            assert_eq!(rig.sent(), "SUBSCRIBE 3 a, UNSUBSCRIBE 4 b");
            assert_eq!(rig.take(&wire::suback(version, 3, &[1])), Step::Handled);
            assert_eq!(rig.take(&wire::unsuback(version, 4, &[0])), Step::Handled);
            assert_eq!(outcome(&mut subscribed), Some(Ok(())));
            assert_eq!(outcome(&mut unsubscribed), Some(Ok(())));
        }
    }
}

#[test]
fn a_refusal_goes_to_its_ticket_or_is_reported() {
    for version in BOTH {
        let mut rig = online_with(version, &["a", "b", "c"]);
        assert_eq!(rig.take(&wire::suback(version, 1, &[0x80, 0, 0x80])), Step::Handled);
        for filter in ["a", "c"] {
            let refusal = rig.session.poll_refusal().expect("invariant: two were refused");
            assert_eq!(&*refusal.filter, filter);
            assert_eq!(refusal.error, rejected(version, 0x80));
        }
        assert_eq!(rig.session.poll_refusal(), None);
        let mut delivery = rig.subscribe("d");
        assert_eq!(rig.take(&wire::suback(version, 2, &[0x80])), Step::Handled);
        assert_eq!(outcome(&mut delivery), Some(Err(rejected(version, 0x80))));
        assert_eq!(rig.session.poll_refusal(), None);
        rig.resume(false);
        assert_eq!(rig.sent(), "SUBSCRIBE 3 a b c");
    }
    let mut rig = Rig::online(Version::V5);
    let mut delivery = rig.unsubscribe("a");
    assert_eq!(rig.take(&wire::unsuback(Version::V5, 1, &[0x87])), Step::Handled);
    assert_eq!(outcome(&mut delivery), Some(Err(rejected(Version::V5, 0x87))));
}

#[test]
fn packets_are_batched_under_the_brokers_limit() {
    let version = Version::V5;
    let large = "long/topic/filter";
    // A SUBSCRIBE has 5 bytes, and 3 for each filter beside its text.
    let limit = [0x27, 0, 0, 0, 5 + 3 * 4];
    let device = device_with(&["a", "b", "c", large, "d"]);
    let mut rig = Rig::online_at(settings(version), device, &limit);
    assert_eq!(rig.sent(), "SUBSCRIBE 1 a b c, SUBSCRIBE 3 d");
    let refusal = rig.session.poll_refusal().expect("invariant: one is too large");
    assert_eq!(&*refusal.filter, large);
    let expected = CallerError::PacketTooLarge { size: 25, limit: 17, by: "the broker" };
    assert_eq!(refusal.error, expected.into());
    let mut delivery = rig.subscribe(large);
    let expected = CallerError::PacketTooLarge { size: 25, limit: 17, by: "the broker" };
    assert_eq!(outcome(&mut delivery), Some(Err(expected.into())));
    assert!(rig.session.can_take());
}

#[test]
fn hundreds_are_sent_as_fast_as_they_are_answered() {
    for version in BOTH {
        let filters: Vec<String> = (0..300).map(|number| format!("f/{number}")).collect();
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let mut rig = online_with(version, &filters);
        assert!(!rig.session.can_take());
        let mut made = Vec::new();
        let mut sent = rig.sent();
        assert_eq!(sent.matches("SUBSCRIBE").count(), 16);
        while !sent.is_empty() {
            let mut acks = Vec::new();
            for packet in sent.split(", ") {
                let mut words = packet.split(' ').skip(1);
                let id = words.next().and_then(|id| id.parse().ok()).expect("invariant: an id");
                let before = made.len();
                made.extend(words.map(str::to_owned));
                acks.extend(wire::suback(version, id, &vec![1; made.len() - before]));
            }
            rig.feed(&acks);
            sent = rig.sent();
        }
        assert_eq!(made, filters);
        assert!(rig.session.can_take() && rig.session.carried.is_empty());
    }
}

#[test]
fn a_suback_has_to_fit() {
    for version in BOTH {
        for (id, codes) in [(2, &[0, 0][..]), (1, &[0]), (1, &[0, 0, 0]), (1, &[0, 3])] {
            let mut rig = online_with(version, &["a", "b"]);
            let step = rig.take(&wire::suback(version, id, codes));
            assert!(matches!(step, Step::Ended(Cause::Protocol(_))), "{step:?}");
            rig.resume(true);
            assert_eq!(rig.sent(), "SUBSCRIBE 2 a b", "nothing of it is lost");
        }
        let mut rig = online_with(version, &["a"]);
        assert_unexpected(&rig.take(&wire::unsuback(version, 1, &[0])), "UNSUBACK");
    }
    let mut rig = Rig::online(Version::V5);
    let _delivery = rig.unsubscribe("a");
    let step = rig.take(&wire::unsuback(Version::V5, 1, &[0, 0]));
    assert!(matches!(step, Step::Ended(Cause::Protocol(_))), "{step:?}");
}
