//! Tuning against false alarms: budgets of one program towards one destination, rules that ignore
//! for a while, and what a reload of them does.

use harness::cgroup::Cgroup;
use harness::daemon::Daemon;
use harness::line::{assert_about, timestamp};
use harness::peer::Peer;
use harness::watch::{BUDGET, Watch, binary};
use harness::{App, TempDir, clock, require_root, unique_name, wait};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// A Python program by a name of its own.
fn program() -> (TempDir, App) {
    let directory = TempDir::new();
    let app = App::python_as(&directory.join(&unique_name()));
    (directory, app)
}

/// A config with these words.
fn config(text: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new();
    let path = directory.join("tuning.toml");
    fs::write(&path, text).expect("it can be written");
    (directory, path)
}

/// A connection to `peer` that its other end has closed.
fn half_closed(app: &mut App, peer: &Peer) -> i32 {
    let fd = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    fd
}

fn in_seconds(seconds: i64) -> Timestamp {
    clock::wall() + SignedDuration::from_secs(seconds)
}

/// `sockwarden watch --config` with frequent snapshots.
fn watch(app: &App, config: &Path) -> Watch {
    let config = config.to_str().expect("UTF-8");
    Watch::builder()
        .pid(app.pid())
        .args(["--config", config, "--snapshot-interval", "200ms"])
        .start()
}

fn sockwarden(words: &[&str]) -> Output {
    Command::new(binary()).args(words).output().expect("the program can be started")
}

#[test]
fn a_program_has_a_budget_of_its_own_towards_one_destination() {
    let (_directory, mut app) = program();
    let (patient, usual) = (Peer::new(), Peer::new());
    let (_config, path) = config(&format!(
        "[budgets]\nclose-wait = \"500ms\"\n\
         [[rules]]\ncomm = \"nobody-*\"\nbudget = \"1h\"\n\
         [[rules]]\nkinds = [\"close-wait\"]\ncomm = \"{}*\"\ndestination = \"127.0.0.0/8:{}\"\n\
         budget = \"2500ms\"\n",
        &app.comm()[..app.comm().len() - 1],
        patient.port(),
    ));
    let watch = watch(&app, &path);
    let first = half_closed(&mut app, &patient);
    let second = half_closed(&mut app, &usual);
    let opened = watch.opened("close-wait", app.pid());
    assert_eq!((opened.budget_ms, opened.holders[0].fd), (500, second));
    let later = watch.wait_for("the other one", |line| match line {
        harness::line::Line::Finding(it) if it.holders.iter().any(|it| it.fd == first) => {
            Some(it.clone())
        }
        _ => None,
    });
    assert_eq!((later.budget_ms, later.kind.as_str()), (2_500, "close-wait"));
    assert!((2_500..4_000).contains(&later.age_ms), "{later:#?}");
    let end = watch.stop();
    end.expect_code(1);
    assert_eq!(end.summary().opened("close-wait"), 2);
    assert!(end.summary().ignored.is_empty());
}

#[test]
fn what_a_rule_ignores_is_counted_and_opens_when_the_rule_ends() {
    let (_directory, mut app) = program();
    let peer = Peer::new();
    // Loading the programs takes some of it.
    let until = in_seconds(8);
    let (_config, path) = config(&format!(
        "budgets.close-wait = \"500ms\"\n[[rules]]\ncomm = \"{}\"\n\
         ignore = \"the scenario wants it so\"\nuntil = \"{until}\"\n",
        app.comm(),
    ));
    let watch = watch(&app, &path);
    half_closed(&mut app, &peer);
    let half_closed_at = clock::wall();
    let left = Duration::try_from(until.duration_since(half_closed_at)).unwrap_or_default();
    assert!(left > 2 * BUDGET, "this machine is too slow: {left:?} are left");
    watch.no_finding_for(left.saturating_sub(BUDGET));
    let opened = watch.opened("close-wait", app.pid());
    let late = clock::wall().duration_since(until);
    assert!((-50..1_500).contains(&late.as_millis()), "{late:?} after the rule's end");
    assert_eq!(opened.budget_ms, 500);
    let off = opened.since().duration_since(half_closed_at);
    assert!(off.abs() < SignedDuration::from_millis(500), "since is the truth: {off:?}");
    let end = watch.stop();
    assert_eq!(end.summary().ignored["close-wait"], 1);
    let by_rule = &end.summary().ignored_by_rule;
    assert_eq!((by_rule[0].reason.as_str(), by_rule[0].findings), ("the scenario wants it so", 1));
}

