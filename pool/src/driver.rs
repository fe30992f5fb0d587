//! EDGE: the pool's own sockets, what is wrapped around them, and what the system says of them.

mod cause;
#[cfg(test)]
mod certificates;
mod connection;
pub(crate) mod context;
pub(crate) mod descriptors;
mod dial;
pub(crate) mod fate;
pub(crate) mod ports;
pub(crate) mod resolve;
pub(crate) mod socket;
pub(crate) mod task;
mod tickets;
mod timer;
mod tls;
pub(crate) mod transport;
mod websocket;

pub(crate) use cause::cause_of;
