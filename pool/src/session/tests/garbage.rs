//! A broker that says anything at all.

use super::*;
use proptest::prelude::*;

/// A session in the middle of everything.
fn busy(version: Version) -> (Rig, Vec<Delivery>) {
    let own = device().subscribe("own", QoS::AtLeastOnce).expect("invariant: a filter");
    let mut rig = Rig::online_at(settings(version), own, &[]);
    let deliveries = vec![
        rig.publish("a", QoS::AtLeastOnce),
        rig.publish("b", QoS::ExactlyOnce),
        rig.publish("c", QoS::ExactlyOnce),
        rig.subscribe("s"),
        rig.unsubscribe("u"),
    ];
    rig.sent();
    assert_eq!(rig.ack("PUBREC", 3, 0), Step::Handled);
    let _acknowledge = rig.message(1, 1);
    let acknowledge = rig.message(2, 2);
    rig.session.accept(rig.now, acknowledge);
    (rig, deliveries)
}

/// Packets that are whole, with ids and codes that may mean something.
fn packet(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let id = 0..7_u16;
    let code = prop_oneof![3 => Just(0), 1 => prop::sample::select(vec![1, 2, 3, 0x80, 0x92])];
    let codes = prop::collection::vec(code.clone(), 0..3);
    let name = prop::sample::select(vec!["PUBACK", "PUBREC", "PUBREL", "PUBCOMP"]);
    prop_oneof![
        6 => (name, id.clone(), code.clone())
            .prop_map(move |(name, id, code)| wire::ack(version, name, id, code)),
        3 => (0..4_u8, id.clone(), any::<bool>())
            .prop_map(move |(qos, id, dup)| wire::publish(version, "t", qos, id, dup, b"x")),
        2 => (id.clone(), codes.clone()).prop_map(move |(id, c)| wire::suback(version, id, &c)),
        1 => (id, codes).prop_map(move |(id, codes)| wire::unsuback(version, id, &codes)),
        1 => Just(wire::pingresp()),
        1 => (any::<bool>(), code.clone())
            .prop_map(move |(present, code)| wire::connack(version, present, code, &[])),
        1 => code.prop_map(|code| wire::disconnect(code, &[])),
        1 => prop::collection::vec(any::<u8>(), 1..20),
    ]
}

/// Feeds it in pieces. Whatever comes, the session ends with a named cause or can go on, and no
/// ticket is lost.
fn check(mut rig: Rig, deliveries: Vec<Delivery>, bytes: &[u8], piece: usize) {
    let mut ended = None;
    for bytes in bytes.chunks(piece) {
        for step in rig.feed(bytes) {
            assert!(ended.is_none(), "{step:?} after the end");
            match step {
                Step::Ended(cause) => ended = Some(cause),
                Step::Message(_, acknowledge) => rig.session.accept(rig.now, acknowledge),
                Step::Online { .. } | Step::Handled | Step::NeedMore => {}
            }
        }
        rig.sent();
    }
    if ended.is_none() && !rig.inbox.is_empty() {
        rig.pass(30);
        let slow = rig.session.handle_timeout(rig.now).expect_err("the packet was begun");
        assert_eq!(slow, ProtocolError::SlowPacket(Duration::from_secs(30)).into());
        ended = Some(slow);
    }
    if let Some(cause) = ended {
        assert!(Cause::CODES.contains(&cause.code()));
        assert_eq!(rig.session.poll_timeout(), None);
    }
    let carried = rig.session.into_carried(&Cause::Reset);
    carried.abandon(&Cause::Removed);
    for mut delivery in deliveries {
        let outcome = outcome(&mut delivery).expect("every ticket is settled");
        assert_ne!(outcome, Err(crate::error::CallerError::Closed.into()));
    }
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        piece in 1..50_usize,
    ) {
        for version in BOTH {
            check(Rig::new(version), Vec::new(), &bytes, piece);
            let (rig, deliveries) = busy(version);
            check(rig, deliveries, &bytes, piece);
        }
    }

    #[test]
    fn packets_at_the_wrong_time_do_no_harm(
        (version, packets) in prop::sample::select(BOTH.to_vec())
            .prop_flat_map(|version| (Just(version), prop::collection::vec(packet(version), 1..30))),
        piece in 1..50_usize,
    ) {
        let bytes = packets.concat();
        check(Rig::new(version), Vec::new(), &bytes, piece);
        let (rig, deliveries) = busy(version);
        check(rig, deliveries, &bytes, piece);
    }
}
