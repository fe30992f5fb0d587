//! What `sockwarden watch` prints, how it ends, and what its options do.

use harness::peer::{self, Peer};
use harness::watch::{BUDGET, Builder};
use harness::{App, Line, Watch, wait};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// A leak in `app`: a connection that its peer closed.
fn leak(app: &mut App) -> (Peer, i32) {
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    (peer, fd)
}

#[test]
fn every_line_has_the_documented_fields_and_no_others() {
    let mut app = App::python();
    let watch =
        Watch::builder().pid(app.pid()).budgets(BUDGET).args(["--max-sockets", "4"]).start();
    let (peer, _) = leak(&mut app);
    watch.opened("close-wait", app.pid());
    app.run(&format!("connect-many 8 127.0.0.1 {}", peer.port()));
    watch.wait_for("a loss", |line| matches!(line, Line::Loss(_)).then_some(()));
    watch.table();
    let end = watch.stop();

    let documented = [
        ("transition", "type time t_ns cookie pid comm fd old new local remote"),
        (
            "finding",
            "type event id kind severity pid comm started unit container cookie state local remote \
             holders since age_ms budget_ms evidence born_before_observer message site",
        ),
        ("loss", "type cause lost"),
        (
            "socket",
            "type cookie state local remote netns pid comm holders since born_before_observer \
             evidence client_id",
        ),
        ("sockets", "type count"),
        ("ready", "type layers names sockets"),
        ("summary", "type transitions lost sockets open opened ignored ignored_by_rule sites"),
    ];
    let mut seen = BTreeSet::new();
    for text in &end.stdout {
        let line: Value = serde_json::from_str(text).expect("each line is one object");
        let fields: BTreeSet<&str> =
            line.as_object().expect("an object").keys().map(String::as_str).collect();
        let kind = line["type"].as_str().expect("each line has a type");
        let (kind, expected) = documented
            .iter()
            .find(|(documented, _)| *documented == kind)
            .unwrap_or_else(|| panic!("nobody documented {text}"));
        assert_eq!(fields, expected.split_whitespace().collect(), "{text}");
        for holder in line["holders"].as_array().into_iter().flatten() {
            let fields: Vec<&String> = holder.as_object().expect("an object").keys().collect();
            let expected = ["close_on_exec", "comm", "container", "fd", "pid", "started", "unit"];
            assert_eq!(fields, expected, "{text}");
        }
        seen.insert(*kind);
    }
    assert_eq!(seen.len(), documented.len(), "some kinds never came: only {seen:?}");
    let tables = end.lines.iter().filter(|line| matches!(line, Line::Sockets(_)));
    assert_eq!(tables.count(), 2, "one at the signal, one at the end");
}

