//! What the next session takes over.

use super::*;
use QoS::{AtLeastOnce, ExactlyOnce};

#[test]
fn the_same_ids_are_sent_again_in_their_order() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let mut a = rig.publish("a", ExactlyOnce);
        let mut b = rig.publish("b", AtLeastOnce);
        let mut c = rig.publish("c", ExactlyOnce);
        rig.sent();
        assert_eq!(rig.ack("PUBREC", 1, 0), Step::Handled);
        // Whether PUBREL was written or not.
        rig.resume(true);
        assert_eq!(rig.sent(), "PUBREL 1, PUBLISH 2 b qos1 dup, PUBLISH 3 c qos2 dup");
        rig.resume(true);
        let mut d = rig.publish("d", AtLeastOnce);
        assert_eq!(
            rig.sent(),
            "PUBREL 1, PUBLISH 2 b qos1 dup, PUBLISH 3 c qos2 dup, PUBLISH 4 d qos1"
        );
        for (name, id) in [("PUBCOMP", 1), ("PUBACK", 2), ("PUBREC", 3), ("PUBACK", 4)] {
            assert_eq!(rig.ack(name, id, 0), Step::Handled);
        }
        // The broker has completed it: its PUBCOMP is on the way when the connection is lost.
        rig.resume(true);
        let not_found = if version == Version::V5 { 0x92 } else { 0 };
        assert_eq!(rig.ack("PUBCOMP", 3, not_found), Step::Handled);
        for delivery in [&mut a, &mut b, &mut c, &mut d] {
            assert_eq!(outcome(delivery), Some(Ok(())));
        }
        assert!(rig.session.carried.is_empty());
    }
}

#[test]
fn a_broker_that_lost_its_session_gets_new_messages_except_for_those_it_has() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let mut a = rig.publish("a", ExactlyOnce);
        let _b = rig.publish("b", AtLeastOnce);
        let _c = rig.publish("c", ExactlyOnce);
        rig.sent();
        assert_eq!(rig.ack("PUBREC", 1, 0), Step::Handled);
        rig.resume(false);
        assert_eq!(outcome(&mut a), Some(Ok(())));
        assert_eq!(rig.sent(), "PUBLISH 2 b qos1, PUBLISH 3 c qos2");
    }
}

#[test]
fn a_smaller_window_lets_the_rest_wait() {
    let version = Version::V5;
    let mut rig = Rig::online(version);
    let _deliveries = ["a", "b", "c"].map(|topic| rig.publish(topic, ExactlyOnce));
    rig.sent();
    assert_eq!(rig.ack("PUBREC", 1, 0), Step::Handled);
    rig.reconnect();
    let one = [0x21, 0, 1];
    rig.take(&wire::connack(version, true, 0, &one));
    assert_eq!(rig.sent(), "PUBREL 1");
    assert!(!rig.session.can_take());
    // An answer to one that waits is noted, and its PUBREL keeps its place.
    assert_eq!(rig.ack("PUBREC", 3, 0), Step::Handled);
    assert_eq!(rig.sent(), "");
    assert_eq!(rig.ack("PUBCOMP", 1, 0), Step::Handled);
    assert_eq!(rig.sent(), "PUBLISH 2 b qos2 dup");
    assert_eq!(rig.ack("PUBREC", 2, 0), Step::Handled);
    assert_eq!(rig.ack("PUBCOMP", 2, 0), Step::Handled);
    assert_eq!(rig.sent(), "PUBREL 2, PUBREL 3");
}

#[test]
fn what_the_broker_does_not_take_any_more_is_given_up() {
    let version = Version::V5;
    let mut rig = Rig::online(version);
    let mut refused = rig.publish("a", ExactlyOnce);
    let mut kept = rig.publish("b", AtLeastOnce);
    rig.reconnect();
    rig.take(&wire::connack(version, true, 0, &[0x24, 1]));
    assert_eq!(rig.sent(), "PUBLISH 2 b qos1 dup");
    assert_eq!(outcome(&mut refused), Some(Err(rejected(version, 0x9B))));
    assert_eq!(outcome(&mut kept), None);
}

#[test]
fn an_answer_to_what_a_new_session_was_not_sent_is_unexpected() {
    for (qos, name) in [(AtLeastOnce, "PUBACK"), (ExactlyOnce, "PUBREC")] {
        let mut rig = Rig::online(Version::V5);
        let _deliveries = ["a", "b"].map(|topic| rig.publish(topic, qos));
        rig.reconnect();
        rig.take(&wire::connack(Version::V5, false, 0, &[0x21, 0, 1]));
        assert_eq!(rig.sent().matches("PUBLISH").count(), 1);
        assert_unexpected(&rig.ack(name, 2, 0), name);
    }
}

