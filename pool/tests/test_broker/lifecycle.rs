//! Connections from their beginning to their end, many of them, and the witness of overlaps.

use super::raw::{Ended, Raw, connect};
use super::{start, until};
use pool::testing::{Behaviour, TestBroker};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const MOMENT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn kicked_and_reset_clients_see_how_they_ended() {
    let broker = start().await;
    let (mut a, mut b) = (Raw::connected(&broker, "a").await, Raw::connected(&broker, "b").await);
    assert_eq!(broker.kick("nobody"), 0);
    assert_eq!(broker.kick("a"), 1);
    assert_eq!(a.ends().await, Ended::Fin);
    assert_eq!(broker.reset("b"), 1);
    assert_eq!(b.ends().await, Ended::Reset);
    let (mut a, mut b) = (Raw::connected(&broker, "a").await, Raw::connected(&broker, "b").await);
    assert_eq!(broker.reset_all(), 2);
    assert_eq!((a.ends().await, b.ends().await), (Ended::Reset, Ended::Reset));
    let mut a = Raw::connected(&broker, "a").await;
    until(&broker, "one is open", |counters| counters.open == 1).await;
    assert_eq!(broker.kick_all(), 1);
    assert_eq!(a.ends().await, Ended::Fin);
    until(&broker, "none is open", |counters| counters.open == 0).await;
    assert_eq!(broker.counters().lost, 0);
}

#[tokio::test]
async fn a_disconnect_carries_its_code() {
    let broker = start().await;
    let mut new = Raw::connected_5(&broker, "new").await;
    let mut old = Raw::connected(&broker, "old").await;
    assert!(broker.disconnect("new", 0x8B) && broker.disconnect("old", 0x8B));
    assert!(!broker.disconnect("nobody", 0x8B));
    assert_eq!(new.rest().await, (vec![0xE0, 1, 0x8B], Ended::Fin));
    assert_eq!(old.ends().await, Ended::Fin);
}

#[tokio::test]
async fn a_frozen_broker_is_dead_until_it_thaws() {
    let broker = start().await;
    let mut raw = Raw::open(&broker).await;
    raw.send(&connect("c", 4, true, 1)).await;
    raw.expect(&[0x20, 2, 0, 0]).await;
    let mut idle = Raw::open(&broker).await;
    idle.send(&connect("idle", 4, true, 1)).await;
    idle.expect(&[0x20, 2, 0, 0]).await;
    broker.freeze();
    raw.send(&[0xC0, 0]).await;
    let mut other = Raw::open(&broker).await;
    other.send(&connect("d", 4, true, 60)).await;
    raw.is_quiet(Duration::from_millis(1_600)).await;
    assert_eq!(broker.counters().accepted, 2);
    broker.thaw();
    // Longer than 1.5 s passed, but no time for the broker: nobody is thrown out.
    raw.expect(&[0xD0, 0]).await;
    other.expect(&[0x20, 2, 0, 0]).await;
    idle.is_quiet(MOMENT).await;
    assert_eq!(broker.counters().keep_alive_timeouts, 0);
}

#[tokio::test]
async fn shutdown_closes_all_sockets_and_frees_the_port() {
    let broker = start().await;
    let (mut a, mut b) = (Raw::connected(&broker, "a").await, Raw::open(&broker).await);
    until(&broker, "both are accepted", |counters| counters.open == 2).await;
    broker.freeze();
    let address = broker.address();
    broker.shutdown().await;
    assert_eq!((a.ends().await, b.ends().await), (Ended::Fin, Ended::Fin));
    assert!(TcpStream::connect(address).await.is_err());
    let again = TestBroker::builder().address(address).backlog(10).start().await;
    assert_eq!(again.expect("invariant: the port is free").url(), format!("mqtt://{address}"));
}

#[tokio::test]
async fn dropping_the_broker_closes_all_sockets() {
    let broker = start().await;
    let mut raw = Raw::connected(&broker, "a").await;
    drop(broker);
    assert_eq!(raw.ends().await, Ended::Fin);
}

/// A client that closes its socket before it opens the next, on another thread than the broker:
/// the broker's tasks see both ends in any order, and must not call it an overlap.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sockets_one_after_the_other_are_no_overlap() {
    let broker = start().await;
    let mut clients = JoinSet::new();
    for client in 0..20 {
        clients.spawn(reconnect(broker.address(), format!("c{client}"), client % 2 == 0));
    }
    while let Some(client) = clients.join_next().await {
        client.expect("invariant: no client panics");
    }
    let counters = broker.counters();
    assert_eq!(counters.connects, 20 * 50);
    assert_eq!((counters.overlaps, counters.most_at_once), (0, 1), "{:?}", counters.overlapping);
    assert_eq!((counters.takeovers, counters.panics), (0, 0));
}

async fn reconnect(address: SocketAddr, client: String, reset: bool) {
    for _ in 0..50 {
        let stream = TcpStream::connect(address).await.expect("invariant: it listens");
        if reset {
            stream.set_zero_linger().expect("invariant: a socket");
        }
        let mut raw = Raw(stream);
        raw.send(&connect(&client, 4, false, 60)).await;
        let connack = raw.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0));
    }
}

#[tokio::test]
async fn two_sockets_at_one_time_are_an_overlap_even_without_a_session() {
    let broker = start().await;
    broker.set_behaviour(Behaviour { connack_delay: MOMENT * 100, ..Behaviour::default() });
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::open(&broker).await;
        raw.send(&connect("c", 4, true, 60)).await;
        sockets.push(raw);
    }
    let counters = until(&broker, "two overlaps", |counters| counters.overlaps == 2).await;
    assert_eq!((counters.most_at_once, counters.takeovers), (3, 0));
}

#[tokio::test]
async fn publishes_are_recorded_up_to_the_limit() {
    let broker = TestBroker::builder().record(1).start().await.expect("invariant: free ports");
    let mut raw = Raw::connected(&broker, "c").await;
    raw.send(&super::raw::publish(1)).await;
    raw.send(&super::raw::publish(2)).await;
    raw.expect(&[0x40, 2, 0, 1, 0x40, 2, 0, 2]).await;
    let received = broker.take_received();
    assert_eq!(received.len(), 1);
    assert_eq!((&*received[0].client_id, &*received[0].topic), ("c", "t"));
    assert_eq!(received[0].payload, "hi");
    assert_eq!(broker.counters().not_recorded, 1);
}

#[tokio::test]
async fn a_slow_reader_loses_messages_with_qos_0_and_they_are_counted() {
    let broker = start().await;
    let mut raw = Raw::connected(&broker, "c").await;
    raw.send(&[0x82, 6, 0, 1, 0, 1, b't', 0]).await;
    raw.expect(&[0x90, 3, 0, 1, 0]).await;
    let payload = bytes::Bytes::from(vec![0; 1 << 20]);
    for _ in 0..40 {
        broker.publish("t", pool::QoS::AtMostOnce, payload.clone()).expect("invariant: a topic");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let counters = broker.counters();
    assert_eq!(counters.sent[0], 40);
    assert!(counters.dropped_slow > 0, "{counters:#?}");
}
