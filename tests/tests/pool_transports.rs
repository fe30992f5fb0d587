//! TLS, WebSocket and source addresses, with a real broker.

use harness::Mosquitto;
use harness::certificates::Certificates;
use harness::pools::{self, device, end_of, soon};
use pool::{Broker, Cause, Pool, Publish, QoS, Subscription, TlsOptions, Version};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A listener of a broker with the certificates, which demands one of the client.
fn with_tls(
    builder: harness::mosquitto::Builder,
    own: &Certificates,
) -> harness::mosquitto::Builder {
    builder
        .option(&own.option("cafile", "ca.pem"))
        .option(&own.option("certfile", "server.pem"))
        .option(&own.option("keyfile", "server.key"))
        .option("require_certificate true")
}

fn trusting(own: &Certificates) -> TlsOptions {
    TlsOptions::new()
        .ca_file(own.path("ca.pem"))
        .client_certificate(own.path("client.pem"), own.path("client.key"))
}

fn pool_for(url: &str, options: TlsOptions, version: Version) -> Pool {
    let broker = Broker::parse(url).expect("invariant: a valid address").tls(options);
    let builder = Pool::builder(broker).limits(pools::quick()).version(version);
    builder.build().expect("all values are valid")
}

/// More than any buffer on the way, less than the largest packet.
const LARGE: u32 = 200_000;

/// Mosquitto 2.0.11 writes 4 kB in 100 ms over WebSocket, whoever reads.
const LARGE_FOR_WEBSOCKET: u32 = 20_000;

/// Ten devices come online, and a message of so many bytes goes from one to another.
async fn check_transport(pool: &Pool, size: u32) {
    pools::add_many(pool, 10);
    let mut messages = pool.messages().expect("nobody reads them");
    let filter = Subscription::new("large", QoS::ExactlyOnce).expect("a valid filter");
    let subscribed = pool.subscribe("d0", filter).expect("there is room");
    soon("the subscription", subscribed).await.expect("the broker takes it");
    let payload: Vec<u8> = (0..size).map(|number| number as u8).collect();
    let publish = Publish::new("large", QoS::ExactlyOnce, payload.clone()).expect("a valid topic");
    let published = pool.publish("d1", publish).expect("there is room");
    soon("the delivery", published).await.expect("the broker takes it");
    let message = soon("the message", messages.next()).await.expect("the pool is there");
    assert!(message.payload == payload, "{} bytes", message.payload.len());
    soon("a new session", pool.reconnect("d0")).await.expect("the broker lets it in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtts_with_a_client_certificate_works_with_both_versions() {
    let own = Certificates::new();
    let broker = with_tls(Mosquitto::builder(), &own).start();
    for version in [Version::V311, Version::V5] {
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("mqtts://{host}:{}", broker.port());
            let pool = pool_for(&url, trusting(&own), version);
            check_transport(&pool, LARGE).await;
            pool.shutdown().await;
        }
    }
}

/// The first connect fails by TLS, with these words.
async fn check_tls_failure(url: &str, options: TlsOptions, words: &str) {
    let pool = pool_for(url, options, Version::V311);
    let mut events = pool.events();
    pool.add(device("d")).expect("there is room");
    let cause = end_of(&mut events, "d").await;
    assert!(matches!(cause, Cause::Tls(_)), "{url}: {cause}");
    assert!(cause.to_string().contains(words), "{url}: {cause}");
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_certificates_is_named() {
    let (own, foreign) = (Certificates::new(), Certificates::new());
    let broker = with_tls(Mosquitto::builder(), &own).listener().start();
    let url = format!("mqtts://localhost:{}", broker.port());
    let identity = |of: &Certificates| (of.path("client.pem"), of.path("client.key"));

    let (chain, key) = identity(&own);
    let stranger = TlsOptions::new().ca_file(foreign.path("ca.pem")).client_certificate(chain, key);
    check_tls_failure(&url, stranger, "not signed by an authority that we trust").await;

    let nobody = TlsOptions::new().ca_file(own.path("ca.pem"));
    check_tls_failure(&url, nobody, "demands a client certificate").await;

    let (chain, key) = identity(&foreign);
    let refused = TlsOptions::new().ca_file(own.path("ca.pem")).client_certificate(chain, key);
    check_tls_failure(&url, refused, "does not accept our client certificate").await;

    let misnamed = trusting(&own).server_name("other.example").expect("a valid name");
    check_tls_failure(&url, misnamed, "use one of these names").await;

    // A broker that hears TLS where it expects MQTT just closes.
    let plain = format!("mqtts://localhost:{}", broker.port_of(1));
    let pool = pool_for(&plain, trusting(&own), Version::V311);
    let mut events = pool.events();
    pool.add(device("d")).expect("there is room");
    let cause = end_of(&mut events, "d").await;
    assert!(["tls", "peer-closed", "reset"].contains(&cause.code()), "{cause}");
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_works_with_and_without_tls() {
    let own = Certificates::new();
    let builder = Mosquitto::builder().listener().option("protocol websockets").listener();
    let broker = with_tls(builder.option("protocol websockets"), &own).start();
    let urls = [
        format!("ws://127.0.0.1:{}", broker.port_of(1)),
        format!("ws://localhost:{}/mqtt", broker.port_of(1)),
        format!("wss://localhost:{}/mqtt", broker.port_of(2)),
    ];
    for (url, version) in urls.iter().zip([Version::V311, Version::V5, Version::V311]) {
        let pool = pool_for(url, trusting(&own), version);
        check_transport(&pool, LARGE_FOR_WEBSOCKET).await;
        pool.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_websocket_is_named() {
    let broker = Mosquitto::start();
    let url = format!("ws://127.0.0.1:{}", broker.port());
    let pool = pool_for(&url, TlsOptions::new(), Version::V311);
    let mut events = pool.events();
    pool.add(device("d")).expect("there is room");
    let cause = end_of(&mut events, "d").await;
    assert!(["websocket", "peer-closed", "reset"].contains(&cause.code()), "{cause}");
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_source_addresses_share_the_devices() {
    let broker = Mosquitto::start();
    let sources: [IpAddr; 2] = [[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
    let pool = pools::builder(&broker).sources(sources).build().expect("all values are valid");
    pools::add_many(&pool, 20);
    let count = |port| {
        let mut by_source = BTreeMap::new();
        for row in pools::open_sockets(port) {
            let (source, _) = row.local.rsplit_once(':').expect("ss prints host and port");
            *by_source.entry(source.to_owned()).or_insert(0) += 1;
        }
        by_source
    };
    let even = BTreeMap::from([("127.0.0.2".to_owned(), 10), ("127.0.0.3".to_owned(), 10)]);
    assert_eq!(count(broker.port()), even);
    for name in pools::names(20) {
        soon("a new session", pool.reconnect(&name)).await.expect("the broker lets it in");
    }
    assert_eq!(count(broker.port()), even);
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_address_of_another_host_is_the_operators() {
    let broker = Mosquitto::start();
    let source: IpAddr = [192, 0, 2, 1].into();
    let pool = pools::builder(&broker).sources([source]).build().expect("all values are valid");
    let mut events = pool.events();
    pool.add(device("d")).expect("there is room");
    let cause = end_of(&mut events, "d").await;
    assert_eq!(cause.code(), "operator");
    assert!(cause.to_string().contains("192.0.2.1 is no address of this host"), "{cause}");
    pool.shutdown().await;
}
