//! The daemon with a large fleet at a real broker: kicks, restarts, reloads.

use harness::daemon::Daemon;
use harness::kick::Kick;
use harness::watch::Finished;
use harness::{Mosquitto, Watch, clock, fleet, wait};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

const KICKER: &str = env!("CARGO_BIN_EXE_kicker");

/// Memory of the daemon with 12,000 devices in all, KiB: 60 MB of heap, program, libraries, and the
/// ring, which is mapped twice and counts twice.
const MOST_MEMORY: u64 = 60_000_000 / 1024;

/// A third of the fleet.
const GROUP: u32 = 4_000;

/// Long enough for 12,000 connects on two busy cores, and for the 40 s of `paced`.
const LONG: Duration = Duration::from_secs(90);

/// One session of a device, as the daemon tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    cookie: u64,
    generation: u64,
}

#[test]
fn four_thousand_of_twelve_thousand_are_kicked_twice_and_each_old_socket_goes_first() {
    // The broker inherits it.
    fleet::raise_descriptor_limit();
    let broker = Mosquitto::start();
    let names: Vec<String> = ["a-", "b-", "c-"].iter().flat_map(|it| group(it)).collect();
    let mut daemon = Daemon::builder()
        .fleet(&broker.url(), names.iter().map(String::as_str))
        .set("pool.limits", "profile = \"adaptive\"")
        // From one address 12,000 are 85 % of the ports that are quick to find: `port-pressure`.
        .set("pool", "sources = [\"127.0.0.2\", \"127.0.0.3\", \"127.0.0.4\"]")
        .start();
    let took = daemon.await_online(names.len() as u64, LONG);
    note(&format!("online after {took:?}: {:?}", daemon.memory()));
    let reads = "the config was read again";
    for (round, (profile, prefix)) in [("paced", "a-"), ("adaptive", "b-")].iter().enumerate() {
        daemon.reload(|it| it.set("pool.limits", format!("profile = \"{profile}\"")));
        daemon.await_said(reads, round + 1);
        let before = sessions(&daemon);
        let connected = daemon.metric("sockwarden_pool_connected_total").expect("a family");
        let watch =
            Watch::builder().pid(daemon.pid()).storms().args(["--ring-size", "67108864"]).start();

        let began = clock::now();
        Kick::start(KICKER, &broker.url(), prefix, GROUP).finish();
        wait::within(LONG, "all kicked devices to be back", || {
            let back = daemon.metric("sockwarden_pool_connected_total").expect("a family");
            let (back, online) = (back - connected, daemon.online());
            std::thread::sleep(Duration::from_millis(50));
            let is_over = back >= f64::from(GROUP) && online == names.len() as u64;
            if is_over { Ok(()) } else { Err(format!("{back} came back, {online} are online")) }
        });
        let took = began.elapsed();
        let after = sessions(&daemon);
        let watched = watch.stop();
        watched.expect_code(0);
        assert!(watched.losses().is_empty(), "{:?}", watched.losses());
        let pairs = each_old_socket_went_first(prefix, &before, &after, &watched);
        assert_eq!(pairs, GROUP as usize);
        note(&format!("{profile}: all back after {took:?}, {pairs} pairs: {:?}", daemon.memory()));
        if *profile == "paced" {
            // One in 10 ms.
            assert!(took >= Duration::from_millis(39_900), "{took:?} is too fast for paced");
        }
    }
    daemon.expect_no_finding();
    let receipts = |source: &str| {
        let series = format!("sockwarden_registry_receipts_total{{source=\"{source}\"}}");
        daemon.metric(&series).expect("a family")
    };
    let (by_event, by_query) = (receipts("event"), receipts("query"));
    note(&format!("receipts: {by_event} by event, {by_query} by query"));
    assert!(by_event >= f64::from(2 * GROUP), "{by_event} receipts by event");
    // An observer that gets no CPU for 31 ms is too late with its events.
    assert!(by_query <= f64::from(2 * GROUP) / 10.0, "{by_query} receipts had to be asked for");
    assert_eq!(daemon.metric("iot_zombie_sockets_total"), Some(0.0));
    note(&format!("right after the kicks and lists: {:?}", daemon.memory()));
    // What large lists have left is given back within seconds.
    let memory = wait::within(Duration::from_secs(30), "the memory to be given back", || {
        let memory = daemon.memory();
        if memory.rss <= MOST_MEMORY { Ok(memory) } else { Err(format!("{memory:?}")) }
    });
    note(&format!("at rest: {memory:?}"));
    let (status, took) = daemon.stop();
    note(&format!("12,000 sessions ended in {took:?}"));
    assert!(status.success(), "{status}");
}

