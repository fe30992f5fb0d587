//! Programs that look like the leaks and are none. Where idleness is what makes them look so, they
//! are watched for longer than every budget, the 60 s of stale-generation included.

use super::super::{Case, Start, clients, foreign, servers};
use super::case;

/// All of them.
pub const HEALTHY: &[Case] = &[
    Case {
        server: Some(servers::broker),
        ..case("mqtt.js: late error", Start::Node("late_error.js", &[]))
    },
    Case { server: Some(servers::http), ..case("node: idle agent", Start::Node("agent.js", &[])) },
    Case {
        clients: Some(clients::web_sockets),
        ..case("node: quiet WebSockets", Start::Node("ws_server.js", &[]))
    },
    Case {
        clients: Some(clients::quiet),
        children: true,
        ..case("node: cluster", Start::Node("cluster.js", &[]))
    },
    Case {
        server: Some(servers::restarting_broker),
        ..case("mqtt.js: broker restarts", Start::Node("fleet.js", &["60", "50"]))
    },
    Case {
        server: Some(servers::broker),
        ..case("mqtt.js: slow start", Start::Node("fleet.js", &["60", "1"]))
    },
    Case {
        server: Some(servers::http),
        ..case("python: idle pools", Start::Python("idle_pools.py"))
    },
    Case {
        server: Some(servers::http),
        ..case("requests: long polling", Start::Python("long_poll.py"))
    },
    Case {
        clients: Some(clients::quiet),
        children: true,
        ..case("python: pre-forked workers", Start::Python("prefork.py"))
    },
    Case {
        clients: Some(clients::quiet),
        children: true,
        ..case("python: child per connection", Start::Python("child_per_connection.py"))
    },
    Case {
        clients: Some(clients::quiet),
        children: true,
        ..case("python: graceful restart", Start::Python("graceful_restart.py"))
    },
    Case {
        server: Some(servers::http),
        seconds: 30,
        ..case("python: short connections", Start::Python("short_http.py"))
    },
    Case {
        server: Some(servers::pouring),
        seconds: 40,
        ..case("python: slow reader", Start::Python("slow_reader.py"))
    },
    Case {
        server: Some(servers::kicking_broker),
        seconds: 40,
        ..case("our pool: kicked", Start::Rust("paced_pool"))
    },
    Case {
        clients: Some(clients::wrk),
        children: true,
        seconds: 16,
        works: true,
        ..case("nginx: wrk", Start::Foreign(foreign::nginx))
    },
    Case {
        clients: Some(clients::redis_benchmark),
        seconds: 16,
        works: true,
        ..case("redis: redis-benchmark", Start::Foreign(foreign::redis))
    },
    Case {
        clients: Some(clients::pgbench),
        children: true,
        ..case("PostgreSQL: pgbench, idle pool", Start::Foreign(foreign::postgres))
    },
    Case {
        server: Some(servers::late_answers),
        clients: Some(clients::half_closing),
        children: true,
        seconds: 40,
        ..case("socat: half-closed streams", Start::Foreign(foreign::socat))
    },
];
