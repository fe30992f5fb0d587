//! A backend in another language hands its registry to the daemon, which names what it forgot.

use harness::daemon::{Builder, Daemon};
use harness::http::{Answer, Connection};
use harness::mosquitto::Mosquitto;
use harness::peer::Peer;
use harness::{App, TempDir, clock, require_root, ss, unique_name, wait};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

const PUT: &str = "/api/v1/claims";
const STREAM: &str = "/api/v1/claims/stream";

/// A backend that claims, by a name of its own, and a daemon that watches this name.
fn beside(backend: &App) -> Builder {
    require_root();
    Daemon::builder().set("watch", format!("comm = [{:?}]", backend.comm()))
}

fn backend(directory: &TempDir) -> App {
    App::node_script_as(&directory.join(&unique_name()), "claims/app.js")
}

fn is(finding: &Value, kind: &str, pid: u32) -> bool {
    finding["kind"] == kind && finding["pid"] == pid
}

#[test]
fn a_node_backend_is_told_what_it_forgot_lost_and_doubled() {
    let directory = TempDir::new();
    let mut app = backend(&directory);
    let broker = Mosquitto::start();
    let daemon = beside(&app).start();
    let (pid, socket) = (app.pid(), daemon.path("run/api.sock"));
    app.run(&format!("fleet 10 {}", broker.port()));
    let known: Vec<u32> = app.numbers(&format!("speak {} 5", socket.display()));
    assert_eq!(known, [10, 0]);
    // Nothing is wrong, and nothing is said of it.
    thread::sleep(Duration::from_secs(5));
    assert_eq!(daemon.findings_opened(), [""; 0]);

    let local = app.run("forget dev-3");
    let orphan = daemon.await_finding("the orphan", |it| is(it, "orphan", pid));
    assert_eq!(orphan["local"], local, "{orphan:#}");
    assert_eq!(orphan["device"], "dev-3", "{orphan:#}");
    let fd = orphan["holders"][0]["fd"].as_i64().and_then(|fd| i32::try_from(fd).ok());
    // The kernel gives a local port to several connections at once, if they go to different ends.
    let remote = format!("127.0.0.1:{}", broker.port());
    let row = ss::rows().into_iter().find(|row| row.local == local && row.remote == remote);
    let row = row.expect("the kernel has it");
    assert_eq!(
        row.holders,
        [(pid, fd.expect("a descriptor"))],
        "ss and the finding name the same descriptor"
    );

    app.run("lose dev-4");
    let ghost = daemon.await_finding("the ghost", |it| is(it, "ghost", pid));
    assert_eq!(ghost["device"], "dev-4", "{ghost:#}");

    let newer = app.run(&format!("again {} dev-5", broker.port()));
    let overlap = daemon.await_finding("the overlap", |it| is(it, "overlap", pid));
    assert_eq!((&overlap["device"], &overlap["local"]), (&json!("dev-5"), &json!(newer)));
    assert_eq!(daemon.findings().len(), 3, "{:#?}", daemon.findings());

    // What is mended is cleared, and the rest runs out with the lease.
    app.run("end dev-5");
    wait::until_true("the overlap to be cleared", || {
        !daemon.findings().iter().any(|it| is(it, "overlap", pid))
    });
    app.run("silence");
    assert_eq!(daemon.findings().len(), 2, "{:#?}", daemon.findings());
    wait::until_true("all to be cleared", || daemon.findings().is_empty());
    let opened = daemon.findings_opened();
    assert_eq!(opened.len(), 3, "each once and nothing else: {opened:#?}");
    assert!(opened.iter().all(|line| line.ends_with(" 1")), "{opened:#?}");
}

