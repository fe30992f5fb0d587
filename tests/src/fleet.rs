//! Fleets of MQTT clients: what every program of `cargo xtask bench pool` takes and says.
//!
//! The pool's own program (`pool/examples/fleet.rs`) and its rivals keep one contract, so that they
//! are measured in one way.
//!
//! ```text
//! fleet --broker mqtt://127.0.0.1:1883 --devices 12000 --max-in-flight 50 --json
//! ◀─ {"type":"start","rss_bytes":B}                            before the first dial
//! ◀─ {"type":"online","devices":N,"seconds":S,"cpu_seconds":C} all are up; S from the first dial
//! ─▶ status
//! ◀─ {"type":"status","online":N,"connects":C,"disconnects":D,"failures":F,"messages":M,
//!     "rss_bytes":B,"cpu_seconds":C}
//! ◀─ {"type":"recovered","devices":K,"seconds":S}              all are up again; S from the first
//!                                                              of K losses that was seen
//! ─▶ publish COUNT SIZE QOS                                    over the first device's connection
//! ◀─ {"type":"published","count":COUNT,"seconds":S}            acknowledged, where QOS says so
//! ─▶ quit, or the end of the input
//! ```
//!
//! The pool's own program takes besides `--profile article|paced|adaptive` (the limits at first) and
//! `--min-interval MS` (0 turns that part of them off), and the order `limits PROFILE`: the limits
//! from now on, answered by `{"type":"limits","profile":PROFILE}`.
//!
//! A device counts as online after CONNACK, and where `--subscribe` is given after SUBACK. It
//! subscribes to `PREFIXn/in` and publishes to `PREFIXn/up`, with n from 0. One that is lost comes
//! back by itself. What a program cannot do, it refuses: an order with `{"type":"error",
//! "message":..}`, an option with an exit code other than 0.
//!
//! Modules in reading order: [`args`] the command line, [`order`] the words on stdin, [`report`]
//! the lines on stdout, [`census`] who is online, [`raw`] MQTT by hand.

pub mod args;
pub mod census;
pub mod order;
pub mod raw;
pub mod report;

pub use args::Args;
pub use census::Fleet;
pub use order::Order;
pub use report::Report;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

/// How long a device waits after a connect that failed: chosen, long enough to spin nowhere.
pub const RETRY: Duration = Duration::from_millis(100);

/// Allows this process as many descriptors as it may have.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What cannot be raised shows itself at the first refused descriptor.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// The runtime of every fleet in Rust: as many workers as the smallest machine has cores.
///
/// # Panics
///
/// When the kernel gives no thread.
pub fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime can be started")
}
