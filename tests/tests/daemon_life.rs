//! How the daemon begins, is told things, and ends.

use harness::caps::{self, PublicCopy};
use harness::daemon::{Builder, Daemon};
use harness::peer::Peer;
use harness::sandbox::Unit;
use harness::watch::{BUDGET, KINDS};
use harness::{App, TempDir, clock, require_root, unique_name, wait};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the systemd unit grants.
const BY_THE_UNIT: [&str; 6] =
    ["bpf", "perfmon", "dac_read_search", "net_admin", "sys_ptrace", "checkpoint_restore"];

/// What `WATCHDOG_USEC` says in these tests: long enough for a busy machine, short enough for them.
const WATCHDOG: Duration = Duration::from_secs(3);

/// How long an end without a pool may take on a busy machine.
const QUICK: Duration = Duration::from_secs(5);

fn daemon() -> Builder {
    require_root();
    Daemon::builder().budgets(BUDGET, &KINDS)
}

fn comm(names: &[&str]) -> String {
    format!("comm = {names:?}")
}

/// A leak in `app`: a connection that its peer closed.
fn leak(app: &mut App) -> (Peer, i32) {
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    (peer, fd)
}

fn program() -> (TempDir, App) {
    let directory = TempDir::new();
    let app = App::python_as(&directory.join(&unique_name()));
    (directory, app)
}

/// What systemd is to the daemon: the other end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    /// The manager, and the daemon that will speak to it.
    fn of(builder: Builder) -> (Self, Builder) {
        let path = builder.path("notify");
        let socket = UnixDatagram::bind(&path).expect("it is our directory");
        (Self(socket), builder.env("NOTIFY_SOCKET", path.to_string_lossy()))
    }

    /// The next message, if one comes by then.
    fn next(&self, deadline: Instant) -> Option<String> {
        let left = deadline.checked_duration_since(clock::now()).filter(|left| !left.is_zero())?;
        self.0.set_read_timeout(Some(left)).expect("invariant: a positive time");
        let mut buffer = [0; 4_096];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// The messages up to the one that begins with `word`, which is the last.
    #[track_caller]
    fn until(&self, word: &str) -> Vec<String> {
        // A start takes its time.
        let deadline = clock::now() + Duration::from_secs(60);
        let mut heard = Vec::new();
        loop {
            let Some(message) = self.next(deadline) else { panic!("no {word} in {heard:?}") };
            let is_it = message.starts_with(word);
            heard.push(message);
            if is_it {
                return heard;
            }
        }
    }
}

/// What each thread of a process may do.
#[track_caller]
fn assert_harmless(pid: u32) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    for thread in threads {
        let path = thread.expect("it runs").path();
        let status = fs::read_to_string(path.join("status")).expect("it runs");
        let lines = [
            "Uid:\t65534\t65534\t65534\t65534\n",
            "Gid:\t65534\t65534\t65534\t65534\n",
            "CapInh:\t0000000000000000\n",
            "CapPrm:\t0000000000000000\n",
            "CapEff:\t0000000000000000\n",
            "CapAmb:\t0000000000000000\n",
            "NoNewPrivs:\t1\n",
        ];
        for line in lines {
            assert!(status.contains(line), "no {line:?} in {status}");
        }
    }
}

fn is(finding: &Value, pid: u32) -> bool {
    finding["kind"] == "close-wait" && finding["pid"] == pid
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let daemon = daemon().start();
    let config = daemon.path("config.toml");
    let mut again = Command::new(harness::watch::binary());
    let again = again.arg("run").arg("--config").arg(config).output().expect("it can be started");
    let said = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("already runs as process {} ", daemon.pid())), "{said}");
    for door in [daemon.api(), daemon.tcp()] {
        assert_eq!(door.get("/readyz").status, 200);
    }
}