#[test]
fn a_client_of_mqtt_js_that_was_replaced_and_not_ended_is_named_by_its_device() {
    let directory = TempDir::new();
    let mut app = App::node_script_as(&directory.join(&unique_name()), "claims/fleet.js");
    let broker = Mosquitto::start();
    let daemon = beside(&app).start();
    let (pid, socket) = (app.pid(), daemon.path("run/api.sock"));
    app.run(&format!("fleet 6 {}", broker.port()));
    let known: Vec<u32> = app.numbers(&format!("speak {} 60", socket.display()));
    assert_eq!(known, [6, 0], "each claim is met by its socket");
    // A connection that ends and is made again, and a client that is ended, are nobody's fault.
    app.run("cut dev-1");
    app.run("end dev-2");
    thread::sleep(Duration::from_secs(4));
    assert_eq!(daemon.findings_opened(), [""; 0]);

    let local = app.run(&format!("replace {} dev-3", broker.port()));
    let orphan = daemon.await_finding("the orphan", |it| is(it, "orphan", pid));
    assert_eq!((&orphan["local"], &orphan["device"]), (&json!(local), &json!("dev-3")));
    let newer = app.run(&format!("double {} dev-4", broker.port()));
    let overlap = daemon.await_finding("the overlap", |it| is(it, "overlap", pid));
    assert_eq!((&overlap["local"], &overlap["device"]), (&json!(newer), &json!("dev-4")));
    let opened = daemon.findings_opened();
    assert_eq!(opened.len(), 2, "each once and nothing else: {opened:#?}");

    // A rule for the program says that one of them is known.
    let comm = app.comm();
    let mut daemon = daemon;
    daemon.reload(|it| {
        it.set("[rules]", format!("comm = {comm:?}"))
            .set("[rules]", "kinds = [\"orphan\"]")
            .set("[rules]", "ignore = \"it is being mended\"")
            .set(
                "[rules]",
                format!("until = \"{}\"", clock::wall() + SignedDuration::from_hours(1)),
            )
    });
    wait::until_true("the orphan to be ignored", || {
        !daemon.findings().iter().any(|it| is(it, "orphan", pid))
    });
    let ignored = daemon.metric("sockwarden_findings_ignored_total{kind=\"orphan\"}");
    assert_eq!((ignored, daemon.findings().len()), (Some(1.0), 1), "{:#?}", daemon.findings());
}

/// The registry of a process as the body of a request.
fn registry(pid: u32, claims: &[(String, u16, &str)]) -> String {
    let claim = |(local, port, device): &(String, u16, &str)| {
        json!({"local": local, "remote": format!("127.0.0.1:{port}"), "device": device,
            "stage": "online"})
    };
    json!({"pid": pid, "claims": claims.iter().map(claim).collect::<Vec<_>>()}).to_string()
}

/// The local address of a connection that `app` makes to `peer`, and the end there.
fn connect(app: &mut App, peer: &Peer) -> (String, TcpStream) {
    app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    (accepted.peer_addr().expect("it is connected").to_string(), accepted)
}

fn put(daemon: &Daemon, body: &str) -> Answer {
    daemon.api().request("PUT", PUT, &[], Some(body.as_bytes()))
}

#[test]
fn only_who_may_speak_for_a_watched_process_is_heard() {
    let directory = TempDir::new();
    let (app, stranger) = (backend(&directory), App::python());
    let daemon = beside(&app).start();
    let empty = |pid: u32| registry(pid, &[]);
    let answer = put(&daemon, &empty(app.pid()));
    assert_eq!(answer.json(), json!({"pid": app.pid(), "matched": 0, "unmatched": 0}));
    let by_tcp = daemon.tcp().request("PUT", PUT, &[], Some(empty(app.pid()).as_bytes()));
    assert_eq!((by_tcp.status, &*by_tcp.code()), (403, "read-only"));
    let broken = empty(app.pid()).replace("[]", "[{}]");
    let lease = empty(app.pid()).replace("[]", "[],\"lease_s\":4");
    let cases = [
        (empty(4_194_305), 404, "unknown-process", "ps -e"),
        (empty(stranger.pid()), 409, "not-watched", "[watch]"),
        (broken, 400, "body-not-understood", "missing field"),
        (lease, 400, "invalid-field", "5 to 3600"),
    ];
    for (body, status, code, part) in cases {
        let answer = put(&daemon, &body);
        assert_eq!((answer.status, &*answer.code()), (status, code), "{}", answer.text());
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    // The daemon's own user may use the socket, and yet not speak for a process of root.
    let url = format!("http://localhost{PUT}");
    let output = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "curl",
            "-sS",
            "--max-time",
            "10",
        ])
        .arg("--unix-socket")
        .arg(daemon.path("run/api.sock"))
        .args(["-X", "PUT", "-d", &empty(app.pid()), &url])
        .output()
        .expect("curl and setpriv are installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("not-your-process"), "{said} {output:?}");
}

