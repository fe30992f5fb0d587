//! Destroy before replace, with the kernel as witness.

use harness::mosquitto::Mosquitto;
use harness::pools::{self, assert_ledgers_agree, await_online, await_sockets, ends, soon};
use harness::{ss, wait};
use pool::registry::{Change, Claim, Registry};
use pool::{BackoffPolicy, Event, Limits, Metrics, Pool, Receipt, ReconnectOptions, Timeouts};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::broadcast;

const DEVICES: usize = 300;

/// Looks at the kernel's sockets all the time.
struct Witness {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u64>>>,
}

impl Witness {
    fn new(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut looks = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let open = pools::open_sockets(port).into_iter();
                looks.push(open.map(|row| row.cookie.expect("an open socket has one")).collect());
            }
            looks
        });
        Self { over, thread }
    }

    /// The cookies of the open sockets at each look.
    fn looks(self) -> Vec<Vec<u64>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("ss prints what we understand")
    }
}

/// Follows the registry, and stops at a second claim for one device.
struct Ledger {
    present: BTreeMap<String, Claim>,
    /// All claims that ever were.
    owners: BTreeMap<u64, Claim>,
    changes: broadcast::Receiver<Change>,
}

impl Ledger {
    fn new(registry: &Registry) -> Self {
        let (claims, changes) = registry.subscribe();
        let mut ledger = Self { present: BTreeMap::new(), owners: BTreeMap::new(), changes };
        claims.into_iter().for_each(|claim| ledger.claimed(claim));
        ledger
    }

    fn claimed(&mut self, claim: Claim) {
        self.owners.insert(claim.cookie, claim.clone());
        let device = claim.device.as_str().to_owned();
        if let Some(before) = self.present.insert(device, claim.clone()) {
            assert_eq!(before.cookie, claim.cookie, "a second claim for {}", claim.device);
        }
    }

    /// Takes in what happened up to now.
    fn follow(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(Change::Claimed(claim)) => self.claimed(claim),
                Ok(Change::Retracted { cookie, with_receipt }) => {
                    assert!(with_receipt, "no receipt for {cookie}");
                    self.present.retain(|_, claim| claim.cookie != cookie);
                }
                Err(broadcast::error::TryRecvError::Lagged(lost)) => panic!("lost {lost} changes"),
                Err(_nothing_more) => return,
            }
        }
    }
}

/// Asserts what the looks prove. One look is no instant: a socket that is replaced while ss goes
/// through the kernel's table may be seen together with its successor. But a socket that is seen
/// in a later look than its successor was there together with it.
fn assert_no_overlap(looks: &[Vec<u64>], owners: &BTreeMap<u64, Claim>, devices: usize) {
    let mut seen: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for (number, cookies) in looks.iter().enumerate() {
        let mut by_device: BTreeMap<&str, u32> = BTreeMap::new();
        for cookie in cookies {
            let owner = owners.get(cookie).unwrap_or_else(|| panic!("nobody claims {cookie:x}"));
            *by_device.entry(owner.device.as_str()).or_default() += 1;
            let (_, last) = seen.entry(*cookie).or_insert((number, number));
            *last = number;
        }
        assert!(by_device.len() <= devices);
        assert!(by_device.values().all(|count| *count <= 2), "look {number}: {by_device:?}");
    }
    let mut lives: Vec<_> = seen
        .iter()
        .map(|(cookie, (first, last))| {
            let owner = &owners[cookie];
            (owner.device.as_str(), owner.generation, *first, *last)
        })
        .collect();
    lives.sort_unstable();
    for pair in lives.windows(2) {
        let ((device, _, _, last), (successor, _, first, _)) = (pair[0], pair[1]);
        assert!(device != successor || last <= first, "two sockets at once: {pair:?}");
    }
}

fn receipts(metrics: &Metrics) -> u64 {
    metrics.receipts.iter().sum()
}