#[test]
fn a_daemon_that_was_killed_leaves_nothing_in_the_way_of_the_next() {
    let (_directory, mut app) = program();
    let mut daemon = daemon().set("watch", comm(&[&app.comm()])).start();
    let (_peer, fd) = leak(&mut app);
    let before = daemon.await_finding("a finding", |it| is(it, app.pid()));
    for _ in 0..2 {
        daemon.kill();
        daemon.restart();
        let after = daemon.await_finding("the same finding", |it| is(it, app.pid()));
        assert_eq!(after["cookie"], before["cookie"]);
        assert_eq!(after["born_before_observer"], true);
        assert_eq!(daemon.tcp().get("/readyz").status, 200);
    }
    app.run(&format!("close {fd}"));
    wait::until_true("it to be cleared", || daemon.findings().is_empty());
    let (status, took) = daemon.stop();
    assert!(status.success() && took < QUICK, "{status} after {took:?}");
}

#[test]
fn the_service_manager_hears_each_step_of_a_life() {
    let (_directory, mut app) = program();
    let (peer, _) = leak(&mut app);
    let (manager, builder) = Manager::of(daemon());
    let mut daemon = builder.set("watch", comm(&[&app.comm()])).spawn();

    let heard = manager.until("READY=1");
    assert_eq!(heard, ["READY=1\nSTATUS=watching\n"], "READY is the first word");
    // At this moment the table is full and every door is open.
    let sockets = daemon.api().get(&format!("/api/v1/sockets?pid={}", app.pid())).json();
    assert_eq!(sockets["sockets"].as_array().map(Vec::len), Some(1), "{sockets:#}");
    let remote = &sockets["sockets"][0]["remote"];
    assert_eq!(remote, &peer.address().to_string(), "{sockets:#}");
    assert_eq!(daemon.tcp().get("/readyz").status, 200);
    assert!(daemon.metric("sockwarden_snapshots_total") >= Some(1.0));

    daemon.signal(Signal::HUP);
    let heard = manager.until("READY=1");
    let [reloading, ready] = &heard[..] else { panic!("{heard:?}") };
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(str::trim_end);
    assert!(micros.is_some_and(|it| it.parse::<u64>().is_ok()), "{reloading:?}");
    assert_eq!(ready, "READY=1\nSTATUS=watching\n");

    let (status, took) = daemon.stop();
    assert!(status.success() && took < QUICK, "{status} after {took:?}");
    let heard = manager.until("STOPPING=1");
    assert_eq!(heard.len(), 1, "no pings without WATCHDOG_USEC: {heard:?}");
    assert!(!daemon.path("run/api.sock").exists(), "the socket goes with the daemon");
}

#[test]
fn the_watchdog_is_fed_as_long_as_the_loops_turn() {
    let (manager, builder) = Manager::of(daemon());
    let micros = WATCHDOG.as_micros().to_string();
    let daemon = builder.env("WATCHDOG_USEC", micros).spawn();
    manager.until("READY=1");
    for _ in 0..3 {
        let begin = clock::now();
        manager.until("WATCHDOG=1");
        assert!(begin.elapsed() < WATCHDOG, "the manager would have ended it");
    }
    // Nobody turns any more: so nobody says that all is well.
    daemon.signal(Signal::STOP);
    wait::until_true("it to stand still", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    });
    // Sent before it stopped.
    while manager.next(clock::now() + Duration::from_millis(1)).is_some() {}
    assert_eq!(manager.next(clock::now() + WATCHDOG), None);
    daemon.signal(Signal::CONT);
    manager.until("WATCHDOG=1");
}

#[test]
fn a_manager_that_is_not_there_is_an_error() {
    let mut daemon = daemon().env("NOTIFY_SOCKET", "/nowhere/notify").spawn();
    assert_eq!(daemon.await_end().code(), Some(69));
    assert!(daemon.stderr().contains("NOTIFY_SOCKET=/nowhere/notify"), "{}", daemon.stderr());
}

