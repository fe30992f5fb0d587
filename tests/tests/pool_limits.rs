//! What is bounded: received messages, and descriptors.

use harness::mqtt::Client;
use harness::pools::{self, await_online, device, soon};
use harness::{Mosquitto, clock, wait};
use pool::{Buffers, Message, Messages, Overflow, Pool, QoS};
use std::collections::BTreeMap;
use std::env;
use std::process::Command;
use std::time::Duration;

const READERS: usize = 3;
const COUNT: usize = 1_000;
const SIZE: usize = 1_000;
/// The least there is: some 60 messages.
const BOUND: usize = 64 << 10;

/// Readers with keep-alive 1 s, and a flood for each.
fn flooded(broker: &Mosquitto, overflow: Overflow) -> Pool {
    let buffers = Buffers { messages: BOUND, overflow, ..Buffers::default() };
    let pool = pools::builder(broker)
        .buffers(buffers)
        .keep_alive(Duration::from_secs(1))
        .build()
        .expect("all values are valid");
    for name in pools::names(READERS) {
        let reader = device(&name).subscribe("flood", QoS::AtLeastOnce).expect("a valid filter");
        pool.add(reader).expect("there is room");
    }
    await_online(&pool, READERS);
    // The subscriptions follow CONNACK.
    let mut other = Client::connect(broker.port(), "probe");
    wait::until_true("the subscriptions", || {
        other.publish("flood", "probe");
        let received = pool.metrics().messages_received;
        received >= u64::try_from(READERS).expect("invariant: a small number")
    });
    pool
}

/// A broker that queues without limit for a client that reads slowly.
fn patient_broker() -> Mosquitto {
    Mosquitto::builder().option("max_queued_messages 0").start()
}

/// Reads until nothing comes any more, without the probes.
async fn read_all(messages: &mut Messages) -> Vec<Message> {
    let mut all = Vec::new();
    while let Ok(Some(message)) =
        tokio::time::timeout(Duration::from_secs(1), messages.next()).await
    {
        if &message.payload[..] != b"probe" {
            all.push(message);
        }
    }
    all
}

