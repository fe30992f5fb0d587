//! A managed MQTT connection pool: one connection per device, rate-limited reconnects, and
//! *destroy before replace*, so that a device never has two sockets.
//!
//! ```text
//! caller ─▶ request ─▶ admission ─▶ slot ─▶ session ─▶ driver ─▶ socket ─▶ broker
//!           DATA       PURE         PURE    PURE       EDGE      EDGE
//! ```
//!
//! It depends on nothing of the observer, and will not: any tokio program can use it alone.

#![forbid(unsafe_code)]

mod device;
mod error;
mod message;
mod packet;
pub mod policy;
mod request;

pub use device::{Credentials, Device, DeviceId, Generation, Priority};
pub use error::{CallerError, Cause, Detail, Error, OperatorError, Phase, ProtocolError};
pub use message::{Message, Properties, Publish, QoS, Subscription, Will};
pub use packet::Version;
pub use policy::{
    Adaptive, BackoffPolicy, Buffers, Limits, Overflow, Reservoir, TakeoverPolicy, Timeouts,
};
pub use request::Delivery;
