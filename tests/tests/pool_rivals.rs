//! Other clients that use the devices' client ids.

use harness::Mosquitto;
use harness::mqtt::Client;
use harness::pools::{self, await_online, await_state, ends, names};
use harness::{clock, wait};
use pool::{Event, Limits, State, TakeoverPolicy, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const DEVICES: usize = 300;
const TAKEN: usize = 200;

async fn all_return_after_a_kick(version: Version) {
    let broker = Mosquitto::start();
    let pool = pools::builder(&broker).version(version).build().expect("all values are valid");
    pools::add_many(&pool, DEVICES);
    // Each is there for a moment and leaves, or is pushed out by the device that comes back.
    for name in names(TAKEN) {
        Client::connect(broker.port(), &name).disconnect();
    }
    let target = u64::try_from(DEVICES + TAKEN).expect("invariant: a small number");
    wait::until("all to be back", || {
        let metrics = pool.metrics();
        let (connected, online) = (metrics.connected, pool.status().online);
        let are_back = connected >= target && online == DEVICES;
        if are_back { Ok(()) } else { Err(format!("{connected} connected, {online} online")) }
    });
    for name in names(DEVICES).split_off(TAKEN) {
        let status = pool.device(&name).expect("it is in the pool");
        assert_eq!((status.state, status.generation.number()), (State::Online, 1), "{name}");
    }
    let metrics = pool.metrics();
    assert_eq!((metrics.unreleased, metrics.quarantines), (0, 0), "{metrics:?}");
    pools::assert_ledgers_agree(&pool, broker.port());
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kick_all_return_by_themselves_with_mqtt_3_1_1() {
    all_return_after_a_kick(Version::V311).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kick_all_return_by_themselves_with_mqtt_5() {
    all_return_after_a_kick(Version::V5).await;
}

/// A client that takes a session again as soon as it loses it, for ever.
struct Rival {
    over: Arc<AtomicBool>,
    connects: Arc<AtomicU32>,
    thread: JoinHandle<()>,
}

impl Rival {
    fn new(port: u16, client_id: &str) -> Self {
        let (over, connects) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (is_over, counted) = (Arc::clone(&over), Arc::clone(&connects));
        let client_id = client_id.to_owned();
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                // The other side may win before the answer comes.
                let Ok(mut client) = Client::try_connect(port, &client_id) else { continue };
                counted.fetch_add(1, Ordering::Relaxed);
                while !is_over.load(Ordering::Relaxed)
                    && !client.is_closed_within(Duration::from_millis(20))
                {}
            }
        });
        Self { over, connects, thread }
    }

    fn connects(&self) -> u32 {
        self.connects.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it ends when it is told to");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duel_ends_in_quarantine_and_the_device_returns_when_the_rival_is_gone() {
    let broker = Mosquitto::start();
    let takeover = TakeoverPolicy {
        quarantine: Duration::from_secs(1),
        max_quarantine: Duration::from_secs(2),
        ..TakeoverPolicy::default()
    };
    let connect_spacing = Duration::from_millis(50);
    let pool = pools::builder(&broker)
        .takeover(takeover)
        .limits(Limits { connect_spacing, ..pools::quick() })
        .backoff(pool::BackoffPolicy {
            base: Duration::from_millis(50),
            max: Duration::from_millis(200),
            ..pool::BackoffPolicy::default()
        })
        .build()
        .expect("all values are valid");
    pools::add_many(&pool, 10);
    // A session of some age has not ended early.
    let mut events = pool.events();
    let rival = Rival::new(broker.port(), "d0");
    for period in [1, 2, 2] {
        let quarantined = pools::event(&mut events, "the quarantine", |event| match event {
            Event::Quarantined { device, period } => Some((device.to_string(), period)),
            _ => None,
        })
        .await;
        assert_eq!(quarantined, ("d0".to_owned(), Duration::from_secs(period)));
        let status = pool.device("d0").expect("it is in the pool");
        assert_eq!(status.state, State::Quarantined);
        // The rival has the session meanwhile, and nobody disturbs it.
        wait::until_true("the rival to settle", || rival.connects() > 0);
    }
    // 10 at first, 2 more until the first quarantine (3 when the first session is old), and one
    // after each of two quarantines.
    // A rival that is quick enough resets a dial before its CONNACK is read; that is no session, and
    // no duel.
    let metrics = pool.metrics();
    let unborn: u64 = metrics.failed.iter().sum();
    let sessions = metrics.dials - unborn;
    assert!((14..=15).contains(&sessions), "{} dials, {unborn} without a session", metrics.dials);
    assert!(rival.connects() <= 8, "{} connects of the rival", rival.connects());
    rival.end();
    let gone = clock::now();
    await_state(&pool, "d0", State::Online);
    assert!(gone.elapsed() < Duration::from_secs(4), "{:?}", gone.elapsed());
    for name in names(10).split_off(1) {
        let status = pool.device(&name).expect("it is in the pool");
        assert_eq!((status.state, status.generation.number()), (State::Online, 1), "{name}");
    }
    let metrics = pool.metrics();
    assert_eq!((metrics.quarantines, metrics.unreleased), (3, 0));
    assert_eq!(ends(&metrics, "peer-closed") + ends(&metrics, "reset"), metrics.dials - 10);
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_reconnect_ends_a_quarantine() {
    let broker = Mosquitto::start();
    let hour = Duration::from_secs(3_600);
    let takeover = TakeoverPolicy {
        times: 2,
        quarantine: hour,
        max_quarantine: hour,
        ..TakeoverPolicy::default()
    };
    let pool = pools::builder(&broker).takeover(takeover).build().expect("all values are valid");
    pools::add_many(&pool, 2);
    let rival = Rival::new(broker.port(), "d1");
    await_state(&pool, "d1", State::Quarantined);
    rival.end();
    pools::soon("a session", pool.reconnect("d1")).await.expect("the rival is gone");
    await_online(&pool, 2);
    pool.shutdown().await;
}
