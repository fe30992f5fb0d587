//! Unmodified programs beside the daemon: what they leak is named in every place at once, and is
//! gone from every place when they are mended.

use harness::cgroup::Cgroup;
use harness::daemon::{Builder, Daemon};
use harness::http::Place;
use harness::journald::{Fields, Journald};
use harness::peer::{self, Peer};
use harness::prometheus::Prometheus;
use harness::watch::{BUDGET, KINDS};
use harness::{App, TempDir, clock, require_root, unique_name, wait};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How late a finding may be after its budget, in whatever place.
const LATENESS: Duration = Duration::from_secs(1);

/// What the daemon says of itself is not looked at here.
const FINDINGS: &str = "SOCKWARDEN_INCIDENT";

fn daemon() -> Builder {
    require_root();
    Daemon::builder().budgets(BUDGET, &KINDS)
}

fn names(names: &[&str]) -> String {
    format!("comm = {names:?}")
}

fn open(kind: &str) -> String {
    format!("sockwarden_findings_open{{kind=\"{kind}\",severity=\"error\"}}")
}

fn is(finding: &Value, kind: &str, pid: u32) -> bool {
    finding["kind"] == kind && finding["pid"] == pid
}

/// How long after the end of its budget a finding was in a place, where it came at `moment`.
fn lateness(since: &str, budget_ms: u64, moment: Timestamp) -> SignedDuration {
    let since: Timestamp = since.parse().expect("a time");
    let budget = i64::try_from(budget_ms).expect("invariant: a budget is short");
    moment.duration_since(since) - SignedDuration::from_millis(budget)
}

#[track_caller]
fn assert_on_time(place: &str, late: SignedDuration) {
    // The clocks of two readings differ by less than a microsecond a second.
    let begin = SignedDuration::from_millis(-5);
    let end = SignedDuration::try_from(LATENESS).expect("invariant: a second");
    assert!((begin..end).contains(&late), "{place}: {late:?} after the budget");
}

/// The entries about findings of a process.
fn entries(journald: &Journald, event: &str, kind: &str, pid: u32) -> Vec<Fields> {
    let matches = [
        format!("SOCKWARDEN_EVENT={event}"),
        format!("SOCKWARDEN_KIND={kind}"),
        format!("OBJECT_PID={pid}"),
    ];
    let matches: Vec<&str> = matches.iter().map(String::as_str).collect();
    let mut entries = journald.entries(&matches);
    entries.retain(|entry| entry.contains_key(FINDINGS));
    entries
}

/// The only entry about a finding of a process, as soon as it is there.
#[track_caller]
fn entry(journald: &Journald, event: &str, kind: &str, pid: u32) -> Fields {
    wait::until(&format!("{event} {kind} in the journal"), || {
        let mut entries = entries(journald, event, kind, pid);
        match entries.len() {
            1 => Ok(entries.remove(0)),
            count => Err(format!("{count} entries")),
        }
    })
}

/// When journald took it.
fn taken(entry: &Fields) -> Timestamp {
    let micros = entry["__REALTIME_TIMESTAMP"].parse().expect("microseconds");
    Timestamp::from_microsecond(micros).expect("a time")
}

/// A connection of `app` that its peer ended by RST: it keeps a dead descriptor.
fn dead_fd(app: &mut App) -> i32 {
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    peer::reset(peer.accept());
    fd
}

/// A connection to `port` whose client has gone.
fn half_closed(port: u16) {
    drop(peer::connect("127.0.0.1", port));
}

/// `sockwarden leaks` and its exit code.
fn leaks(daemon: &Daemon, words: &[&str]) -> (Option<i32>, String) {
    let out = daemon.verb(&[&["leaks"], words].concat());
    let said = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8(said).expect("UTF-8"))
}

/// A Node server and a Python client, by names of their own.
fn programs() -> (TempDir, App, App) {
    let directory = TempDir::new();
    let path = || directory.join(&unique_name());
    let (node, python) = (App::node_as(&path()), App::python_as(&path()));
    (directory, node, python)
}

