//! Every kind of bad input: an error at the call or, where only the world can tell, at the first
//! attempt, which names what is wrong and what is allowed. The other devices are untouched.

use harness::pools::{self, device, soon};
use harness::{Mosquitto, TempDir};
use pool::{
    Adaptive, BackoffPolicy, Broker, Buffers, Builder, CallerError, Cause, Device, DeviceId, Error,
    Limits, Pool, Properties, Publish, QoS, Reservoir, State, Subscription, TakeoverPolicy,
    Timeouts, TlsOptions, Version, Will,
};
use std::fs;
use std::time::Duration;

/// An error whose words name the field and what is allowed.
#[track_caller]
fn check<T>(outcome: Result<T, impl Into<Error>>, words: &[&str]) {
    let Err(error) = outcome.map_err(Into::into) else { panic!("{words:?} was taken") };
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
}

#[test]
fn names_and_credentials_are_checked_when_they_are_given() {
    let long = "x".repeat(65_536);
    check(Device::new(""), &["device id", "nothing", "1 to 65,535 bytes"]);
    check(Device::new(&long), &["device id", "65536 bytes", "at most 65,535 bytes"]);
    check(Device::new("a\0b"), &["device id", "U+0000"]);
    check(device("d").client_id(""), &["client id", "1 to 65,535 bytes"]);
    check(device("d").client_id(&long), &["client id", "65536 bytes", "at most 65,535 bytes"]);
    check(device("d").credentials(&long, ""), &["user name", "at most 65,535 bytes"]);
    check(device("d").credentials("u", long.clone()), &["password", "at most 65,535 bytes"]);
    let half = Duration::from_millis(500);
    check(device("d").keep_alive(half), &["keep alive", "500ms", "whole seconds", "65,535"]);
    let day = Duration::from_secs(86_400);
    check(device("d").keep_alive(day), &["keep alive", "86400s", "65,535"]);
    assert!(Device::new("x".repeat(65_535)).is_ok());
}

#[test]
fn topics_filters_and_payloads_are_checked_when_they_are_given() {
    let publish = |topic: &str| Publish::new(topic, QoS::AtMostOnce, "");
    check(publish(""), &["topic", "nothing", "1 to 65,535 bytes"]);
    check(publish("a/+"), &["topic", "a/+", "without the wildcards"]);
    check(publish("#"), &["topic", "without the wildcards"]);
    check(publish(&"x".repeat(65_536)), &["topic", "65536 bytes", "at most 65,535 bytes"]);
    for filter in ["a#", "#/a", "a+/b"] {
        let expected = ["topic filter", filter, "`#` alone in the last one"];
        check(Subscription::new(filter, QoS::AtMostOnce), &expected);
        check(device("d").subscribe(filter, QoS::AtMostOnce), &expected);
    }
    let will = Publish::new("t", QoS::AtMostOnce, vec![0; 65_536]).expect("a valid topic");
    check(Will::new(will), &["payload of the will", "65536 bytes", "at most 65,535 bytes"]);
    let wild = Properties { response_topic: Some("a/#".to_owned()), ..Properties::default() };
    check(publish("t").and_then(|it| it.properties(wild)), &["response topic", "wildcards"]);
}

#[test]
fn addresses_are_checked_when_they_are_given() {
    check(Broker::parse("mqtt://a:0"), &["broker port", "\"0\"", "1 to 65,535"]);
    check(Broker::parse("mqtt://a:65536"), &["broker port", "1 to 65,535"]);
    check(Broker::parse("http://a"), &["broker scheme", "http", "mqtts://"]);
    check(Broker::parse("mqtt://"), &["broker host", "a name or an IP address"]);
    check(Broker::parse("mqtt://u:p@a"), &["broker URL", "credentials"]);
    check(TlsOptions::new().server_name("a b"), &["server name", "a DNS name"]);
}

#[tokio::test]
async fn limits_are_checked_when_the_pool_is_built() {
    let build = |change: fn(Builder) -> Builder| {
        change(pools::builder_for("mqtt://127.0.0.1:1")).build().map(drop)
    };
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::adaptive();
        change(&mut limits);
        pools::builder_for("mqtt://127.0.0.1:1").limits(limits).build().map(drop)
    };
    check(limits(|it| it.max_in_flight = 0), &["max_in_flight", "given 0", "1 to 65,535"]);
    check(limits(|it| it.max_in_flight = usize::MAX), &["max_in_flight", "1 to 65,535"]);
    check(limits(|it| it.min_interval = Duration::MAX), &["min_interval", "0 (off) to 60 s"]);
    check(limits(|it| it.connect_spacing = Duration::MAX), &["connect_spacing", "1 hour"]);
    let adaptive = |initial, tolerance| Some(Adaptive { initial, tolerance });
    let mut limits = Limits { adaptive: adaptive(0, 2.0), ..Limits::adaptive() };
    check(limits.check(), &["adaptive.initial", "1 to max_in_flight"]);
    limits.adaptive = adaptive(1, f64::NAN);
    check(limits.check(), &["adaptive.tolerance", "1.0 to 10.0"]);
    let reservoir =
        Reservoir { amount: 1, refresh_amount: 0, refresh_interval: Duration::from_secs(1) };
    limits = Limits { reservoir: Some(reservoir), ..Limits::paced() };
    check(limits.check(), &["reservoir.refresh_amount", "1 to 1,000,000"]);

    check(
        build(|it| it.backoff(BackoffPolicy { base: Duration::ZERO, ..Default::default() })),
        &["backoff.base", "1 ms to 1 hour"],
    );
    check(
        build(|it| it.takeover(TakeoverPolicy { times: 0, ..Default::default() })),
        &["takeover.times", "2 to 100"],
    );
    check(
        build(|it| it.timeouts(Timeouts { connect: Duration::ZERO, ..Default::default() })),
        &["timeouts.connect", "100 ms to 10 minutes"],
    );
    check(
        build(|it| it.buffers(Buffers { outbox: 0, ..Default::default() })),
        &["buffers.outbox", "1 to 100,000"],
    );
    check(
        build(|it| it.buffers(Buffers { max_packet: u32::MAX, ..Default::default() })),
        &["buffers.max_packet", "268,435,455"],
    );
    check(build(|it| it.keep_alive(Duration::MAX)), &["keep alive", "65,535"]);
    check(build(|it| it.session_expiry(Duration::MAX)), &["session_expiry", "4,294,967,295"]);
}

