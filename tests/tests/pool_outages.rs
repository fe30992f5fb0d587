//! Brokers that die, stand still or are full.

use harness::mqtt::Client;
use harness::peer::{FullBacklog, Peer};
use harness::pools::{self, await_online, await_sockets, device, end_of, ends, soon};
use harness::{Mosquitto, TempDir, clock, wait};
use pool::{
    BackoffPolicy, Broker, Cause, Event, Limits, Phase, Pool, Publish, QoS, Timeouts, TlsOptions,
    Version,
};
use std::collections::BTreeSet;
use std::time::Duration;

const DEVICES: usize = 100;

/// Short waits, for the patience of a test.
fn impatient() -> BackoffPolicy {
    BackoffPolicy {
        base: Duration::from_millis(100),
        max: Duration::from_secs(1),
        ..BackoffPolicy::default()
    }
}

/// The broker keeps nothing on disk, so it has forgotten every session when it is back; what was
/// under way lives on in the pool only.
async fn all_survive_the_death_of_a_broker(version: Version) {
    let mut broker = Mosquitto::start();
    let pool = pools::builder(&broker).version(version).backoff(impatient()).build();
    let pool = pool.expect("all values are valid");
    let reader = device("reader").subscribe("in", QoS::AtLeastOnce).expect("a valid filter");
    pool.add(reader).expect("there is room");
    for name in pools::names(DEVICES - 1) {
        pool.add(device(&name)).expect("there is room");
    }
    await_online(&pool, DEVICES);

    // Sent and not acknowledged: the broker stands still, and dies so.
    broker.freeze();
    let publish = |topic: String, qos| {
        let publish = Publish::new(&topic, qos, topic.clone()).expect("a valid topic").retain();
        pool.publish("d0", publish).expect("there is room")
    };
    let mut deliveries = Vec::new();
    let mut topics = BTreeSet::new();
    for number in 0..20 {
        let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        topics.insert(format!("kept/{number}"));
        deliveries.push(publish(format!("kept/{number}"), qos));
    }
    wait::until_true("the messages to be sent", || pool.metrics().messages_sent >= 16);
    broker.kill();
    wait::until_true("all to notice", || pool.status().online == 0);
    // And while there is nobody to send them to.
    for number in 20..40 {
        topics.insert(format!("kept/{number}"));
        deliveries.push(publish(format!("kept/{number}"), QoS::ExactlyOnce));
    }
    // Some attempts that fail.
    wait::until_true("some refusals", || ends(&pool.metrics(), "refused") > 20);
    broker.restart();
    await_online(&pool, DEVICES);
    for delivery in deliveries {
        soon("a delivery", delivery).await.expect("the broker takes it");
    }
    let mut other = Client::connect(broker.port(), "other");
    other.subscribe("kept/#", 1);
    let kept: BTreeSet<String> = (0..topics.len()).map(|_| other.next_message().topic).collect();
    assert_eq!(kept, topics);

    // The subscription was made again, too.
    let mut messages = pool.messages().expect("nobody reads them");
    wait::until("the subscription", || {
        other.publish("in", "x");
        messages.try_next().map(drop).ok_or_else(|| "no message".to_owned())
    });
    drop(other);
    pools::assert_ledgers_agree(&pool, broker.port());
    let metrics = pool.metrics();
    assert_eq!((metrics.unreleased, metrics.late_events), (0, 0), "{metrics:?}");
    pool.shutdown().await;
    await_sockets(broker.port(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_return_after_the_death_of_the_broker_and_nothing_is_lost_with_mqtt_3_1_1() {
    all_survive_the_death_of_a_broker(Version::V311).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_return_after_the_death_of_the_broker_and_nothing_is_lost_with_mqtt_5() {
    all_survive_the_death_of_a_broker(Version::V5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_is_noticed_after_one_and_a_half_keep_alives() {
    let broker = Mosquitto::start();
    let pool = pools::builder(&broker)
        .keep_alive(Duration::from_secs(1))
        .backoff(impatient())
        .timeouts(Timeouts { connect: Duration::from_secs(1), ..Timeouts::default() })
        .build()
        .expect("all values are valid");
    pools::add_many(&pool, 20);
    // Pings keep idle sessions alive.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.metrics().connected, 20);
    broker.freeze();
    let frozen = clock::now();
    let mut events = pool.events();
    for _ in 0..20 {
        let (cause, age) = pools::event(&mut events, "an end", |event| match event {
            Event::Ended { cause, lived: Some(_), .. } => Some((cause, frozen.elapsed())),
            _ => None,
        })
        .await;
        assert_eq!(cause, Cause::KeepAlive(Duration::from_millis(1_500)));
        // The last answer may be a ping's, up to 1 s before the broker stood still.
        assert!((500..2_200).contains(&age.as_millis()), "after {age:?}");
    }
    // The kernel still completes connections, in the name of the broker; nobody answers them.
    for _ in 0..5 {
        let cause = pools::event(&mut events, "a failed connect", |event| match event {
            Event::Ended { cause, lived: None, .. } => Some(cause),
            _ => None,
        })
        .await;
        let after = Duration::from_secs(1);
        assert_eq!(cause, Cause::ConnectTimeout { after, phase: Phase::ConnAck });
    }
    broker.thaw();
    await_online(&pool, 20);
    assert_eq!(pool.metrics().unreleased, 0);
    pools::assert_ledgers_agree(&pool, broker.port());
    pool.shutdown().await;
}

/// The connect to an address takes too long in this phase.
async fn check_phase(url: &str, expected: Phase) {
    let after = Duration::from_millis(300);
    let ca = harness::certificates::Certificates::new();
    let broker = Broker::parse(url).expect("a valid address");
    let pool = Pool::builder(broker.tls(TlsOptions::new().ca_file(ca.path("ca.pem"))))
        .timeouts(Timeouts { connect: after, ..Timeouts::default() })
        .build()
        .expect("all values are valid");
    let mut events = pool.events();
    pool.add(device("d")).expect("there is room");
    let started = clock::now();
    let cause = end_of(&mut events, "d").await;
    assert_eq!(cause, Cause::ConnectTimeout { after, phase: expected }, "{url}");
    let took = started.elapsed();
    assert!((after..after * 5).contains(&took), "{url}: {took:?}");
    soon("the shutdown", pool.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_that_takes_too_long_names_its_phase() {
    let full = FullBacklog::new();
    check_phase(&format!("mqtt://127.0.0.1:{}", full.port()), Phase::Tcp).await;
    // Nobody accepts, so nobody answers.
    let silent = Peer::new();
    check_phase(&format!("mqtts://127.0.0.1:{}", silent.port()), Phase::Tls).await;
    check_phase(&format!("ws://127.0.0.1:{}", silent.port()), Phase::WebSocket).await;
    check_phase(&format!("wss://127.0.0.1:{}", silent.port()), Phase::Tls).await;
    check_phase(&format!("mqtt://127.0.0.1:{}", silent.port()), Phase::ConnAck).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_broker_keeps_whom_it_has_and_the_others_try_on_without_haste() {
    let broker = Mosquitto::builder().option("max_connections 10").start();
    let pool = pools::builder(&broker).backoff(impatient()).build().expect("all values are valid");
    for name in pools::names(20) {
        pool.add(device(&name)).expect("there is room");
    }
    await_online(&pool, 10);
    let before = pool.metrics().dials;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let metrics = pool.metrics();
    // With full jitter, each of ten waits for half a second on average, and less at first.
    let dials = metrics.dials - before;
    assert!((20..=150).contains(&dials), "{dials} dials in 3 s");
    assert_eq!(pool.status().online, 10);
    assert_eq!(metrics.connected, 10, "nobody was pushed out");
    assert_eq!(
        ends(&metrics, "reset") + ends(&metrics, "peer-closed"),
        metrics.failed.iter().sum::<u64>()
    );
    for name in pools::names(20) {
        let status = pool.device(&name).expect("it is in the pool");
        let cause = status.last_end.as_ref().map(|cause| cause.code());
        let is_online = status.state == pool::State::Online;
        assert!(is_online || cause.is_some(), "{name}: {status:?}");
    }
    // Whoever leaves makes room.
    let online: Vec<String> = pools::names(20)
        .into_iter()
        .filter(|name| pool.device(name).is_ok_and(|status| status.state == pool::State::Online))
        .collect();
    for name in online {
        soon("a removal", pool.remove(&name)).await.expect("it is in the pool");
    }
    await_online(&pool, 10);
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_the_pace_is_that_of_the_limits_and_the_backoff() {
    let directory = TempDir::new();
    let missing = directory.join("no-ca.pem");
    let peer = Peer::new();
    let port = peer.port();
    drop(peer);
    let url = format!("mqtt://127.0.0.1:{port}");
    // A broker without TLS needs no certificate.
    let broker = Broker::parse(&url).expect("a valid address");
    let limits = Limits { max_in_flight: 20, ..Limits::paced() };
    let pool = Pool::builder(broker.tls(TlsOptions::new().ca_file(missing)))
        .limits(limits)
        .build()
        .expect("the file is not needed");
    for name in pools::names(100) {
        pool.add(device(&name)).expect("there is room");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let metrics = pool.metrics();
    // One in 10 ms, and each device once a second at most.
    assert!((150..=300).contains(&metrics.dials), "{} dials in 3 s", metrics.dials);
    assert_eq!(ends(&metrics, "refused"), metrics.failed.iter().sum::<u64>());
    soon("the shutdown", pool.shutdown()).await;
}
