//! rumqttc's clients against a correct broker.

use super::{PATIENCE, start, until};
use pool::testing::{Announcement, Behaviour, TestBroker};
use rumqttc::v5;
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS};
use std::time::Duration;
use tokio::time::timeout;

fn options(broker: &TestBroker, client: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client, "127.0.0.1", broker.address().port());
    options.set_keep_alive(Duration::from_secs(5));
    options
}

fn options_5(broker: &TestBroker, client: &str) -> v5::MqttOptions {
    let mut options = v5::MqttOptions::new(client, "127.0.0.1", broker.address().port());
    options.set_keep_alive(Duration::from_secs(5));
    options.set_outgoing_inflight_upper_limit(10);
    options
}

/// Polls until a packet that is wanted came.
async fn next<T>(events: &mut EventLoop, mut wanted: impl FnMut(Packet) -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Event::Incoming(packet) = events.poll().await.expect("invariant: it is up")
                && let Some(found) = wanted(packet)
            {
                return found;
            }
        }
    };
    timeout(PATIENCE, waiting).await.expect("invariant: the packet comes")
}

async fn connack(events: &mut EventLoop) -> bool {
    next(events, |packet| match packet {
        Packet::ConnAck(connack) => Some(connack.session_present),
        _ => None,
    })
    .await
}

async fn message(events: &mut EventLoop) -> (String, QoS, bool) {
    next(events, |packet| match packet {
        Packet::Publish(publish) => {
            let text = String::from_utf8_lossy(&publish.payload).into_owned();
            Some((text, publish.qos, publish.dup))
        }
        _ => None,
    })
    .await
}

#[tokio::test]
async fn messages_of_each_quality_travel_through_the_broker() {
    let broker = start().await;
    let (client, mut events) = AsyncClient::new(options(&broker, "c"), 10);
    client.subscribe("a/+", QoS::ExactlyOnce).await.expect("invariant: room in the queue");
    next(&mut events, |packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.publish("a/b", qos, false, format!("{qos:?}")).await.expect("invariant: room");
        let (text, received, duplicate) = message(&mut events).await;
        assert_eq!((text, received, duplicate), (format!("{qos:?}"), qos, false));
    }
    let reader =
        tokio::task::JoinSet::from_iter([async move { while events.poll().await.is_ok() {} }]);
    let counters = until(&broker, "all acknowledged", |_| {
        broker.sessions().iter().all(|session| session.in_flight == 0)
    })
    .await;
    assert_eq!((counters.publishes, counters.sent), ([1, 1, 1], [1, 1, 1]));
    assert_eq!(counters.protocol_errors, 0, "{:?}", counters.problems);
    drop(reader);
    broker.shutdown().await;
}

#[tokio::test]
async fn messages_of_mqtt_5_keep_their_properties() {
    let broker = start().await;
    let (client, mut events) = v5::AsyncClient::new(options_5(&broker, "c"), 10);
    let qos = v5::mqttbytes::QoS::ExactlyOnce;
    client.subscribe("#", qos).await.expect("invariant: room");
    let properties = v5::mqttbytes::v5::PublishProperties {
        message_expiry_interval: Some(60),
        response_topic: Some("answer".to_owned()),
        user_properties: vec![("name".to_owned(), "value".to_owned())],
        ..Default::default()
    };
    let publishing = client.publish_with_properties("a", qos, false, "text", properties.clone());
    publishing.await.expect("invariant: room");
    let waiting = async {
        loop {
            let event = events.poll().await.expect("invariant: it is up");
            if let v5::Event::Incoming(v5::mqttbytes::v5::Packet::Publish(publish)) = event {
                return publish;
            }
        }
    };
    let publish = timeout(PATIENCE, waiting).await.expect("invariant: it comes");
    assert_eq!(publish.properties, Some(properties));
    assert_eq!((&*publish.payload, publish.qos), (&b"text"[..], qos));
}

