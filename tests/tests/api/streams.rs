//! Endless answers: their formats, slow readers, many readers, the end.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use harness::http::Connection;
use harness::{clock, wait};
use observer::desk::News;
use serde_json::{Value, json};

use super::daemon::{Daemon, Setup, finding, told};

const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";

fn next(stream: &mut Connection) -> Value {
    let chunk = stream.chunk().expect("there is more");
    serde_json::from_slice(&chunk).expect("a line is JSON")
}

#[test]
fn events_come_as_lines_and_as_server_sent_events() {
    let daemon = Daemon::start();
    let mut lines = daemon.tcp.follow("/api/v1/events?types=finding,loss", LINES);
    let mut events = daemon.unix.follow("/api/v1/events", EVENTS);
    let mut pool_only = daemon.tcp.follow("/api/v1/events?types=pool", "*/*");
    wait::until_true("three readers", || daemon.counters.read().streams_open == 3);
    daemon.desk.tell(News::Finding(Arc::new(finding(5))));
    daemon.desk.tell(News::Loss { cause: "ring-full-state", lost: 7 });
    let opened = next(&mut lines);
    assert_eq!((&opened["type"], &opened["id"]), (&json!("finding"), &json!(5)));
    assert_eq!(opened["age_ms"], 1_000);
    let loss = json!({"type": "loss", "cause": "ring-full-state", "lost": 7});
    assert_eq!(next(&mut lines), loss);
    let first = String::from_utf8(events.chunk().expect("an event")).expect("text");
    assert!(first.starts_with("event: finding\nid: 1\ndata: {\"type\":\"finding\""), "{first}");
    assert!(first.ends_with("}\n\n"), "{first}");
    let second = String::from_utf8(events.chunk().expect("an event")).expect("text");
    assert!(second.starts_with("event: loss\nid: 2\ndata: {"), "{second}");
    daemon.add("d");
    let online = next(&mut pool_only);
    assert_eq!((&online["event"], &online["device"]), (&json!("online"), &json!("d")));
    drop((lines, events, pool_only));
    wait::until_true("the readers to be gone", || daemon.counters.read().streams_open == 0);
}

#[test]
fn events_are_explained_where_that_is_asked_for() {
    let daemon = Daemon::start();
    let mut brief = daemon.tcp.follow("/api/v1/events?types=finding", LINES);
    let mut explained = daemon.tcp.follow("/api/v1/events?types=finding&explain=true", LINES);
    wait::until_true("two readers", || daemon.counters.read().streams_open == 2);
    daemon.desk.tell(News::Finding(Arc::new(told(finding(1)))));
    assert_eq!(next(&mut brief).get("history"), None);
    let history = &next(&mut explained)["history"];
    assert_eq!(history[0]["text"], "a snapshot found it in CLOSE_WAIT", "{history:#}");
}

#[test]
fn messages_come_with_their_content() {
    let daemon = Daemon::start();
    daemon.add("d");
    daemon.add("e");
    let mut all = daemon.tcp.follow("/api/v1/messages", LINES);
    let mut of_one = daemon.unix.follow("/api/v1/messages?device=e", LINES);
    wait::until_true("two readers", || daemon.counters.read().streams_open == 2);
    for payload in [&b"t\x1b\xc3\xb6"[..], &[0xff, 0]] {
        daemon.broker.publish("in/a", pool::QoS::AtLeastOnce, payload.to_vec()).expect("a topic");
    }
    let mut seen: Vec<_> = (0..4).map(|_| next(&mut all)).collect();
    seen.sort_by_key(|message| (message["device"].to_string(), message["bytes"].as_u64()));
    let expected = json!({"type": "message", "device": "d", "topic": "in/a", "payload_base64":
        "/wA=", "bytes": 2, "truncated": false, "qos": 1, "retain": false, "duplicate": false});
    assert_eq!(seen[0], expected);
    assert_eq!(seen[1]["payload"], "t\u{1b}ö");
    assert_eq!(seen[2]["device"], "e");
    for _ in 0..2 {
        assert_eq!(next(&mut of_one)["device"], "e");
    }
}

/// Memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is readable");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

