//! Follows every TCP socket of the watched processes in the kernel and names the leaked ones.
//!
//! ```text
//! kernel ─ring─▶ probe ─▶ decode ─▶ table ─▶ detect ─▶ incident ─▶ sinks
//!                EDGE     PURE      PURE     PURE      PURE        EDGE
//!         snapshot ─────────────────▲
//! ```
//!
//! # Glossary
//!
//! - **socket**: a kernel TCP socket, identified by its *cookie*, a number that is never reused.
//! - **holder**: a process and a descriptor of it that refer to a socket.
//! - **owner**: the process that connected or accepted the socket.
//! - **transition**: one change of TCP state, with its time.
//! - **snapshot**: the full list of holders and sockets, taken from the kernel at one time.
//! - **finding**: a verdict about a socket; **incident**: its life, opened, updated, cleared.
//!
//! The modules below stand in the order in which they are best read.

#![deny(unsafe_code)]

// The words.
pub mod model;

// What is decided, without clock, IO, logs or chance.
pub(crate) mod by_cookie;
pub mod cgroup;
pub mod claims;
pub mod correlate;
pub mod decode;
pub mod detect;
pub mod escape;
pub mod incident;
pub mod ledger;
pub mod reading;
pub mod table;
pub mod ticks;
pub mod trends;
pub mod tuning;

// The edges.
pub mod clock;
pub mod config;
pub mod desk;
pub mod fleet;
pub mod join;
mod kernel;
pub mod life;
pub mod linger;
pub mod observer;
pub mod probe;
mod procs;
pub mod selection;
pub mod sinks;
pub mod stacks;

// The daemon.
pub mod api;
pub mod daemon;

// What people start.
pub mod cli;
pub mod demo;