#[test]
fn a_reload_goes_by_what_it_can_and_says_what_waits_for_a_restart() {
    let (_directory, mut one) = program();
    let (_other_directory, mut two) = program();
    let (manager, builder) = Manager::of(daemon());
    let mut daemon =
        builder.set("watch", comm(&[&one.comm()])).set("budgets", "close-wait = \"1h\"").spawn();
    manager.until("READY=1");
    let (_peer, _) = leak(&mut one);
    let (_other_peer, _) = leak(&mut two);
    wait::until_true("the socket to be known", || {
        daemon.metric("sockwarden_transitions_total{state=\"close_wait\"}") >= Some(1.0)
    });
    assert_eq!(daemon.findings(), Vec::<Value>::new());

    // A budget.
    daemon.reload(|it| it.set("budgets", "close-wait = \"500ms\""));
    manager.until("RELOADING=1");
    manager.until("READY=1");
    let finding = daemon.await_finding("a finding by the new budget", |it| is(it, one.pid()));
    assert_eq!(finding["budget_ms"], 500);

    // A name, of a process that runs already.
    let both = comm(&[&one.comm(), &two.comm()]);
    daemon.reload(|it| it.set("watch", both));
    daemon.await_finding("a finding of the new name", |it| is(it, two.pid()));

    // What cannot be done.
    let only = comm(&[&two.comm()]);
    daemon.reload(|it| it.set("watch", only).set("watch", "snapshot_interval = \"1m\""));
    let said = wait::until("what waits for a restart", || {
        let said = daemon.stderr();
        let words = ["snapshot_interval", "removed, needs a restart", "systemctl restart"];
        if words.iter().all(|word| said.contains(word)) { Ok(said) } else { Err(said) }
    });
    assert!(said.contains("1 settings apply, 0 wait"), "the first one: {said}");
    assert_eq!(daemon.findings().len(), 2, "what was watched stays watched");

    // Nonsense changes nothing, and is complained of in full.
    daemon.reload(|it| {
        it.set("budgets", "close-wait = \"1h\"")
            .set("budgets", "dead-fd = \"soon\"")
            .set("watch", "ring_bytes = 5")
            .set("nonsense", "a = 1")
    });
    let said = wait::until("all complaints", || {
        let said = daemon.stderr();
        let words = ["stays as it was", "dead-fd", "ring_bytes", "nonsense"];
        if words.iter().all(|word| said.contains(word)) { Ok(said) } else { Err(said) }
    });
    assert!(said.contains("<3>reload-refused"), "{said}");
    let (_third, fd) = leak(&mut one);
    daemon.await_finding("the budget of before", |it| {
        it["holders"][0]["fd"] == fd && it["budget_ms"] == 500
    });
    let (status, took) = daemon.stop();
    assert!(status.success() && took < QUICK, "{status} after {took:?}");
}

#[test]
fn many_reloads_at_once_do_no_harm() {
    let (_directory, mut app) = program();
    let daemon = daemon().set("watch", comm(&[&app.comm()])).start();
    let (before, door) = (daemon.descriptors(), daemon.tcp());
    for _ in 0..50 {
        daemon.signal(Signal::HUP);
        assert_eq!(door.get("/healthz").status, 200);
    }
    let (_peer, _) = leak(&mut app);
    daemon.await_finding("a finding", |it| is(it, app.pid()));
    wait::until("the descriptors to be as before", || {
        let now = daemon.descriptors();
        if now <= before { Ok(()) } else { Err(format!("{now} of {before}")) }
    });
}

