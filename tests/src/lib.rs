//! The harness of the end-to-end tests.
//!
//! Every scenario runs the observer as what it is, an external process, against real processes on
//! the real kernel:
//!
//! ```text
//!   App (Python, Node, Rust) ◀── orders ── scenario ── peer (loopback) ──▶ App's sockets
//!          ▲ watches                          │ expects
//!          └──────── sockwarden watch ── JSON lines ──▶ Watch        ss ── rows ──▶ oracle
//! ```
//!
//! Rules: ports are chosen by the kernel; nothing leaves the loopback device or a network namespace
//! of the test's own; what is waited for has a deadline; the only fixed sleeps are those that prove
//! an absence; what was started is ended by its process number. Without root the tests fail, they
//! are never skipped.
//!
//! Modules in reading order: [`line`](mod@line) what the observer prints, [`watch`] the observer as
//! a process,
//! [`app`] the watched programs, [`peer`] the other ends, [`ss`] and [`oracle`] the second opinion,
//! [`facts`] what the kernel's side tells before anybody judges it,
//! [`netns`], [`cgroup`], [`caps`] and [`sandbox`] the surroundings. [`fleet`] is apart from these: what the
//! programs that `cargo xtask bench pool` compares have in common.
//!
//! The scenarios `pool_*` run the library `pool` within the test, against a real broker:
//!
//! ```text
//!   scenario ── calls ──▶ pool ── sockets ──▶ Mosquitto ◀── Client (plain MQTT, blocking)
//!      └───────── ss: which sockets are there ────┘
//! ```
//!
//! [`mosquitto`] the broker, [`mqtt`] the other clients, [`pools`] what pools of scenarios have in
//! common, [`certificates`] for TLS. Their brokers listen below the range of ports that the kernel
//! hands out, so that nobody takes a port while its broker is down. They need no root.
//!
//! [`corpus`] are small programs that leak as people's do, and healthy ones that look alike.
//!
//! [`prometheus`] judges and scrapes what the daemon counts.

#![forbid(unsafe_code)]

pub mod app;
pub mod caps;
pub mod certificates;
pub mod cgroup;
pub mod clock;
pub mod corpus;
pub mod daemon;
pub mod events;
pub mod facts;
pub mod fleet;
pub mod http;
pub mod journald;
pub mod kick;
pub mod line;
pub mod logged;
pub mod mosquitto;
pub mod mqtt;
pub mod netns;
pub mod oracle;
pub mod peer;
pub mod pools;
pub mod prometheus;
pub mod sandbox;
pub mod ss;
pub mod wait;
pub mod watch;

pub use app::App;
pub use line::{Event, Finding, Line, Socket};
pub use mosquitto::Mosquitto;
pub use watch::Watch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Panics unless this process may load programs into the kernel.
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests load eBPF programs and must run as root: `cargo xtask test` asks sudo for it"
    );
}

/// A name that no other test on this machine uses at the same time, at most 15 bytes long so that
/// it can also be the name of a process.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("swt{:x}x{next:x}", std::process::id())
}

/// A directory of its own that everybody may enter, removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new one.
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique_name());
        std::fs::create_dir(&path).expect("a directory for temporary files can be made");
        Self(path)
    }

    /// The path of `name` inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
