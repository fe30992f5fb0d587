//! What the daemon shows to the outside: numbers, answers and texts, under load, and what it never
//! shows.

use harness::daemon::{Builder, Daemon};
use harness::http::Place;
use harness::journald::Journald;
use harness::peer::Peer;
use harness::watch::{BUDGET, KINDS};
use harness::{App, Mosquitto, TempDir, clock, prometheus, require_root, unique_name, wait};
use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// The only complaints there may be: names that are older than the program.
const OF_THE_ARTICLE: [&str; 2] = [
    "iot_open_sockets_total non-counter metrics should not have \"_total\" suffix",
    "iot_zombie_sockets_total non-counter metrics should not have \"_total\" suffix",
];

/// How late a finding may be after its budget.
const LATENESS: SignedDuration = SignedDuration::from_secs(1);

fn daemon() -> Builder {
    require_root();
    Daemon::builder().budgets(BUDGET, &KINDS)
}

fn comm(app: &App) -> String {
    format!("comm = [{:?}]", app.comm())
}

fn program() -> (TempDir, App) {
    let directory = TempDir::new();
    let app = App::python_as(&directory.join(&unique_name()));
    (directory, app)
}

/// A leak in `app`: a connection that its peer closed.
fn leak(app: &mut App) -> (Peer, i32) {
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    (peer, fd)
}

#[track_caller]
fn await_online(daemon: &Daemon, count: f64) {
    wait::until("the fleet to be online", || {
        let online = daemon.metric("sockwarden_pool_sessions{state=\"online\"}");
        let is_it = online == Some(count);
        if is_it { Ok(()) } else { Err(format!("{online:?}\n{}", daemon.stderr())) }
    });
}

/// How long after the end of its budget a finding came at `moment`.
fn lateness(finding: &Value, moment: Timestamp) -> SignedDuration {
    let since: Timestamp =
        finding["since"].as_str().and_then(|since| since.parse().ok()).expect("a time");
    let budget = finding["budget_ms"].as_i64().expect("a number");
    moment.duration_since(since) - SignedDuration::from_millis(budget)
}

#[test]
fn promtool_complains_of_the_names_of_the_article_and_of_nothing_else() {
    let broker = Mosquitto::start();
    let (_directory, mut app) = program();
    let daemon = daemon()
        .set("watch", comm(&app))
        .fleet(&broker.url(), ["press-1", "press-2", "press-3"])
        .start();
    let (_peer, _) = leak(&mut app);
    await_online(&daemon, 3.0);
    daemon.await_finding("a finding", |it| it["pid"] == app.pid());
    let text = daemon.metrics();
    assert_eq!(prometheus::complaints(&text), OF_THE_ARTICLE);
    for series in [
        "iot_open_sockets_total 3",
        "iot_zombie_sockets_total 0",
        "sockwarden_pool_devices 3",
        "sockwarden_registry_claims{stage=\"online\"} 3",
        "sockwarden_findings_open{kind=\"close-wait\",severity=\"error\"} 1",
    ] {
        assert!(text.lines().any(|line| line == series), "{series} is not in {text}");
    }
    let answer = daemon.tcp().get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
}

#[test]
fn health_is_told_by_status_and_by_reason() {
    let mut daemon = daemon().start();
    let doors = [daemon.api(), daemon.tcp()];
    for (door, path) in doors.iter().flat_map(|door| [(door, "/healthz"), (door, "/readyz")]) {
        let answer = door.get(path);
        assert_eq!(answer.status, 200, "{answer:?}");
        let health = answer.json();
        assert_eq!((&health["alive"], &health["ready"]), (&true.into(), &true.into()));
        assert_eq!(health["layers"], "ab", "{health:#}");
        assert_eq!(health["reasons"], serde_json::json!([]), "{health:#}");
    }
    daemon.stop();
    assert!(daemon.try_get("/healthz").is_none());
}

/// 7,500 connections of a program to itself.
fn crowd(app: &mut App) {
    let (listener, port) = app.listen("127.0.0.1");
    for _ in 0..5 {
        // Less at once than the queue of a listener takes.
        app.run(&format!("connect-many 1500 127.0.0.1 {port} 127.0.0.2 127.0.0.3"));
        app.run(&format!("accept-many {listener} 1500"));
    }
}

