//! What changes something, against a pool and a broker.

use harness::pools::{await_state, soon};
use harness::wait;
use pool::State;
use serde_json::json;

use super::daemon::Daemon;

#[test]
fn a_device_lives_and_leaves_by_the_api() {
    let daemon = Daemon::start();
    daemon.add("press 17/ö");
    let list = daemon.tcp.get("/api/v1/devices?state=online").json();
    let device = &list["devices"][0];
    assert_eq!(device["id"], "press 17/ö");
    assert_eq!((&device["origin"], &device["generation"]), (&json!("api"), &json!(1)));
    assert_eq!(daemon.broker.sessions().len(), 1);

    let path = "/api/v1/devices/press%2017%2F%C3%B6";
    let answer = daemon.unix.post(&format!("{path}/reconnect?wait=true"), "");
    assert_eq!((answer.status, &answer.json()["generation"]), (200, &json!(2)));
    let answer = daemon.unix.post(&format!("{path}/reconnect"), "");
    assert_eq!((answer.status, &answer.json()["generation"]), (202, &json!(null)));
    wait::until("the third session", || {
        let status = daemon.pool.device("press 17/ö").map_err(|error| error.to_string())?;
        let is_new = status.generation.number() == 3 && status.state == State::Online;
        if is_new { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let answer = daemon.unix.post("/api/v1/reconnect", "");
    assert_eq!((answer.status, &answer.json()["devices"]), (202, &json!(1)));

    let answer = daemon.unix.request("DELETE", path, &[], None);
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert!(daemon.pool.devices().is_empty());
    assert_eq!(daemon.unix.request("DELETE", path, &[], None).code(), "unknown-device");
    assert_eq!(daemon.broker.counters().overlaps, 0);
}

#[test]
fn messages_go_to_the_broker() {
    let daemon = Daemon::start();
    daemon.add("d");
    let path = "/api/v1/devices/d/publish";
    for (qos, body) in [
        (0, json!({"topic": "a", "payload": "größe"})),
        (1, json!({"topic": "b", "payload_base64": "/wA=", "qos": 1, "retain": true})),
        (2, json!({"topic": "c", "qos": 2})),
    ] {
        let answer = daemon.unix.post(path, &body.to_string());
        assert_eq!((answer.status, &answer.json()["delivered"]), (200, &json!(true)), "{qos}");
    }
    let mut received = Vec::new();
    wait::until("three messages", || {
        received.extend(daemon.broker.take_received());
        if received.len() == 3 { Ok(()) } else { Err(format!("{received:?}")) }
    });
    assert_eq!(&received[0].payload[..], "größe".as_bytes());
    assert_eq!((&received[1].payload[..], received[1].retain), (&[0xff, 0][..], true));
    assert_eq!((received[2].qos, received[2].payload.len()), (pool::QoS::ExactlyOnce, 0));
}

#[test]
fn a_message_without_a_session_says_that_it_waits() {
    let daemon = Daemon::start();
    daemon.add("d");
    daemon.broker.freeze();
    let body = json!({"topic": "a", "qos": 1}).to_string();
    let answer = daemon.unix.post("/api/v1/devices/d/publish", &body);
    assert_eq!((answer.status, &answer.json()["delivered"]), (202, &json!(false)));
    daemon.broker.thaw();
    wait::until_true("the message", || !daemon.broker.take_received().is_empty());
}

#[test]
fn wrong_changes_change_nothing_and_say_why() {
    let daemon = Daemon::start();
    daemon.add("d");
    let cases = [
        ("POST", "/api/v1/devices", r#"{"id":"d"}"#, 409, "device-exists"),
        ("POST", "/api/v1/devices", r#"{"id":"e","client_id":"d"}"#, 409, "client-id-taken"),
        ("POST", "/api/v1/devices", r#"{"id":""}"#, 400, "invalid-field"),
        ("POST", "/api/v1/devices", r#"{"id":"a\u0000b"}"#, 400, "invalid-field"),
        ("POST", "/api/v1/devices", r#"{"idd":"a"}"#, 400, "body-not-understood"),
        ("POST", "/api/v1/devices", "", 400, "body-not-understood"),
        ("POST", "/api/v1/devices", "\u{0}\u{1}", 400, "body-not-understood"),
        ("POST", "/api/v1/devices?x=1", r#"{"id":"e"}"#, 400, "invalid-query"),
        ("DELETE", "/api/v1/devices/nobody", "", 404, "unknown-device"),
        ("DELETE", "/api/v1/devices/of-the-file", "", 409, "device-of-the-file"),
        ("POST", "/api/v1/devices/nobody/reconnect", "", 404, "unknown-device"),
        ("POST", "/api/v1/devices/d/reconnect?wait=yes", "", 400, "invalid-query"),
        ("POST", "/api/v1/devices/nobody/publish", r#"{"topic":"a"}"#, 404, "unknown-device"),
        ("POST", "/api/v1/devices/d/publish", r#"{"topic":"a/#"}"#, 400, "invalid-field"),
        ("POST", "/api/v1/devices/d/publish", r#"{"topic":"a","qos":3}"#, 400, "invalid-field"),
        ("POST", "/api/v1/devices/d/publish", r#"{"topc":"a"}"#, 400, "body-not-understood"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = daemon.unix.request(method, path, &[], Some(body.as_bytes()));
        assert_eq!((answer.status, &*answer.code()), (status, code), "{method} {path} {body}");
    }
    assert_eq!(daemon.pool.devices().len(), 1);
    assert!(daemon.broker.take_received().is_empty());
}

#[test]
fn strange_names_are_names_or_errors() {
    let daemon = Daemon::start();
    let cases = [
        ("%2F", 404),
        ("a%2F..%2Fb", 404),
        ("..%2F..%2Fetc%2Fpasswd", 404),
        ("%2E%2E", 404),
        ("%00", 400),
        ("a%00b", 400),
        ("%FF", 400),
        ("%C3%B6%F0%9F%94%A5", 404),
        ("%E2%80%AE", 404),
        ("%zz", 404),
        ("a%0D%0AX-Header:%20x", 404),
        (&"a".repeat(70_000), 414),
        (&"a".repeat(60_000), 404),
    ];
    for (name, status) in cases {
        for (method, path) in [("DELETE", ""), ("POST", "/reconnect"), ("POST", "/publish")] {
            let path = format!("/api/v1/devices/{name}{path}");
            let answer = daemon.unix.request(method, &path, &[], Some(br#"{"topic":"a"}"#));
            let shown = &path[..path.len().min(80)];
            assert_eq!(answer.status, status, "{method} {shown}: {}", answer.text());
            assert!(answer.header("x-header").is_none());
        }
    }
}

#[test]
fn a_change_goes_on_when_the_client_hangs_up() {
    let daemon = Daemon::start();
    for number in 0..20 {
        let body = format!("{{\"id\":\"d{number}\"}}");
        let mut client = daemon.unix.connect();
        client.ask("POST", "/api/v1/devices", &[], Some(body.as_bytes()));
        wait::until_true("the change to begin", || daemon.pool.devices().len() > number);
        drop(client);
    }
    daemon.add("last");
    // What was begun is whole: each device is in the pool and on the list, or in neither.
    wait::until("the fleet to settle", || {
        let listed = daemon.tcp.get("/api/v1/devices").json();
        let listed = listed["devices"].as_array().map(Vec::len).unwrap_or_default();
        let there = daemon.pool.devices().len();
        if listed == there { Ok(()) } else { Err(format!("{listed} of {there}")) }
    });
    await_state(&daemon.pool, "last", State::Online);
    daemon.runtime.block_on(soon("the pool to end", daemon.pool.shutdown()));
    assert_eq!(daemon.unix.post("/api/v1/devices/last/reconnect", "").status, 503);
}