#[test]
fn a_restart_says_goodbye_for_each_session_and_brings_all_back() {
    fleet::raise_descriptor_limit();
    let broker = Mosquitto::builder().option("connection_messages true").start();
    let names: Vec<String> = (0..3_000).map(|number| format!("dev-{number}")).collect();
    let mut daemon = Daemon::builder()
        .fleet(&broker.url(), names.iter().map(String::as_str))
        .set("pool.limits", "profile = \"adaptive\"")
        .start();
    daemon.await_online(3_000, LONG);
    let (status, took) = daemon.stop();
    note(&format!("3,000 sessions ended in {took:?}"));
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    // `Client dev-1 disconnected.` only after a DISCONNECT; otherwise `closed its connection`, `has
    // exceeded timeout` or `Socket error on client`.
    let goodbyes = |log: &str| log.lines().filter(|it| it.ends_with(" disconnected.")).count();
    wait::until("the broker to have said all", || {
        let log = broker.log();
        if goodbyes(&log) == names.len() { Ok(()) } else { Err(goodbyes(&log).to_string()) }
    });
    let log = broker.log().to_lowercase();
    for bad in ["socket error", "closed its connection", "timeout", "already connected"] {
        assert!(!log.contains(bad), "{}", log.lines().find(|it| it.contains(bad)).unwrap_or(""));
    }
    daemon.restart();
    daemon.await_online(3_000, LONG);
    daemon.expect_no_finding();
    assert_eq!(daemon.devices().len(), 3_000);
}