#[test]
fn fifteen_thousand_sockets_are_scraped_and_every_loop_goes_on() {
    let broker = Mosquitto::start();
    let directory = TempDir::new();
    let mut many = App::rust_as(&directory.join(&unique_name()), &[]);
    let (_directory, mut app) = program();
    let daemon = daemon()
        .set("watch", format!("comm = [{:?}, {:?}]", many.comm(), app.comm()))
        .fleet(&broker.url(), ["press-1"])
        .start();
    await_online(&daemon, 1.0);
    crowd(&mut many);
    wait::within(Duration::from_secs(60), "all sockets to be counted", || {
        let known = daemon.metric("sockwarden_table_sockets");
        if known >= Some(15_000.0) { Ok(()) } else { Err(format!("{known:?}")) }
    });

    let ends = AtomicBool::new(false);
    let mut times = thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let door = daemon.api();
            let mut connection = door.connect();
            let mut times = Vec::new();
            while !ends.load(Ordering::Relaxed) || times.len() < 20 {
                let begin = clock::now();
                connection.ask("GET", "/metrics", &[], None);
                let answer = connection.answer().expect("an answer");
                times.push(begin.elapsed());
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            times
        });
        let over = Over(&ends);
        let mut stream = daemon.events(&daemon.api(), "application/x-ndjson");
        for _ in 0..3 {
            let (_peer, fd) = leak(&mut app);
            let finding = stream.await_finding("opened", "close-wait", app.pid());
            let late = lateness(&finding, clock::wall());
            assert!(late < LATENESS, "{late:?}: {finding:#}");
            app.run(&format!("close {fd}"));
            let said = daemon.verb(&["publish", "press-1", "topic", "payload", "--qos", "1"]);
            assert_eq!(said.status.code(), Some(0), "{said:?}");
        }
        drop(over);
        scraper.join().expect("it scrapes")
    });
    times.sort_unstable();
    let (least, median) = (times[0], times[times.len() / 2]);
    tell(&format!("{} scrapes of 15,000 sockets: least {least:?}, median {median:?}", times.len()));
    let full = daemon.metric("sockwarden_records_lost_total{cause=\"table-full\"}");
    assert_eq!(full, Some(0.0));
}

/// Says that it is over, also when a scenario fails: whoever works beside it has to end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::print_stderr, reason = "figures for whoever runs it with --nocapture")]
fn tell(text: &str) {
    eprintln!("{text}");
}

/// Names of programs that mean harm, at most 15 bytes long.
const NAMES: [&str; 6] = [
    "\u{1b}[31mred\u{7}",
    "a\nPRIORITY=0",
    "\"} 1\\\n# HELP",
    "\u{202e}edon\u{2028}",
    "x\r\n\r\n<b>",
    "\u{9b}2J,a=b",
];

/// What nobody may obey. A line ends where we end it.
fn is_active(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[track_caller]
fn assert_harmless(place: &str, text: &str) {
    assert!(!text.contains(is_active), "{place}: {text:?}");
    for line in text.lines() {
        assert!(
            !line.starts_with("PRIORITY=0") && !line.starts_with("# HELP\""),
            "{place}: {text}"
        );
    }
}

#[test]
fn what_a_program_is_called_does_harm_in_no_place() {
    let journald = Journald::start();
    let directory = TempDir::new();
    let peer = Peer::new();
    let watch = format!("port = [{}]", peer.port());
    // One has a journal and the other has not.
    let with = daemon().set("watch", &watch).journal(&journald).start();
    let without = daemon().set("watch", &watch).start();
    let mut apps: Vec<App> =
        NAMES.iter().map(|name| App::python_as(&directory.join(name))).collect();
    for app in &mut apps {
        app.connect("127.0.0.1", peer.port());
        drop(peer.accept());
    }
    for daemon in [&with, &without] {
        wait::until("all findings", || {
            let findings = daemon.findings();
            if findings.len() == NAMES.len() { Ok(()) } else { Err(format!("{findings:#?}")) }
        });
        // JSON gives the name as the observer keeps it: without control characters.
        let findings = daemon.findings();
        for name in ["a\u{fffd}PRIORITY=0", "\u{202e}edon\u{2028}"] {
            assert!(findings.iter().any(|it| it["comm"] == name), "{findings:#?}");
        }
        for path in ["/api/v1/findings", "/api/v1/sockets", "/api/v1/processes", "/metrics"] {
            assert_harmless(path, &daemon.tcp().get(path).text());
        }
        assert_eq!(prometheus::complaints(&daemon.metrics()), OF_THE_ARTICLE);
        for words in [&["leaks"][..], &["leaks", "--json"]] {
            let out = daemon.verb(words);
            let said = String::from_utf8(out.stdout).expect("UTF-8");
            assert_eq!(out.status.code(), Some(1), "{said}");
            assert_harmless("leaks", &said);
            let heading = usize::from(words.len() == 1);
            assert_eq!(said.lines().count(), NAMES.len() + heading, "{said}");
        }
    }
    for app in apps.drain(..) {
        app.kill();
    }
    for daemon in [&with, &without] {
        wait::until_true("all to be cleared", || daemon.findings().is_empty());
    }
    let said = without.stderr();
    assert_harmless("stderr", &said);
    let of_findings = |line: &&str| line.contains("close-wait");
    assert_eq!(said.lines().filter(of_findings).count(), 2 * NAMES.len(), "{said}");
    let lines = said.lines().all(|line| line.starts_with('<') || line.starts_with("sockwarden: "));
    assert!(lines, "{said}");
    let mut entries = journald.entries(&["SYSLOG_IDENTIFIER=sockwarden"]);
    entries.retain(|entry| entry.contains_key("SOCKWARDEN_INCIDENT"));
    assert_eq!(entries.len(), 2 * NAMES.len());
    for entry in &entries {
        for (name, value) in entry {
            assert_harmless(name, value);
            let has_lines = ["SOCKWARDEN_HOLDERS", "SOCKWARDEN_HISTORY"].contains(&&**name);
            assert!(has_lines || !value.contains('\n'), "{name}={value}");
        }
        assert!(["3", "6"].contains(&entry["PRIORITY"].as_str()), "{entry:?}");
    }
}

/// What must be in no output: of the file, of the pool, of the template, of the API, and in a
/// config that is refused.
const SECRETS: [&str; 5] =
    ["hush-file-1", "hush-pool-2", "hush-template-3", "hush-api-4", "hush-wrong-5"];

#[track_caller]
fn assert_silent(place: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in {place}: {text}");
    }
}

