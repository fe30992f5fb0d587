//! How much is too much.

use std::{fmt, net::SocketAddr, str::FromStr};

use crate::escape;

/// The numbers by which trends are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// close-wait-buildup: more sockets in CLOSE_WAIT than this.
    pub close_wait_sockets: u64,
    /// fd-limit-low: soft limits up to this are low.
    pub low_limit: u64,
    /// fd-limit-low: for a process with at least so many connections.
    pub many_connections: u64,
    /// fd-pressure and port-pressure: percent in use.
    pub percent_in_use: u64,
    /// overgrowth: fleets whose size is known.
    pub fleets: Vec<Fleet>,
    /// port-pressure: first and last ephemeral port (`net.ipv4.ip_local_port_range`).
    pub port_range: (u16, u16),
    /// reconnect-storm: more new connections than this within 5 s.
    pub storm_connections: u64,
    /// stale-generation: so many generations.
    pub generations: u64,
    /// takeover-duel: so many take-overs within 30 s.
    pub takeovers: u64,
}

/// The size of a fleet: how many connections a process may have to one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The broker.
    pub broker: SocketAddr,
    /// Devices, at most.
    pub devices: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            close_wait_sockets: 100,
            low_limit: 8_192,
            many_connections: 1_000,
            percent_in_use: 80,
            fleets: Vec::new(),
            port_range: (32_768, 60_999),
            storm_connections: 500,
            generations: 3,
            takeovers: 5,
        }
    }
}

/// Most devices that a fleet may be declared with. Chosen: above what one host can connect.
const MOST_DEVICES: u64 = 10_000_000;

impl FromStr for Fleet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "`{}` is no fleet: write ADDRESS:PORT=DEVICES, as in 10.0.0.1:1883=12000",
                escape::short(text, 80)
            )
        };
        let (broker, devices) = text.split_once('=').ok_or_else(wrong)?;
        let broker: SocketAddr = broker.parse().map_err(|_| wrong())?;
        // As the ends of sockets are written.
        let broker = SocketAddr::new(broker.ip().to_canonical(), broker.port());
        let plain = devices.bytes().all(|byte| byte.is_ascii_digit());
        let devices = devices.parse().ok().filter(|it| plain && (1..=MOST_DEVICES).contains(it));
        let devices = devices.filter(|_| broker.port() != 0).ok_or_else(wrong)?;
        Ok(Self { broker, devices })
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.broker, self.devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_an_address_and_a_number() {
        for (text, shown) in [
            ("10.0.0.1:1883=12000", Some("10.0.0.1:1883=12000")),
            ("[::1]:8883=1", Some("[::1]:8883=1")),
            ("[::ffff:10.0.0.1]:1883=007", Some("10.0.0.1:1883=7")),
            ("10.0.0.1:1883=10000000", Some("10.0.0.1:1883=10000000")),
            ("10.0.0.1:1883=10000001", None),
            ("10.0.0.1:1883=0", None),
            ("10.0.0.1:1883=+1", None),
            ("10.0.0.1:1883=", None),
            ("10.0.0.1:0=1", None),
            ("10.0.0.1=1", None),
            ("10.0.0.1:1883", None),
            ("broker.example:1883=1", None),
        ] {
            let fleet = text.parse::<Fleet>();
            assert_eq!(fleet.map(|it| it.to_string()).ok().as_deref(), shown, "{text}");
        }
    }
}