#[test]
fn every_mistake_of_a_config_is_said_at_the_start() {
    let mut daemon = daemon()
        .set("watch", "comm = \"node\"")
        .set("watch", "ring_bytes = 5")
        .set("budgets", "dead-fd = \"soon\"")
        .set("nonsense", "a = 1")
        .set("api", "listen = \"0.0.0.0:1\"")
        .spawn();
    assert_eq!(daemon.await_end().code(), Some(64), "{}", daemon.stderr());
    let said = daemon.stderr();
    for word in ["comm", "ring_bytes", "dead-fd", "nonsense", "listen"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(said.contains("5 mistakes"), "{said}");
    assert!(!daemon.path("run/sockwarden.lock").exists(), "nothing was done");

    let gone = Command::new(harness::watch::binary())
        .args(["run", "--config", "/nowhere/config.toml"])
        .output()
        .expect("it can be started");
    assert_eq!(gone.status.code(), Some(64), "{gone:?}");
}

#[test]
fn a_user_that_does_not_exist_is_refused_before_anything_is_done() {
    let name = unique_name();
    let mut daemon = daemon().set("privileges", format!("user = {name:?}")).spawn();
    assert_eq!(daemon.await_end().code(), Some(77), "{}", daemon.stderr());
    assert!(daemon.stderr().contains(&name), "{}", daemon.stderr());
    assert!(!daemon.path("run/sockwarden.lock").exists());
}

/// Behind a wrapper, from a copy that everybody may run.
fn through(builder: Builder, copy: &PublicCopy, wrapper: &[String]) -> Builder {
    let words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    builder.binary(copy.path()).through(&words)
}

#[test]
fn a_missing_capability_is_named_and_the_exit_code_says_permission() {
    let copy = PublicCopy::new();
    let cases = [
        (&["perfmon", "dac_read_search"][..], "CAP_BPF"),
        (&["bpf", "dac_read_search"], "CAP_PERFMON"),
        (&[], "CAP_BPF"),
    ];
    for (left, missing) in cases {
        let mut daemon = through(daemon(), &copy, &caps::as_by_the_unit(left)).spawn();
        assert_eq!(daemon.await_end().code(), Some(77), "{}", daemon.stderr());
        assert!(daemon.stderr().contains(missing), "{}", daemon.stderr());
    }
    let mut daemon = through(daemon(), &copy, &caps::without(&["setuid"])).spawn();
    assert_eq!(daemon.await_end().code(), Some(77), "{}", daemon.stderr());
    assert!(daemon.stderr().contains("CAP_SETUID"), "{}", daemon.stderr());
}

#[test]
fn without_the_right_to_read_tracefs_it_watches_by_layer_a_and_says_so() {
    let copy = PublicCopy::new();
    let (_directory, mut app) = program();
    let builder = daemon().set("watch", comm(&[&app.comm()]));
    let daemon = through(builder, &copy, &caps::as_by_the_unit(&["bpf", "perfmon"])).start();
    assert_eq!(daemon.metric("sockwarden_probe_layer{layer=\"b\"}"), Some(0.0));
    assert!(daemon.stderr().contains("CAP_DAC_READ_SEARCH"), "{}", daemon.stderr());
    let (_peer, fd) = leak(&mut app);
    let finding = daemon.await_finding("a finding", |it| is(it, app.pid()));
    assert_eq!(finding["holders"][0]["fd"], fd);
}

#[test]
fn root_is_nobody_before_it_says_that_it_is_ready() {
    let daemon = daemon().start();
    assert_harmless(daemon.pid());
    let health = daemon.api().get("/healthz").json();
    let line = health["privileges"].as_str().unwrap_or_default();
    assert!(line.starts_with("runs as nobody (uid 65534), no capabilities"), "{health:#}");
}

/// As the unit starts it: finds a leak of another user's process, reloads, and ends.
fn serve_by_the_unit(copy: &PublicCopy, wrapper: &[String]) {
    let (_directory, mut app) = program();
    let (manager, builder) = Manager::of(daemon());
    let notify = builder.path("notify");
    fs::set_permissions(&notify, std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("it is ours");
    let mut daemon = through(builder, copy, wrapper).set("watch", comm(&[&app.comm()])).spawn();
    manager.until("READY=1");
    assert_harmless(daemon.pid());
    assert_eq!(daemon.metric("sockwarden_probe_layer{layer=\"b\"}"), Some(1.0));
    assert_eq!(daemon.metric("sockwarden_probe_layer{layer=\"c\"}"), Some(1.0));
    let (_peer, fd) = leak(&mut app);
    let finding = daemon.await_finding("a finding", |it| is(it, app.pid()));
    assert_eq!(finding["holders"][0]["fd"], fd);
    daemon.reload(|it| it.set("budgets", "close-wait = \"600ms\""));
    manager.until("READY=1");
    wait::until("what the reload came to", || {
        let said = daemon.stderr();
        if said.contains("1 settings apply") { Ok(()) } else { Err(said) }
    });
    let (status, took) = daemon.stop();
    assert!(status.success() && took < QUICK, "{status} after {took:?}");
}

#[test]
fn the_capabilities_of_the_unit_suffice() {
    serve_by_the_unit(&PublicCopy::new(), &caps::as_by_the_unit(&BY_THE_UNIT));
}

#[test]
fn the_sandbox_of_the_unit_lets_all_of_it_work() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sockwarden.service");
    let text = fs::read_to_string(unit).expect("it is part of the repository");
    serve_by_the_unit(&PublicCopy::new(), &Unit::parse(&text).wrapper());
}
