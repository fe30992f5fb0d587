//! Programs as people write them, in Python, Node.js and Rust.

use harness::peer::{self, Peer};
use harness::watch::BUDGET;
use harness::{App, Watch, oracle};
use std::io::{Read as _, Write as _};

#[test]
fn a_python_server_that_forgets_to_close_is_named() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let port: u16 = app.number("forgetful-server 127.0.0.1");
    let mut client = peer::connect("127.0.0.1", port);
    client.write_all(b"question").expect("it is connected");
    client.read_exact(&mut [0; 6]).expect("there is an answer");
    watch.no_finding_for(BUDGET * 2);
    let address = client.local_addr().expect("it is connected");
    drop(client);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.remote, address.to_string());
    oracle::assert_agrees(&watch, &[app.pid()]);
}

#[test]
fn a_node_client_that_allows_half_open_connections_is_named() {
    let mut app = App::node();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let socket: u32 = app.number(&format!("connect 127.0.0.1 {}", peer.port()));
    drop(peer.accept());
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.comm, app.comm(), "the process is named and not one of its threads");
    assert_eq!(finding.holders.len(), 1);
    oracle::assert_agrees(&watch, &[app.pid()]);
    app.run(&format!("close {socket}"));
    watch.cleared(&finding);
}

#[test]
fn a_node_server_that_allows_half_open_connections_is_named() {
    let mut app = App::node();
    let watch = Watch::of(app.pid());
    let port: u16 = app.number("half-open-server 127.0.0.1");
    let clients: Vec<_> = (0..3).map(|_| peer::connect("127.0.0.1", port)).collect();
    watch.no_finding_for(BUDGET * 2);
    drop(clients);
    let mut cookies = std::collections::BTreeSet::new();
    watch.wait_for("three findings", |line| {
        if let harness::Line::Finding(finding) = line {
            assert_eq!((finding.kind.as_str(), finding.pid), ("close-wait", app.pid()));
            cookies.insert(finding.cookie);
        }
        (cookies.len() == 3).then_some(())
    });
}

#[test]
fn a_node_client_that_never_resumes_reading_is_undrained() {
    let mut app = App::node();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let socket: u32 = app.number(&format!("connect 127.0.0.1 {}", peer.port()));
    let accepted = peer.accept();
    app.run(&format!("pause {socket}"));
    // More than Node reads ahead.
    peer::write(&accepted, 1_000_000);
    let finding = watch.opened("undrained", app.pid());
    app.run(&format!("resume {socket}"));
    watch.cleared(&finding);
}

#[test]
fn a_node_http_server_with_kept_connections_leaks_nothing() {
    let (mut server, mut client) = (App::node(), App::node());
    let watch = Watch::builder()
        .pid(server.pid())
        .pid(client.pid())
        .budgets(BUDGET)
        .args(["--snapshot-interval", "200ms"])
        .start();
    let port: u16 = server.number("http-server 127.0.0.1");
    for _ in 0..5 {
        assert_eq!(client.number::<u16>(&format!("http-get {port}")), 200);
    }
    watch.no_finding_for(BUDGET * 3);
    oracle::assert_agrees(&watch, &[server.pid(), client.pid()]);
    assert_eq!(watch.held_by(client.pid()).len(), 5);
    // A client that dies is closed by the server at once.
    client.kill();
    watch.no_finding_for(BUDGET * 2);
    assert_eq!(watch.held_by(server.pid()).len(), 1, "the listener is left");
}

#[test]
fn a_rust_program_is_named_with_both_of_its_descriptors() {
    let mut app = App::rust();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    let fd = app.connect("127.0.0.1", peer.port());
    let copy: i32 = app.number(&format!("dup {fd}"));
    drop(peer.accept());
    let finding = watch.opened("close-wait", app.pid());
    let mut named = finding.holders();
    named.sort_unstable();
    assert_eq!(named, [(app.pid(), fd), (app.pid(), copy)]);
    app.run(&format!("close {fd}"));
    app.run(&format!("close {copy}"));
    watch.cleared(&finding);
}

#[test]
fn a_rust_server_is_named() {
    let mut app = App::rust();
    let watch = Watch::of(app.pid());
    let (listener, port) = app.listen("127.0.0.1");
    let client = peer::connect("127.0.0.1", port);
    let fd: i32 = app.number(&format!("accept {listener}"));
    drop(client);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    oracle::assert_agrees(&watch, &[app.pid()]);
}
