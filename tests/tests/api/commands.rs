//! The commands that ask a daemon.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use harness::watch::binary;
use harness::{TempDir, wait};
use observer::desk::News;
use serde_json::{Value, json};

use super::daemon::{Daemon, PASSWORD, finding};

fn run(socket: &Path, arguments: &[&str]) -> Output {
    command(socket, arguments).output().expect("the binary runs")
}

fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--socket").arg(socket).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn expect(output: Output, code: i32, said: &str) -> Output {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{}{errors}", text(&output));
    assert!(text(&output).contains(said) || errors.contains(said), "{}{errors}", text(&output));
    output
}

fn lines(output: &Output) -> Vec<Value> {
    let text = text(output);
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn leaks_are_shown_to_people_and_programs() {
    let daemon = Daemon::start();
    let output = expect(run(&daemon.socket, &["leaks", "--kind", "overlap"]), 1, "critical");
    let shown = text(&output);
    assert_eq!(shown.lines().count(), 7, "{shown}");
    assert!(shown.ends_with("3 findings ignored by rules\n"), "{shown}");
    assert!(shown.starts_with("SEVERITY  KIND"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    assert!(shown.contains("\\u{1b}[31mx\\u{202e}"), "{shown}");
    let output = expect(run(&daemon.socket, &["leaks", "--json", "--pid", "400"]), 1, "");
    let rows = lines(&output);
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| row["type"] == "finding" && row["pid"] == 400));
    let first = text(&output);
    assert!(first.starts_with("{\"type\":\"finding\",\"event\":\"opened\",\"id\":1,"), "{first}");
    expect(run(&daemon.socket, &["leaks", "--kind", "ghost"]), 0, "nothing is leaked");
    expect(run(&daemon.socket, &["leaks", "--kind", "zombie"]), 64, "close-wait");
    let by_tcp = Command::new(binary())
        .args(["leaks", "--json", "--url", &format!("http://{}", daemon.address)])
        .output()
        .expect("the binary runs");
    assert_eq!(lines(&expect(by_tcp, 1, "")).len(), 25);
}

#[test]
fn following_shows_what_comes_and_says_when_the_daemon_ends() {
    let mut daemon = Daemon::start();
    let arguments = ["leaks", "--follow", "--json", "--kind", "overlap"];
    let mut child = command(&daemon.socket, &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut out = BufReader::new(child.stdout.take().expect("invariant: a pipe")).lines();
    let mut next = || -> Value {
        let line = out.next().expect("there is more").expect("readable");
        serde_json::from_str(&line).expect("a line is JSON")
    };
    let open: Vec<_> = (0..5).map(|_| next()["id"].clone()).collect();
    assert_eq!(open, [5, 10, 15, 20, 25]);
    daemon.desk.tell(News::Finding(Arc::new(finding(31))));
    daemon.desk.tell(News::Finding(Arc::new(finding(30))));
    daemon.desk.tell(News::Loss { cause: "ring-full-state", lost: 3 });
    assert_eq!(next()["id"], 30, "31 is of another kind");
    assert_eq!(next(), json!({"type": "loss", "cause": "ring-full-state", "lost": 3}));
    daemon.stop();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the daemon has ended"));
}

#[test]
fn a_device_goes_through_its_life_by_commands() {
    let daemon = Daemon::start();
    let directory = TempDir::new();
    let password = directory.join("password");
    std::fs::write(&password, format!("{PASSWORD}\nsecond line\n")).expect("writable");
    let password = password.to_str().expect("invariant: text");
    let add = [
        "devices",
        "add",
        "d/1",
        "--client-id",
        "c\u{1b}1",
        "--username",
        "u",
        "--password-file",
        password,
        "--subscribe",
        "in/#@1",
        "--subscribe",
        "a@2",
    ];
    expect(run(&daemon.socket, &add), 0, "device d/1 is in the pool");
    expect(run(&daemon.socket, &add), 64, "already");
    let json_add = ["devices", "add", "e", "--json"];
    let added = lines(&expect(run(&daemon.socket, &json_add), 0, ""));
    assert_eq!((&added[0]["type"], &added[0]["id"]), (&json!("device"), &json!("e")));
    harness::pools::await_online(&daemon.pool, 2);

    let output = expect(run(&daemon.socket, &["devices", "--state", "online"]), 0, "d/1");
    let shown = text(&output);
    assert!(shown.starts_with("DEVICE  STATE   SINCE"), "{shown}");
    assert!(shown.contains("c\\u{1b}1") && !shown.contains(PASSWORD), "{shown}");
    let rows = lines(&expect(run(&daemon.socket, &["devices", "--json"]), 0, ""));
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["state"] == "online" && row.get("password").is_none()));
    expect(run(&daemon.socket, &["devices", "--state", "lost"]), 64, "quarantined");

    let wait = ["reconnect", "d/1", "e", "--wait", "--json"];
    let rows = lines(&expect(run(&daemon.socket, &wait), 0, ""));
    assert_eq!(rows[0], json!({"type": "reconnect", "device": "d/1", "generation": 2}));
    expect(run(&daemon.socket, &["reconnect", "--all", "--wait"]), 0, "2 devices are online again");
    expect(run(&daemon.socket, &["reconnect", "e"]), 0, "is asked to reconnect");
    let some = expect(run(&daemon.socket, &["reconnect", "nobody", "e"]), 64, "no device nobody");
    assert!(text(&some).contains("device e is asked"), "the others are served");
    expect(run(&daemon.socket, &["reconnect"]), 64, "DEVICE");

    expect(run(&daemon.socket, &["devices", "remove", "d/1"]), 0, "is gone");
    expect(run(&daemon.socket, &["devices", "remove", "d/1"]), 64, "no device d/1");
    expect(run(&daemon.socket, &["devices", "remove", "of-the-file"]), 64, "the file");
}

