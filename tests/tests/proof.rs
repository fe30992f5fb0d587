//! What stands behind a finding: which process it is, where it runs, and what happened before.

use harness::cgroup::Cgroup;
use harness::daemon::Daemon;
use harness::journald::Journald;
use harness::line::{assert_about, timestamp};
use harness::peer::Peer;
use harness::watch::{BUDGET, KINDS};
use harness::{App, Finding, Watch, clock, require_root, unique_name, wait};
use serde_json::Value;
use std::time::Duration;

/// What a container's id is made of here: 64 digits that no other test has at the same time.
fn container_id() -> String {
    let digits: String = unique_name().bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits:0<64}")
}

/// A program in a control group, from its first instruction.
fn inside(group: &Cgroup) -> App {
    let wrapper = group.wrapper();
    App::python_through(&wrapper.each_ref().map(String::as_str))
}

fn watch_explaining(pid: u32) -> Watch {
    let builder = Watch::builder().pid(pid).budgets(BUDGET);
    builder.args(["--snapshot-interval", "200ms", "--explain"]).start()
}

fn texts(finding: &Finding) -> Vec<&str> {
    finding.history.iter().map(|step| &*step.text).collect()
}

#[test]
fn a_process_in_a_container_is_named_with_it() {
    let id = container_id();
    let scope = format!("docker-{id}.scope");
    let group = Cgroup::named(&scope);
    let mut app = inside(&group);
    let started = clock::wall();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    app.connect("127.0.0.1", peer.port());
    drop(peer.accept());

    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.container.as_deref(), Some(&*id));
    assert_eq!(finding.unit.as_deref(), Some(&*scope));
    let holder = &finding.holders[0];
    assert_eq!((&holder.container, &holder.unit), (&finding.container, &finding.unit));
    assert_eq!(holder.started, finding.started);
    // It was a shell and then an interpreter before it said that it is ready.
    assert_about(finding.started.as_deref().expect("known"), started, Duration::from_secs(5));
    assert!(timestamp(holder.started.as_deref().expect("known")) < started);
    let told = format!(" has run in container {} for ", &id[..12]);
    assert!(finding.message.contains(&told), "{}", finding.message);
    assert!(finding.history.is_empty(), "nobody asked: {finding:#?}");

    // What has ended is still told with its place.
    app.kill();
    let cleared = watch.cleared(&finding);
    assert_eq!(cleared.container.as_deref(), Some(&*id));
    assert!(!cleared.message.contains(" has run "), "{}", cleared.message);
}

#[test]
fn a_process_that_connects_in_a_thread_has_its_own_name() {
    let mut app = App::python();
    let watch = watch_explaining(app.pid());
    let peer = Peer::new();
    let fd: i32 = app.number(&format!("connect-as worker 127.0.0.1 {}", peer.port()));
    drop(peer.accept());
    let finding = watch.opened("close-wait", app.pid());
    let comm = app.comm();
    assert_ne!(comm, "worker");
    assert_eq!((&finding.comm, &finding.holders[0].comm), (&comm, &comm));
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    assert!(!finding.message.contains("worker"), "{}", finding.message);
}

#[test]
fn a_finding_that_opens_tells_what_happened_to_its_socket() {
    let mut app = App::python();
    let watch = watch_explaining(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let copy: i32 = app.number(&format!("dup {fd}"));
    let accepted = peer.accept();
    app.run(&format!("close {fd}"));
    let closed = clock::wall();
    drop(accepted);

    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), copy)]);
    let (comm, pid) = (app.comm(), app.pid());
    let close = format!("close({fd}) by {comm} (pid {pid}), not the last");
    let mut told = texts(&finding);
    // When a snapshot finds the copy is a matter of luck.
    told.retain(|text| !text.contains("a snapshot found"));
    let expected =
        ["CLOSE → SYN_SENT", "SYN_SENT → ESTABLISHED", &*close, "ESTABLISHED → CLOSE_WAIT"];
    assert_eq!(told, expected, "{finding:#?}");
    let step = finding.history.iter().find(|step| step.what == "close").expect("it is told");
    assert_about(&step.time, closed, Duration::from_millis(400));
    assert!(finding.history.is_sorted_by_key(|step| std::cmp::Reverse(step.ago_ms)));
    let mut steps = finding.history.iter().rev();
    let last = steps.find(|step| step.what == "transition").expect("it was told");
    assert!(last.ago_ms >= finding.budget_ms, "{finding:#?}");

    app.run(&format!("close {copy}"));
    let cleared = watch.cleared(&finding);
    assert!(cleared.history.is_empty(), "only what opens is explained");
}

