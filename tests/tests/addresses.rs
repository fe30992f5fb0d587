//! Both families, and the one inside the other.

use harness::peer::{self, Peer};
use harness::{App, Watch, oracle};

#[test]
fn an_ipv6_connection_is_followed() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::on("::1");
    let fd = app.connect("::1", peer.port());
    let accepted = peer.accept();
    let local = accepted.peer_addr().expect("it is connected");
    oracle::assert_agrees(&watch, &[app.pid()]);
    drop(accepted);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    assert_eq!(finding.local, local.to_string());
    assert_eq!(finding.remote, format!("[::1]:{}", peer.port()));
}

#[test]
fn an_ipv4_client_of_an_ipv6_server_has_an_ipv4_address() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let (listener, port) = app.listen("::");
    let client = peer::connect("127.0.0.1", port);
    let address = client.local_addr().expect("it is connected");
    let fd: i32 = app.number(&format!("accept {listener}"));
    oracle::assert_agrees(&watch, &[app.pid()]);
    drop(client);
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.holders(), [(app.pid(), fd)]);
    assert_eq!(finding.local, format!("127.0.0.1:{port}"));
    assert_eq!(finding.remote, address.to_string());
}

#[test]
fn a_v4_mapped_destination_is_an_ipv4_destination() {
    let mut app = App::python();
    let watch = Watch::of(app.pid());
    let peer = Peer::new();
    app.connect("::ffff:127.0.0.1", peer.port());
    let _accepted = peer.accept();
    let transition = watch.transition(app.pid(), "ESTABLISHED");
    assert_eq!(transition.remote, peer.address().to_string());
    oracle::assert_agrees(&watch, &[app.pid()]);
}

#[test]
fn only_the_asked_for_port_is_shown() {
    let mut app = App::python();
    let (asked, other) = (Peer::new(), Peer::new());
    let watch = Watch::builder()
        .pid(app.pid())
        .args(["--port", &asked.port().to_string()])
        .budgets(harness::watch::BUDGET)
        .start();
    app.connect("127.0.0.1", other.port());
    drop(other.accept());
    app.connect("127.0.0.1", asked.port());
    drop(asked.accept());
    let finding = watch.opened("close-wait", app.pid());
    assert_eq!(finding.remote, asked.address().to_string());
    // The other one is older: it would have been found first.
    let end = watch.stop();
    assert_eq!(end.summary().opened("close-wait"), 1);
    assert!(end.transitions().all(|transition| transition.remote == finding.remote));
}