#[test]
fn a_rule_is_about_what_runs_in_one_unit() {
    require_root();
    let name = format!("{}.service", unique_name());
    let (unit, elsewhere) = (Cgroup::named(&name), Cgroup::named(&format!("not-{name}")));
    let inside = |group: &Cgroup| {
        let wrapper = group.wrapper();
        App::python_through(&wrapper.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (mut patient, mut usual) = (inside(&unit), inside(&elsewhere));
    let peer = Peer::new();
    let (_config, path) = config(&format!(
        "budgets.close-wait = \"500ms\"\n[[rules]]\nunit = \"{}*.service\"\nbudget = \"3s\"\n",
        name.trim_end_matches(".service"),
    ));
    let watch = Watch::builder()
        .pid(patient.pid())
        .pid(usual.pid())
        .args(["--config", path.to_str().expect("UTF-8"), "--snapshot-interval", "200ms"])
        .start();
    half_closed(&mut patient, &peer);
    half_closed(&mut usual, &peer);
    assert_eq!(watch.opened("close-wait", usual.pid()).budget_ms, 500);
    let later = watch.opened("close-wait", patient.pid());
    assert_eq!(later.budget_ms, 3_000);
    assert!((3_000..4_500).contains(&later.age_ms), "{later:#?}");
    watch.stop().expect_code(1);
}

/// `sockwarden leaks` and its exit code.
fn leaks(daemon: &Daemon) -> (Option<i32>, String) {
    let out = daemon.verb(&["leaks"]);
    let said = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8(said).expect("UTF-8"))
}

/// How many findings rules have ignored.
fn ignored(daemon: &Daemon) -> Option<f64> {
    daemon.metric("sockwarden_findings_ignored_total{kind=\"close-wait\"}")
}

#[test]
fn what_moves_into_an_ignored_unit_is_cleared() {
    require_root();
    let unit = Cgroup::named(&format!("{}.service", unique_name()));
    let (_directory, mut app) = program();
    let peer = Peer::new();
    let daemon = Daemon::builder()
        .budgets(BUDGET, &["close-wait"])
        .set("watch", format!("comm = [{:?}]", app.comm()))
        .set("watch", "snapshot_interval = \"500ms\"")
        .set("[rules]", format!("unit = {:?}", unit.path().file_name().expect("it has a name")))
        .set("[rules]", "ignore = \"the unit is being mended\"")
        .set("[rules]", format!("until = \"{}\"", in_seconds(3_600)))
        .start();
    half_closed(&mut app, &peer);
    let is_its = |it: &Value| it["kind"] == "close-wait" && it["pid"] == app.pid();
    daemon.await_finding("it runs elsewhere", is_its);
    fs::write(unit.path().join("cgroup.procs"), app.pid().to_string()).expect("it may be moved");
    // A place is looked at again after ten seconds.
    wait::within(Duration::from_secs(25), "the rule to ignore it", || {
        let findings = daemon.findings();
        if findings.iter().any(is_its) { Err(format!("{findings:#?}")) } else { Ok(()) }
    });
    assert_eq!(ignored(&daemon), Some(1.0));
    app.kill();
}

#[test]
fn a_rule_that_comes_by_reload_clears_and_its_end_opens_again() {
    require_root();
    let (_directory, mut app) = program();
    let peer = Peer::new();
    let mut daemon = Daemon::builder()
        .budgets(BUDGET, &["close-wait"])
        .set("watch", format!("comm = [{:?}]", app.comm()))
        .start();
    let mut stream = daemon.events(&daemon.api(), "application/x-ndjson");
    half_closed(&mut app, &peer);
    let opened = stream.await_finding("opened", "close-wait", app.pid());
    assert_eq!(ignored(&daemon), Some(0.0));

    let until = in_seconds(3);
    let rule = format!("destination = \"127.0.0.1:{}\"", peer.port());
    daemon.reload(|it| {
        it.set("[rules]", format!("comm = {:?}", app.comm()))
            .set("[rules]", rule)
            .set("[rules]", "ignore = \"it is being mended\"")
            .set("[rules]", format!("until = \"{until}\""))
    });
    let cleared = stream.await_finding("cleared", "close-wait", app.pid());
    assert_eq!(cleared["id"], opened["id"]);
    let message = cleared["message"].as_str().expect("a text");
    assert!(message.ends_with("a rule ignores it: it is being mended"), "{message}");
    assert_eq!(daemon.findings(), Vec::<Value>::new());
    assert_eq!(ignored(&daemon), Some(1.0));
    assert_eq!(daemon.api().get("/api/v1/findings").json()["ignored"], 1);
    let (code, said) = leaks(&daemon);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 finding ignored by rules"), "{said}");
    wait::until_true("the reload to be told", || daemon.stderr().contains("[[rules]]: { comm = "));

    // The end of the rule.
    let again = stream.await_finding("opened", "close-wait", app.pid());
    let late = clock::wall().duration_since(until);
    assert!((-50..1_500).contains(&late.as_millis()), "{late:?} after the rule's end");
    // Each is shown by the wall clock of its own moment.
    let since = timestamp(opened["since"].as_str().expect("a time"));
    assert_about(again["since"].as_str().expect("a time"), since, Duration::from_millis(5));
    assert_eq!(again["budget_ms"], 500);
    assert!(!leaks(&daemon).1.contains("ignored by rules"));

    // A mistake in a rule changes nothing, and is complained of with its place.
    daemon.reload(|it| it.set("[rules]", "until = \"soon\""));
    wait::until("the complaint", || {
        let said = daemon.stderr();
        let words = ["stays as it was", "[[rules]] until = \"soon\": a date or time such as"];
        if words.iter().all(|word| said.contains(word)) { Ok(()) } else { Err(said) }
    });
    assert_eq!(daemon.findings().len(), 1);

    // A rule that is over is no mistake, and says so.
    daemon.reload(|it| it.set("[rules]", "until = \"2020-01-01\""));
    wait::until("the warning", || {
        let said = daemon.stderr();
        let word = "rule 1 of [[rules]]";
        if said.contains(word) && said.contains("has ended") { Ok(()) } else { Err(said) }
    });
    assert_eq!(daemon.findings().len(), 1);
    assert_eq!(ignored(&daemon), Some(1.0));
}

#[test]
fn a_longer_budget_by_reload_holds_for_the_next_and_thresholds_apply() {
    require_root();
    let (_directory, mut app) = program();
    let peer = Peer::new();
    let mut daemon = Daemon::builder()
        .budgets(Duration::from_secs(3_600), &["close-wait"])
        .set("watch", format!("comm = [{:?}]", app.comm()))
        .start();
    half_closed(&mut app, &peer);
    daemon.reload(|it| {
        it.set("[rules]", format!("comm = {:?}", app.comm()))
            .set("[rules]", "budget = \"700ms\"")
            .set("thresholds", "takeovers = 9")
            .set("thresholds", "fleets = [\"127.0.0.1:1=7\"]")
    });
    let finding = daemon.await_finding("a finding by the rule", |it| it["pid"] == app.pid());
    assert_eq!(finding["budget_ms"], 700);
    let said = wait::until("what was applied", || {
        let said = daemon.stderr();
        if said.contains("settings apply") { Ok(said) } else { Err(said) }
    });
    for word in ["[thresholds] takeovers: 5 is now 9, applied", "127.0.0.1:1=7", "3 settings apply"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn wrong_rules_are_refused_with_their_place() {
    let (_config, path) = config(
        "[[rules]]\nkinds = [\"close-wiat\"]\ncomm = \"node\"\nignore = \"\"\n\n\
         [[rules]]\ndestination = \"10.1.0.0/8\"\nbudget = \"1m\"\n\n\
         [[rules]]\ncomm = \"node\"\nignore = \"why\"\nuntil = \"2099-01-01\"\n",
    );
    let path = path.to_str().expect("UTF-8");
    for words in [
        &["config", "check", "--config", path][..],
        &["watch", "--all", "--for", "1s", "--config", path],
        &["run", "--config", path],
    ] {
        let out = sockwarden(words);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(64), "{words:?}: {said}");
        for word in [
            "4 mistakes",
            "tuning.toml:2:10: [[rules]] kinds = \"close-wiat\": there is no such kind; did you \
             mean close-wait?",
            "tuning.toml:4:1: [[rules]] ignore: it does nothing",
            "tuning.toml:7:1: [[rules]] destination = \"10.1.0.0/8\": bits behind the prefix are \
             set: write 10.0.0.0/8",
            "tuning.toml:13:1: [[rules]] until: allowed at most a year ahead",
        ] {
            assert!(said.contains(word), "{words:?}: {word} is not in {said}");
        }
    }
}

#[test]
fn the_command_line_knows_new_kinds_and_fleets() {
    let (_directory, app) = program();
    let pid = app.pid().to_string();
    let begin = ["watch", "--pid", pid.as_str(), "--for", "200ms", "--json"];
    let run = |rest: &[&str]| {
        let out = sockwarden(&[&begin[..], rest].concat());
        (out.status.code(), String::from_utf8(out.stderr).expect("UTF-8"))
    };
    let fleet = ["--fleet", "127.0.0.1:1883=7", "--fleet", "[::1]:1883=8"];
    let (code, said) = run(&[&["--budget", "takeover-duel=1s"][..], &fleet].concat());
    assert_eq!(code, Some(0), "{said}");
    for (words, problem) in [
        (["--budget", "ghost=1s"], "`ghost` is no kind of finding; there are close-wait"),
        (["--fleet", "127.0.0.1:1883"], "write ADDRESS:PORT=DEVICES"),
        (["--fleet", "127.0.0.1:1883=0"], "write ADDRESS:PORT=DEVICES"),
        (["--config", "/nowhere/c.toml"], "/nowhere/c.toml cannot be read"),
    ] {
        let (code, said) = run(&words);
        assert_eq!(code, Some(64), "{words:?}: {said}");
        assert!(said.contains(problem), "{words:?}: {said}");
    }
}