fn number_of(message: &Message) -> usize {
    let text = String::from_utf8_lossy(&message.payload);
    let number = text.split_once(' ').and_then(|(number, _)| number.parse().ok());
    number.expect("a number is in front")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_wait_for_a_slow_consumer_within_bounds_and_lose_nothing() {
    let broker = patient_broker();
    let pool = flooded(&broker, Overflow::Wait);
    let mut other = Client::connect(broker.port(), "other");
    other.publish_many("flood", COUNT, SIZE);
    wait::until_true("all sessions to pause", || pool.metrics().sessions_paused == READERS);
    // The broker closes after one and a half keep-alives without a ping; it looks every 6 s.
    let until = clock::now() + Duration::from_secs(8);
    while clock::now() < until {
        let metrics = pool.metrics();
        assert!(metrics.messages_waiting_bytes <= BOUND, "{metrics:?}");
        assert_eq!(pool.status().online, READERS);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(pool.metrics().connected, u64::try_from(READERS).expect("invariant: small"));

    let mut messages = pool.messages().expect("nobody reads them");
    let mut numbers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for message in read_all(&mut messages).await {
        numbers.entry(message.device.to_string()).or_default().push(number_of(&message));
    }
    assert_eq!(numbers.len(), READERS);
    for (device, numbers) in numbers {
        let in_order: Vec<usize> = (0..COUNT).collect();
        assert!(numbers == in_order, "{device} got {} messages", numbers.len());
    }
    let metrics = pool.metrics();
    assert_eq!((metrics.sessions_paused, metrics.messages_dropped), (0, 0));
    assert_eq!(metrics.messages_waiting_bytes, 0);
    assert_eq!(metrics.ended.iter().sum::<u64>(), 0, "{metrics:?}");
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_session_can_be_removed_and_a_pool_with_paused_sessions_shut_down() {
    let broker = patient_broker();
    let pool = flooded(&broker, Overflow::Wait);
    Client::connect(broker.port(), "other").publish_many("flood", COUNT, SIZE);
    wait::until_true("all sessions to pause", || pool.metrics().sessions_paused == READERS);
    soon("the removal", pool.remove("d0")).await.expect("it is in the pool");
    assert_eq!(pool.metrics().sessions_paused, READERS - 1);
    soon("a new session", pool.reconnect("d1")).await.expect("the broker lets it in");
    soon("the shutdown", pool.shutdown()).await;
    assert_eq!(pool.metrics().sessions_paused, 0);
    pools::await_sockets(broker.port(), 0);
    // What was taken from the broker is still there to be read.
    let mut messages = pool.messages().expect("nobody reads them");
    assert!(soon("a message", messages.next()).await.is_some());
    let rest = async { while messages.next().await.is_some() {} };
    soon("the end of the messages", rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_drop_the_newest_are_counted_and_acknowledged() {
    let broker = patient_broker();
    let pool = flooded(&broker, Overflow::Drop);
    let before = pool.metrics();
    let mut other = Client::connect(broker.port(), "other");
    other.publish_many("flood", COUNT, SIZE);
    let flood = u64::try_from(READERS * COUNT).expect("invariant: a small number");
    // The broker sends 20 unacknowledged messages at most, so all come only when all are
    // acknowledged.
    wait::until("the end of the flood", || {
        let metrics = pool.metrics();
        let handed = metrics.messages_received - before.messages_received;
        let came = handed + metrics.messages_dropped;
        if came >= flood { Ok(()) } else { Err(format!("{came} of {flood}")) }
    });
    let metrics = pool.metrics();
    assert_eq!((metrics.sessions_paused, pool.status().online), (0, READERS));
    assert!(metrics.messages_waiting_bytes <= BOUND, "{metrics:?}");
    let mut messages = pool.messages().expect("nobody reads them");
    let mut taken = 0;
    while messages.try_next().is_some() {
        taken += 1;
    }
    assert!(taken > 0);
    // The last one may have been under way to the inbox when all were counted.
    let metrics = pool.metrics();
    assert_eq!(taken, metrics.messages_received, "{metrics:?}");
    pool.shutdown().await;
}

/// The program that cargo puts beside the directory of this test.
fn crowd(limit: u32, url: &str, count: u32) -> String {
    let test = env::current_exe().expect("a program knows where it is");
    let directory = test.ancestors().nth(2).expect("invariant: target/PROFILE/deps/TEST");
    let output = Command::new("prlimit")
        .arg(format!("--nofile={limit}:{limit}"))
        .args(["timeout", "20"])
        .arg(directory.join("crowd"))
        .args([url, &count.to_string()])
        .output()
        .expect("prlimit is there: it is essential to Debian");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{complaints}", output.status);
    said
}

/// The number behind a word.
#[track_caller]
fn number_behind(said: &str, word: &str) -> u32 {
    let mut words = said.split_whitespace().skip_while(|it| *it != word).skip(1);
    let number = words.next().and_then(|it| it.trim_end_matches(':').parse().ok());
    number.unwrap_or_else(|| panic!("no number behind {word}: {said}"))
}

#[test]
fn a_pool_does_not_outgrow_its_descriptors_and_names_the_figures() {
    let broker = Mosquitto::start();
    let said = crowd(200, &broker.url(), 500);
    // 200, less the 64 that stay free and the few that a runtime has.
    let added = number_behind(&said, "added");
    assert!((110..=130).contains(&added), "{said}");
    assert_eq!(number_behind(&said, "refused"), added, "{said}");
    for word in ["descriptors of 200 are in use or promised, 64 stay free", "LimitNOFILE="] {
        assert!(said.contains(word), "{said}");
    }
    // All that were promised one have one, and a storm needs no more.
    assert_eq!(number_behind(&said, "online"), added, "{said}");
    assert_eq!(number_behind(&said, "failed"), 0, "{said}");
    assert!(number_behind(&said, "open") <= 200 - 32, "{said}");
}

#[test]
fn a_limit_below_the_headroom_leaves_no_device() {
    let broker = Mosquitto::start();
    let said = crowd(70, &broker.url(), 1);
    assert_eq!(number_behind(&said, "refused"), 0, "{said}");
    assert!(said.contains("descriptors of 70 are in use or promised"), "{said}");
}