async fn replace_all(pool: &Pool) {
    let before = pool.metrics().connected;
    let asked = pool.reconnect_all(ReconnectOptions::default()).expect("the pool is there");
    let target = before + u64::try_from(asked).expect("invariant: a small number");
    wait::until("all to be replaced", || {
        let connected = pool.metrics().connected;
        if connected == target { Ok(()) } else { Err(format!("{connected} of {target}")) }
    });
    await_online(pool, asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_all_are_replaced_no_device_ever_has_two_sockets() {
    let broker = Mosquitto::start();
    // Slow enough for many looks.
    let limits = Limits { min_interval: Duration::from_millis(5), ..pools::quick() };
    let pool = pools::builder(&broker).limits(limits).build().expect("all values are valid");
    pools::add_many(&pool, DEVICES);
    assert_ledgers_agree(&pool, broker.port());
    let mut ledger = Ledger::new(pool.registry());
    let witness = Witness::new(broker.port());
    replace_all(&pool).await;
    let looks = witness.looks();
    ledger.follow();

    assert!(looks.len() >= 10, "{} looks prove little", looks.len());
    assert_eq!(ledger.owners.len(), 2 * DEVICES, "each has had two sockets");
    assert_no_overlap(&looks, &ledger.owners, DEVICES);
    assert_ledgers_agree(&pool, broker.port());
    let metrics = pool.metrics();
    assert_eq!((receipts(&metrics), ends(&metrics, "replaced")), (300, 300), "{metrics:?}");
    assert_eq!((metrics.unreleased, metrics.late_events, metrics.sockets), (0, 0, DEVICES));
    pool.shutdown().await;
    let metrics = pool.metrics();
    assert_eq!((receipts(&metrics), metrics.dials, metrics.unreleased), (600, 600, 0));
    assert!(pool.registry().is_empty());
    await_sockets(broker.port(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_when_the_broker_dies_in_the_middle() {
    let mut broker = Mosquitto::start();
    let limits = Limits { min_interval: Duration::from_millis(5), ..pools::quick() };
    let backoff = BackoffPolicy {
        base: Duration::from_millis(100),
        max: Duration::from_millis(500),
        ..BackoffPolicy::default()
    };
    let builder = pools::builder(&broker).limits(limits).backoff(backoff);
    let pool = builder.build().expect("all values are valid");
    pools::add_many(&pool, DEVICES);
    let mut ledger = Ledger::new(pool.registry());
    let witness = Witness::new(broker.port());
    pool.reconnect_all(ReconnectOptions::default()).expect("the pool is there");
    wait::until_true("a third of it", || pool.metrics().connected > 400);
    broker.kill();
    wait::until_true("some refusals", || ends(&pool.metrics(), "refused") > 200);
    broker.restart();
    await_online(&pool, DEVICES);
    let looks = witness.looks();
    ledger.follow();

    assert_no_overlap(&looks, &ledger.owners, DEVICES);
    assert_ledgers_agree(&pool, broker.port());
    let metrics = pool.metrics();
    assert_eq!((metrics.unreleased, metrics.late_events), (0, 0), "{metrics:?}");
    pool.shutdown().await;
    let metrics = pool.metrics();
    assert_eq!(receipts(&metrics), metrics.dials, "one socket for each dial, one receipt for each");
    await_sockets(broker.port(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_again_and_again_are_one_replacement() {
    let broker = Mosquitto::start();
    let pool = pools::pool(&broker);
    pools::add_many(&pool, 50);
    pool.set_limits(Limits { min_interval: Duration::from_millis(20), ..pools::quick() })
        .expect("all values are valid");
    // Most of them still wait for their turn when they are asked for the second time.
    for _ in 0..20 {
        pool.reconnect_all(ReconnectOptions::default()).expect("the pool is there");
    }
    wait::until_true("the last turn", || {
        let metrics = pool.metrics();
        metrics.connected >= 100 && metrics.queued == 0 && pool.status().online == 50
    });
    let dials = pool.metrics().dials;
    assert!((100..=110).contains(&dials), "{dials} dials");
    assert_ledgers_agree(&pool, broker.port());
    pool.shutdown().await;
}

/// Copies of the descriptor with this cookie, as a thief would get them.
fn steal(cookie: u64) -> OwnedFd {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("Linux 5.3 or later");
    let list = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let numbers = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter_map(|number: i32| pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok())
        .find(|copy| SockRef::from(copy).cookie().is_ok_and(|it| it == cookie))
        .expect("the socket is open")
}

/// A child that inherited a socket and does nothing with it; ended when dropped.
struct Holder(Child);

impl Holder {
    fn new(cookie: u64) -> Self {
        let child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::from(steal(cookie)))
            .spawn()
            .expect("sleep is everywhere");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn cookie_of(pool: &Pool, device: &str) -> u64 {
    let claims = pool.registry().snapshot();
    claims.iter().find(|claim| claim.device.as_str() == device).expect("it is online").cookie
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_a_child_inherited_is_disconnected_nevertheless() {
    let broker = Mosquitto::start();
    let pool = pools::pool(&broker);
    pools::add_many(&pool, 1);
    let cookie = cookie_of(&pool, "d0");
    let _holder = Holder::new(cookie);
    let generation = soon("a new session", pool.reconnect("d0")).await.expect("it is let in");
    assert_eq!(generation.number(), 2);
    let rows = ss::towards(broker.port());
    assert!(!rows.iter().any(|row| row.cookie == Some(cookie) && row.is_open()), "{rows:?}");
    let metrics = pool.metrics();
    assert_eq!((receipts(&metrics), metrics.unreleased), (1, 0), "{metrics:?}");
    assert_eq!(metrics.receipts[Receipt::Released as usize], 0, "it is held, and so not released");
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_cannot_be_reset_is_reported_and_the_device_goes_on() {
    let broker = Mosquitto::start();
    let receipt = Duration::from_millis(300);
    let pool = pools::builder(&broker)
        .keep_alive(Duration::from_secs(1))
        .timeouts(Timeouts { receipt, ..Timeouts::default() })
        .build()
        .expect("all values are valid");
    pools::add_many(&pool, 2);
    let cookie = cookie_of(&pool, "d0");
    let mut events = pool.events();
    let holder = Holder::new(cookie);
    // A silent broker gets a reset, which only the last close of a socket sends.
    broker.freeze();
    let unreleased = pools::event(&mut events, "the report", |event| match event {
        Event::Unreleased { device, generation, cookie } => {
            Some((device.to_string(), generation.number(), cookie))
        }
        _ => None,
    })
    .await;
    assert_eq!(unreleased, ("d0".to_owned(), 1, cookie));
    broker.thaw();
    await_online(&pool, 2);
    assert_eq!(pool.metrics().unreleased, 1);
    assert!(pool.registry().claim_of(cookie).is_some(), "the ledger does not forget it");
    drop(holder);
    wait::until_true("the late receipt", || pool.registry().claim_of(cookie).is_none());
    assert_ledgers_agree(&pool, broker.port());
    pool.shutdown().await;
}
