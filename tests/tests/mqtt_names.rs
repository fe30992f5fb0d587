//! MQTT client ids out of the first packets of watched connections.

use harness::caps;
use harness::facts::Facts;
use harness::mosquitto::Mosquitto;
use harness::peer::Peer;
use harness::{App, Watch, wait};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A CONNECT: level, properties (MQTT 5 only), client id.
fn connect(level: u8, properties: &[u8], client_id: &str) -> Vec<u8> {
    let name: &[u8] = if level == 3 { b"\0\x06MQIsdp" } else { b"\0\x04MQTT" };
    let mut body = name.to_vec();
    body.extend([level, 2, 0, 60]);
    if level == 5 {
        body.extend(length(properties.len()));
        body.extend(properties);
    }
    body.extend(u16::try_from(client_id.len()).expect("short").to_be_bytes());
    body.extend(client_id.as_bytes());
    [vec![0x10], length(body.len()), body].concat()
}

fn length(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return bytes;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Connects the app to `peer` and sends each part in a segment of its own.
fn send(app: &mut App, peer: &Peer, parts: &[&[u8]]) -> (i32, std::net::TcpStream) {
    let fd = app.connect(&peer.address().ip().to_string(), peer.port());
    let accepted = peer.accept();
    let parts: Vec<String> = parts.iter().map(|part| hex(part)).collect();
    app.run(&format!("send {fd} {}", parts.join(" ")));
    (fd, accepted)
}

#[test]
fn every_version_names_its_client_over_both_families() {
    let mut app = App::python();
    let mut facts = Facts::of(app.pid());
    // A session expiry interval, and a user property.
    let usual = b"\x11\0\0\x0e\x10\x26\0\x01a\0\x01b";
    let mut kept = Vec::new();
    for peer in [Peer::new(), Peer::on("::1")] {
        let ip = peer.address().ip();
        for (level, properties) in [(3, &b""[..]), (4, b""), (5, b""), (5, usual), (5, &[0x26; 80])]
        {
            let client_id = format!("device {ip} {level} {}", properties.len());
            let packet = connect(level, properties, &client_id);
            kept.push(send(&mut app, &peer, &[&packet]));
            let name = facts.wait_for_name(&client_id);
            assert_eq!((name.is_cut, name.keep_alive, name.level), (false, 60, level));
        }
    }
    assert_eq!(facts.unread, 0);
}

#[test]
fn a_packet_longer_than_what_is_looked_at_gives_what_there_is_and_is_counted_otherwise() {
    let mut app = App::python();
    let peer = Peer::new();
    let mut facts = Facts::of(app.pid());
    let mut kept = Vec::new();
    let mut say = |facts: &mut Facts, parts: &[&[u8]], expected: &str, is_cut: bool| {
        kept.push(send(&mut app, &peer, parts));
        assert_eq!(facts.wait_for_name(expected).is_cut, is_cut, "{expected}");
    };
    // As long as the specification lets a client id be on every broker (23), and as is promised.
    say(&mut facts, &[&connect(5, &[0x26; 100], &"a".repeat(128))], &"a".repeat(128), false);
    // 256 bytes less the 15 before the client id.
    say(&mut facts, &[&connect(4, b"", &"b".repeat(3_000))], &"b".repeat(256 - 15), true);
    assert_eq!(facts.unread, 0);
    // Nothing of its client id is in the first 256 bytes.
    let far = connect(5, &[0x26; 300], "behind many properties");
    kept.push(send(&mut app, &peer, &[&far]));
    // No MQTT at all.
    kept.push(send(&mut app, &peer, &[b"\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10"]));
    kept.push(send(&mut app, &peer, &[&connect(4, b"", "the end")]));
    facts.wait_for_name("the end");
    assert_eq!(facts.unread, 1);
}

#[test]
fn a_packet_in_several_segments_is_put_together() {
    let mut app = App::python();
    let mut facts = Facts::of(app.pid());
    let mut kept = Vec::new();
    for peer in [Peer::new(), Peer::on("::1")] {
        let ip = peer.address().ip();
        for (level, properties) in [(3, &b""[..]), (4, b""), (5, b"\x11\0\0\x0e\x10")] {
            let length = connect(level, properties, &format!("{ip} {level} 00")).len();
            for cut in 1..length {
                let client_id = format!("{ip} {level} {cut:02}");
                let packet = connect(level, properties, &client_id);
                kept.push(send(&mut app, &peer, &[&packet[..cut], &packet[cut..]]));
                let name = facts.wait_for_name(&client_id);
                assert_eq!((name.is_cut, name.keep_alive, name.level), (false, 60, level));
            }
        }
        // A program that writes each field by itself.
        let packet = connect(4, b"", &format!("{ip} field by field"));
        let fields: Vec<&[u8]> = [(0, 1), (1, 2), (2, 8), (8, 9), (9, 10), (10, 12), (12, 14)]
            .into_iter()
            .map(|(from, to)| &packet[from..to])
            .chain([&packet[14..]])
            .collect();
        kept.push(send(&mut app, &peer, &fields));
        assert!(!facts.wait_for_name(&format!("{ip} field by field")).is_cut);
        // Long, in pieces that are small enough.
        let long = format!("{ip} {}", "long ".repeat(100));
        let packet = connect(4, b"", &long);
        kept.push(send(&mut app, &peer, &packet.chunks(200).collect::<Vec<_>>()));
        assert!(!facts.wait_for_name(&long).is_cut);
    }
    assert_eq!(facts.unread, 0);
}

#[test]
fn beginnings_that_do_not_go_on_as_a_packet_are_nothing() {
    let mut app = App::python();
    let peer = Peer::new();
    let mut facts = Facts::of(app.pid());
    let _stream = send(&mut app, &peer, &[b"\x10", b"no MQTT at all", &connect(4, b"", "hidden")]);
    let _ended = send(&mut app, &peer, &[b"\x10\x20\0\x04M"]);
    let _proper = send(&mut app, &peer, &[&connect(4, b"", "proper")]);
    facts.wait_for_name("proper");
    assert_eq!(facts.unread, 0);
}

#[test]
fn what_an_unfinished_connection_says_is_told_only_so_far() {
    let mut app = App::python();
    let peer = Peer::new();
    let mut facts = Facts::of(app.pid());
    let words: Vec<Vec<u8>> = (0..30u8).map(|number| vec![number; 10]).collect();
    let parts: Vec<&[u8]> =
        [&b"\x10"[..]].into_iter().chain(words.iter().map(|it| &it[..])).collect();
    let _stream = send(&mut app, &peer, &parts);
    let _proper = send(&mut app, &peer, &[&connect(4, b"", "proper")]);
    facts.wait_for_name("proper");
    // Its first segment, eight more, and the other socket's.
    assert!(facts.segments_seen <= 10, "{}", facts.segments_seen);
}

#[test]
fn what_looks_like_a_packet_in_the_middle_of_a_stream_names_nobody() {
    let mut app = App::python();
    let peer = Peer::new();
    let mut facts = Facts::of(app.pid());
    let before: Vec<Vec<u8>> = (0..20u8).map(|_| b"some words".to_vec()).collect();
    let packet = connect(4, b"", "payload");
    let parts: Vec<&[u8]> = before.iter().map(Vec::as_slice).chain([packet.as_slice()]).collect();
    let _stream = send(&mut app, &peer, &parts);
    let _proxied = send(&mut app, &peer, &[b"PROXY UNKNOWN\r\n", &connect(4, b"", "proxied")]);
    facts.wait_for_name("proxied");
    let named = facts.events.iter().filter(|event| {
        matches!(event, observer::model::KernelEvent::Named { name, .. } if &*name.client_id == "payload")
    });
    assert_eq!(named.count(), 0);
}

#[test]
fn packets_are_looked_at_only_while_a_connection_is_new() {
    let (mut app, mut other) = (App::python(), App::python());
    let peer = Peer::new();
    let mut facts = Facts::of(app.pid());
    let packet = |name: &str| hex(&connect(4, b"", name));
    let say = |app: &mut App, fd: i32, name: &str| app.run(&format!("send {fd} {}", packet(name)));
    let late = app.connect("127.0.0.1", peer.port());
    let _late = peer.accept();
    facts.settle_names();
    say(&mut app, late, "too late");
    // Connections of others wake nobody.
    let _other = send(&mut other, &peer, &[&connect(4, b"", "not watched")]);
    say(&mut app, late, "much too late");
    // Another connection does, and then all are heard, whatever was said before.
    let one = app.connect("127.0.0.1", peer.port());
    let _one = peer.accept();
    say(&mut app, one, "in time");
    facts.wait_for_name("in time");
    let name = |event: &observer::model::KernelEvent| match event {
        observer::model::KernelEvent::Named { name, .. } => Some(name.client_id.to_string()),
        _ => None,
    };
    assert_eq!(facts.events.iter().filter_map(name).collect::<Vec<_>>(), ["in time"]);
}

#[test]
fn processes_that_are_not_watched_are_not_listened_to() {
    let (mut app, mut other) = (App::python(), App::python());
    let peer = Peer::new();
    let mut facts = Facts::of(app.pid());
    let _other = send(&mut other, &peer, &[&connect(4, b"", "not watched")]);
    let _watched = send(&mut app, &peer, &[&connect(4, b"", "watched")]);
    facts.wait_for_name("watched");
    let names = |event: &&observer::model::KernelEvent| {
        matches!(event, observer::model::KernelEvent::Named { .. })
    };
    assert_eq!(facts.events.iter().filter(names).count(), 1);
}

#[test]
fn the_table_shows_the_name_at_the_right_socket() {
    let mut app = App::python();
    let peer = Peer::new();
    let watch = Watch::of(app.pid());
    assert!(watch.ready().names);
    let clients: Vec<_> = (0..30)
        .map(|number| {
            let (_, accepted) = send(&mut app, &peer, &[&connect(4, b"", &format!("d-{number}"))]);
            let local = accepted.peer_addr().expect("it is connected").to_string();
            (local, Some(format!("d-{number}")), accepted)
        })
        .collect();
    let table = watch.held_by(app.pid());
    for (local, name, _) in &clients {
        let socket = table.iter().find(|it| &it.local == local).expect("it is in the table");
        assert_eq!(&socket.client_id, name);
    }
    watch.stop().expect_code(0).expect_no_panic();
}

/// A program of the broker's own, ended when dropped.
struct Subscriber(Child);

impl Subscriber {
    fn start(broker: &Mosquitto, arguments: &[&str]) -> Self {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-t", "nothing"]);
        let child = command.args(arguments).stdout(Stdio::null()).spawn();
        Self(child.expect("mosquitto_sub is installed: `cargo xtask setup`"))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn real_clients_and_a_real_broker_are_named() {
    let broker = Mosquitto::start();
    let watch = Watch::builder().args(["--comm", "mosquitto_sub"]).start();
    let long = "e".repeat(100);
    let clients = [
        ("mqtt 3.1", vec!["-i", "real-31", "-V", "mqttv31"], "real-31"),
        ("mqtt 3.1.1", vec!["-i", "real-311", "-V", "mqttv311", "-k", "7"], "real-311"),
        ("mqtt 5", vec!["-i", "real-5", "-V", "mqttv5", "-x", "60"], "real-5"),
        (
            "mqtt 5 with properties",
            vec![
                "-i",
                &long,
                "-V",
                "mqttv5",
                "-D",
                "connect",
                "user-property",
                "fleet",
                "north",
                "-D",
                "connect",
                "receive-maximum",
                "20",
            ],
            &long,
        ),
        ("a password", vec!["-i", "real-user", "-u", "somebody", "-P", "secret"], "real-user"),
    ];
    for (what, arguments, name) in &clients {
        let client = Subscriber::start(&broker, arguments);
        wait::until(&format!("the name of a client with {what}"), || {
            let table = watch.held_by(client.0.id());
            let names: Vec<_> = table.iter().filter_map(|it| it.client_id.as_deref()).collect();
            if names == [*name] { Ok(()) } else { Err(format!("{table:#?}")) }
        });
    }
}

/// The directory into which npm has put mqtt.js.
fn mqtt_js() -> PathBuf {
    let target = std::env::current_exe().expect("a program knows where it is");
    let target = target.ancestors().nth(3).expect("invariant: target/PROFILE/deps/TEST");
    let directory = target.join("tests/mqttjs");
    if !directory.join("node_modules/mqtt/package.json").exists() {
        std::fs::create_dir_all(&directory).expect("the target directory can be written");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(
            source.join("apps/fleet_mqttjs/package.json"),
            directory.join("package.json"),
        )
        .expect("the target directory can be written");
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-save"]).current_dir(&directory);
        let done = npm.stdout(Stdio::null()).status().expect("npm is installed");
        assert!(done.success(), "npm needs the network once");
    }
    directory
}

#[test]
fn mqtt_js_is_named_in_both_protocols() {
    let broker = Mosquitto::start();
    let directory = mqtt_js();
    let watch = Watch::builder().args(["--comm", "node"]).start();
    let script = "const mqtt = require('mqtt');
        for (const [clientId, protocolVersion] of [['js-four', 4], ['js-five', 5]])
            mqtt.connect(process.argv[1], { clientId, protocolVersion, keepalive: 17,
                properties: { sessionExpiryInterval: 5 } });";
    let mut command = Command::new("node");
    command.args(["-e", script, &broker.url()]).current_dir(&directory);
    let node = Subscriber(command.spawn().expect("node is installed: `cargo xtask setup`"));
    wait::until("both names", || {
        let table = watch.held_by(node.0.id());
        let mut names: Vec<_> = table.iter().filter_map(|it| it.client_id.as_deref()).collect();
        names.sort_unstable();
        if names == ["js-five", "js-four"] { Ok(()) } else { Err(format!("{table:#?}")) }
    });
}

#[test]
fn without_the_capability_or_the_hierarchy_the_watch_goes_on_without_names() {
    let mut app = App::python();
    let peer = Peer::new();
    let unmount = "while umount -l /sys/fs/cgroup/unified || umount -l /sys/fs/cgroup; do :; done";
    let cases = [
        (caps::without(&["net_admin"]), "CAP_NET_ADMIN"),
        (caps::with_mounts(&format!("{{ {unmount}; }} 2>/dev/null")), "cgroup v2"),
    ];
    for (wrapper, reason) in cases {
        let watch = Watch::builder().pid(app.pid()).through(&wrapper).start();
        assert!(!watch.ready().names, "{reason}");
        let (_, accepted) = send(&mut app, &peer, &[&connect(4, b"", "unseen")]);
        let local = accepted.peer_addr().expect("it is connected").to_string();
        let table = watch.held_by(app.pid());
        let socket = table.iter().find(|it| it.local == local).expect("it is in the table");
        assert_eq!((socket.state.as_str(), &socket.client_id), ("ESTABLISHED", &None));
        watch.stop().expect_code(0).expect_said(&[reason, "client ids"]);
    }
    // Asked for nothing but layer A, it says nothing.
    let watch = Watch::builder().pid(app.pid()).args(["--layers", "a"]).start();
    assert!(!watch.ready().names);
    assert!(!watch.stderr().contains("client ids"), "{}", watch.stderr());
}
