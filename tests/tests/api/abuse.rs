//! Clients that are slow, large, many or mad.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use harness::http::Connection;
use harness::{clock, wait};

use super::daemon::{Daemon, Setup};

/// More than the time for a request, far less than anybody's patience.
const SOON: Duration = Duration::from_secs(6);

fn quick() -> Daemon {
    let mut setup = Setup::new();
    setup.api.request_timeout = Duration::from_secs(1);
    setup.start()
}

/// Sends `bytes` one by one until the server has enough, and says how long that took.
fn drip(client: &mut Connection, bytes: &[u8]) -> Duration {
    let begun = clock::now();
    client.set_patience(Duration::from_millis(100));
    for byte in bytes.iter().cycle() {
        if client.send(&[*byte]).is_err() || client.is_closed_within(Duration::from_millis(100)) {
            break;
        }
        assert!(clock::now() - begun < SOON, "it may drip for ever");
    }
    clock::now() - begun
}

#[test]
fn a_dripping_header_is_cut_off() {
    let daemon = quick();
    let mut client = daemon.tcp.connect();
    client.send(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n").expect("it is taken");
    let took = drip(&mut client, b"x: y\r\n");
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert_eq!(daemon.tcp.get("/healthz").status, 200);
}

#[test]
fn a_dripping_body_is_answered_and_cut_off() {
    let daemon = quick();
    let mut client = daemon.unix.connect();
    let head = b"POST /api/v1/devices HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{";
    client.send(head).expect("it is taken");
    let answer = client.answer().expect("the server answers");
    assert_eq!((answer.status, &*answer.code()), (408, "body-too-slow"));
    assert!(drip(&mut client, b" ") < SOON);
    // The same with chunks, which tell no length.
    let mut client = daemon.unix.connect();
    let head =
        b"POST /api/v1/devices HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{";
    client.send(head).expect("it is taken");
    assert_eq!(client.answer().map(|answer| answer.status), Some(408));
}

#[test]
fn silence_ends_a_connection() {
    let daemon = quick();
    for begun in [&b""[..], b"GET", b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n"] {
        let mut client = daemon.tcp.connect();
        client.send(begun).expect("it is taken");
        assert!(client.is_closed_within(SOON), "{:?}", String::from_utf8_lossy(begun));
    }
    // Also after a request that was served.
    let mut client = daemon.unix.connect();
    client.ask("GET", "/healthz", &[], None);
    assert_eq!(client.answer().map(|answer| answer.status), Some(200));
    assert!(client.is_closed_within(SOON));
    wait::until_true("no connection", || daemon.counters.read().connections_open == 0);
}

#[test]
fn a_body_of_ten_megabytes_is_refused_and_the_client_learns_why() {
    let daemon = quick();
    let body = vec![b' '; 10_000_000];
    for chunked in [false, true] {
        let mut client = daemon.unix.connect();
        if chunked {
            let head =
                b"POST /api/v1/devices HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
            client.send(head).expect("it is taken");
            client.send(format!("{:x}\r\n", body.len()).as_bytes()).expect("it is taken");
            // The server may close before all of it is sent.
            let _closed = client.send(&body);
        } else {
            client.ask("POST", "/api/v1/devices", &[], Some(&body));
        }
        let answer = client.answer().expect("the answer arrives");
        assert_eq!((answer.status, &*answer.code()), (413, "body-too-large"), "{chunked}");
    }
    let most = vec![b' '; 1 << 20];
    let answer = daemon.unix.request("POST", "/api/v1/devices", &[], Some(&most));
    assert_eq!(answer.status, 400, "this one is short enough, and no JSON");
    let more = vec![b' '; (1 << 20) + 1];
    let answer = daemon.unix.request("POST", "/api/v1/devices", &[], Some(&more));
    assert_eq!(answer.status, 413);
    // A reader has no use for a body either.
    assert_eq!(daemon.tcp.request("GET", "/healthz", &[], Some(&more)).status, 413);
}

#[test]
fn two_thousand_connections_leave_the_server_standing() {
    let mut setup = Setup::new();
    // Those who came first must not make room for others in the meantime.
    setup.api.request_timeout = Duration::from_secs(30);
    let daemon = setup.start();
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(8_192), maximum: Some(8_192) },
    )
    .expect("root may");
    let mut clients = Vec::new();
    for _ in 0..2_000 {
        match daemon.tcp.try_connect() {
            Ok(client) => clients.push(client),
            Err(error) => panic!("{error}"),
        }
    }
    wait::until("all to be taken", || {
        let usage = daemon.counters.read();
        let taken = usage.connections_open + usage.connections_refused;
        if usage.connections_refused >= 1_936 { Ok(()) } else { Err(format!("{taken}")) }
    });
    assert!(daemon.counters.read().connections_open <= 64);
    // The others have their own room, so that nobody on TCP can lock out who must act.
    assert_eq!(daemon.unix.get("/healthz").status, 200);
    drop(clients);
    wait::until("room", || {
        let answer = daemon.tcp.connect();
        let mut answer = answer;
        // A refused one may be closed already.
        if answer.send(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").is_err() {
            return Err("closed".to_owned());
        }
        match answer.answer() {
            Some(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn who_finds_no_room_is_told_so() {
    let mut setup = Setup::new();
    setup.api.max_connections = 2;
    let daemon = setup.start();
    let _streams: Vec<_> = (0..2).map(|_| daemon.tcp.follow("/api/v1/events", "")).collect();
    let answer = daemon.tcp.get("/healthz");
    assert_eq!((answer.status, &*answer.code()), (503, "too-many-connections"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(daemon.counters.read().connections_refused, 1);
    assert_eq!(daemon.unix.get("/healthz").status, 200);
}

#[test]
fn requests_in_a_row_are_answered_in_a_row_until_one_is_garbage() {
    let daemon = quick();
    let mut client = daemon.tcp.connect();
    let good = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    let mut sent = Vec::new();
    for _ in 0..50 {
        sent.extend_from_slice(good);
    }
    sent.extend_from_slice(b"\x00\xff\x1b garbage\r\n\r\n");
    sent.extend_from_slice(good);
    client.send(&sent).expect("it is taken");
    for _ in 0..50 {
        assert_eq!(client.answer().map(|answer| answer.status), Some(200));
    }
    assert_eq!(client.answer().map(|answer| answer.status), Some(400));
    assert!(client.is_closed_within(SOON), "nothing behind garbage is served");
}

#[test]
fn smuggled_lengths_are_refused() {
    let daemon = quick();
    let cases: [&[u8]; 6] = [
        b"POST /api/v1/reconnect HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"POST /api/v1/reconnect HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /api/v1/reconnect HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /api/v1/reconnect HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for request in cases {
        let mut client = daemon.unix.connect();
        client.send(request).expect("it is taken");
        client.finish();
        let answer = client.answer().map(|answer| answer.status);
        assert!(answer.is_none_or(|status| status >= 400), "{answer:?}");
    }
    assert_eq!(daemon.unix.get("/healthz").status, 200);
}

#[test]
fn a_reader_of_a_page_that_stops_reading_is_dropped() {
    let mut setup = Setup::new();
    setup.patience = Duration::from_secs(1);
    let daemon = setup.start();
    // Answers in a row fill the socket, and nobody takes them.
    let mut client = daemon.tcp.connect();
    let request = b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    let sender = thread::spawn(move || {
        loop {
            match client.send(request) {
                Ok(()) => {}
                Err(error) => return error.kind(),
            }
        }
    });
    wait::until_true("the client to be dropped", || daemon.counters.read().readers_dropped == 1);
    let ended = sender.join().expect("it ends");
    let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(closed.contains(&ended), "{ended:?}");
}
