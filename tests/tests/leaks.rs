//! Each kind of leak is found, named and cleared; what only looks like one is not.

use harness::line::assert_about;
use harness::peer::{self, FullBacklog, Peer};
use harness::watch::BUDGET;
use harness::{App, Finding, Watch, clock, oracle};
use std::net::Shutdown;
use std::time::Duration;

/// How wrong a start time may be: the softirq may run late on a busy machine. Less than a budget,
/// so that the start of the leak is not taken for the end of the budget.
const SLACK: Duration = Duration::from_millis(400);

/// A finding names this process and descriptor, and nothing else.
#[track_caller]
fn assert_names(finding: &Finding, app: &App, fd: i32) {
    assert_eq!(finding.pid, app.pid());
    assert_eq!(finding.comm, app.comm());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    assert_eq!(finding.holders[0].comm, app.comm());
    assert_eq!(finding.evidence, "complete");
    assert!(!finding.born_before_observer);
    assert!(finding.age_ms >= finding.budget_ms, "{finding:?}");
    for word in [app.comm(), format!("pid {}", app.pid()), format!("fd {fd}")] {
        assert!(finding.message.contains(&word), "`{word}` is missing in {}", finding.message);
    }
}

#[test]
fn a_client_that_keeps_a_connection_its_peer_closed_is_named_until_it_closes() {
    let budget = Duration::from_secs(1);
    let mut app = App::python();
    let watch = Watch::builder().pid(app.pid()).budget("close-wait", budget).start();
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    let closed = clock::wall();

    let finding = watch.opened("close-wait", app.pid());
    assert_names(&finding, &app, fd);
    assert_eq!(finding.state, "CLOSE_WAIT");
    assert_eq!(finding.remote, peer.address().to_string());
    assert_eq!(finding.budget_ms, 1000);
    assert!(finding.age_ms < 2000, "it was opened late: {finding:?}");
    assert_about(&finding.since, closed, SLACK);

    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
    assert!(oracle::assert_agrees(&watch, &[app.pid()]).is_empty());
    let end = watch.stop();
    end.expect_code(0);
    assert_eq!((end.summary().opened("close-wait"), end.summary().open_in_all()), (1, 0));
}

#[test]
fn a_server_that_keeps_a_connection_its_client_closed_is_named() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let (listener, port) = app.listen("127.0.0.1");
    let client = peer::connect("127.0.0.1", port);
    let client_address = client.local_addr().expect("it is connected");
    let fd: i32 = app.number(&format!("accept {listener}"));
    drop(client);

    let finding = watch.opened("close-wait", app.pid());
    assert_names(&finding, &app, fd);
    assert_eq!(finding.local, format!("127.0.0.1:{port}"));
    assert_eq!(finding.remote, client_address.to_string());
    // The listener is in the table and no leak.
    oracle::assert_agrees(&watch, &[app.pid()]);
    watch.stop().expect_code(1);
}

#[test]
fn a_connection_that_nobody_accepted_yet_is_in_nobodys_hands() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let (_, port) = app.listen("127.0.0.1");
    let client = peer::connect("127.0.0.1", port);
    watch.no_finding_for(BUDGET * 2);
    assert_eq!(watch.held_by(app.pid()).len(), 1, "only the listener is held");
    drop(client);
}

#[test]
fn only_time_over_budget_makes_a_close_wait_a_leak() {
    let mut app = App::python();
    let watch = Watch::builder().pid(app.pid()).budgets(Duration::from_secs(5)).start();
    let peer = Peer::new();
    let fds: Vec<i32> = app.numbers(&format!("connect-many 50 127.0.0.1 {}", peer.port()));
    drop(peer.accept_many(50));
    watch.transition(app.pid(), "CLOSE_WAIT");
    for fd in fds {
        app.run(&format!("close {fd}"));
    }
    watch.no_finding_for(BUDGET);
    let end = watch.stop();
    end.expect_code(0);
    assert_eq!(end.summary().opened_in_all(), 0);
}

#[test]
fn a_descriptor_that_outlives_a_reset_is_found_where_ss_sees_nothing() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    let local = accepted.peer_addr().expect("it is connected");
    peer::reset(accepted);
    let died = clock::wall();

    let finding = watch.opened("dead-fd", app.pid());
    assert_names(&finding, &app, fd);
    assert_eq!(finding.state, "CLOSE");
    assert_eq!(finding.local, local.to_string(), "the port is remembered when the kernel forgot");
    assert_eq!(finding.remote, peer.address().to_string());
    assert_about(&finding.since, died, SLACK);

    let unseen = oracle::assert_agrees(&watch, &[app.pid()]);
    assert_eq!(unseen.len(), 1, "ss must not see it: {unseen:?}");
    assert_eq!(unseen[0].cookie, finding.cookie);

    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
    assert!(watch.held_by(app.pid()).is_empty());
}