#[tokio::test]
async fn a_lasting_session_gets_what_came_meanwhile_and_what_was_not_acknowledged() {
    let broker = start().await;
    let mut wanted = options(&broker, "c");
    wanted.set_clean_session(false).set_manual_acks(true);
    let (client, mut events) = AsyncClient::new(wanted.clone(), 10);
    assert!(!connack(&mut events).await);
    client.subscribe("t", QoS::AtLeastOnce).await.expect("invariant: room");
    next(&mut events, |packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    broker.publish("t", pool::QoS::AtLeastOnce, "first").expect("invariant: a topic");
    assert_eq!(message(&mut events).await.0, "first");
    drop((client, events));
    until(&broker, "offline", |_| !broker.sessions()[0].connected).await;
    broker.publish("t", pool::QoS::ExactlyOnce, "second").expect("invariant: a topic");
    assert_eq!((broker.sessions()[0].in_flight, broker.sessions()[0].queued), (1, 1));

    let (_client, mut events) = AsyncClient::new(wanted, 10);
    assert!(connack(&mut events).await);
    assert_eq!(message(&mut events).await, ("first".to_owned(), QoS::AtLeastOnce, true));
    assert_eq!(message(&mut events).await, ("second".to_owned(), QoS::AtLeastOnce, false));
}

#[tokio::test]
async fn a_will_comes_when_the_client_is_killed_and_not_when_it_says_goodbye() {
    let broker = start().await;
    let (watcher, mut seen) = AsyncClient::new(options(&broker, "watcher"), 10);
    watcher.subscribe("gone/#", QoS::AtMostOnce).await.expect("invariant: room");
    next(&mut seen, |packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    let with_will = |name: &str| {
        let mut options = options(&broker, name);
        options.set_last_will(LastWill::new(format!("gone/{name}"), name, QoS::AtMostOnce, false));
        options
    };
    let (polite, mut events) = AsyncClient::new(with_will("polite"), 10);
    connack(&mut events).await;
    polite.disconnect().await.expect("invariant: room");
    while events.poll().await.is_ok() {}
    let (_killed, mut events) = AsyncClient::new(with_will("killed"), 10);
    connack(&mut events).await;
    drop(events);
    assert_eq!(message(&mut seen).await.0, "killed");
    let counters = broker.counters();
    assert_eq!((counters.wills, counters.disconnects, counters.lost), (1, 1, 1));
}

#[tokio::test]
async fn the_announcement_reaches_a_client_of_mqtt_5() {
    let announce = Announcement {
        server_keep_alive: Some(17),
        receive_maximum: Some(3),
        maximum_packet_size: Some(4_096),
        ..Announcement::default()
    };
    let behaviour = Behaviour { announce, ..Behaviour::default() };
    let broker = TestBroker::builder()
        .behaviour(behaviour)
        .start()
        .await
        .expect("invariant: loopback has free ports");
    let (_client, mut events) = v5::AsyncClient::new(options_5(&broker, "c"), 10);
    let event = timeout(PATIENCE, events.poll()).await.expect("invariant: it answers");
    let shown = format!("{event:?}");
    for expected in
        ["server_keep_alive: Some(17)", "receive_max: Some(3)", "max_packet_size: Some(4096)"]
    {
        assert!(shown.contains(expected), "{shown}");
    }
}

#[tokio::test]
async fn pings_keep_a_client_alive_and_silence_ends_it() {
    let broker = start().await;
    let mut raw = super::raw::Raw::open(&broker).await;
    raw.send(&super::raw::connect("silent", 4, true, 1)).await;
    raw.expect(&[0x20, 2, 0, 0]).await;
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    raw.send(&[0xC0, 0]).await;
    raw.expect(&[0xD0, 0]).await;
    assert_eq!(raw.ends().await, super::raw::Ended::Fin);
    let lived = begun.elapsed();
    assert!(lived >= Duration::from_millis(2_450), "{lived:?}");
    let counters = broker.counters();
    assert_eq!((counters.pings, counters.keep_alive_timeouts), (1, 1));
}
