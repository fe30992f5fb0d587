use super::invalid;
use crate::error::CallerError;

/// How much may wait, in either direction. Nothing in the pool grows beyond these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// The largest packet taken from a broker, in bytes with headers; told to it in MQTT 5.
    /// 128 bytes to 268,435,455. Default 256 KiB.
    pub max_packet: u32,
    /// Received messages that nobody has taken yet, of all devices, in bytes: topic, payload and
    /// 128 bytes for each. 64 KiB to 4 GiB. Default 32 MiB.
    pub messages: usize,
    /// What happens when `messages` are full.
    pub overflow: Overflow,
    /// Requests of the application that wait for one device's session, at most. 1 to 100,000.
    /// Default 100.
    pub outbox: usize,
    /// Publishes with QoS 1 or 2 under way on one session, and messages that the broker may have
    /// under way to us (its receive maximum). 1 to 65,535. Default 16.
    pub inflight: u16,
    /// Events that a reader of [`Pool::events`](crate::Pool::events) may fall behind before it
    /// gets a gap. 16 to 1,048,576. Default 4,096.
    pub events: usize,
}

/// What happens to a received message when nobody takes them fast enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The sessions stop reading, so that TCP slows the broker down; pings go on. The default.
    #[default]
    Wait,
    /// The newest is dropped, acknowledged and counted; acknowledgements and pings go on.
    Drop,
}

impl Buffers {
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] for the first value outside its range.
    pub fn check(&self) -> Result<(), CallerError> {
        if !(128..=268_435_455).contains(&self.max_packet) {
            return Err(invalid("buffers.max_packet", self.max_packet, "128 to 268,435,455 bytes"));
        }
        if !(64 << 10..=4 << 30).contains(&self.messages) {
            return Err(invalid("buffers.messages", self.messages, "64 KiB to 4 GiB"));
        }
        if !(1..=100_000).contains(&self.outbox) {
            return Err(invalid("buffers.outbox", self.outbox, "1 to 100,000"));
        }
        if self.inflight == 0 {
            return Err(invalid("buffers.inflight", self.inflight, "1 to 65,535"));
        }
        if !(16..=1 << 20).contains(&self.events) {
            return Err(invalid("buffers.events", self.events, "16 to 1,048,576"));
        }
        Ok(())
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            max_packet: 256 << 10,
            messages: 32 << 20,
            overflow: Overflow::Wait,
            outbox: 100,
            inflight: 16,
            events: 4_096,
        }
    }
}
