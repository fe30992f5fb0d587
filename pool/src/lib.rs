//! A managed MQTT connection pool: one connection per device, rate-limited reconnects, and
//! *destroy before replace*, so that a device never has two sockets.
//!
//! ```no_run
//! use pool::{Broker, Device, Limits, Pool, Publish, QoS};
//!
//! # async fn run() -> Result<(), pool::Error> {
//! let pool = Pool::builder(Broker::parse("mqtt://broker.example:1883")?)
//!     .limits(Limits::adaptive())
//!     .build()?;
//!
//! pool.add(Device::new("press-17")?.subscribe("press-17/commands", QoS::AtLeastOnce)?)?;
//!
//! // Waits for the broker's acknowledgement; survives the replacement of the socket.
//! let hello = Publish::new("press-17/state", QoS::AtLeastOnce, "hello")?;
//! pool.publish("press-17", hello)?.await?;
//!
//! let mut messages = pool.messages()?;
//! while let Some(message) = messages.next().await {
//!     println!("{}: {} bytes", message.device, message.payload.len());
//!     // The old socket is gone for the kernel too before the new one is made.
//!     pool.reconnect("press-17").await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How data flows
//!
//! ```text
//! caller ─▶ request ─▶ admission ─▶ slot ─▶ session ─▶ driver ─▶ socket ─▶ broker
//!           DATA       PURE         PURE    PURE       EDGE      EDGE
//! ```
//!
//! # Words
//!
//! - *device*: what a connection stands for. *slot*: its place in the pool, with a *generation*
//!   that grows with each dial. *session*: one MQTT connection's life in a slot.
//! - *claim*: the statement that a socket, by its cookie, is a device's. *registry*: all claims.
//! - *receipt*: the kernel's proof that a closed socket is gone.
//! - *admission*: the permission to begin one connect, held until CONNACK or failure.
//!
//! # The rooms
//!
//! What a user sees: `pool`, `builder`, `broker`, `device`, `message`, [`policy`], `error`,
//! `event`, [`metrics`], [`registry`], `receipt`. The pure cores, which are told the time and do
//! no IO: `fleet` (slots, and what happens next), `admission`, `backoff`, `budget`, `session`,
//! `codec`. The edges: `driver` (sockets, TLS, WebSocket, the kernel's word about a socket),
//! `pool/run` (the one loop), `clock`. Between them: `line` (to a driver), `inbox` (from all of
//! them).
//!
//! It depends on nothing of the observer, and will not: any tokio program can use it alone.
//!
//! # Features
//!
//! - `testing`: an in-process MQTT broker with fault knobs.

#![forbid(unsafe_code)]

mod admission;
mod backoff;
mod broker;
mod budget;
mod builder;
mod clock;
mod codec;
mod device;
mod driver;
mod error;
mod event;
mod fleet;
mod inbox;
mod line;
mod message;
pub mod metrics;
mod packet;
pub mod policy;
mod pool;
mod receipt;
pub mod registry;
mod request;
mod session;
#[cfg(test)]
mod simulation;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use broker::{Broker, TlsOptions};
pub use builder::Builder;
pub use device::{Credentials, Device, DeviceId, Generation, Priority};
pub use error::{CallerError, Cause, Detail, Error, OperatorError, Phase, ProtocolError};
pub use event::{DeviceStatus, Event, Events, Next, Status};
pub use fleet::State;
pub use inbox::Messages;
pub use message::{Message, Properties, Publish, QoS, Subscription, Will};
pub use metrics::Metrics;
pub use packet::Version;
pub use policy::{
    Adaptive, BackoffPolicy, Buffers, Limits, Overflow, Reservoir, TakeoverPolicy, Timeouts,
};
pub use pool::{Pool, ReconnectOptions};
pub use receipt::{ClosedSocket, InetDiagReceipts, Receipt, ReceiptSource};
pub use registry::Registry;
pub use request::Delivery;