#[test]
fn messages_are_published_by_command() {
    let daemon = Daemon::start();
    daemon.add("d");
    let publish =
        |arguments: &[&str]| run(&daemon.socket, &[&["publish", "d", "a/b"], arguments].concat());
    expect(publish(&["hello"]), 0, "message of d: sent");
    expect(publish(&["", "--qos", "1", "--retain"]), 0, "acknowledged by the broker");
    let rows = lines(&expect(publish(&["x", "--qos", "2", "--json"]), 0, ""));
    assert_eq!(rows[0], json!({"type": "publish", "device": "d", "delivered": true}));
    let mut child = command(&daemon.socket, &["publish", "d", "a/b", "-", "--qos", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("invariant: a pipe");
    stdin.write_all(&[0xff, 0, b'\n']).expect("it reads");
    drop(stdin);
    expect(child.wait_with_output().expect("it ends"), 0, "acknowledged");
    let mut received = Vec::new();
    wait::until("four messages", || {
        received.extend(daemon.broker.take_received());
        if received.len() == 4 { Ok(()) } else { Err(format!("{received:?}")) }
    });
    let payloads: Vec<_> = received.iter().map(|it| &it.payload[..]).collect();
    assert_eq!(payloads, [&b"hello"[..], b"", b"x", &[0xff, 0, b'\n']]);
    assert!(received[1].retain && !received[0].retain);
    expect(publish(&["x", "--qos", "3"]), 64, "qos");
    expect(run(&daemon.socket, &["publish", "d", "a/#"]), 64, "wildcards");
    expect(run(&daemon.socket, &["publish", "e", "a"]), 64, "no device e");
}

#[test]
fn without_a_daemon_the_commands_say_how_to_start_it() {
    let directory = TempDir::new();
    let socket = directory.join("api.sock");
    for arguments in [
        &["leaks"][..],
        &["leaks", "--follow"],
        &["devices"],
        &["devices", "add", "d"],
        &["reconnect", "--all"],
        &["publish", "d", "t"],
    ] {
        expect(run(&socket, arguments), 69, "sockwarden run");
    }
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("nothing is there"));
    expect(run(&socket, &["leaks"]), 69, "systemctl start sockwarden");
    let url = ["leaks", "--url", "http://example.org"];
    let output = Command::new(binary()).args(url).output().expect("the binary runs");
    expect(output, 64, "http://127.0.0.1:9641");
}
