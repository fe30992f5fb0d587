//! Sessions that a broker moves, takes away or forgets.

use super::{add, broker, builder, end_of, event, hostile, online};
use pool::testing::{Announcement, Answer, Behaviour, Takeover, TestBroker};
use pool::{Cause, Device, Event, Publish, QoS, ReconnectOptions, State, Version};
use std::time::Duration;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn the_word_of_a_taken_session_is_understood_and_the_fight_ended() {
    let broker = broker().await;
    let behaviour = Behaviour { takeover: Takeover::Disconnect, ..Behaviour::default() };
    hostile(&broker, "wanted", behaviour);
    let pool = builder(&broker, Version::V5).build().expect("invariant: valid values");
    // A rival of the same name, in a pool of its own that does not give in so soon.
    let policy = pool::TakeoverPolicy { times: 100, ..pool::TakeoverPolicy::default() };
    let rival =
        builder(&broker, Version::V5).takeover(policy).build().expect("invariant: valid values");
    let mut events = pool.events();
    add(&pool, &["wanted", "other"]);
    online(&mut events, "other").await;
    add(&rival, &["wanted"]);
    let (cause, _) = end_of(&mut events, "wanted").await;
    assert_eq!(cause, Cause::TakenOver);
    event(&mut events, |event| match event {
        Event::Quarantined { device, .. } if device.as_str() == "wanted" => Some(()),
        _ => None,
    })
    .await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(rival.device("wanted").map(|it| it.state), Ok(State::Online));
    assert_eq!(pool.device("wanted").map(|it| it.state), Ok(State::Quarantined));
    assert_eq!(pool.device("other").map(|it| it.generation.number()), Ok(1));
    assert_eq!(pool.metrics().quarantines, 1);
    rival.shutdown().await;
    // A call ends the quarantine.
    pool.reconnect("wanted").await.expect("the rival is gone");
}

#[tokio::test]
async fn a_device_moves_to_another_server_only_if_that_is_allowed() {
    let (first, second) = (broker().await, broker().await);
    let server = second.address().to_string();
    let redirect = Behaviour { connack: Answer::Redirect { server }, ..Behaviour::default() };
    first.set_behaviour(redirect);
    let strict = builder(&first, Version::V5).build().expect("invariant: valid values");
    let mut events = strict.events();
    add(&strict, &["d"]);
    event(&mut events, |event| match event {
        Event::RedirectRefused { .. } => Some(()),
        _ => None,
    })
    .await;
    assert_eq!(second.counters().connects, 0);
    strict.shutdown().await;
    let moving = builder(&first, Version::V5)
        .redirects(["127.0.0.1"])
        .build()
        .expect("invariant: valid values");
    let mut events = moving.events();
    add(&moving, &["d"]);
    online(&mut events, "d").await;
    assert_eq!(second.sessions().len(), 1);
    moving.shutdown().await;
}

#[tokio::test]
async fn what_the_broker_announces_is_kept() {
    let broker = broker().await;
    let announce = Announcement {
        server_keep_alive: Some(1),
        receive_maximum: Some(3),
        maximum_packet_size: Some(1_000),
        ..Announcement::default()
    };
    broker.set_behaviour(Behaviour { announce, ..Behaviour::default() });
    let pool = builder(&broker, Version::V5).build().expect("invariant: valid values");
    let mut events = pool.events();
    add(&pool, &["d"]);
    online(&mut events, "d").await;
    let publish = |size: usize| Publish::new("t", QoS::AtLeastOnce, vec![0; size]);
    let deliveries: Vec<_> = (0..50)
        .map(|_| pool.publish("d", publish(10).expect("invariant: a topic")).expect("room"))
        .collect();
    for delivery in deliveries {
        delivery.await.expect("the broker takes it");
    }
    let large = pool.publish("d", publish(2_000).expect("invariant: a topic")).expect("room");
    let error = large.await.expect_err("the broker would not take it").to_string();
    assert!(error.contains("the broker takes at most 1000"), "{error}");
    // The keep-alive is the broker's one of a second.
    sleep(Duration::from_millis(2_500)).await;
    let counters = broker.counters();
    assert!(counters.most_unacknowledged <= 3, "{counters:?}");
    assert!(counters.pings >= 1 && counters.protocol_errors == 0, "{counters:?}");
    assert_eq!(pool.device("d").map(|it| it.generation.number()), Ok(1));
    pool.shutdown().await;
}

#[tokio::test]
async fn a_broker_that_forgets_sessions_gets_the_subscriptions_again() {
    let broker = broker().await;
    broker.set_behaviour(Behaviour { lose_session: true, ..Behaviour::default() });
    let pool = builder(&broker, Version::V311).build().expect("invariant: valid values");
    let device = Device::new("d").and_then(|d| d.subscribe("to/d", QoS::AtLeastOnce));
    pool.add(device.expect("invariant: valid")).expect("it is new");
    let mut messages = pool.messages().expect("nobody has them");
    for round in 1..=5_u64 {
        pool.reconnect("d").await.expect("the broker lets it in");
        // SUBSCRIBE comes right behind CONNACK.
        while broker.counters().subscribes < round {
            sleep(Duration::from_millis(5)).await;
        }
        broker.publish("to/d", QoS::AtLeastOnce, format!("{round}")).expect("invariant: a topic");
        let message = timeout(Duration::from_secs(10), messages.next()).await;
        let payload = message.ok().flatten().map(|message| message.payload);
        assert_eq!(payload.as_deref(), Some(format!("{round}").as_bytes()));
    }
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_replacements_never_makes_two_sockets_of_one_device() {
    let broker: TestBroker = broker().await;
    // A kick right after CONNACK looks like a take-over.
    let policy = pool::TakeoverPolicy { times: 100, ..pool::TakeoverPolicy::default() };
    let pool =
        builder(&broker, Version::V311).takeover(policy).build().expect("invariant: valid values");
    let names: Vec<String> = (0..200).map(|number| format!("d{number}")).collect();
    add(&pool, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let all_online = async || {
        while pool.status().online < names.len() || pool.metrics().queued > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(super::PATIENCE, all_online()).await.expect("they come online");
    for _ in 0..5 {
        pool.reconnect_all(ReconnectOptions::default()).expect("the pool is there");
        sleep(Duration::from_millis(50)).await;
        broker.kick_all();
        timeout(super::PATIENCE, all_online()).await.expect("they come back");
    }
    let (counters, metrics) = (broker.counters(), pool.metrics());
    assert_eq!((counters.overlaps, counters.most_at_once), (0, 1), "{counters:?}");
    assert_eq!((metrics.unreleased, metrics.late_events), (0, 0), "{metrics:?}");
    pool.shutdown().await;
    assert_eq!(pool.registry().len(), 0);
}

#[tokio::test]
async fn a_name_without_an_address_is_named() {
    let address = pool::Broker::parse("mqtt://nowhere.invalid").expect("invariant: valid");
    let pool = pool::Pool::builder(address).build().expect("invariant: valid values");
    add(&pool, &["d"]);
    let error = pool.reconnect("d").await.expect_err("it has no address (RFC 6761)");
    let text = error.to_string();
    assert!(text.starts_with("cannot resolve nowhere.invalid: "), "{text}");
    pool.shutdown().await;
}