#[test]
fn a_socket_that_was_never_connected_is_no_dead_descriptor() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let fds = ["unconnected 127.0.0.1", "unconnected ::1"].map(|order| app.number::<i32>(order));
    watch.no_finding_for(BUDGET * 3);
    let unseen = oracle::assert_agrees(&watch, &[app.pid()]);
    assert_eq!(unseen.len(), fds.len(), "the table has what ss does not show");
}

#[test]
fn a_connect_into_a_full_backlog_is_stuck_until_it_is_given_up() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let backlog = FullBacklog::new();
    let began = clock::wall();
    let fd: i32 = app.number(&format!("connect-start 127.0.0.1 {}", backlog.port()));

    let finding = watch.opened("stuck-connect", app.pid());
    assert_names(&finding, &app, fd);
    assert_eq!(finding.state, "SYN_SENT");
    assert_eq!(finding.remote, format!("127.0.0.1:{}", backlog.port()));
    assert_about(&finding.since, began, SLACK);
    oracle::assert_agrees(&watch, &[app.pid()]);

    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
}

#[test]
fn a_stuck_connect_that_gets_through_is_cleared() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let mut backlog = FullBacklog::new();
    app.run(&format!("connect-start 127.0.0.1 {}", backlog.port()));
    let finding = watch.opened("stuck-connect", app.pid());
    backlog.accept_all();
    // The next retransmission of the SYN, 1 or 2 s later, gets its answer.
    watch.cleared(&finding);
    watch.transition(app.pid(), "ESTABLISHED");
}

#[test]
fn data_that_nobody_reads_is_found_on_a_healthy_looking_connection() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    peer::write(&accepted, 20_000);

    let finding = watch.opened("undrained", app.pid());
    assert_names(&finding, &app, fd);
    assert_eq!(finding.state, "ESTABLISHED");

    assert_eq!(app.number::<u32>(&format!("read {fd} 20000")), 20_000);
    watch.cleared(&finding);
    let end = watch.stop();
    end.expect_code(0);
    assert_eq!(end.summary().opened_in_all(), 1, "{:?}", end.summary());
}

#[test]
fn data_that_nobody_reads_is_found_behind_a_fin_too() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    peer::write(&accepted, 20_000);
    drop(accepted);

    let finding = watch.opened("undrained", app.pid());
    assert_names(&finding, &app, fd);
    assert_eq!(finding.state, "CLOSE_WAIT");
    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
}

#[test]
fn a_slow_reader_with_a_queue_that_never_empties_is_not_undrained() {
    let mut app = App::python();
    let watch = Watch::builder()
        .pid(app.pid())
        .budgets(Duration::from_secs(1))
        .args(["--snapshot-interval", "200ms"])
        .start();
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    peer::write(&accepted, 60_000);
    app.run(&format!("stream read {fd} 10 0.05"));
    watch.no_finding_for(Duration::from_secs(3));
    app.run(&format!("stream-stop {fd}"));
    // The same connection becomes a leak when the reading ends.
    watch.opened("undrained", app.pid());
}

#[test]
fn a_reader_that_stopped_is_found_though_data_keeps_coming() {
    let mut app = App::python();
    let mut writer = App::python();
    let watch = Watch::of(app.pid());
    let (listener, port) = writer.listen("127.0.0.1");
    let fd = app.connect("127.0.0.1", port);
    let accepted: i32 = writer.number(&format!("accept {listener}"));
    writer.run(&format!("stream write {accepted} 10 0.02"));
    let finding = watch.opened("undrained", app.pid());
    assert_names(&finding, &app, fd);
}

#[test]
fn a_descriptor_that_is_kept_after_an_orderly_end_is_dead() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    // Once this side ends first, once the other.
    let first = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    app.run(&format!("shutdown {first}"));
    drop(accepted);
    let second = app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    watch.transition(app.pid(), "CLOSE_WAIT");
    app.run(&format!("shutdown {second}"));

    let mut found = Vec::new();
    watch.wait_for("both of them", |line| {
        if let harness::Line::Finding(finding) = line
            && finding.event == harness::Event::Opened
        {
            assert_eq!((finding.kind.as_str(), finding.state.as_str()), ("dead-fd", "CLOSE"));
            found.extend(finding.holders());
        }
        (found.len() == 2).then_some(())
    });
    found.sort_unstable();
    assert_eq!(found, [(app.pid(), first), (app.pid(), second)]);
    assert_eq!(oracle::assert_agrees(&watch, &[app.pid()]).len(), 2);
}

