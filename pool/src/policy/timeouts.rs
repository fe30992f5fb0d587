use super::invalid;
use crate::error::CallerError;
use std::time::Duration;

/// How long the pool waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For DNS, TCP, TLS, WebSocket and CONNACK together, counted from the dial and not from the
    /// queue. 100 ms to 10 minutes. Default 10 s.
    pub connect: Duration,
    /// For the rest of a packet whose first byte is there. 1 s to 10 minutes. Default 30 s.
    pub packet: Duration,
    /// For the broker to close after our DISCONNECT, so that TIME_WAIT and its port are the
    /// broker's. At most 10 s; 0 closes at once. Default 250 ms.
    pub close: Duration,
    /// For the receipt of a destroyed socket, before the next dial goes ahead without it and is
    /// counted. 10 ms to 1 minute. Default 1 s.
    pub receipt: Duration,
    /// How long the peer's kernel may stay silent when data is sent or a probe asks
    /// (`TCP_USER_TIMEOUT`). The TCP keep-alive follows it: the first probe after one to two
    /// thirds of it, then one in each ninth of it. 9 s to 1 hour; 0 leaves the kernel's rule of about 15 minutes
    /// for data. Default 45 s.
    pub tcp_user: Duration,
}

impl Timeouts {
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] for the first value outside its range.
    pub fn check(&self) -> Result<(), CallerError> {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        if !(Duration::from_millis(100)..=minute * 10).contains(&self.connect) {
            return Err(invalid("timeouts.connect", self.connect, "100 ms to 10 minutes"));
        }
        if !(second..=minute * 10).contains(&self.packet) {
            return Err(invalid("timeouts.packet", self.packet, "1 s to 10 minutes"));
        }
        if self.close > second * 10 {
            return Err(invalid("timeouts.close", self.close, "0 (at once) to 10 s"));
        }
        if !(Duration::from_millis(10)..=minute).contains(&self.receipt) {
            return Err(invalid("timeouts.receipt", self.receipt, "10 ms to 1 minute"));
        }
        if !self.tcp_user.is_zero() && !(second * 9..=minute * 60).contains(&self.tcp_user) {
            return Err(invalid("timeouts.tcp_user", self.tcp_user, "0 (off), or 9 s to 1 hour"));
        }
        Ok(())
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            packet: Duration::from_secs(30),
            close: Duration::from_millis(250),
            receipt: Duration::from_secs(1),
            tcp_user: Duration::from_secs(45),
        }
    }
}