#[test]
fn what_was_accepted_and_what_was_found_is_told() {
    let mut app = App::python();
    let (early, early_port) = app.listen("127.0.0.1");
    let before = harness::peer::connect("127.0.0.1", early_port);
    let old: i32 = app.number(&format!("accept {early}"));
    let watch = watch_explaining(app.pid());
    let after = harness::peer::connect("127.0.0.1", early_port);
    let new: i32 = app.number(&format!("accept {early}"));
    drop((before, after));

    let (comm, pid) = (app.comm(), app.pid());
    for _ in 0..2 {
        let fds = [old, new];
        let found = |fd: i32| {
            watch.wait_for("a finding about each", |line| match line {
                harness::Line::Finding(finding)
                    if finding.event == harness::Event::Opened
                        && finding.holders() == [(pid, fd)] =>
                {
                    Some(finding.clone())
                }
                _ => None,
            })
        };
        let [first, second] = fds.map(found);
        let held = format!("a snapshot found fd {old} of {comm} (pid {pid})");
        let seen = "a snapshot found it in ESTABLISHED";
        assert_eq!(texts(&first), [seen, &*held, "ESTABLISHED → CLOSE_WAIT"], "{first:#?}");
        let accept = format!("accept() = {new} by {comm} (pid {pid})");
        assert!(texts(&second).contains(&&*accept), "{second:#?}");
        assert_eq!(texts(&second).last(), Some(&"ESTABLISHED → CLOSE_WAIT"), "{second:#?}");
    }
}

#[test]
fn people_read_the_story_below_the_finding() {
    let mut app = App::python();
    let pid = app.pid().to_string();
    let arguments = ["watch", "--explain", "--no-transitions", "--pid", &pid, "--for", "4s"];
    let watch = harness::watch::Builder::bare(arguments)
        .budget("close-wait", BUDGET)
        .args(["--snapshot-interval", "200ms"])
        .launch();
    wait::until_true("the observer to be ready", || {
        watch.raw().iter().any(|line| line.contains("watching "))
    });
    let peer = Peer::new();
    app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let end = watch.finish();
    let lines = &end.stdout;
    let opened = lines.iter().position(|line| line.contains("LEAK")).expect("it is found");
    let story: Vec<&str> = lines[opened + 2..].iter().take(3).map(|line| line.trim()).collect();
    let expected = ["CLOSE → SYN_SENT", "SYN_SENT → ESTABLISHED", "ESTABLISHED → CLOSE_WAIT"];
    for (line, text) in story.iter().zip(expected) {
        assert!(line.starts_with('-') && line.ends_with(text), "{line} in {lines:#?}");
    }
}

#[test]
fn the_daemon_tells_it_in_the_journal_the_api_and_on_the_terminal() {
    require_root();
    let journald = Journald::start();
    let unit = format!("{}.service", unique_name());
    let group = Cgroup::named(&unit);
    let mut app = inside(&group);
    let pid = app.pid();
    let daemon = Daemon::builder()
        .budgets(BUDGET, &KINDS)
        .set("watch", format!("cgroup = [{:?}]", group.path()))
        .journal(&journald)
        .start();
    let peer = Peer::new();
    app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let finding =
        daemon.await_finding("close-wait", |it| it["kind"] == "close-wait" && it["pid"] == pid);
    assert_eq!(finding["unit"], unit, "{finding:#}");
    assert_eq!(finding["holders"][0]["unit"], unit, "{finding:#}");
    assert_eq!(finding.get("history"), None, "{finding:#}");

    let answer = daemon.tcp().get("/api/v1/findings?explain=true").json();
    let history = answer["findings"][0]["history"].as_array().expect("a list").clone();
    let last = history.last().expect("it has one");
    assert_eq!(last["text"], "ESTABLISHED → CLOSE_WAIT", "{answer:#}");
    assert!(last["ago_ms"].as_u64().is_some_and(|ago| ago >= 500), "{answer:#}");

    let table = daemon.verb(&["leaks", "--explain"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let told = table.lines().rfind(|line| line.contains('→')).expect("a story");
    assert!(told.starts_with("    ") && told.ends_with("  ESTABLISHED → CLOSE_WAIT"), "{table}");
    let brief = daemon.verb(&["leaks"]);
    assert!(!String::from_utf8_lossy(&brief.stdout).contains('→'));
    let lines = daemon.verb(&["leaks", "--explain", "--json"]);
    let line: Value = serde_json::from_slice(&lines.stdout).expect("one line");
    assert_eq!(line["history"].as_array().map(Vec::len), Some(history.len()), "{line:#}");

    let entries = wait::until("the entry in the journal", || {
        let entries = journald.entries(&["SOCKWARDEN_EVENT=opened", &format!("OBJECT_PID={pid}")]);
        if entries.is_empty() { Err("nothing".to_owned()) } else { Ok(entries) }
    });
    let entry = &entries[0];
    assert_eq!(entry["SOCKWARDEN_UNIT"], unit);
    assert!(entry["SOCKWARDEN_HISTORY"].ends_with("  ESTABLISHED → CLOSE_WAIT"), "{entry:#?}");
    assert!(entry["SOCKWARDEN_HISTORY"].lines().count() >= 1);
    assert!(entry["SOCKWARDEN_HOLDERS"].ends_with(&format!(" unit={unit}")), "{entry:#?}");
    // Entries of others than root are not shown by `-u`.
    for field in ["SOCKWARDEN_UNIT", "OBJECT_SYSTEMD_UNIT"] {
        let said = journald.journalctl(&[&format!("{field}={unit}"), "-o", "cat"]);
        assert!(said.contains(&format!("pid {pid}")) && said.contains(&unit), "{said}");
    }
}
