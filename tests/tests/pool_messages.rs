//! The pool's everyday life with a real broker: messages, acknowledgements, wills, credentials.

use harness::Mosquitto;
use harness::mqtt::{Client, Received};
use harness::peer::Peer;
use harness::pools::{self, await_online, device, names, soon};
use pool::{
    CallerError, Cause, Delivery, Error, Message, Pool, Publish, QoS, State, Subscription, Version,
    Will,
};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::time::Duration;

const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Long enough for a message on the loopback device, many times over.
const SILENCE: Duration = Duration::from_millis(300);

fn publish(topic: &str, qos: QoS, payload: &'static str) -> Publish {
    Publish::new(topic, qos, payload).expect("invariant: a valid topic")
}

async fn delivered(delivery: Result<Delivery, Error>) {
    let delivery = delivery.expect("there is room for a request");
    soon("a delivery", delivery).await.expect("the broker takes it");
}

async fn each_quality_of_service_arrives(version: Version) {
    let broker = Mosquitto::start();
    let pool = pools::builder(&broker).version(version).build().expect("all values are valid");
    let mut messages = pool.messages().expect("nobody reads them");
    let reader = device("reader").subscribe("t/#", QoS::ExactlyOnce).expect("a valid filter");
    pool.add(reader).expect("there is room");
    pool.add(device("writer")).expect("there is room");
    // A subscription of the present session: it is there when its delivery is.
    delivered(pool.subscribe("reader", Subscription::new("u/+", QoS::ExactlyOnce).expect("valid")))
        .await;
    let mut expected = BTreeMap::new();
    for qos in ALL_QOS {
        for topic in ["t/a/b", "u/a"] {
            let topic = format!("{topic}{}", qos as u8);
            delivered(pool.publish("writer", publish(&topic, qos, "payload"))).await;
            expected.insert(topic, qos);
        }
    }
    let mut received = BTreeMap::new();
    for _ in 0..expected.len() {
        let message = soon("a message", messages.next()).await.expect("the pool is there");
        assert_eq!((message.device.as_str(), &message.payload[..]), ("reader", &b"payload"[..]));
        assert!(!message.retain && !message.duplicate, "{message:?}");
        received.insert(message.topic, message.qos);
    }
    assert_eq!(received, expected);
    assert_eq!(messages.try_next(), None, "each came once");
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_quality_of_service_arrives_with_mqtt_3_1_1() {
    each_quality_of_service_arrives(Version::V311).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_quality_of_service_arrives_with_mqtt_5() {
    each_quality_of_service_arrives(Version::V5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_resolves_when_the_broker_has_answered_and_not_before() {
    let broker = Mosquitto::start();
    let pool = pools::pool(&broker);
    pools::add_many(&pool, 1);
    broker.freeze();
    delivered(pool.publish("d0", publish("t", QoS::AtMostOnce, "x"))).await;
    let filter = Subscription::new("s", QoS::AtLeastOnce).expect("a valid filter");
    let answered = [
        pool.publish("d0", publish("t", QoS::AtLeastOnce, "x")),
        pool.publish("d0", publish("t", QoS::ExactlyOnce, "x")),
        pool.subscribe("d0", filter),
        pool.unsubscribe("d0", "s"),
    ];
    let mut waiting = Vec::new();
    for delivery in answered {
        let mut delivery = Box::pin(delivery.expect("there is room for a request"));
        let early = tokio::time::timeout(SILENCE / 3, &mut delivery).await;
        assert!(early.is_err(), "the broker has not answered");
        waiting.push(delivery);
    }
    broker.thaw();
    for delivery in waiting {
        soon("a delivery", delivery).await.expect("the broker takes it");
    }
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_before_the_session_is_there_is_done_in_order() {
    let broker = Mosquitto::start();
    let mut other = Client::connect(broker.port(), "other");
    other.subscribe("t", 1);
    broker.freeze();
    let pool = pools::pool(&broker);
    pool.add(device("d")).expect("there is room");
    let numbers = ["0", "1", "2", "3", "4"];
    let deliveries: Vec<_> = numbers
        .into_iter()
        .map(|number| pool.publish("d", publish("t", QoS::AtLeastOnce, number)))
        .collect();
    broker.thaw();
    for delivery in deliveries {
        delivered(delivery).await;
    }
    for number in numbers {
        assert_eq!(other.next_message().payload, number.as_bytes());
    }
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_message_comes_to_who_subscribes_later() {
    let broker = Mosquitto::start();
    let pool = pools::pool(&broker);
    pools::add_many(&pool, 2);
    delivered(pool.publish("d0", publish("state", QoS::AtLeastOnce, "on").retain())).await;
    let mut messages = pool.messages().expect("nobody reads them");
    delivered(pool.subscribe("d1", Subscription::new("state", QoS::AtMostOnce).expect("valid")))
        .await;
    let message = soon("the message", messages.next()).await.expect("the pool is there");
    assert!(message.retain && &message.payload[..] == b"on", "{message:?}");
    pool.shutdown().await;
}

/// A broker that has something for a device sends it right behind its CONNACK, in one segment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_together_with_connack_is_not_left_lying() {
    let peer = Peer::new();
    let pool = pools::builder_for(&format!("mqtt://{}", peer.address())).build();
    let pool = pool.expect("all values are valid");
    let mut messages = pool.messages().expect("nobody reads them");
    pool.add(device("d")).expect("there is room");
    let mut broker = peer.accept();
    broker.read_exact(&mut [0; 14]).expect("a CONNECT comes");
    // CONNACK with a session present, PUBLISH with QoS 0 to `t`.
    broker.write_all(b"\x20\x02\x01\x00\x30\x04\0\x01tx").expect("the pool reads");
    let message = soon("the message", messages.next()).await.expect("the pool is there");
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("t", &b"x"[..]));
    pool.shutdown().await;
}

async fn next_of(pool: &Pool) -> Option<Message> {
    let mut messages = pool.messages().expect("nobody reads them");
    tokio::time::timeout(SILENCE, messages.next()).await.ok().flatten()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_unsubscribe_nothing_comes_any_more() {
    let broker = Mosquitto::start();
    let pool = pools::pool(&broker);
    let with = device("d0").subscribe("declared", QoS::AtLeastOnce).expect("a valid filter");
    pool.add(with).expect("there is room");
    delivered(pool.subscribe("d0", Subscription::new("asked", QoS::AtLeastOnce).expect("valid")))
        .await;
    let mut other = Client::connect(broker.port(), "other");
    for topic in ["declared", "asked"] {
        other.publish(topic, "x");
        assert_eq!(next_of(&pool).await.map(|it| it.topic).as_deref(), Some(topic));
        delivered(pool.unsubscribe("d0", topic)).await;
        other.publish(topic, "x");
        assert_eq!(next_of(&pool).await, None, "{topic}");
    }
    // Nor on the next session, which the broker has still subscriptions of.
    soon("a new session", pool.reconnect("d0")).await.expect("the broker lets it in");
    for topic in ["declared", "asked"] {
        other.publish(topic, "x");
    }
    assert_eq!(next_of(&pool).await, None);
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_device_is_gone_when_the_call_returns() {
    let broker = Mosquitto::start();
    let pool = pools::pool(&broker);
    pools::add_many(&pool, 2);
    let claims = pool.registry().snapshot();
    let cookie = claims.iter().find(|it| it.device.as_str() == "d0").expect("it is online").cookie;
    soon("the removal", pool.remove("d0")).await.expect("it is in the pool");
    let rows = harness::ss::towards(broker.port());
    assert!(!rows.iter().any(|row| row.cookie == Some(cookie) && row.is_open()), "{rows:?}");
    assert_eq!(pool.registry().claim_of(cookie), None);
    let gone = pool.publish("d0", publish("t", QoS::AtMostOnce, "x")).map(drop);
    assert!(
        matches!(gone, Err(Error::Caller(CallerError::UnknownDevice(id))) if id.as_str() == "d0")
    );
    assert_eq!(pool.status().devices, 1);
    // Its name is free again.
    pool.add(device("d0")).expect("the other one is gone");
    await_online(&pool, 2);
    pool.shutdown().await;
    assert_eq!(pool.add(device("d9")), Err(Error::Caller(CallerError::Closed)));
}

fn will_of(name: &str) -> Will {
    let publish = Publish::new(format!("will/{name}"), QoS::AtLeastOnce, "gone");
    Will::new(publish.expect("invariant: a valid topic")).expect("invariant: short")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_is_published_when_the_pool_is_dropped_and_not_when_it_says_goodbye() {
    for version in [Version::V311, Version::V5] {
        let broker = Mosquitto::start();
        let mut other = Client::connect(broker.port(), "other");
        other.subscribe("will/#", 0);
        let pool = pools::builder(&broker).version(version).build().expect("all values are valid");
        for name in names(3) {
            pool.add(device(&name).will(will_of(&name))).expect("there is room");
        }
        await_online(&pool, 3);
        soon("the removal", pool.remove("d0")).await.expect("it is in the pool");
        soon("a new session", pool.reconnect("d1")).await.expect("the broker lets it in");
        assert_eq!(other.next_message_within(SILENCE), None, "all that was planned");
        drop(pool);
        let mut wills: Vec<Received> = (0..2).map(|_| other.next_message()).collect();
        wills.sort_by(|a, b| a.topic.cmp(&b.topic));
        let topics: Vec<&str> = wills.iter().map(|will| will.topic.as_str()).collect();
        assert_eq!(topics, ["will/d1", "will/d2"]);
        assert_eq!(other.next_message_within(SILENCE), None);
    }
}

/// One device with the right password among some with wrong ones.
async fn check_credentials(version: Version, codes: [u8; 2]) {
    let broker = Mosquitto::builder().user("user", "secret").start();
    let pool = pools::builder(&broker)
        .version(version)
        .credentials("user", "secret")
        .map(|builder| builder.backoff(slow_retries()).build())
        .expect("both are short")
        .expect("all values are valid");
    pools::add_many(&pool, 3);
    for (name, user, password) in [("bad", "user", "wrong"), ("nobody", "", "")] {
        let device = device(name).credentials(user, password).expect("both are short");
        pool.add(device).expect("there is room");
        match soon("the answer", pool.reconnect(name)).await {
            Err(Error::Session(Cause::ConnectRefused { code, .. })) => {
                assert!(codes.contains(&code), "{name}: {code:#04x}");
            }
            other => panic!("{name}: {other:?}"),
        }
        let status = pool.device(name).expect("it is in the pool");
        assert_eq!(status.last_end.map(|cause| cause.code()), Some("connect-refused"));
    }
    for name in names(3) {
        let status = pool.device(&name).expect("it is in the pool");
        assert_eq!((status.state, status.generation.number()), (State::Online, 1), "{name}");
    }
    assert_eq!(pool.status().online, 3);
    pool.shutdown().await;
}

fn slow_retries() -> pool::BackoffPolicy {
    let base = Duration::from_secs(30);
    pool::BackoffPolicy { base, max: base, ..pool::BackoffPolicy::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_named_and_touches_nobody_else_with_mqtt_3_1_1() {
    // Bad user name or password, not authorised (MQTT 3.1.1 §3.2.2.3).
    check_credentials(Version::V311, [4, 5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_named_and_touches_nobody_else_with_mqtt_5() {
    // The same two (MQTT 5 §3.2.2.2).
    check_credentials(Version::V5, [0x86, 0x87]).await;
}