#[test]
fn each_finding_is_in_the_journal_the_metrics_and_the_api_on_time_and_cleared_in_all_of_them() {
    let journald = Journald::start();
    let (_directory, mut node, mut python) = programs();
    let daemon =
        daemon().set("watch", names(&[&node.comm(), &python.comm()])).journal(&journald).start();
    let prometheus = Prometheus::start(&[daemon.address()]);
    let mut stream = daemon.events(&daemon.api(), "application/x-ndjson");
    let mut sse = daemon.events(&daemon.tcp(), "text/event-stream");
    assert_eq!(leaks(&daemon, &[]).0, Some(0));

    let port: u16 = node.number("half-open-server 127.0.0.1");
    half_closed(port);
    let fd = dead_fd(&mut python);

    for (kind, app) in [("close-wait", &node), ("dead-fd", &python)] {
        let pid = app.pid();
        let finding = stream.await_finding("opened", kind, pid);
        let seen = clock::wall();
        // Whoever hears of it finds it in the list and in the numbers.
        let listed = daemon.findings();
        let metric = daemon.metric(&open(kind));
        let budget = finding["budget_ms"].as_u64().expect("a number");
        assert_eq!(u128::from(budget), BUDGET.as_millis());
        let since = finding["since"].as_str().expect("a time");
        assert_on_time("events", lateness(since, budget, seen));
        assert!(listed.iter().any(|it| it["id"] == finding["id"]), "{listed:#?}");
        assert_eq!(metric, Some(1.0), "{kind}");
        assert_eq!(finding["comm"], app.comm());
        assert_eq!(sse.await_finding("opened", kind, pid)["id"], finding["id"]);

        let entry = entry(&journald, "opened", kind, pid);
        assert_on_time("journal", lateness(&entry["SOCKWARDEN_SINCE"], budget, taken(&entry)));
        assert_eq!(entry[FINDINGS], finding["id"].to_string());
        assert_eq!(entry["SOCKWARDEN_COOKIE"], finding["cookie"].to_string());
        assert_eq!(entry["MESSAGE"], finding["message"].as_str().expect("a text"));
        assert_eq!(entry["_PID"], daemon.pid().to_string());
    }

    let both = |door: &Place| door.get("/api/v1/findings").json()["findings"].clone();
    for door in [daemon.api(), daemon.tcp()] {
        let found = both(&door);
        assert!(found.as_array().is_some_and(|found| found.len() == 2), "{found:#}");
    }
    let (code, table) = leaks(&daemon, &[]);
    assert_eq!(code, Some(1), "{table}");
    for word in [node.comm(), python.comm(), format!(" {fd} "), "close-wait".to_owned()] {
        assert!(table.contains(&word), "{word} is not in {table}");
    }
    let pid = python.pid().to_string();
    let (code, lines) = leaks(&daemon, &["--json", "--pid", &pid, "--kind", "dead-fd"]);
    let line: Value = serde_json::from_str(&lines).expect("one line");
    assert_eq!((code, &line["holders"][0]["fd"]), (Some(1), &fd.into()), "{lines}");
    assert_eq!(leaks(&daemon, &["--pid", &pid, "--kind", "close-wait"]).0, Some(0));
    let url = format!("http://{}", daemon.address());
    let by_tcp = std::process::Command::new(harness::watch::binary())
        .args(["leaks", "--url", &url])
        .output()
        .expect("the program can be started");
    assert_eq!(by_tcp.status.code(), Some(1), "{by_tcp:?}");
    prometheus.await_value(&open("close-wait"), 1.0);
    prometheus.await_value(&open("dead-fd"), 1.0);

    // The one is mended, the other ends.
    let (node_pid, python_pid) = (node.pid(), python.pid());
    node.run("close 1");
    python.kill();
    for (kind, pid) in [("close-wait", node_pid), ("dead-fd", python_pid)] {
        let finding = stream.await_finding("cleared", kind, pid);
        assert_eq!(sse.await_finding("cleared", kind, pid)["id"], finding["id"]);
        assert!(!daemon.findings().iter().any(|it| is(it, kind, pid)));
        assert_eq!(daemon.metric(&open(kind)), Some(0.0), "{kind}");
        let entry = entry(&journald, "cleared", kind, pid);
        assert_eq!((&*entry["PRIORITY"], &*entry[FINDINGS]), ("6", &*finding["id"].to_string()));
    }
    let (code, said) = leaks(&daemon, &[]);
    assert_eq!(code, Some(0), "{said}");
    prometheus.await_value("sum(sockwarden_findings_open)", 0.0);
    prometheus.await_value("sum(sockwarden_findings_opened_total)", 2.0);
}

/// A control group with the name of a unit, removed when dropped.
struct Unit {
    slice: Cgroup,
    name: String,
}

impl Unit {
    fn new() -> Self {
        let slice = Cgroup::new();
        let name = format!("{}.service", unique_name());
        Self { slice, name }
    }

    /// Where systemd would make it: beside the slices.
    fn directory(&self) -> PathBuf {
        self.slice.path().parent().expect("invariant: below the mount").join(&self.name)
    }

