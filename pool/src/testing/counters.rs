//! What the broker saw.

use crate::message::QoS;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the broker counted since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// TCP connections accepted, those at the limit included.
    pub accepted: u64,
    /// Accepted and closed at once because of [`Behaviour::max_connections`](super::Behaviour).
    pub over_limit: u64,
    /// Calls of accept(2) that failed, for lack of descriptors say.
    pub accept_errors: u64,
    /// Connections open now.
    pub open: usize,
    /// CONNECT packets read.
    pub connects: u64,
    /// CONNACK packets sent, by code.
    pub connacks: BTreeMap<u8, u64>,
    /// Sessions that were there when their client came back.
    pub resumed: u64,
    /// Connections that were open when their client connected again.
    pub takeovers: u64,
    /// CONNECTs of a client whose older socket was not closed by the client at that time, nor by
    /// the broker. What the kernel already has of the older socket is read first, so that one
    /// closed before the new one was opened never counts.
    pub overlaps: u64,
    /// The client ids of the first 100 overlaps, in order.
    pub overlapping: Vec<Arc<str>>,
    /// The most sockets that one client ever had at one time. 1 when each was closed before the
    /// next.
    pub most_at_once: u32,
    /// DISCONNECT packets read.
    pub disconnects: u64,
    /// Connections that the client ended without DISCONNECT, by FIN or RST.
    pub lost: u64,
    /// Connections ended because nothing came for 1.5 times the keep-alive.
    pub keep_alive_timeouts: u64,
    /// Connections ended because no CONNECT came.
    pub connect_timeouts: u64,
    /// Connections ended because the client broke the protocol.
    pub protocol_errors: u64,
    /// The problems of the first 100 of them, in order.
    pub problems: Vec<&'static str>,
    /// PUBLISH packets read, by quality of service, repeated ones included.
    pub publishes: [u64; 3],
    /// Those of them that carried the DUP flag.
    pub duplicates: u64,
    /// Those with QoS 2 that were here already and so were not published again.
    pub suppressed: u64,
    /// Those with the RETAIN flag: they are forwarded, and not kept.
    pub retain_ignored: u64,
    /// The most publishes of one connection that were unacknowledged at one time.
    pub most_unacknowledged: usize,
    /// PUBLISH packets sent, by quality of service, repeated ones included.
    pub sent: [u64; 3],
    /// Those of them that were sent again on a new connection.
    pub redelivered: u64,
    /// Acknowledgements withheld because of [`Behaviour::drop_acks`](super::Behaviour).
    pub acks_withheld: u64,
    /// Messages not queued for a session: its queue was full.
    pub dropped_full: u64,
    /// Messages with QoS 0 for a session without a connection.
    pub dropped_offline: u64,
    /// Messages larger than the client allows, or out of date.
    pub dropped_unfit: u64,
    /// Messages with QoS 0 for a connection that reads too slowly.
    pub dropped_slow: u64,
    /// Wills published.
    pub wills: u64,
    /// Filters of SUBSCRIBE packets.
    pub subscribes: u64,
    /// Filters of UNSUBSCRIBE packets.
    pub unsubscribes: u64,
    /// PINGREQ packets read.
    pub pings: u64,
    /// Packets read from a connection without a session, and not answered.
    pub ignored: u64,
    /// Publishes that were not recorded: the record was full. See
    /// [`Builder::record`](super::Builder::record).
    pub not_recorded: u64,
    /// Bytes read.
    pub bytes_received: u64,
    /// Bytes written.
    pub bytes_sent: u64,
    /// Bytes not written because of [`Behaviour::silence`](super::Behaviour).
    pub bytes_withheld: u64,
    /// Tasks of the broker that panicked: a bug in it.
    pub panics: u64,
}

/// One session of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Whose it is.
    pub client_id: Arc<str>,
    /// It has a connection.
    pub connected: bool,
    /// How many topic filters.
    pub subscriptions: usize,
    /// Messages to the client that are not acknowledged.
    pub in_flight: usize,
    /// Messages that wait for the client.
    pub queued: usize,
}

/// A publish as the broker took it: one with QoS 2 once, one with QoS 1 each time that it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who sent it.
    pub client_id: Arc<str>,
    /// Where to.
    pub topic: Arc<str>,
    /// Its content.
    pub payload: Bytes,
    /// As it was sent.
    pub qos: QoS,
    /// The DUP flag.
    pub duplicate: bool,
    /// The RETAIN flag.
    pub retain: bool,
}

impl Counters {
    /// All PUBLISH packets read.
    pub fn all_publishes(&self) -> u64 {
        self.publishes.iter().sum()
    }

    pub(super) fn protocol_error(&mut self, problem: &'static str) {
        self.protocol_errors += 1;
        if self.problems.len() < 100 {
            self.problems.push(problem);
        }
    }
}