#[test]
fn outside_a_runtime_the_pool_says_so() {
    check(pools::builder_for("mqtt://127.0.0.1:1").build(), &["no tokio runtime"]);
}

#[tokio::test]
async fn certificates_are_checked_when_the_pool_is_built() {
    let directory = TempDir::new();
    let (missing, broken) = (directory.join("missing.pem"), directory.join("broken.pem"));
    fs::write(&broken, "no certificate").expect("it is our directory");
    for path in [missing, broken] {
        let name = path.display().to_string();
        let build = |options| {
            let broker = Broker::parse("mqtts://localhost:1").expect("a valid address");
            Pool::builder(broker.tls(options)).build().map(drop)
        };
        check(build(TlsOptions::new().ca_file(&path)), &[&name]);
        check(build(TlsOptions::new().client_certificate(&path, &path)), &[&name]);
    }
}

/// Three devices that stay as they are, whatever happens.
async fn bystanders(version: Version) -> (Mosquitto, Pool) {
    let broker = Mosquitto::builder().option("max_packet_size 2000").start();
    let pool = pools::builder(&broker).version(version).build().expect("all values are valid");
    pools::add_many(&pool, 3);
    (broker, pool)
}

#[track_caller]
fn assert_untouched(pool: &Pool) {
    for name in pools::names(3) {
        let status = pool.device(&name).expect("it is in the pool");
        assert_eq!((status.state, status.generation.number()), (State::Online, 1), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_cannot_be_added_change_nothing() {
    let (_broker, pool) = bystanders(Version::V311).await;
    check(pool.add(device("d0")), &["device d0 is in the pool already"]);
    let namesake = device("other").client_id("d1").expect("a valid name");
    check(pool.add(namesake), &["client id \"d1\" is device d1's"]);
    assert_eq!(pool.status().devices, 3);
    let missing = || DeviceId::new("d9").map_err(Error::from).expect("a valid name");
    let unknown = Error::Caller(CallerError::UnknownDevice(missing()));
    assert_eq!(pool.device("d9").map(drop), Err(unknown.clone()));
    assert_eq!(pool.remove("d9").await, Err(unknown.clone()));
    assert_eq!(pool.reconnect("d9").await.map(drop), Err(unknown.clone()));
    assert_eq!(pool.unsubscribe("d9", "t").map(drop), Err(unknown));
    check(pool.unsubscribe("d0", "a#"), &["topic filter"]);
    check(pool.set_limits(Limits { max_in_flight: 0, ..Limits::paced() }), &["max_in_flight"]);
    let _reader = pool.messages().expect("nobody reads them");
    check(pool.messages(), &["a reader already"]);
    assert_untouched(&pool);
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_beyond_the_limit_is_refused_and_the_session_lives_on() {
    let (_broker, pool) = bystanders(Version::V5).await;
    // Zeroed memory is not there until somebody reads it.
    let huge = Publish::new("t", QoS::AtMostOnce, vec![0; 268_435_455]).expect("a valid topic");
    check(pool.publish("d0", huge), &["the pool takes at most"]);
    let large = Publish::new("t", QoS::AtLeastOnce, vec![0; 3_000]).expect("a valid topic");
    let delivery = pool.publish("d0", large).expect("there is room");
    let refused = soon("the refusal", delivery).await;
    check(refused, &["the broker takes at most 2000"]);
    let small = Publish::new("t", QoS::AtLeastOnce, vec![0; 1_000]).expect("a valid topic");
    let delivery = pool.publish("d0", small).expect("there is room");
    soon("the delivery", delivery).await.expect("it is small enough");
    assert_untouched(&pool);
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_may_wait_are_refused() {
    let broker = Mosquitto::start();
    let buffers = Buffers { outbox: 5, inflight: 1, ..Buffers::default() };
    let pool = pools::builder(&broker).buffers(buffers).build().expect("all values are valid");
    pools::add_many(&pool, 1);
    broker.freeze();
    let publish = || {
        let publish = Publish::new("t", QoS::AtLeastOnce, "x").expect("a valid topic");
        pool.publish("d0", publish)
    };
    let mut taken = Vec::new();
    let refused = loop {
        match publish() {
            Ok(delivery) => taken.push(delivery),
            Err(error) => break error,
        }
        assert!(taken.len() < 100, "it takes everything");
    };
    check::<()>(Err(refused), &["5 requests wait for device d0", "raise `outbox`"]);
    broker.thaw();
    for delivery in taken {
        soon("a delivery", delivery).await.expect("the broker takes it");
    }
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_an_address_is_named() {
    // RFC 6761 §6.4: no resolver may answer for it.
    let pool = pools::builder_for("mqtt://broker.invalid:1883").build();
    let pool = pool.expect("all values are valid");
    pool.add(device("d")).expect("there is room");
    match soon("the answer", pool.reconnect("d")).await {
        Err(Error::Session(Cause::Resolve { host, .. })) => assert_eq!(host, "broker.invalid"),
        other => panic!("{other:?}"),
    }
    soon("the shutdown", pool.shutdown()).await;
}
