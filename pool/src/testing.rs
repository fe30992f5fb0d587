//! An MQTT broker in this process, correct by default and wrong on demand, for tests and
//! demonstrations.
//!
//! ```text
//! socket ─▶ line ─▶ wire ─▶ hub {session, topics, presence} ─▶ wire ─▶ line ─▶ socket
//! EDGE      EDGE    PURE    PURE                               PURE    EDGE    EDGE
//! ```
//!
//! It speaks MQTT 3.1.1 and 5 over plain TCP, with persistent sessions, all three qualities of
//! service, wills, take-over and keep-alive. It has no retained messages (a publish with the flag
//! is forwarded and counted), no shared subscriptions, no subscription identifiers, no AUTH, no
//! TLS, and it believes every user name.
//!
//! The broker has an ear for one thing above all: two sockets of one client at one time, see
//! [`Counters::overlaps`].
//!
//! # Examples
//!
//! ```
//! use pool::testing::{Answer, Behaviour, TestBroker};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let broker = TestBroker::start().await?;
//! broker.set_behaviour_of("d-7", Behaviour { connack: Answer::Busy, ..Behaviour::default() });
//! // ... connect clients to broker.address() ...
//! assert_eq!(broker.counters().overlaps, 0);
//! broker.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod behaviour;
mod broker;
mod connection;
mod counters;
mod faults;
mod flow;
mod hub;
mod line;
mod presence;
mod sabotage;
mod session;
mod topics;
mod wire;

pub use behaviour::{Announcement, Answer, Behaviour, Fault, Stray, Takeover};
pub use broker::{Builder, TestBroker};
pub use counters::{Counters, Received, SessionInfo};
pub use sabotage::{Flaw, Sabotage};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic elsewhere fails its own test; it must not hide behind a poisoned lock here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