#[test]
fn a_descriptor_that_is_kept_after_a_refused_connect_is_dead() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let gone = Peer::new();
    let port = gone.port();
    drop(gone);
    let fd: i32 = app.number(&format!("connect-start 127.0.0.1 {port}"));
    let finding = watch.opened("dead-fd", app.pid());
    assert_names(&finding, &app, fd);
    assert_eq!(finding.remote, format!("127.0.0.1:{port}"));
}

#[test]
fn a_half_closed_stream_is_a_leak_only_when_it_stops_moving() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    accepted.shutdown(Shutdown::Write).expect("it is connected");
    let reader = peer::drain(accepted);
    app.run(&format!("stream write {fd} 10 0.05"));
    watch.no_finding_for(BUDGET * 4);
    app.run(&format!("stream-stop {fd}"));

    let finding = watch.opened("close-wait", app.pid());
    assert_names(&finding, &app, fd);
    app.run(&format!("close {fd}"));
    watch.cleared(&finding);
    reader.join().expect("it read to the end");
}

#[test]
fn an_idle_connection_is_no_leak_however_old() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    app.run(&format!("keepalive {fd}"));
    let _accepted = peer.accept();
    watch.no_finding_for(BUDGET * 5);
    oracle::assert_agrees(&watch, &[app.pid()]);
    watch.stop().expect_code(0);
}

#[test]
fn a_connection_that_this_side_closed_first_is_no_leak() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let closed = app.connect("127.0.0.1", peer.port());
    let half_closed = app.connect("127.0.0.1", peer.port());
    let _accepted = peer.accept_many(2);
    app.run(&format!("close {closed}"));
    app.run(&format!("shutdown {half_closed}"));
    // FIN_WAIT2, once without and once with a descriptor.
    watch.no_finding_for(BUDGET * 3);
    oracle::assert_agrees(&watch, &[app.pid()]);
}

#[test]
fn every_kind_is_found_in_time_with_the_default_interval_of_snapshots() {
    let mut app = App::python();
    let watch = Watch::builder().pid(app.pid()).budgets(BUDGET).start();
    let peer = Peer::new();
    let backlog = FullBacklog::new();
    let shared = app.connect("127.0.0.1", peer.port());
    let _accepted = peer.accept();
    let child: u32 = app.number("fork");
    // Longer than a hand-over takes.
    std::thread::sleep(Duration::from_secs(2));
    app.run(&format!("close {shared}"));
    app.connect("127.0.0.1", peer.port());
    drop(peer.accept());
    app.connect("127.0.0.1", peer.port());
    peer::reset(peer.accept());
    app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    peer::write(&accepted, 1000);
    app.run(&format!("connect-start 127.0.0.1 {}", backlog.port()));
    for (kind, pid) in [
        ("close-wait", app.pid()),
        ("dead-fd", app.pid()),
        ("undrained", app.pid()),
        ("stuck-connect", app.pid()),
        ("inherited", child),
    ] {
        let finding = watch.opened(kind, pid);
        let late = Duration::from_millis(finding.age_ms - finding.budget_ms);
        assert!(late < Duration::from_secs(1), "{kind} was found late: {finding:?}");
    }
    app.run(&format!("reap {child}"));
}

#[test]
fn every_leak_of_many_is_found_on_its_own() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fds: Vec<i32> = app.numbers(&format!("connect-many 40 127.0.0.1 {}", peer.port()));
    let mut accepted = peer.accept_many(40);
    // Every second one.
    let mut number = 0;
    accepted.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    let mut leaked: Vec<i32> = fds.iter().copied().step_by(2).collect();
    let mut found = Vec::new();
    watch.wait_for("20 findings", |line| {
        if let harness::Line::Finding(finding) = line
            && finding.event == harness::Event::Opened
        {
            found.push(finding.holders[0].fd);
        }
        (found.len() == leaked.len()).then_some(())
    });
    found.sort_unstable();
    leaked.sort_unstable();
    assert_eq!(found, leaked);
    let end = watch.stop();
    end.expect_code(1);
    assert_eq!(end.summary().open["close-wait"], 20);
}