/// A stream of claims for a process.
fn stream(daemon: &Daemon, pid: u32) -> Connection {
    let mut stream = daemon.api().connect();
    let head = format!(
        "POST {STREAM}?pid={pid} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.send(head.as_bytes()).expect("the daemon takes it");
    stream
}

fn line(stream: &mut Connection, line: &str) {
    let chunk = format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
    stream.send(chunk.as_bytes()).expect("the daemon takes it");
}

#[test]
fn a_stream_says_what_changes_and_a_broken_line_is_named() {
    let directory = TempDir::new();
    let (mut app, peer) = (App::python_as(&directory.join(&unique_name())), Peer::new());
    let daemon = beside(&app).set("api", "request_timeout = \"1s\"").start();
    let ((first, _there), (second, _too)) = (connect(&mut app, &peer), connect(&mut app, &peer));
    let pid = app.pid();
    let remote = format!("127.0.0.1:{}", peer.port());
    let claim = |local: &str, device: &str| {
        json!({"claim": {"local": local, "remote": remote, "device": device, "stage": "online"}})
            .to_string()
    };
    let mut words = stream(&daemon, pid);
    line(&mut words, "{\"snapshot\":[]}");
    line(&mut words, &claim(&first, "dev-1"));
    line(&mut words, &claim(&second, "dev-2"));
    // It lasts longer than any request may, and silence says nothing.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(daemon.findings_opened(), [""; 0]);
    line(&mut words, &json!({"retract": {"local": second, "remote": remote}}).to_string());
    let orphan = daemon.await_finding("the orphan", |it| is(it, "orphan", pid));
    assert_eq!(orphan["local"], second, "{orphan:#}");
    line(&mut words, &claim(&second, "dev-2"));
    wait::until_true("the orphan to be cleared", || daemon.findings().is_empty());
    words.send(b"0\r\n\r\n").expect("the daemon takes it");
    let answer = words.answer().expect("it answers at the end");
    assert_eq!(answer.json(), json!({"pid": pid, "matched": 2, "unmatched": 0}));

    let mut broken = stream(&daemon, pid);
    line(&mut broken, "{\"snapshot\":[]}");
    line(&mut broken, &claim(&first, "dev-3"));
    line(&mut broken, "{\"claim\":7}");
    let answer = broken.answer().expect("it answers at once");
    assert_eq!((answer.status, &*answer.code()), (400, "broken-line"), "{}", answer.text());
    assert!(answer.text().contains("line 3: "), "{}", answer.text());
    // Who hangs up takes nothing back at once: what was said before stays for a while.
    let mut cut = stream(&daemon, pid);
    line(&mut cut, "");
    thread::sleep(Duration::from_millis(1_200));
    line(&mut cut, "");
    let orphan = daemon.await_finding("the orphan", |it| is(it, "orphan", pid));
    assert_eq!(orphan["local"], second, "{orphan:#}");
    drop(cut);
    app.kill();
    wait::until_true("all to be cleared", || daemon.findings().is_empty());
    let gone = fs::metadata(format!("/proc/{pid}")).is_err();
    assert!(gone && daemon.try_get("/healthz").is_some_and(|it| it.status == 200));
}
