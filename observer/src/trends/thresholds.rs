//! How much is too much.

use std::net::SocketAddr;

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