#[test]
fn a_connection_is_told_from_its_first_to_its_last_state() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    let local = accepted.peer_addr().expect("it is connected").to_string();
    drop(accepted);
    watch.transition(app.pid(), "CLOSE_WAIT");
    app.run(&format!("close {fd}"));
    // Who closes first after the peer has is not the one who waits.
    wait::until_true("the last transition", || {
        watch.raw().last().is_some_and(|line| line.contains(r#""new":"CLOSE""#))
    });
    let end = watch.stop();
    let all: Vec<_> = end.transitions().collect();
    let states: Vec<_> = all.iter().map(|line| (line.old.as_str(), line.new.as_str())).collect();
    assert_eq!(
        states,
        [
            ("CLOSE", "SYN_SENT"),
            ("SYN_SENT", "ESTABLISHED"),
            ("ESTABLISHED", "CLOSE_WAIT"),
            ("CLOSE_WAIT", "LAST_ACK"),
            ("LAST_ACK", "CLOSE"),
        ]
    );
    assert!(all.iter().all(|line| line.cookie == all[0].cookie));
    assert!(all.iter().all(|line| line.pid == Some(app.pid())), "{all:?}");
    assert!(all.iter().all(|line| line.comm == Some(app.comm())), "{all:?}");
    assert!(all.iter().all(|line| line.remote == peer.address().to_string()), "{all:?}");
    assert!(all.is_sorted_by_key(|line| line.t_ns));
    assert_eq!(all[2].local, local);
    assert_eq!(all[2].fd, Some(fd), "the descriptor is known by then");
    assert_eq!(end.summary().transitions, 5);
}

#[test]
fn people_get_a_sentence() {
    let mut app = App::python();
    let pid = app.pid().to_string();
    let watch = Builder::bare(["watch", "--pid", &pid, "--budget", "close-wait=500ms"]).launch();
    let peer = Peer::new();
    // Without JSON nothing says when it is ready: repeat until something is seen.
    let fd = wait::until("a transition to be printed", || {
        let fd = app.connect("127.0.0.1", peer.port());
        let accepted = peer.accept();
        std::thread::sleep(Duration::from_millis(200));
        let seen = watch.raw().iter().any(|line| line.contains("ESTABLISHED"));
        drop(accepted);
        if seen {
            return Ok(fd);
        }
        app.run(&format!("close {fd}"));
        Err(watch.report())
    });
    let holds = format!("{} (pid {pid}) holds fd {fd} to {}", app.comm(), peer.address());
    wait::until("a sentence", || {
        let said = watch.raw().join("\n");
        if said.contains(&holds) { Ok(()) } else { Err(format!("`{holds}` is not in\n{said}")) }
    });
    let end = watch.stop();
    end.expect_code(1);
    assert!(
        !end.stdout.iter().any(|line| line.contains('\u{1b}')),
        "no colours into a pipe: {:?}",
        end.stdout
    );
}

#[test]
fn the_exit_code_says_whether_a_finding_is_open_at_the_end() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let (_peer, fd) = leak(&mut app);
    let finding = watch.opened("close-wait", app.pid());
    let other = Watch::of(app.pid());
    other.opened("close-wait", app.pid());
    let end = other.stop();
    end.expect_code(1);
    assert_eq!(end.summary().open["close-wait"], 1);

    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
    let end = watch.stop();
    end.expect_code(0);
    assert_eq!((end.summary().open_in_all(), end.summary().opened("close-wait")), (0, 1));
}

#[test]
fn without_transitions_the_findings_are_the_same() {
    let mut app = App::python();
    let watch = Watch::builder().pid(app.pid()).budgets(BUDGET).args(["--no-transitions"]).start();
    let (_peer, fd) = leak(&mut app);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
    let end = watch.stop();
    assert_eq!(end.transitions().count(), 0);
    assert!(end.summary().transitions >= 3, "they were counted all the same");
}

#[test]
fn layer_a_alone_names_the_same_descriptor() {
    let mut app = App::python();
    let watch = Watch::builder().pid(app.pid()).budgets(BUDGET).args(["--layers", "a"]).launch();
    assert_eq!(watch.ready().layers, "a");
    let (_peer, fd) = leak(&mut app);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    assert_eq!(finding.evidence, "complete");
    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
}

#[test]
fn both_layers_are_the_default() {
    let app = App::python();
    let watch = Watch::builder().pid(app.pid()).launch();
    assert_eq!(watch.ready().layers, "ab");
}

#[test]
fn all_processes_are_watched_when_asked_for() {
    let (mut one, mut two) = (App::python(), App::rust());
    let watch = Watch::builder().args(["--all"]).budgets(BUDGET).start();
    let (_peer, fd) = leak(&mut one);
    let (_other_peer, other_fd) = leak(&mut two);
    assert_eq!(watch.opened("close-wait", one.pid()).holders(), [(one.pid(), fd)]);
    assert_eq!(watch.opened("close-wait", two.pid()).holders(), [(two.pid(), other_fd)]);
    harness::oracle::assert_agrees(&watch, &[one.pid(), two.pid()]);
}

#[test]
fn each_kind_has_its_own_budget() {
    let mut app = App::python();
    let watch = Watch::builder()
        .pid(app.pid())
        .budget("close-wait", Duration::from_secs(60))
        .budget("dead-fd", BUDGET)
        .start();
    let (peer, _) = leak(&mut app);
    let fd = app.connect("127.0.0.1", peer.port());
    peer::reset(peer.accept());
    let finding = watch.opened("dead-fd", app.pid());
    assert_eq!((finding.holders(), finding.budget_ms), (vec![(app.pid(), fd)], 500));
    let end = watch.stop();
    assert_eq!(end.summary().opened_in_all(), 1);
}
