//! A managed MQTT connection pool: one connection per device, rate-limited reconnects, and
//! *destroy before replace*, so that a device never has two sockets.
//!
//! This library is empty so far. What belongs here, and in which order data will flow through it:
//!
//! ```text
//! caller ─▶ request ─▶ admission ─▶ slot ─▶ session ─▶ driver ─▶ socket ─▶ broker
//!           DATA       PURE         PURE    PURE       EDGE      EDGE
//! ```
//!
//! It depends on nothing of the observer, and will not: any tokio program can use it alone.

#![forbid(unsafe_code)]
