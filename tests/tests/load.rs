//! Many sockets, many events, and rings that are too small for them. These scenarios use the whole
//! machine: one at a time.

use harness::peer::{self, Peer};
use harness::watch::{BUDGET, signal_process};
use harness::{App, Event, Line, Watch, clock, oracle, ss, wait};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// More than the 10,240 at which the classic tools go silent.
const FLEET: usize = 15_000;
const CYCLES: usize = 30_000;

/// Lets one scenario of this file run at a time.
fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    // A scenario that failed leaves nothing behind.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn fifteen_thousand_sockets_of_one_process_are_all_followed_and_all_found() {
    let _alone = alone();
    // Each process may have 20,000 descriptors: the two ends need two.
    let (mut app, mut server) = (App::rust(), App::rust());
    let watch = Watch::builder()
        .pid(app.pid())
        .budget("close-wait", Duration::from_secs(1))
        .args(["--no-transitions"])
        .storms()
        .start();
    let (listener, port) = server.listen("127.0.0.1");
    server.send(&format!("accept-many {listener} {FLEET}"));
    let sources = "127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.5";
    let order = format!("connect-many {FLEET} 127.0.0.1 {port} {sources}");
    app.run(&order);
    server.answer("accept-many");

    assert!(oracle::assert_agrees(&watch, &[app.pid()]).is_empty());
    let table = watch.held_by(app.pid());
    assert_eq!(table.len(), FLEET);
    assert!(table.iter().all(|socket| socket.state == "ESTABLISHED"));
    assert!(watch.findings().is_empty(), "a large fleet is no leak");

    server.kill();
    let mut found = BTreeSet::new();
    watch.wait_for("all of them to be found", |line| {
        match line {
            Line::Finding(finding) if finding.event == Event::Opened => {
                assert_eq!((finding.kind.as_str(), finding.pid), ("close-wait", app.pid()));
                assert!(found.insert(finding.cookie), "found twice: {finding:?}");
            }
            _ => {}
        }
        (found.len() == FLEET).then_some(())
    });
    let pid = app.pid();
    app.kill();
    wait::until_true("the table to forget the process", || watch.held_by(pid).is_empty());
    let end = watch.stop();
    end.expect_code(0);
    assert!(end.losses().is_empty(), "the default ring is large enough: {:?}", end.losses());
    assert_eq!(end.summary().opened("close-wait"), FLEET as u64);
    assert_eq!(end.summary().opened_in_all(), FLEET as u64);
}

#[test]
fn thirty_thousand_connects_and_closes_are_seen_without_a_loss() {
    let _alone = alone();
    let mut app = App::rust();
    let watch = Watch::builder().pid(app.pid()).budgets(BUDGET).storms().start();
    app.run(&format!("churn {CYCLES} 127.0.0.1 127.0.0.2 127.0.0.3"));
    assert!(oracle::assert_agrees(&watch, &[app.pid()]).is_empty());
    let end = watch.stop();
    end.expect_code(0);
    assert_eq!((end.losses().len(), end.summary().lost), (0, 0), "{:?}", end.losses());

    let cookies = |new: &str| {
        let entered = end.transitions().filter(|transition| transition.new == new);
        entered.map(|transition| transition.cookie).collect::<Vec<_>>()
    };
    let connected = cookies("SYN_SENT");
    assert_eq!(connected.len(), CYCLES);
    let connected: BTreeSet<u64> = connected.into_iter().collect();
    assert_eq!(connected.len(), CYCLES, "a cookie is never used again");
    let closed: BTreeSet<u64> = cookies("CLOSE").into_iter().collect();
    assert!(connected.is_subset(&closed), "each client was seen to its end");
    assert_eq!(end.summary().opened_in_all(), 0);
}

#[test]
fn a_ring_that_is_too_small_costs_events_and_not_the_truth() {
    let _alone = alone();
    let mut app = App::rust();
    let watch = Watch::builder()
        .pid(app.pid())
        .budgets(BUDGET)
        .args(["--ring-size", "4096", "--no-transitions"])
        .storms()
        .start();
    let peer = Peer::new();
    let kept = app.connect("127.0.0.1", peer.port());
    let accepted = peer.accept();
    app.run("churn 5000 127.0.0.1");
    let lost = watch.wait_for("a loss to be told", |line| match line {
        Line::Loss(loss) => Some(loss.clone()),
        _ => None,
    });
    assert!(lost.lost > 0);
    assert!(oracle::assert_agrees(&watch, &[app.pid()]).is_empty());
    // And it works as before.
    drop(accepted);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), kept)]);
    app.run(&format!("close {kept}"));
    watch.cleared(&finding);
    let end = watch.stop();
    end.expect_code(0);
    let told: u64 = end.losses().iter().map(|loss| loss.lost).sum();
    assert_eq!(end.summary().lost, told, "what is lost is told once: {:?}", end.losses());
    assert_eq!(end.summary().opened_in_all(), 1);
}

