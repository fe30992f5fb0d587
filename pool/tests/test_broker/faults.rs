//! Each knob does what it says, seen from a bare socket.

use super::raw::{Ended, Raw, connect, publish};
use super::{start, until};
use pool::testing::{Announcement, Answer, Behaviour, Fault, Stray, Takeover, TestBroker};
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(100);

async fn with(behaviour: Behaviour) -> TestBroker {
    let broker = start().await;
    broker.set_behaviour(behaviour);
    broker
}

/// What a client of MQTT 3.1.1 gets for its CONNECT.
async fn asked(broker: &TestBroker) -> Raw {
    let mut raw = Raw::open(broker).await;
    raw.send(&connect("c", 4, true, 60)).await;
    raw
}

#[tokio::test]
async fn a_connack_is_late() {
    let broker = with(Behaviour { connack_delay: MOMENT * 2, ..Behaviour::default() }).await;
    let mut raw = asked(&broker).await;
    raw.send(&[0xC0, 0]).await;
    raw.is_quiet(MOMENT).await;
    assert_eq!(broker.sessions(), []);
    raw.expect(&[0x20, 2, 0, 0, 0xD0, 0]).await;
}

#[tokio::test]
async fn a_connack_never_comes_or_is_wrong() {
    let broker = with(Behaviour { connack: Answer::Never, ..Behaviour::default() }).await;
    let mut raw = asked(&broker).await;
    raw.is_quiet(MOMENT).await;
    let wrong = Answer::Wrong(vec![0x20, 2, 9].into());
    broker.set_behaviour(Behaviour { connack: wrong, ..Behaviour::default() });
    let mut raw = asked(&broker).await;
    raw.expect(&[0x20, 2, 9]).await;
    raw.is_quiet(MOMENT).await;
    raw.send(&[0xC0, 0]).await;
    until(&broker, "ignored", |counters| counters.ignored == 1).await;
}

#[tokio::test]
async fn a_connect_is_refused() {
    let refusing = |connack| Behaviour { connack, ..Behaviour::default() };
    let broker = with(refusing(Answer::Refuse { code: 5 })).await;
    let mut raw = asked(&broker).await;
    assert_eq!(raw.rest().await, (vec![0x20, 2, 0, 5], Ended::Fin));
    broker.set_behaviour_of("c", refusing(Answer::Busy));
    let mut raw = asked(&broker).await;
    assert_eq!(raw.rest().await, (vec![0x20, 2, 0, 3], Ended::Fin));
    broker.set_behaviour_of("c", refusing(Answer::Redirect { server: "b:1".to_owned() }));
    let mut raw = Raw::open(&broker).await;
    raw.send(&connect("c", 5, true, 60)).await;
    let redirect = vec![0x20, 9, 0, 0x9C, 6, 0x1C, 0, 3, b'b', b':', b'1'];
    assert_eq!(raw.rest().await, (redirect, Ended::Fin));
}

#[tokio::test]
async fn one_connection_too_many_is_closed_without_a_word() {
    let broker = with(Behaviour { max_connections: Some(1), ..Behaviour::default() }).await;
    let _first = Raw::connected(&broker, "a").await;
    let mut second = Raw::open(&broker).await;
    assert_eq!(second.ends().await, Ended::Fin);
    assert_eq!(broker.counters().over_limit, 1);
}

#[tokio::test]
async fn connections_end_after_connack() {
    let broker =
        with(Behaviour { close_after_connack: Some(MOMENT), ..Behaviour::default() }).await;
    assert_eq!(Raw::connected(&broker, "c").await.ends().await, Ended::Fin);
    let resetting = Behaviour { reset_after_connack: Some(MOMENT), ..Behaviour::default() };
    broker.set_behaviour(resetting);
    assert_eq!(Raw::connected(&broker, "c").await.ends().await, Ended::Reset);
}

#[tokio::test]
async fn a_silent_broker_reads_and_never_answers() {
    let broker = with(Behaviour { silence: true, ..Behaviour::default() }).await;
    let mut raw = Raw::connected(&broker, "c").await;
    raw.send(&[0xC0, 0]).await;
    raw.is_quiet(MOMENT).await;
    let counters = broker.counters();
    assert_eq!((counters.pings, counters.bytes_withheld), (1, 2));
}

#[tokio::test]
async fn a_half_open_broker_reads_nothing() {
    let broker = with(Behaviour { half_open: true, ..Behaviour::default() }).await;
    let mut raw = Raw::connected(&broker, "c").await;
    let before = broker.counters().bytes_received;
    raw.send(&[0xC0, 0]).await;
    raw.is_quiet(MOMENT).await;
    assert_eq!(broker.counters().bytes_received, before);
    drop(raw);
    // The client closed it: no overlap, although the broker cannot know without reading.
    let _next = Raw::connected(&broker, "c").await;
    assert_eq!(broker.counters().overlaps, 0);
}

#[tokio::test]
async fn answers_drip() {
    let broker = with(Behaviour { drip: Some(MOMENT / 2), ..Behaviour::default() }).await;
    let begun = tokio::time::Instant::now();
    let _raw = Raw::connected(&broker, "c").await;
    let took = begun.elapsed();
    assert!(took >= MOMENT / 2 * 3, "{took:?}");
}

