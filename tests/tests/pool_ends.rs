//! How a pool ends, and the examples as their users run them.

use harness::mqtt::Client;
use harness::peer::{FullBacklog, Peer};
use harness::pools::{self, await_online, await_sockets, device, soon};
use harness::{Mosquitto, wait};
use pool::{CallerError, Delivery, DeviceId, Error, Pool, Publish, QoS, ReconnectOptions, Will};
use serde_json::Value;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const SILENCE: Duration = Duration::from_millis(300);

fn add_with_wills(pool: &Pool, count: usize) {
    for name in pools::names(count) {
        let gone = Publish::new(format!("will/{name}"), QoS::AtMostOnce, "gone");
        let will = Will::new(gone.expect("a valid topic")).expect("it is short");
        pool.add(device(&name).will(will)).expect("there is room");
    }
    await_online(pool, count);
}

fn witness(broker: &Mosquitto) -> Client {
    let mut witness = Client::connect(broker.port(), "witness");
    witness.subscribe("will/#", 0);
    witness
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_handle_all_sockets_are_closed_at_once() {
    let broker = Mosquitto::start();
    let mut witness = witness(&broker);
    let pool = pools::pool(&broker);
    add_with_wills(&pool, 100);
    let (mut events, mut messages) = (pool.events(), pool.messages().expect("nobody reads them"));
    broker.freeze();
    let delivery = unanswered(&pool);
    let second = pool.clone();
    drop(pool);
    assert_eq!(second.status().online, 100, "there is another handle");
    drop(second);
    // The broker does not help: it stands still.
    // The witness is still there.
    await_sockets(broker.port(), 1);
    let lost = soon("the delivery", delivery).await;
    assert_eq!(lost, Err(Error::Caller(CallerError::Closed)));
    assert_eq!(soon("the last message", messages.next()).await, None);
    let rest = async { while events.next().await.is_some() {} };
    soon("the last event", rest).await;
    broker.thaw();
    for _ in 0..100 {
        assert!(witness.next_message().topic.starts_with("will/"));
    }
}

fn unanswered(pool: &Pool) -> Delivery {
    let publish = Publish::new("t", QoS::AtLeastOnce, "x").expect("a valid topic");
    pool.publish("d0", publish).expect("there is room")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_says_goodbye_for_every_device() {
    let broker = Mosquitto::start();
    let mut witness = witness(&broker);
    let pool = pools::pool(&broker);
    add_with_wills(&pool, 100);
    let delivery = unanswered(&pool);
    soon("the delivery", delivery).await.expect("the broker takes it");
    // Twice at the same time, and once more.
    let second = pool.clone();
    soon("both", async { tokio::join!(pool.shutdown(), second.shutdown()) }).await;
    soon("the third", pool.shutdown()).await;
    assert_eq!(pool.registry().snapshot(), []);
    // The witness is still there.
    await_sockets(broker.port(), 1);
    assert_eq!(witness.next_message_within(SILENCE), None, "no will");
    let publish = Publish::new("t", QoS::AtLeastOnce, "x").expect("a valid topic");
    assert_eq!(pool.publish("d0", publish).map(drop), Err(Error::Caller(CallerError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_does_not_wait_for_a_broker_that_stands_still() {
    let broker = Mosquitto::start();
    let pool = pools::pool(&broker);
    add_with_wills(&pool, 100);
    broker.freeze();
    let delivery = unanswered(&pool);
    // 250 ms for the broker to close, of all of them at the same time.
    let shutdown = tokio::time::timeout(Duration::from_secs(3), pool.shutdown());
    shutdown.await.expect("it has a limit");
    await_sockets(broker.port(), 0);
    let lost = soon("the delivery", delivery).await;
    assert!(lost.is_err(), "{lost:?}");
    broker.thaw();
}

/// Nobody answers there; the device is told to go meanwhile.
async fn check_removal_while_connecting(url: &str, port: u16) {
    let pool = pools::builder_for(url).build().expect("all values are valid");
    for name in ["first", "second"] {
        pool.add(device(name)).expect("there is room");
    }
    await_sockets(port, 2);
    let both = async { tokio::join!(pool.remove("first"), pool.remove("first")) };
    let (one, other) = tokio::time::timeout(Duration::from_secs(1), both).await.expect("at once");
    assert_eq!(one, Ok(()));
    // The second one waits for the same end, or comes when it is over already.
    let unknown = DeviceId::new("first").map(CallerError::UnknownDevice);
    let unknown = Error::Caller(unknown.expect("invariant: a name"));
    assert!(other == Ok(()) || other == Err(unknown), "{other:?}");
    await_sockets(port, 1);
    tokio::time::timeout(Duration::from_secs(1), pool.shutdown()).await.expect("at once");
    await_sockets(port, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_or_a_shutdown_ends_a_connect_at_once() {
    // The connections that fill the backlog are seen, too.
    let full = FullBacklog::new();
    let filling = pools::open_sockets(full.port()).len();
    assert!(filling > 0);
    let silent = Peer::new();
    for scheme in ["mqtt", "ws"] {
        let url = format!("{scheme}://{}", silent.address());
        check_removal_while_connecting(&url, silent.port()).await;
    }
    let pool = pools::builder_for(&format!("mqtt://127.0.0.1:{}", full.port())).build();
    let pool = pool.expect("all values are valid");
    pool.add(device("d")).expect("there is room");
    await_sockets(full.port(), filling + 1);
    tokio::time::timeout(Duration::from_secs(1), pool.shutdown()).await.expect("at once");
    await_sockets(full.port(), filling);
    let metrics = pool.metrics();
    assert_eq!((metrics.receipts.iter().sum::<u64>(), metrics.unreleased), (1, 0), "{metrics:?}");
}

#[test]
fn a_runtime_that_ends_first_takes_the_pool_along_without_a_panic() {
    let broker = Mosquitto::start();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("the system has threads")
    };
    // A race between the two threads, so more than once.
    for _ in 0..50 {
        let first = runtime();
        let pool = first.block_on(async {
            let pool = pools::pool(&broker);
            pools::add_many(&pool, 50);
            // So that the loop has something to do when its runtime ends.
            pool.reconnect_all(ReconnectOptions::default()).expect("the pool is there");
            pool
        });
        drop(first);
        await_sockets(broker.port(), 0);
        assert_eq!(pool.add(device("late")), Err(Error::Caller(CallerError::Closed)));
        // Passes on a panic of the loop, if there was one.
        runtime().block_on(pool.shutdown());
    }
}

/// The example `fleet`, which speaks JSON; ended when dropped.
struct Fleet {
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Fleet {
    fn start(url: &str, devices: u32) -> Self {
        let mut child = Command::new("timeout")
            .args(["--foreground", "30"])
            .arg(example("fleet"))
            .args(["--json", "--broker", url, "--devices", &devices.to_string()])
            .args(["--profile", "adaptive"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("timeout is everywhere");
        let orders = child.stdin.take().expect("invariant: stdin is a pipe");
        let said = BufReader::new(child.stdout.take().expect("invariant: stdout is a pipe"));
        Self { child, orders, said }
    }

    fn order(&mut self, line: &str) {
        writeln!(self.orders, "{line}").expect("it reads");
    }

    /// The next line, which is of this type.
    #[track_caller]
    fn next(&mut self, kind: &str) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it writes text");
        let value: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert_eq!(value["type"], kind, "{line}");
        value
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Where cargo puts the examples: `cargo test --workspace` builds them before it runs a test.
fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a program knows where it is");
    let directory = test.ancestors().nth(2).expect("invariant: target/PROFILE/deps/TEST");
    let path = directory.join("examples").join(name);
    assert!(
        path.is_file(),
        "{} is missing: `cargo build -p sockwarden-pool --examples` makes it (with --release for \
         release tests)",
        path.display()
    );
    path
}

#[test]
fn the_example_fleet_obeys_orders_and_answers_in_json() {
    let broker = Mosquitto::start();
    let mut fleet = Fleet::start(&broker.url(), 100);
    assert!(fleet.next("start")["rss_bytes"].as_u64() > Some(0));
    assert_eq!(fleet.next("online")["devices"], 100);
    fleet.order("status");
    let status = fleet.next("status");
    assert_eq!((&status["online"], &status["connects"]), (&100.into(), &100.into()), "{status}");
    fleet.order("storm 50");
    // It may be over in less time than the fleet needs to look.
    let replaced = wait::until("the storm to be over", || {
        fleet.order("status");
        let mut line = String::new();
        fleet.said.read_line(&mut line).map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let is_over = value["connects"] == 150 && value["online"] == 100;
        if is_over { Ok(value) } else { Err(line) }
    });
    assert_eq!((&replaced["disconnects"], &replaced["unreleased"]), (&50.into(), &0.into()));
    fleet.order("publish 100 50 1");
    fleet.order("quit");
    let status = fleet.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
    await_sockets(broker.port(), 0);
}

#[test]
fn the_example_replacements_loses_and_doubles_nothing() {
    let broker = Mosquitto::start();
    let output = Command::new("timeout")
        .arg("30")
        .arg(example("replacements"))
        .args(["--broker", &broker.url(), "--replacements", "300"])
        .output()
        .expect("timeout is everywhere");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{complaints}", output.status);
}