#[test]
fn devices_of_the_api_stay_and_those_of_the_file_stay_in_the_file() {
    let broker = Mosquitto::start();
    let mut daemon = Daemon::builder().fleet(&broker.url(), ["file-1", "file-2"]).start();
    for id in ["api-1", "api-2", "api-3"] {
        let answer = daemon.api().post("/api/v1/devices", &format!("{{\"id\":\"{id}\"}}"));
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let delete = |daemon: &Daemon, id: &str| {
        daemon.api().request("DELETE", &format!("/api/v1/devices/{id}"), &[], None)
    };
    let refused = delete(&daemon, "file-1");
    assert_eq!((refused.status, &*refused.code()), (409, "device-of-the-file"));
    assert_eq!(delete(&daemon, "api-2").status, 204);
    let expected = [("api-1", "api"), ("api-3", "api"), ("file-1", "file"), ("file-2", "file")];
    let expected = expected.map(|(id, origin)| (id.to_owned(), origin.to_owned()));
    assert_eq!(origins(&daemon), expected);
    daemon.stop();
    daemon.restart();
    assert_eq!(origins(&daemon), expected);
    daemon.kill();
    daemon.restart();
    assert_eq!(origins(&daemon), expected);
    daemon.await_online(4, LONG);
    daemon.expect_no_finding();
}

#[test]
fn a_faulty_fleet_file_changes_nothing() {
    let broker = Mosquitto::start();
    let mut daemon = Daemon::builder().fleet(&broker.url(), ["d-0", "d-1", "d-2"]).start();
    daemon.await_online(3, LONG);
    let before = sessions(&daemon);
    let faulty = [
        ("twice the same", "id\nd-0\nd-0\n"),
        ("a column that nobody knows", "id,colour\nd-0,red\n"),
        ("one good and one bad line", "id,keep_alive_s\nd-9,60\nd-8,often\n"),
        ("nothing at all", ""),
    ];
    for (number, (what, text)) in faulty.into_iter().enumerate() {
        fs::write(daemon.path("devices.csv"), text).expect("it is ours");
        // With a good setting beside it, which does not apply either.
        daemon.reload(|it| it.set("pool.limits", "profile = \"adaptive\""));
        daemon.await_said("the fleet and the config stay as they were", number + 1);
        assert_eq!(sessions(&daemon), before, "{what}");
    }
    assert!(!daemon.stderr().contains("the config was read again"), "{}", daemon.stderr());
    fs::write(daemon.path("devices.csv"), "id\nd-0\nd-1\nd-3\n").expect("it is ours");
    daemon.reload(|it| it);
    daemon.await_said("1 added, 1 removed, 0 replaced, 2 kept", 1);
    daemon.await_online(3, LONG);
    let after = sessions(&daemon);
    assert_eq!(after.keys().collect::<Vec<_>>(), ["d-0", "d-1", "d-3"]);
    for kept in ["d-0", "d-1"] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    daemon.expect_no_finding();
}

/// Asserts for each kicked device that its old socket had left the states in which data can flow
/// before connect(2) began on the new one, by the kernel's clock; and that nobody else was touched.
/// Returns how many pairs were compared.
fn each_old_socket_went_first(
    prefix: &str,
    before: &BTreeMap<String, Session>,
    after: &BTreeMap<String, Session>,
    watched: &Finished,
) -> usize {
    let (mut ended, mut dialled) = (HashMap::new(), HashMap::new());
    for it in watched.transitions() {
        if is_live(&it.old) && !is_live(&it.new) {
            ended.entry(it.cookie).or_insert(it.t_ns);
        }
        if it.new == "SYN_SENT" {
            dialled.insert(it.cookie, it);
        }
    }
    assert!(before.keys().eq(after.keys()), "the fleet is another one");
    let mut pairs = 0;
    let mut narrowest = u64::MAX;
    for (device, old) in before {
        let new = after[device];
        if !device.starts_with(prefix) {
            assert_eq!(new, *old, "nobody touched {device}");
            continue;
        }
        assert!(new.generation > old.generation && new.cookie != old.cookie, "{device}");
        let gone = ended.get(&old.cookie);
        let gone = *gone.unwrap_or_else(|| panic!("the old socket of {device} is not gone"));
        let dial = dialled.remove(&new.cookie);
        let dial = dial.unwrap_or_else(|| panic!("the new socket of {device} never dialled"));
        assert!(gone < dial.t_ns, "{device}: gone at {gone}, and its successor {dial:?}");
        narrowest = narrowest.min(dial.t_ns - gone);
        pairs += 1;
    }
    let further = dialled.len();
    note(&format!("{prefix}: closest pair {narrowest} ns, {further} further dials"));
    pairs
}

fn is_live(state: &str) -> bool {
    ["ESTABLISHED", "CLOSE_WAIT"].contains(&state)
}

/// The sessions of all devices: each has exactly one established socket.
#[track_caller]
fn sessions(daemon: &Daemon) -> BTreeMap<String, Session> {
    let mut sessions = BTreeMap::new();
    for socket in daemon.sockets() {
        let Value::String(device) = &socket["device"] else { continue };
        if socket["state"] != "ESTABLISHED" {
            continue;
        }
        let number = |field: &str| socket[field].as_u64().expect("a number");
        let session = Session { cookie: number("cookie"), generation: number("generation") };
        let other = sessions.insert(device.clone(), session);
        assert_eq!(other, None, "two sockets of {device}");
    }
    sessions
}

fn origins(daemon: &Daemon) -> Vec<(String, String)> {
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    daemon.devices().iter().map(|it| (text(&it["id"]), text(&it["origin"]))).collect()
}

fn group(prefix: &str) -> impl Iterator<Item = String> {
    (0..GROUP).map(move |number| format!("{prefix}{number}"))
}

/// A figure for whoever runs this with `--nocapture`.
fn note(text: &str) {
    #[expect(clippy::print_stderr, reason = "figures are asked for by `--nocapture`")]
    {
        eprintln!("{text}");
    }
}