#[test]
fn a_message_with_qos_2_is_not_delivered_again_by_the_next_session() {
    for version in BOTH {
        let again = wire::publish(version, "t", 2, 3, true, b"");
        for (session_present, is_accepted) in
            [(true, true), (true, false), (false, true), (false, false)]
        {
            let mut rig = Rig::online(version);
            let acknowledge = rig.message(2, 3);
            if is_accepted {
                rig.session.accept(rig.now, acknowledge);
            }
            rig.resume(session_present);
            let step = rig.take(&again);
            if session_present && is_accepted {
                assert_eq!(step, Step::Handled);
                assert_eq!(rig.sent(), "PUBREC 3");
            } else {
                assert!(matches!(step, Step::Message(..)), "{step:?}");
            }
        }
    }
}

#[test]
fn a_pubrel_for_the_last_session_is_answered_by_the_next() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let acknowledge = rig.message(2, 3);
        rig.session.accept(rig.now, acknowledge);
        rig.resume(true);
        assert_eq!(rig.ack("PUBREL", 3, 0), Step::Handled);
        assert_eq!(rig.sent(), "PUBCOMP 3");
    }
}

#[test]
fn a_late_acknowledgement_is_not_sent_on_the_next_session() {
    for version in BOTH {
        for qos in [0, 1, 2] {
            let mut rig = Rig::online(version);
            let late = rig.message(qos, 3);
            rig.resume(true);
            let current = rig.message(qos, 3);
            rig.session.accept(rig.now, late);
            assert_eq!(rig.sent(), "");
            rig.session.accept(rig.now, current);
            assert_eq!(rig.sent(), ["", "PUBACK 3", "PUBREC 3"][usize::from(qos)]);
        }
    }
}

#[test]
fn what_the_last_session_left_is_not_counted_against_the_receive_maximum() {
    let version = Version::V5;
    let mut rig = Rig::online(version);
    for id in 1..=4 {
        let acknowledge = rig.message(2, id);
        rig.session.accept(rig.now, acknowledge);
    }
    rig.resume(true);
    for id in 5..=8 {
        let _acknowledge = rig.message(2, id);
    }
    let step = rig.take(&wire::publish(version, "t", 2, 1, true, b""));
    assert_eq!(step, Step::Ended(ProtocolError::ReceiveMaximum(4).into()));
}

#[test]
fn a_connection_that_never_got_online_changes_nothing() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let mut delivery = rig.publish("a", ExactlyOnce);
        rig.subscribe("s").now_or_never();
        let acknowledge = rig.message(2, 3);
        rig.session.accept(rig.now, acknowledge);
        for _ in 0..3 {
            rig.reconnect();
        }
        rig.resume(true);
        assert_eq!(rig.sent(), "SUBSCRIBE 3 s, PUBLISH 1 a qos2 dup");
        assert_eq!(outcome(&mut delivery), None);
        assert_eq!(rig.take(&wire::publish(version, "t", 2, 3, true, b"")), Step::Handled);
    }
}

#[test]
fn a_connack_that_was_lost_may_have_told_of_a_new_session() {
    let own = || device().subscribe("own", QoS::AtLeastOnce).expect("invariant: a filter");
    for version in BOTH {
        let mut rig = Rig::online_at(settings(version), own(), &[]);
        assert_eq!(rig.take(&wire::suback(version, 1, &[1])), Step::Handled);
        let mut added = rig.subscribe("added");
        assert_eq!(rig.take(&wire::suback(version, 2, &[1])), Step::Handled);
        assert_eq!(outcome(&mut added), Some(Ok(())));
        for id in [3, 4] {
            let acknowledge = rig.message(2, id);
            rig.session.accept(rig.now, acknowledge);
        }
        // One that the broker did not read whole leaves no doubt.
        rig.replace();
        rig.resume(true);
        assert_eq!(rig.sent(), "");
        rig.reconnect();
        rig.resume(true);
        assert_eq!(rig.sent(), "SUBSCRIBE 3 own added");
        assert_eq!(rig.take(&wire::suback(version, 3, &[1, 1])), Step::Handled);
        let copy = wire::publish(version, "t", 2, 3, true, b"");
        assert_eq!(rig.take(&copy), Step::Handled);
        let acknowledge = rig.message(2, 4);
        rig.session.accept(rig.now, acknowledge);
        assert_eq!(rig.sent(), "PUBREC 3, PUBREC 4");
        rig.resume(true);
        assert_eq!(rig.sent(), "", "the doubt is gone");
    }
}
