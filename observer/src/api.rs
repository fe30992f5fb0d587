//! EDGE: the HTTP API.
//!
//! ```text
//! listen ─▶ server ─▶ connection ─▶ guard ─▶ routes ─▶ backend {desk, pool, roster, health}
//! EDGE      EDGE      EDGE          EDGE     EDGE       ▲
//!                                    │                  └ feed ─▶ streams
//!                                    └ gate (PURE): who may ask what
//! ```
//!
//! Reading is for everybody on this host, by loopback TCP; what changes something comes only by the
//! Unix socket, from root, the daemon's own user and one group. `docs/api.md` has the promise to
//! clients, `docs/openapi.json` the same for programs; both are made from the code here.

mod backend;
mod base64;
mod body;
pub mod client;
mod connection;
mod counters;
mod error;
mod feed;
mod gate;
mod guard;
mod health;
mod jobs;
mod json;
mod listen;
pub mod openapi;
mod patience;
mod peer;
mod query;
mod roster;
mod routes;
mod server;
pub mod shapes;

pub(crate) use base64::encode as encode_base64;
pub(crate) use json::to_string as to_json;

pub use backend::{Backend, MetricsText};
pub use counters::{Counters, RequestCount, Usage};
pub use health::{Health, Report as HealthReport};
pub use listen::{ListenError, UnixDoor, bind_tcp, bind_unix};
pub use roster::{Entry, Origin, Roster, RosterError};
pub use server::{Listeners, Server};