#[test]
fn a_reader_that_never_reads_costs_little_and_is_dropped() {
    let mut setup = Setup::new();
    setup.api.stream_buffer = 64;
    setup.patience = Duration::from_secs(4);
    let daemon = setup.start();
    // A Unix socket holds some 200 KiB, a TCP connection up to 10 MiB.
    let silent: Vec<_> = (0..10).map(|_| daemon.unix.follow("/api/v1/events", LINES)).collect();
    wait::until_true("ten readers", || daemon.counters.read().streams_open == 10);
    let before = resident();
    // 400 MB in all, if somebody kept it for each of them.
    let mut large = finding(5);
    large.message = "m".repeat(40_000);
    let large = Arc::new(large);
    for _ in 0..1_000 {
        daemon.desk.tell(News::Finding(Arc::clone(&large)));
        thread::sleep(Duration::from_millis(1));
    }
    let grown = resident().saturating_sub(before);
    // The other tests of this process need some, too.
    assert!(grown < 150 << 20, "{grown} bytes");
    wait::until("the readers to be dropped", || {
        let usage = daemon.counters.read();
        let are_gone = usage.streams_open == 0 && usage.readers_dropped == 10;
        if are_gone { Ok(()) } else { Err(format!("{usage:?}")) }
    });
    drop(silent);
}

#[test]
fn a_slow_reader_is_told_its_gap_and_goes_on() {
    let mut setup = Setup::new();
    setup.api.stream_buffer = 16;
    let daemon = setup.start();
    let mut slow = daemon.tcp.follow("/api/v1/events", LINES);
    wait::until_true("a reader", || daemon.counters.read().streams_open == 1);
    let mut large = finding(5);
    large.message = "m".repeat(100_000);
    let large = Arc::new(large);
    for _ in 0..500 {
        daemon.desk.tell(News::Finding(Arc::clone(&large)));
    }
    daemon.desk.tell(News::Loss { cause: "last", lost: 1 });
    let (mut findings, mut lost) = (0, 0);
    loop {
        let entry = next(&mut slow);
        match entry["type"].as_str() {
            Some("finding") => findings += 1,
            Some("gap") => lost += entry["lost"].as_u64().expect("a number"),
            Some("loss") => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0);
    assert_eq!(findings + lost, 500, "everything is there or told to be lost");
    assert_eq!(daemon.counters.read().entries_lost, lost);
}

#[test]
fn a_thousand_events_a_second_reach_twenty_readers() {
    let daemon = Daemon::start();
    let readers: Vec<_> = (0..20)
        .map(|number| {
            let place = if number % 2 == 0 { &daemon.tcp } else { &daemon.unix };
            let accept = if number % 4 < 2 { LINES } else { EVENTS };
            let mut stream = place.follow("/api/v1/events?types=loss", accept);
            thread::spawn(move || {
                let (mut told, mut lost, mut buffer) = (0_u64, 0_u64, String::new());
                while told + lost < 3_000 {
                    let chunk = stream.chunk().expect("there is more");
                    buffer.push_str(&String::from_utf8_lossy(&chunk));
                    while let Some((line, rest)) = buffer.split_once('\n') {
                        if let Some(at) = line.find('{') {
                            let entry: Value =
                                serde_json::from_str(&line[at..]).expect("a line is JSON");
                            match entry["type"].as_str() {
                                Some("gap") => lost += entry["lost"].as_u64().expect("a number"),
                                _ => told += 1,
                            }
                        }
                        buffer = rest.to_owned();
                    }
                }
                (told, lost)
            })
        })
        .collect();
    wait::until_true("twenty readers", || daemon.counters.read().streams_open == 20);
    let begun = clock::now();
    for number in 0..3_000 {
        daemon.desk.tell(News::Loss { cause: "test", lost: number });
        let due = begun + Duration::from_millis(number);
        thread::sleep(due.saturating_duration_since(clock::now()));
    }
    for reader in readers {
        let (told, lost) = reader.join().expect("a reader ends");
        assert_eq!(told + lost, 3_000, "everything is there or told to be lost");
        assert!(told >= 2_000, "{lost} of 3,000 were lost: slower than a busy machine explains");
    }
}

#[test]
fn streams_end_with_the_server_and_within_its_time() {
    let mut daemon = Daemon::start();
    let mut reading = daemon.tcp.follow("/api/v1/events", LINES);
    let _never_reads = daemon.unix.follow("/api/v1/messages", EVENTS);
    let _half = daemon.tcp.connect().send(b"GET /healthz HT");
    let mut idle = daemon.tcp.connect();
    idle.ask("GET", "/healthz", &[], None);
    assert!(idle.answer().is_some());
    let begun = clock::now();
    daemon.stop();
    assert!(clock::now() - begun < Duration::from_secs(7));
    assert!(reading.rest().ends_with(b"0\r\n\r\n"), "it ends properly, and is not cut off");
    assert!(idle.is_closed_within(Duration::from_millis(500)));
    assert!(daemon.tcp.try_connect().is_err());
    assert!(!daemon.socket.exists(), "the socket is removed");
}