    fn begin(&self) {
        fs::create_dir(self.directory()).expect("root may make a control group");
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(self.directory()).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A program in a control group, from its first instruction.
fn inside(directory: &Path) -> App {
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", directory.display());
    App::python_through(&["sh", "-c", &enter, "sh"])
}

#[test]
fn programs_that_start_later_are_watched_by_name_unit_cgroup_and_port() {
    let name = unique_name();
    let (group, unit) = (Cgroup::new(), Unit::new());
    let peer = Peer::new();
    let daemon = daemon()
        .set("watch", names(&[&name]))
        .set("watch", format!("unit = [{:?}]", unit.name))
        .set("watch", format!("cgroup = [{:?}]", group.path()))
        .set("watch", format!("port = [{}]", peer.port()))
        .start();
    let directory = TempDir::new();
    // The unit is started after the daemon too.
    unit.begin();
    let mut named = App::node_as(&directory.join(&name));
    let mut of_the_group = inside(group.path());
    let mut of_the_unit = inside(&unit.directory());
    let mut with_the_port = App::python();
    let mut stranger = App::python();

    half_closed(named.number("half-open-server 127.0.0.1"));
    let groups = [("cgroup", &mut of_the_group), ("unit", &mut of_the_unit)];
    for (what, app) in groups {
        // Control groups are read once a second; a socket of before is taken up as well.
        dead_fd(app);
        daemon.await_finding(what, |it| is(it, "dead-fd", app.pid()));
    }
    dead_fd(&mut stranger);
    with_the_port.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    daemon.await_finding("comm", |it| is(it, "close-wait", named.pid()));
    daemon.await_finding("port", |it| is(it, "close-wait", with_the_port.pid()));
    let findings = daemon.findings();
    assert!(!findings.iter().any(|it| it["pid"] == stranger.pid()), "{findings:#?}");
    assert_eq!(findings.len(), 4, "{findings:#?}");

    // A unit that ends takes its control group along, and the daemon goes on.
    let ended = of_the_unit.pid();
    of_the_unit.kill();
    drop(unit);
    wait::until_true("the unit's finding to be cleared", || {
        !daemon.findings().iter().any(|it| it["pid"] == ended)
    });
    of_the_group.kill();
    drop(group);
    named.kill();
    with_the_port.kill();
    wait::until_true("all findings to be cleared", || daemon.findings().is_empty());
    assert_eq!(daemon.try_get("/healthz").map(|answer| answer.status), Some(200));
}

#[test]
fn what_was_leaked_before_the_daemon_came_is_named_with_what_is_known() {
    let (_directory, mut node, mut python) = programs();
    let port: u16 = node.number("half-open-server 127.0.0.1");
    half_closed(port);
    let fd = dead_fd(&mut python);
    let daemon = daemon().set("watch", names(&[&node.comm(), &python.comm()])).start();
    let finding = daemon.await_finding("close-wait", |it| is(it, "close-wait", node.pid()));
    assert_eq!(finding["born_before_observer"], true, "{finding:#}");
    let finding = daemon.await_finding("dead-fd", |it| is(it, "dead-fd", python.pid()));
    assert_eq!(finding["holders"][0]["fd"], fd, "{finding:#}");
}

#[test]
fn journald_may_be_killed_and_no_finding_is_lost() {
    let mut journald = Journald::start();
    let (_directory, mut node, mut python) = programs();
    let daemon =
        daemon().set("watch", names(&[&node.comm(), &python.comm()])).journal(&journald).start();
    let mut stream = daemon.events(&daemon.api(), "application/x-ndjson");
    let port: u16 = node.number("half-open-server 127.0.0.1");
    half_closed(port);
    stream.await_finding("opened", "close-wait", node.pid());
    entry(&journald, "opened", "close-wait", node.pid());
    let (quiet, _) = before_outage(&daemon);

    journald.kill();
    let fd = dead_fd(&mut python);
    let during = stream.await_finding("opened", "dead-fd", python.pid());
    let line = format!("<3>dead-fd opened {}: ", during["id"]);
    wait::until("the finding on stderr", || {
        let said = daemon.stderr();
        if said.contains(&line) { Ok(()) } else { Err(said) }
    });
    assert_eq!(daemon.metric(&open("dead-fd")), Some(1.0));
    assert_eq!(daemon.findings().len(), 2);
    assert!(!quiet.contains("dead-fd"), "{quiet}");

    journald.restart();
    python.run(&format!("close {fd}"));
    stream.await_finding("cleared", "dead-fd", python.pid());
    let back = entry(&journald, "cleared", "dead-fd", python.pid());
    assert_eq!(back[FINDINGS], during["id"].to_string());
    assert!(!daemon.stderr().contains("dead-fd cleared"), "it is in the journal: once is enough");
    assert_eq!(daemon.metric("sockwarden_journal_entries_lost_total"), Some(0.0));
}

/// What was said on stderr, and how many entries were lost.
fn before_outage(daemon: &Daemon) -> (String, Option<f64>) {
    (daemon.stderr(), daemon.metric("sockwarden_journal_entries_lost_total"))
}

#[test]
fn journald_may_be_killed_under_a_storm_of_findings() {
    const LEAKS: usize = 1_000;
    let mut journald = Journald::start();
    let directory = TempDir::new();
    let mut app = App::python_as(&directory.join(&unique_name()));
    let daemon = daemon().set("watch", names(&[&app.comm()])).journal(&journald).start();
    let peer = Peer::new();
    let leak = |app: &mut App| {
        // Less at once than the queue of a listener takes.
        for _ in 0..LEAKS / 100 {
            app.run(&format!("connect-many 100 127.0.0.1 {}", peer.port()));
            drop(peer.accept_many(100));
        }
    };
    leak(&mut app);
    wait::until("the storm to begin", || {
        let open = daemon.metric(&open("close-wait")).unwrap_or_default();
        if open > 0.0 { Ok(()) } else { Err(format!("{open} findings")) }
    });
    journald.kill();
    wait::until("every finding in the API", || match daemon.metric(&open("close-wait")) {
        Some(count) if count == LEAKS as f64 => Ok(()),
        other => Err(format!("{other:?} findings")),
    });
    journald.restart();
    // What the journal had before it died may not be on its disk; what it had not is on stderr.
    let opened = entries(&journald, "opened", "close-wait", app.pid());
    let said = daemon.stderr();
    let mut known: Vec<u64> = opened
        .iter()
        .map(|entry| entry[FINDINGS].parse().expect("a number"))
        .chain(said.lines().filter_map(|line| {
            line.strip_prefix("<3>close-wait opened ")?.split_once(':')?.0.parse().ok()
        }))
        .collect();
    known.sort_unstable();
    known.dedup();
    let missing = LEAKS - known.len();
    assert_eq!(missing, 0, "{missing} findings are neither in the journal nor on stderr");
    assert_eq!(daemon.metric("sockwarden_journal_entries_lost_total"), Some(0.0));
    app.kill();
    wait::until_true("all to be cleared", || daemon.findings().is_empty());
}

#[test]
fn prometheus_may_be_killed_while_it_scrapes_under_churn() {
    let directory = TempDir::new();
    let mut app = App::rust_as(&directory.join(&unique_name()), &[]);
    let daemon = daemon().set("watch", names(&[&app.comm()])).start();
    let target = daemon.address();
    let (_listener, port) = app.listen("127.0.0.1");
    app.run(&format!("connect-many 500 127.0.0.1 {port} 127.0.0.1"));
    app.run(&format!("accept-many {_listener} 500"));
    wait::until_true("the sockets to be counted", || {
        daemon.metric("sockwarden_table_sockets").is_some_and(|count| count >= 1_000.0)
    });
    let before = daemon.descriptors();
    let mut prometheus = Prometheus::start(&[target]);
    prometheus.await_up(target);
    app.send("churn 20000 127.0.0.1");
    for _ in 0..20 {
        // A scrape under way is cut as well: a request whose answer nobody reads.
        let mut half = daemon.tcp().connect();
        half.ask("GET", "/metrics", &[], None);
        drop(half);
        thread::sleep(Duration::from_millis(20));
    }
    prometheus.kill();
    app.answer("churn 20000 127.0.0.1");
    prometheus.restart();
    prometheus.await_up(target);
    let up = format!("changes(up{{instance=\"{target}\"}}[1m])");
    assert!(prometheus.query(&up).is_some());
    prometheus.kill();
    wait::until("the connections of the API to be closed", || {
        let now = daemon.descriptors();
        if now <= before { Ok(()) } else { Err(format!("{now} descriptors, {before} before")) }
    });
    // The churn is a storm, and is called one; the daemon watches itself, too.
    let is_leak = |finding: &Value| finding["kind"] != "reconnect-storm";
    let leaks: Vec<Value> = daemon.findings().into_iter().filter(is_leak).collect();
    assert_eq!(leaks, Vec::<Value>::new());
}