#[test]
fn what_was_lost_is_reconstructed_and_never_called_certain() {
    let _alone = alone();
    let mut app = App::python();
    let watch =
        Watch::builder().pid(app.pid()).budgets(BUDGET).args(["--ring-size", "4096"]).start();
    let peer = Peer::new();
    let before: Vec<i32> = app.numbers(&format!("connect-many 5 127.0.0.1 {}", peer.port()));
    let accepted = peer.accept_many(5);
    oracle::assert_agrees(&watch, &[app.pid()]);

    // While it sleeps the ring fills with other things, and then the peers close.
    signal_process(watch.id(), Signal::STOP);
    let mut noise = app.connect("127.0.0.1", peer.port());
    for _ in 0..200 {
        drop(peer.accept());
        noise = app.number(&format!("reuse {noise} 127.0.0.1 {}", peer.port()));
    }
    app.run(&format!("close {noise}"));
    let closing = clock::wall();
    let mut accepted = accepted;
    let last = accepted.pop().expect("invariant: there are five");
    peer::reset(last);
    drop(accepted);
    signal_process(watch.id(), Signal::CONT);

    watch.wait_for("the loss to be told", |line| matches!(line, Line::Loss(_)).then_some(()));
    let unseen = oracle::assert_agrees(&watch, &[app.pid()]);
    assert_eq!(unseen.len(), 1, "the one that was reset: {unseen:?}");
    let mut found = BTreeSet::new();
    watch.wait_for("all five to be found", |line| {
        if let Line::Finding(finding) = line
            && finding.event == Event::Opened
        {
            assert_eq!(finding.evidence, "reconstructed", "{finding:?}");
            assert!(finding.since() >= closing, "an invented age: {finding:?}");
            found.insert(finding.holders[0].fd);
        }
        (found.len() == 5).then_some(())
    });
    assert_eq!(found, before.into_iter().collect());
    let end = watch.stop();
    end.expect_code(1);
    assert_eq!(end.summary().open["close-wait"], 4);
    assert_eq!(end.summary().open["dead-fd"], 1);
    assert!(end.summary().lost > 0);
}

#[test]
fn two_thousand_short_connections_from_outside_are_each_attributed() {
    let _alone = alone();
    let mut app = App::rust();
    let watch = Watch::of(app.pid());
    let (listener, port) = app.listen("127.0.0.1");
    app.send(&format!("accept-many {listener} 2000"));
    for _ in 0..2000 {
        peer::reset(peer::connect("127.0.0.1", port));
    }
    app.answer("accept-many");
    app.run("close-last 2000");
    assert!(oracle::assert_agrees(&watch, &[app.pid()]).is_empty());
    let end = watch.stop();
    assert_eq!(end.summary().lost, 0);
    let accepted: BTreeSet<u64> = end
        .transitions()
        .filter(|transition| transition.new == "ESTABLISHED")
        .map(|transition| transition.cookie)
        .collect();
    assert_eq!(accepted.len(), 2000);
}

#[test]
fn threads_that_connect_at_the_same_time_are_not_mixed_up() {
    let _alone = alone();
    let (mut client, mut server) = (App::rust(), App::rust());
    // No snapshot comes to the rescue: the descriptors are those that the events told.
    let watch = Watch::builder()
        .pid(client.pid())
        .pid(server.pid())
        .args(["--snapshot-interval", "60s"])
        .start();
    let (listener, port) = server.listen("127.0.0.1");
    server.send(&format!("accept-many {listener} 800"));
    client.run(&format!("connect-threads 4 200 127.0.0.1 {port}"));
    server.answer("accept-many");
    let held: BTreeMap<u64, (u32, i32)> = ss::rows()
        .into_iter()
        .filter(|row| row.state == "ESTABLISHED")
        .filter_map(|row| Some((row.cookie?, *row.holders.first()?)))
        .filter(|(_, (pid, _))| [client.pid(), server.pid()].contains(pid))
        .collect();
    assert_eq!(held.len(), 1600);
    let (client_pid, server_pid) = (client.pid(), server.pid());
    server.run("close-last 800");
    client.run("close-last 800");
    let mut ended = 0;
    watch.wait_for("the end of every connection", |line| {
        ended += usize::from(matches!(line, Line::Transition(told) if told.new == "LAST_ACK"));
        (ended == 800).then_some(())
    });
    let end = watch.stop();
    assert_eq!(end.summary().lost, 0);
    let mut told = BTreeSet::new();
    for transition in end.transitions() {
        let side = match transition.new.as_str() {
            // Told by whoever connects, and by whoever closes.
            "SYN_SENT" | "CLOSE_WAIT" => client_pid,
            "FIN_WAIT1" => server_pid,
            _ => continue,
        };
        let holder = held[&transition.cookie];
        assert_eq!(holder.0, side, "{transition:?}");
        assert_eq!((transition.pid, transition.fd), (Some(side), Some(holder.1)), "{transition:?}");
        told.insert((transition.cookie, transition.new.clone()));
    }
    assert_eq!(told.len(), 3 * 800);
}
