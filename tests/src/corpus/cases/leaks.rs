//! Programs that leak. Times are from the moment when the mistake is made: the budget, and what
//! lies between that moment and the first evidence.

use super::super::{Case, Names, Start, clients, servers};
use super::{case, expect, naming};

/// All of them.
pub const LEAKS: &[Case] = &[
    Case {
        server: Some(servers::broker),
        // Six devices that fight once a second.
        expects: &[naming(
            "takeover-duel",
            1,
            5,
            Names::Among(&["dev-0", "dev-1", "dev-2", "dev-3", "dev-4", "dev-5"]),
        )],
        ..case("mqtt.js: replaced client", Start::Node("duel.js", &[]))
    },
    Case {
        server: Some(servers::broker),
        expects: &[naming("overgrowth", 1, 13, Names::BeginWith("dev-"))],
        ..case("mqtt.js: unique client ids", Start::Node("unique_ids.js", &[]))
    },
    Case {
        server: Some(servers::mortal_broker),
        expects: &[expect("close-wait", 10, 12)],
        ..case("mqtt.js: stuck handler", Start::Node("stuck_handler.js", &["10"]))
    },
    Case {
        server: Some(servers::mortal_broker),
        // The end of the broker does not arrive: it waits behind what is not read.
        expects: &[expect("undrained", 10, 22)],
        ..case("mqtt.js: stuck, more data", Start::Node("stuck_handler.js", &["40"]))
    },
    Case {
        server: Some(servers::mortal_broker),
        expects: &[expect("close-wait", 120, 13), expect("close-wait-buildup", 1, 14)],
        works: true,
        ..case("mqtt.js: blocked loop", Start::Node("blocked_loop.js", &[]))
    },
    Case {
        clients: Some(clients::leaving),
        expects: &[expect("close-wait", 8, 14)],
        ..case("node: half-open server", Start::Node("half_open_server.js", &[]))
    },
    Case {
        server: Some(servers::broker),
        expects: &[naming("takeover-duel", 1, 6, Names::Among(&["dev-0", "dev-1", "dev-2"]))],
        ..case("paho: replaced client", Start::Python("forgotten_paho.py"))
    },
    Case {
        server: Some(servers::lenient_broker),
        expects: &[naming("duplicate-client-id", 1, 7, Names::Exactly(&["pump-7"]))],
        ..case("paho: duplicate client id", Start::Python("duplicate_id.py"))
    },
    Case {
        server: Some(servers::mute_broker),
        // One and a half times 4 s, and a snapshot that confirms it.
        expects: &[naming("silent-peer", 1, 18, Names::Exactly(&["meter-3"]))],
        ..case("paho: loop does not run", Start::Python("silent_client.py"))
    },
    Case {
        server: Some(servers::closing_http),
        expects: &[expect("close-wait", 8, 14)],
        ..case("requests: body not read", Start::Python("unread_sessions.py"))
    },
    Case {
        server: Some(servers::http),
        // The third generation is silent for 60 s after 90 s.
        expects: &[expect("stale-generation", 1, 110)],
        ..case("aiohttp: session per request", Start::Python("session_per_request.py"))
    },
    Case {
        server: Some(servers::sending),
        expects: &[expect("undrained", 2, 22)],
        ..case("python: socket not read", Start::Python("unread_socket.py"))
    },
    Case {
        server: Some(servers::resetting),
        expects: &[expect("dead-fd", 4, 22)],
        ..case("python: dead connections", Start::Python("dead_connection.py"))
    },
    Case {
        server: Some(servers::full),
        expects: &[expect("stuck-connect", 3, 32)],
        ..case("python: no connect timeout", Start::Python("stuck_connect.py"))
    },
    Case {
        server: Some(servers::closing),
        children: true,
        expects: &[expect("close-wait", 2, 14)],
        ..case("python: sent and kept", Start::Python("sent_and_kept.py"))
    },
    Case {
        server: Some(servers::patient),
        expects: &[expect("reconnect-storm", 1, 6)],
        ..case("python: connect storm", Start::Python("storm.py"))
    },
    Case {
        server: Some(servers::patient),
        expects: &[expect("fd-limit-low", 1, 12), expect("fd-pressure", 1, 12)],
        ..case("python: 1,000 under 1,024", Start::Python("many.py"))
    },
    Case {
        server: Some(servers::patient),
        expects: &[expect("port-pressure", 1, 12), expect("reconnect-storm", 1, 6)],
        works: true,
        ..case("python: half of the ports", Start::Python("ports.py"))
    },
    Case {
        // A forecast: 80 % would be reached after more than 200 s.
        expects: &[expect("fd-pressure", 1, 150)],
        ..case("python: slow leak of files", Start::Python("slow_files.py"))
    },
    Case {
        server: Some(servers::mortal_broker),
        expects: &[expect("close-wait", 5, 12)],
        ..case("rumqttc: held event loop", Start::Rust("held_event_loop"))
    },
    Case {
        server: Some(servers::closing),
        expects: &[expect("close-wait", 3, 14)],
        ..case("tokio: kept task", Start::Rust("kept_task"))
    },
    Case {
        server: Some(servers::patient),
        children: true,
        expects: &[expect("inherited", 1, 22)],
        ..case("C: fork without CLOEXEC", Start::C("inherited.c"))
    },
    Case {
        clients: Some(clients::staying),
        expects: &[expect("exhausted", 1, 3), expect("fd-pressure", 1, 12)],
        ..case("C: EMFILE in accept", Start::C("emfile.c"))
    },
];
