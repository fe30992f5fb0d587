//! Pings, silence and slow packets.

use super::*;

#[test]
fn pings_keep_an_idle_session_and_silence_ends_it() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        assert_eq!(rig.session.poll_timeout(), Some(rig.now + Duration::from_secs(60)));
        rig.pass(60);
        for _ in 0..3 {
            assert_eq!(rig.session.handle_timeout(rig.now), Ok(()));
        }
        assert_eq!(rig.sent(), "PINGREQ");
        assert_eq!(rig.take(&wire::pingresp()), Step::Handled);
        rig.pass(60);
        assert_eq!(rig.session.handle_timeout(rig.now), Ok(()));
        assert_eq!(rig.sent(), "PINGREQ");
        assert_eq!(rig.session.poll_timeout(), Some(rig.now + Duration::from_secs(30)));
        rig.pass(30);
        let silence = Cause::KeepAlive(Duration::from_secs(90));
        assert_eq!(rig.session.handle_timeout(rig.now), Err(silence));
        assert_eq!(rig.session.handle_timeout(rig.now), Ok(()));
        assert_eq!(rig.session.poll_timeout(), None);
    }
}

#[test]
fn a_broker_that_only_listens_is_asked() {
    let mut rig = Rig::online(Version::V311);
    for _ in 0..6 {
        rig.pass(10);
        let _delivery = rig.publish("t", QoS::AtMostOnce);
        rig.sent();
    }
    assert_eq!(rig.session.handle_timeout(rig.now), Ok(()));
    assert_eq!(rig.sent(), "PINGREQ");
}

#[test]
fn pings_go_on_while_we_do_not_read() {
    let mut rig = Rig::online(Version::V5);
    rig.session.set_reading(rig.now, false);
    for _ in 0..5 {
        rig.pass(60);
        assert_eq!(rig.session.poll_timeout(), Some(rig.now));
        assert_eq!(rig.session.handle_timeout(rig.now), Ok(()));
        assert_eq!(rig.sent(), "PINGREQ");
    }
    rig.session.set_reading(rig.now, true);
    for _ in 0..5 {
        assert_eq!(rig.take(&wire::pingresp()), Step::Handled);
    }
    assert_eq!(rig.session.poll_timeout(), Some(rig.now + Duration::from_secs(60)));
}

#[test]
fn the_broker_of_mqtt_5_may_choose_the_keep_alive() {
    #[track_caller]
    fn check(properties: &[u8], expected: u64) {
        let mut rig = Rig::new(Version::V5);
        let step = rig.take(&wire::connack(Version::V5, false, 0, properties));
        let expected = Duration::from_secs(expected);
        assert_eq!(step, Step::Online { session_present: false, keep_alive: expected });
        let deadline = (!expected.is_zero()).then(|| rig.now + expected);
        assert_eq!(rig.session.poll_timeout(), deadline);
    }
    check(&[], 60);
    check(&[0x13, 0, 10], 10);
    check(&[0x13, 0xff, 0xff], 65_535);
    check(&[0x13, 0, 0], 0);
}

#[test]
fn a_packet_begun_has_to_end_before_and_after_connack() {
    for version in BOTH {
        for mut rig in [Rig::new(version), Rig::online(version)] {
            assert_eq!(rig.feed(&[0x20]), []);
            assert_eq!(rig.session.poll_timeout(), Some(rig.now + Duration::from_secs(30)));
            rig.pass(29);
            assert_eq!(rig.session.handle_timeout(rig.now), Ok(()));
            rig.pass(1);
            let slow = ProtocolError::SlowPacket(Duration::from_secs(30));
            assert_eq!(rig.session.handle_timeout(rig.now), Err(slow.into()));
        }
    }
}

#[test]
fn only_what_is_written_delays_a_ping() {
    let mut rig = Rig::online(Version::V311);
    rig.pass(30);
    rig.take(&wire::pingresp());
    rig.session.output_written(rig.now);
    assert_eq!(rig.session.poll_timeout(), Some(rig.now + Duration::from_secs(30)));
    let _delivery = rig.publish("t", QoS::AtMostOnce);
    rig.sent();
    assert_eq!(rig.session.poll_timeout(), Some(rig.now + Duration::from_secs(60)));
}
