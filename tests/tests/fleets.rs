//! The contract of the fleets that `cargo xtask bench pool` compares (`harness::fleet`), kept by
//! each of those written in Rust.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

const FLOOR: &str = env!("CARGO_BIN_EXE_fleet_floor");
const RUMQTTC: &str = env!("CARGO_BIN_EXE_fleet_rumqttc");
const KICKER: &str = env!("CARGO_BIN_EXE_kicker");
const FIREHOSE: &str = env!("CARGO_BIN_EXE_firehose");
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_fleet_says_what_it_is_asked_for() {
    for program in [FLOOR, RUMQTTC] {
        let (_broker, url) = serve(0);
        let mut fleet = fleet(program, &url, &["--devices", "20", "--max-in-flight", "3"]);
        let start = fleet.hear("start");
        let online = fleet.hear("online");
        fleet.tell("status");
        let status = fleet.hear("status");
        assert!(start["rss_bytes"].as_u64() > Some(100_000), "{program}: {start}");
        assert_eq!(online["devices"], 20, "{program}");
        assert!(online["seconds"].as_f64() > Some(0.0), "{program}: {online}");
        assert!(online["cpu_seconds"].as_f64() > Some(0.0), "{program}: {online}");
        assert_eq!((&status["online"], &status["connects"]), (&20.into(), &20.into()), "{program}");
        assert_eq!(status["disconnects"], 0, "{program}");
        fleet.tell("dance");
        assert!(fleet.hear("error")["message"].is_string(), "{program}");
        fleet.tell("quit");
        assert!(fleet.child.wait().expect("it is our child").success(), "{program}");
    }
}

#[test]
fn the_end_of_the_input_ends_a_fleet() {
    for program in [FLOOR, RUMQTTC] {
        let (_broker, url) = serve(0);
        let mut fleet = fleet(program, &url, &["--devices", "1"]);
        fleet.hear("online");
        drop(fleet.child.stdin.take());
        assert!(fleet.child.wait().expect("it is our child").success(), "{program}");
    }
}

#[test]
fn lost_devices_come_back_by_themselves_and_that_is_said() {
    for program in [FLOOR, RUMQTTC] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let url = format!("mqtt://{}", listener.local_addr().expect("it is bound"));
        let mut fleet = fleet(program, &url, &["--devices", "3"]);
        let mut accepted: Vec<TcpStream> = (0..3).map(|_| accept(&listener)).collect();
        fleet.hear("online");
        // The second time it must not say what it said before.
        for round in [1, 2] {
            accepted.clear();
            accepted.extend((0..3).map(|_| accept(&listener)));
            let mut back = 0;
            while back < 3 {
                back += fleet.hear("recovered")["devices"].as_u64().expect("a count");
            }
            fleet.tell("status");
            let status = fleet.hear("status");
            let counts = (&status["online"], &status["connects"], &status["disconnects"]);
            let expected = (&3.into(), &(3 + 3 * round).into(), &(3 * round).into());
            assert_eq!((back, counts), (3, expected), "{program}");
        }
    }
}

#[test]
fn messages_are_counted_and_acknowledged() {
    let (broker, url) = serve(1_000);
    let mut fleet = fleet(RUMQTTC, &url, &["--devices", "1", "--subscribe", "1"]);
    assert_eq!(broker.hear("served")["count"], 1_000);
    for qos in 0..=2 {
        fleet.tell(&format!("publish 300 16 {qos}"));
        assert_eq!(fleet.hear("published")["count"], 300, "QoS {qos}");
    }
    fleet.tell("status");
    assert_eq!(fleet.hear("status")["messages"], 1_001, "the last one proves all others");
}

#[test]
fn what_a_program_cannot_do_it_refuses() {
    let impossible = [
        (FLOOR, ["--subscribe", "1"]),
        (RUMQTTC, ["--source", "127.0.0.2"]),
        (RUMQTTC, ["--ca", "ca.pem"]),
        (KICKER, ["--subscribe", "1"]),
    ];
    for (program, option) in impossible {
        let mut refused = Command::new(program);
        refused.args(["--broker", "mqtt://127.0.0.1:1", "--devices", "1"]).args(option);
        let done = refused.stdin(Stdio::null()).output().expect("it can be started");
        assert!(!done.status.success(), "{program} {option:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains(option[0]), "{program} {option:?}");
    }
}

#[test]
fn the_kicker_connects_from_its_own_address_and_leaves() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("mqtt://{}", listener.local_addr().expect("it is bound"));
    let kicker = fleet(KICKER, &url, &["--devices", "2", "--source", "127.0.0.9"]);
    let mut accepted: Vec<TcpStream> = (0..2).map(|_| accept(&listener)).collect();
    assert_eq!(kicker.hear("kicked")["devices"], 2);
    for stream in &mut accepted {
        assert_eq!(stream.peer_addr().expect("it was connected").ip().to_string(), "127.0.0.9");
        assert_eq!(stream.read(&mut [0; 1]).expect("it is closed in order"), 0);
    }
}

/// A program that is ended when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

fn fleet(program: &str, url: &str, options: &[&str]) -> Running {
    start(Command::new(program).args(["--broker", url, "--json"]).args(options))
}

/// A broker that answers each subscription with so many messages; and its URL.
fn serve(count: u32) -> (Running, String) {
    let broker =
        start(Command::new(FIREHOSE).args(["serve", "--json", "--count"]).arg(count.to_string()));
    let port = broker.hear("listening")["port"].clone();
    (broker, format!("mqtt://127.0.0.1:{port}"))
}

fn start(command: &mut Command) -> Running {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let stdout = child.stdout.take().expect("invariant: stdout is a pipe");
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    Running { child, lines }
}

impl Running {
    /// The next line of that kind.
    #[track_caller]
    fn hear(&self, kind: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no `{kind}`: {error}"));
            let said: Value = serde_json::from_str(&line).expect("a line is JSON");
            if said["type"] == kind {
                return said;
            }
        }
    }

    fn tell(&mut self, order: &str) {
        let stdin = self.child.stdin.as_mut().expect("invariant: stdin is a pipe");
        writeln!(stdin, "{order}").expect("it reads its input");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes one client: CONNECT, CONNACK.
fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().expect("somebody connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("a fixed header");
    assert_eq!(header[0], 0x10, "CONNECT comes first");
    stream.read_exact(&mut vec![0; header[1].into()]).expect("the rest of CONNECT");
    stream.write_all(&[0x20, 2, 0, 0]).expect("it waits for CONNACK");
    stream
}
