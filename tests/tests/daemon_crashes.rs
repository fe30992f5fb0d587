//! SIGKILL of the daemon, and of its broker, each while they work: what was acknowledged stays true.

use harness::daemon::{Builder, Daemon};
use harness::http::Place;
use harness::kick::Kick;
use harness::mqtt::Client;
use harness::{Mosquitto, clock, fleet, ss, wait};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const KICKER: &str = env!("CARGO_BIN_EXE_kicker");

/// Long enough for a fleet of thousands on two busy cores.
const LONG: Duration = Duration::from_secs(60);

/// Longest time between two snapshots in these scenarios.
const SNAPSHOT: Duration = Duration::from_secs(2);

/// Where the daemons of these scenarios connect from, so that their sockets can be told from those
/// of a subscriber or a kicker.
const SOURCE: &str = "127.0.0.3";

/// How often the daemon is killed in one scenario.
const ROUNDS: usize = 3;

/// Long enough to see that nothing goes on.
const STUCK: Duration = Duration::from_millis(300);

/// Clients of the API that work at the same time.
const CLIENTS: u32 = 4;

#[test]
fn a_device_that_was_acknowledged_is_there_after_a_kill() {
    let broker = Mosquitto::start();
    let mut daemon = builder(&broker, ["file-1"]).start();
    let next = AtomicU32::new(0);
    let mut acknowledged = BTreeSet::new();
    for round in 1..=3 {
        let api = daemon.api();
        let (added, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        thread::scope(|scope| {
            let _over = Over(&is_over);
            for _ in 0..CLIENTS {
                scope.spawn(|| add_until_it_ends(&api, &next, &added, &is_over));
            }
            let enough = 10 * round as usize;
            wait::until_true("some devices to be added", || locked(&added).len() >= enough);
            daemon.kill();
        });
        acknowledged.extend(added.into_inner().unwrap_or_else(PoisonError::into_inner));
        expect_remains(&daemon, &broker);
        daemon.restart();
        expect_lock(&daemon);
        let devices = daemon.devices();
        let names: BTreeSet<&str> = devices.iter().map(|it| text(&it["id"])).collect();
        assert_eq!(names.len(), devices.len(), "each is there once: {devices:#?}");
        let lost: Vec<_> = acknowledged.iter().filter(|it| !names.contains(&***it)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        // What each client had asked for and got no answer to may be there or not.
        let most = acknowledged.len() + 1 + round as usize * CLIENTS as usize;
        assert!(devices.len() <= most, "{} devices, at most {most}", devices.len());
        daemon.await_online(devices.len() as u64, LONG);
        daemon.expect_no_finding();
    }
}

#[test]
fn a_message_that_was_acknowledged_is_delivered_though_the_daemon_is_killed() {
    let mut broker = Mosquitto::start();
    let names = ["p-0", "p-1", "p-2", "p-3"];
    let mut daemon = builder(&broker, names).start();
    daemon.await_online(4, LONG);
    // With QoS 0 the broker hands a message on before it acknowledges it.
    let mut subscriber = Client::connect(broker.port(), "subscriber");
    subscriber.subscribe("up/#", 0);
    let (next, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let mut answers = Answers::default();
    let mut received = BTreeSet::new();
    thread::scope(|scope| {
        let _over = Over(&is_over);
        let reader = scope.spawn(|| collect(&mut subscriber, &is_over));
        for round in 1..=ROUNDS {
            let api = daemon.api();
            let (given, is_over) = (Mutex::new(Answers::default()), AtomicBool::new(false));
            thread::scope(|scope| {
                let _over = Over(&is_over);
                for name in names {
                    let (api, next, given, is_over) = (&api, &next, &given, &is_over);
                    scope.spawn(move || publish_until_it_ends(api, name, next, given, is_over));
                }
                let enough = 50 * round;
                wait::until_true("some messages to be acknowledged", || {
                    locked(&given).delivered.len() >= enough
                });
                if round == ROUNDS {
                    // What is sent from now on comes nowhere: nobody may say that it did.
                    broker.freeze();
                    let sent = next.load(Ordering::Relaxed);
                    thread::sleep(STUCK);
                    let sent = next.load(Ordering::Relaxed) - sent;
                    assert!(sent <= CLIENTS, "{sent} went on without a broker");
                    broker.kill();
                }
                daemon.kill();
            });
            answers.add(given.into_inner().unwrap_or_else(PoisonError::into_inner));
            if round == ROUNDS {
                broker.restart();
            }
            expect_remains(&daemon, &broker);
            daemon.restart();
            expect_lock(&daemon);
            daemon.await_online(4, LONG);
            daemon.expect_no_finding();
        }
        is_over.store(true, Ordering::Relaxed);
        received.extend(reader.join().expect("it does not panic"));
    });
    assert!(answers.other.is_empty(), "{:?}", answers.other);
    expect_delivered(&answers, &received);
}

#[test]
fn a_daemon_that_is_killed_in_a_kick_starts_as_if_nothing_had_been() {
    fleet::raise_descriptor_limit();
    let broker = Mosquitto::start();
    let names: Vec<String> = (0..2_000).map(|number| format!("k-{number}")).collect();
    let mut daemon = builder(&broker, names.iter().map(String::as_str)).start();
    daemon.await_online(2_000, LONG);
    let kick = Kick::start(KICKER, &broker.url(), "k-", 2_000);
    // A broker of 3.1.1 only closes, so the cause says no more than that.
    wait::until_true("the kick to be under way", || {
        daemon.metric("sockwarden_pool_connected_total").is_some_and(|it| it >= 2_100.0)
    });
    daemon.kill();
    expect_remains(&daemon, &broker);
    kick.finish();
    daemon.restart();
    expect_lock(&daemon);
    daemon.await_online(2_000, LONG);
    let devices = daemon.devices();
    assert!(devices.iter().all(|it| it["state"] == "online" && it["generation"] == 1));
    expect_one_socket_each(&daemon, &devices);
    daemon.expect_no_finding();
}

#[test]
fn a_broker_that_is_killed_is_waited_for_and_nothing_leaks() {
    fleet::raise_descriptor_limit();
    let mut broker = Mosquitto::start();
    let names: Vec<String> = (0..2_000).map(|number| format!("b-{number}")).collect();
    let daemon = builder(&broker, names.iter().map(String::as_str))
        .set("watch", format!("snapshot_interval = \"{}ms\"", SNAPSHOT.as_millis()))
        .start();
    daemon.await_online(2_000, LONG);
    // With QoS 0 the broker hands a message on before it acknowledges it.
    let mut subscriber = Client::connect(broker.port(), "subscriber");
    subscriber.subscribe("up/#", 0);
    let api = daemon.api();
    let (next, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let given = Mutex::new(Answers::default());
    let mut received = BTreeSet::new();
    thread::scope(|scope| {
        let _over = Over(&is_over);
        let reader = scope.spawn(|| collect(&mut subscriber, &is_over));
        for client in 0..CLIENTS {
            let (api, next, given, is_over) = (&api, &next, &given, &is_over);
            scope.spawn(move || {
                publish_until_it_ends(api, &format!("b-{client}"), next, given, is_over);
            });
        }
        wait::until_true("messages to flow", || locked(&given).delivered.len() >= 100);
        broker.kill();
        received.extend(reader.join().expect("it does not panic"));
        let gone = clock::now();
        wait::until("the devices to be offline", || match daemon.online() {
            0 => Ok(()),
            online => Err(format!("{online} are online")),
        });
        expect_no_zombies(&daemon, SNAPSHOT);
        // An outage that lasts, so that the devices have tried more than once.
        wait::within(LONG, "the devices to try again", || {
            let failed = daemon.metric("sockwarden_pool_dials_total").unwrap_or_default();
            if failed >= 5_000.0 { Ok(()) } else { Err(format!("{failed} dials")) }
        });
        let (before, offline) = (locked(&given).delivered.len(), gone.elapsed());
        broker.restart();
        let mut subscriber = Client::connect(broker.port(), "subscriber");
        subscriber.subscribe("up/#", 0);
        let reader = scope.spawn({
            let is_over = &is_over;
            move || collect(&mut subscriber, is_over)
        });
        daemon.await_online(2_000, LONG);
        expect_no_zombies(&daemon, SNAPSHOT);
        wait::until_true("messages to flow again", || {
            locked(&given).delivered.len() >= before + 100
        });
        assert!(offline < LONG, "{offline:?}");
        is_over.store(true, Ordering::Relaxed);
        received.extend(reader.join().expect("it does not panic"));
    });
    let answers = given.into_inner().unwrap_or_else(PoisonError::into_inner);
    expect_delivered(&answers, &received);
    let known = [202, 429, 502];
    assert!(answers.other.keys().all(|status| known.contains(status)), "{:?}", answers.other);
    expect_one_socket_each(&daemon, &daemon.devices());
    daemon.expect_no_finding();
}

fn builder<'a>(broker: &Mosquitto, names: impl IntoIterator<Item = &'a str>) -> Builder {
    Daemon::builder()
        .fleet(&broker.url(), names)
        .set("pool", format!("sources = [\"{SOURCE}\"]"))
        .set("pool.limits", "profile = \"adaptive\"")
}

/// Ends the threads of a scenario, also one that fails: otherwise it would wait for them for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What became of messages, by their number.
#[derive(Debug, Default)]
struct Answers {
    /// Answered 200, `delivered`.
    delivered: BTreeSet<u32>,
    /// How often something else was answered, by status.
    other: BTreeMap<u16, u32>,
}

impl Answers {
    fn add(&mut self, more: Self) {
        self.delivered.extend(more.delivered);
        for (status, count) in more.other {
            *self.other.entry(status).or_default() += count;
        }
    }
}

fn add_until_it_ends(
    api: &Place,
    next: &AtomicU32,
    added: &Mutex<Vec<String>>,
    is_over: &AtomicBool,
) {
    while !is_over.load(Ordering::Relaxed) {
        let id = format!("api-{}", next.fetch_add(1, Ordering::Relaxed));
        match api.try_post("/api/v1/devices", &json!({ "id": id }).to_string()) {
            Some(answer) if answer.status == 201 => locked(added).push(id),
            // It is ending.
            Some(answer) => panic!("{id}: {}", answer.text()),
            None => return,
        }
    }
}

fn publish_until_it_ends(
    api: &Place,
    device: &str,
    next: &AtomicU32,
    given: &Mutex<Answers>,
    is_over: &AtomicBool,
) {
    while !is_over.load(Ordering::Relaxed) && publish(api, device, next, given) {}
}

/// Publishes one message; false if the daemon is gone. Its topic is its number and the broker keeps
/// it, so that a subscriber who comes later gets it too.
fn publish(api: &Place, device: &str, next: &AtomicU32, given: &Mutex<Answers>) -> bool {
    let number = next.fetch_add(1, Ordering::Relaxed);
    let message =
        json!({ "topic": format!("up/{number}"), "payload": "x", "qos": 1, "retain": true });
    let path = format!("/api/v1/devices/{device}/publish");
    let Some(answer) = api.try_post(&path, &message.to_string()) else { return false };
    let mut given = locked(given);
    if answer.status == 200 && answer.json()["delivered"] == true {
        given.delivered.insert(number);
    } else {
        *given.other.entry(answer.status).or_default() += 1;
    }
    true
}

/// The numbers of all messages until the end of the connection, or until it is over and nothing
/// comes any more.
fn collect(subscriber: &mut Client, is_over: &AtomicBool) -> BTreeSet<u32> {
    let mut received = BTreeSet::new();
    loop {
        let was_over = is_over.load(Ordering::Relaxed);
        match subscriber.try_next(Duration::from_millis(500)) {
            Ok(Some(message)) => {
                let number = message.topic.strip_prefix("up/").and_then(|it| it.parse().ok());
                received.insert(number.expect("a topic of ours"));
            }
            Ok(None) if was_over => return received,
            Ok(None) => {}
            Err(_broker_is_gone) => return received,
        }
    }
}

#[track_caller]
fn expect_delivered(answers: &Answers, received: &BTreeSet<u32>) {
    let lost: Vec<_> = answers.delivered.difference(received).collect();
    let all = answers.delivered.len();
    assert!(all > 0 && lost.is_empty(), "{} of {all} were lost: {lost:?}", lost.len());
}

/// What a killed daemon leaves: no process, no socket, and two files that say nothing.
#[track_caller]
fn expect_remains(daemon: &Daemon, broker: &Mosquitto) {
    assert!(!Path::new(&format!("/proc/{}/fd", daemon.pid())).exists(), "the process is there");
    wait::until("its sockets to be gone", || {
        let mut open = ss::towards(broker.port());
        open.retain(|it| it.is_open() && it.local.starts_with(SOURCE));
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
    });
    let socket = fs::metadata(daemon.path("run/api.sock")).expect("the old Unix socket is there");
    assert!(socket.file_type().is_socket());
    assert!(daemon.try_get("/healthz").is_none(), "nobody answers");
    assert_eq!(locked_by(daemon), daemon.pid(), "the old number is in the lock");
}

#[track_caller]
fn expect_lock(daemon: &Daemon) {
    assert_eq!(locked_by(daemon), daemon.pid());
}

#[track_caller]
fn locked_by(daemon: &Daemon) -> u32 {
    let lock = fs::read_to_string(daemon.path("run/sockwarden.lock")).expect("the lock is there");
    lock.trim().parse().expect("a process number")
}

/// No claim says online of a socket that is not, at the latest when the next snapshot was taken.
#[track_caller]
fn expect_no_zombies(daemon: &Daemon, snapshot: Duration) {
    let slack = Duration::from_secs(1);
    wait::within(snapshot + slack, "no zombie to be left", || {
        match daemon.metric("iot_zombie_sockets_total") {
            Some(0.0) => Ok(()),
            zombies => Err(format!("{zombies:?}")),
        }
    });
}

/// Each device has one socket in the kernel, and nobody else has one of the daemon.
#[track_caller]
fn expect_one_socket_each(daemon: &Daemon, devices: &[Value]) {
    let sockets = daemon.sockets();
    let live = sockets.iter().filter(|it| it["state"] == "ESTABLISHED" && it["device"].is_string());
    let mut owners: Vec<&str> = live.map(|it| text(&it["device"])).collect();
    owners.sort_unstable();
    let names: Vec<&str> = devices.iter().map(|it| text(&it["id"])).collect();
    assert_eq!(owners, names);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