#[tokio::test]
async fn faults_are_sent_round_connack() {
    async fn check(fault: Fault, expected: &[u8]) {
        let broker = with(Behaviour { faults: vec![fault], ..Behaviour::default() }).await;
        let mut raw = asked(&broker).await;
        raw.expect(expected).await;
    }
    check(Fault::Early(Stray::PubAck), &[0x40, 2, 0xFF, 0xDD, 0x20, 2, 0, 0]).await;
    check(Fault::Late(Stray::PubRec), &[0x20, 2, 0, 0, 0x50, 2, 0xFF, 0xDD]).await;
    check(Fault::SecondConnAck, &[0x20, 2, 0, 0, 0x20, 2, 0, 0]).await;
    check(Fault::HugeLength, &[0x20, 2, 0, 0, 0x30, 0xFF, 0xFF, 0xFF, 0x7F]).await;
    check(Fault::EndlessLength, &[0x20, 2, 0, 0, 0x30, 0xFF, 0xFF, 0xFF, 0xFF]).await;
    let oversized = Fault::Oversized { bytes: 5_000_000 };
    let broker = with(Behaviour { faults: vec![oversized], ..Behaviour::default() }).await;
    let mut raw = asked(&broker).await;
    raw.expect(&[0x20, 2, 0, 0, 0x30]).await;
    let mut rest = vec![0; 4_999_999];
    let reading = tokio::io::AsyncReadExt::read_exact(&mut raw.0, &mut rest);
    tokio::time::timeout(super::PATIENCE, reading)
        .await
        .expect("invariant: all of it comes")
        .expect("invariant: the socket is open");
    let truncated = Behaviour { faults: vec![Fault::Truncated], ..Behaviour::default() };
    broker.set_behaviour(truncated);
    let (bytes, ended) = asked(&broker).await.rest().await;
    assert_eq!((bytes.len(), ended), (11, Ended::Fin));
}

#[tokio::test]
async fn acknowledgements_are_withheld_and_duplicates_are_seen() {
    let broker = with(Behaviour { drop_acks: 2, ..Behaviour::default() }).await;
    let mut raw = Raw::connected(&broker, "c").await;
    raw.send(&publish(1)).await;
    raw.expect(&[0x40, 2, 0, 1]).await;
    raw.send(&publish(2)).await;
    let mut again = publish(2);
    again[0] |= 0x08;
    raw.send(&again).await;
    raw.expect(&[0x40, 2, 0, 2]).await;
    let counters = broker.counters();
    assert_eq!((counters.acks_withheld, counters.duplicates, counters.publishes[1]), (1, 1, 3));
}

#[tokio::test]
async fn a_session_is_lost() {
    let broker = with(Behaviour { lose_session: true, ..Behaviour::default() }).await;
    for _ in 0..2 {
        let mut raw = Raw::open(&broker).await;
        raw.send(&connect("c", 4, false, 60)).await;
        raw.expect(&[0x20, 2, 0, 0]).await;
    }
    broker.set_behaviour(Behaviour::default());
    let mut raw = Raw::open(&broker).await;
    raw.send(&connect("c", 4, false, 60)).await;
    raw.expect(&[0x20, 2, 1, 0]).await;
}

#[tokio::test]
async fn a_taken_over_connection_ends_as_it_was_told() {
    let broker = start().await;
    let mut older = Raw::connected_5(&broker, "c").await;
    let telling = Behaviour { takeover: Takeover::Disconnect, ..Behaviour::default() };
    broker.set_behaviour(telling);
    let mut newer = Raw::connected_5(&broker, "c").await;
    assert_eq!(older.ends().await, Ended::Fin);
    let ignoring = Behaviour { takeover: Takeover::Ignore, ..Behaviour::default() };
    broker.set_behaviour(ignoring);
    let mut newest = Raw::connected_5(&broker, "c").await;
    assert_eq!(newer.rest().await, (vec![0xE0, 1, 0x8E], Ended::Fin));
    let _last = Raw::connected_5(&broker, "c").await;
    newest.send(&[0xC0, 0]).await;
    newest.expect(&[0xD0, 0]).await;
    let counters = broker.counters();
    assert_eq!((counters.takeovers, counters.overlaps, counters.most_at_once), (3, 3, 2));
    assert_eq!(counters.overlapping, ["c", "c", "c"].map(std::sync::Arc::from));
}

#[tokio::test]
async fn a_packet_above_the_announced_maximum_ends_the_connection() {
    let announce = Announcement { maximum_packet_size: Some(20), ..Announcement::default() };
    let broker = with(Behaviour { announce, ..Behaviour::default() }).await;
    let mut raw = Raw::connected_5(&broker, "c").await;
    raw.send(&[0x30, 19, 0, 1, b't', 0]).await;
    assert_eq!(raw.rest().await, (vec![0xE0, 1, 0x95], Ended::Fin));
    assert_eq!(broker.counters().problems, ["packet too large"]);
}

#[tokio::test]
async fn a_broken_client_is_closed() {
    let broker = start().await;
    let mut raw = Raw::open(&broker).await;
    raw.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.ends().await, Ended::Fin);
    let mut raw = Raw::open(&broker).await;
    raw.send(&connect("c", 6, true, 60)).await;
    assert_eq!(raw.rest().await, (vec![0x20, 2, 0, 1], Ended::Fin));
    let mut raw = Raw::connected_5(&broker, "c").await;
    raw.send(&[0x60, 2, 0, 1]).await;
    assert_eq!(raw.rest().await, (vec![0xE0, 1, 0x81], Ended::Fin));
    assert_eq!(broker.counters().protocol_errors, 3);
}