#[test]
fn passwords_are_in_no_log_no_metric_no_answer_and_no_dump() {
    let broker = Mosquitto::builder()
        .user("of-the-file", SECRETS[0])
        .user("of-the-pool", SECRETS[1])
        .user("of-the-api", SECRETS[3])
        .start();
    let builder = daemon();
    let (list, password) = (builder.path("devices.csv"), builder.path("password"));
    // The second one is refused by the broker, with the password of the template.
    let rows = format!(
        "id,username,password\none,of-the-file,{}\ntwo,of-the-template,{}\nthree,,\n",
        SECRETS[0], SECRETS[2]
    );
    fs::write(&list, rows).expect("it is ours");
    fs::write(&password, format!("{}\n", SECRETS[1])).expect("it is ours");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("it is ours");
    fs::set_permissions(&list, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let mut daemon = builder
        .env("SOCKWARDEN_LOG", "trace")
        .set("pool", format!("broker = \"{}\"", broker.url()))
        .set("pool", "username = \"of-the-pool\"")
        .set("pool", format!("password_file = \"{}\"", password.display()))
        .set("fleet", format!("file = \"{}\"", list.display()))
        .start();
    await_online(&daemon, 2.0);
    let mut stream = daemon.events(&daemon.api(), "application/x-ndjson");
    let device = format!(r#"{{"id":"four","username":"of-the-api","password":"{}"}}"#, SECRETS[3]);
    let answer = daemon.api().post("/api/v1/devices", &device);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_silent("POST", &answer.body);
    let again = daemon.api().post("/api/v1/devices", &device);
    assert_eq!(again.status, 409, "{}", again.text());
    assert_silent("POST again", &again.body);
    let wrong = device.replace(r#""password""#, r#""passwort""#).replace("four", "five");
    let wrong = daemon.api().post("/api/v1/devices", &wrong);
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    assert_silent("POST with a mistake", &wrong.body);
    let event = stream.await_entry("device online", |entry| entry["device"] == "four");
    assert_silent("events", event.to_string().as_bytes());
    await_online(&daemon, 3.0);

    for path in [
        "/metrics",
        "/healthz",
        "/api/v1/devices",
        "/api/v1/findings",
        "/api/v1/processes",
        "/api/v1/sockets",
        "/api/v1/openapi.json",
    ] {
        for door in [daemon.api(), daemon.tcp()] {
            let answer = door.get(path);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_silent(path, &answer.body);
        }
    }
    for words in [&["devices"][..], &["devices", "--json"], &["leaks", "--json"]] {
        let out = daemon.verb(words);
        assert_silent("a verb", &[out.stdout, out.stderr].concat());
    }

    // A template with a password, and then one that is none.
    daemon.reload(|it| it.set("fleet.template", format!("password = \"{}\"", SECRETS[2])));
    daemon.reload(|it| it.set("fleet.template", format!("password = [\"{}\"]", SECRETS[4])));
    wait::until("the faulty config to be refused", || {
        let said = daemon.stderr();
        if said.contains("<3>reload-refused") { Ok(()) } else { Err(said) }
    });
    let config = daemon.path("config.toml");
    for (verb, password) in [("check", SECRETS[4]), ("show", SECRETS[2])] {
        daemon.reload(|it| {
            let given = if verb == "check" {
                format!("[\"{password}\"]")
            } else {
                format!("\"{password}\"")
            };
            it.set("fleet.template", format!("password = {given}"))
                .set("fleet.template", "username = \"of-the-template\"")
        });
        let out = Command::new(harness::watch::binary())
            .args(["config", verb, "--config"])
            .arg(&config)
            .output()
            .expect("it can be started");
        assert_eq!(out.status.success(), verb == "show", "{out:?}");
        assert_silent(verb, &[out.stdout, out.stderr].concat());
    }
    // The list too: a row with too much.
    fs::write(&list, format!("id,password\none,{},{}\n", SECRETS[0], SECRETS[4])).expect("ours");
    daemon.signal(Signal::HUP);
    wait::until("the faulty list to be refused", || {
        let said = daemon.stderr();
        if said.contains("the fleet and the config stay as they were") { Ok(()) } else { Err(said) }
    });

    let pid = daemon.pid();
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).expect("root reads it");
        assert_silent(file, &bytes);
    }
    // Root's own, and not the daemon's user's: it is not dumpable (proc_pid(5)).
    let memory = fs::metadata(format!("/proc/{pid}/mem")).expect("it runs");
    assert_eq!(memory.uid(), 0);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("root reads it");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
    assert_eq!(broker.log().matches(SECRETS[0]).count(), 0);
    daemon.signal(Signal::ABORT);
    let end = daemon.await_end();
    assert_eq!((end.signal(), end.core_dumped()), (Some(6), false));
    assert_silent("stderr", daemon.stderr().as_bytes());
}

/// 1,000 requests a second in all.
const ASKERS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(4);

#[test]
fn slow_readers_and_a_thousand_requests_a_second_delay_no_finding() {
    let (_directory, mut app) = program();
    let daemon = daemon().set("watch", comm(&app)).start();
    let (unix, tcp) = (daemon.api(), daemon.tcp());
    // They ask and never read.
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = unix.connect();
            connection.ask("GET", "/api/v1/events", &[], None);
            connection
        })
        .collect();
    let mut stream = daemon.events(&unix, "application/x-ndjson");
    let (ends, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    let ask = |door: &Place| {
        let mut connection = door.connect();
        while !ends.load(Ordering::Relaxed) {
            let begin = clock::now();
            for path in ["/healthz", "/api/v1/findings", "/metrics", "/api/v1/processes"] {
                // One in ten is the dear one.
                let count = asked.fetch_add(1, Ordering::Relaxed);
                let path = if path == "/metrics" && count % 40 != 2 { "/readyz" } else { path };
                connection.ask("GET", path, &[], None);
                let answer = connection.answer().expect("the daemon answers");
                assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            }
            thread::sleep((4 * PAUSE).saturating_sub(begin.elapsed()));
        }
    };
    let begin = clock::now();
    let (late, heard) = thread::scope(|scope| {
        for _ in 0..ASKERS {
            scope.spawn(|| ask(&tcp));
        }
        let _over = Over(&ends);
        let (mut late, mut heard) = (Vec::new(), Vec::new());
        while begin.elapsed() < Duration::from_secs(5) {
            let (_peer, fd) = leak(&mut app);
            let finding = stream.await_finding("opened", "close-wait", app.pid());
            heard.push(lateness(&finding, clock::wall()));
            let age = finding["age_ms"].as_i64().expect("a number");
            let budget = finding["budget_ms"].as_i64().expect("a number");
            late.push(age - budget);
            app.run(&format!("close {fd}"));
            stream.await_finding("cleared", "close-wait", app.pid());
        }
        (late, heard)
    });
    let rate = f64::from(asked.load(Ordering::Relaxed)) / begin.elapsed().as_secs_f64();
    tell(&format!("{rate:.0} requests a second; late by {late:?} ms, heard by {heard:?}"));
    // By the observer's own clock: when a reader beside four greedy ones hears of it is up to the
    // scheduler.
    assert!(late.iter().all(|late| i128::from(*late) < LATENESS.as_millis()), "{late:?}");
    assert!(late.len() >= 3, "{late:?}");
    drop(slow);
    assert_eq!(daemon.try_get("/readyz").map(|answer| answer.status), Some(200));
}
