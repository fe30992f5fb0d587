//! What the broker keeps of one client, with and without a connection.

use super::behaviour::Behaviour;
use super::counters::SessionInfo;
use super::flow::Flow;
use super::line::ConnectionId;
use super::wire::Will;
use crate::packet::Version;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The state that MQTT calls a session (3.1.1 §3.1.2.4), by client id.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) connection: Option<ConnectionId>,
    pub(super) subscriptions: Vec<Arc<str>>,
    flow: Option<Box<Flow>>,
    /// In seconds after the end of the connection; 0 ends with it, `u32::MAX` never.
    pub(super) expiry: u32,
    /// Set while there is no connection.
    pub(super) expires: Option<Instant>,
    /// The will of the last connection, which waits for its delay.
    pub(super) pending_will: Option<(Instant, Box<Will>)>,
}

impl Session {
    pub(super) fn flow(&mut self) -> &mut Flow {
        self.flow.get_or_insert_default()
    }

    /// The deliveries if there are any: asking for them allocates nothing.
    pub(super) fn existing_flow(&mut self) -> Option<&mut Flow> {
        self.flow.as_deref_mut()
    }

    /// Frees what an idle session does not need.
    pub(super) fn tidy(&mut self) {
        if self.flow.as_ref().is_some_and(|flow| flow.is_idle()) {
            self.flow = None;
        }
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// When something has to be done about a session without a connection.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let will = self.pending_will.as_ref().map(|(at, _)| *at);
        [self.expires, will].into_iter().flatten().min()
    }

    pub(super) fn info(&self, client_id: &Arc<str>) -> SessionInfo {
        SessionInfo {
            client_id: client_id.clone(),
            connected: self.connection.is_some(),
            subscriptions: self.subscriptions.len(),
            in_flight: self.flow.as_ref().map_or(0, |flow| flow.in_flight()),
            queued: self.flow.as_ref().map_or(0, |flow| flow.queued()),
        }
    }
}

/// A connection with a session, as the hub knows it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Arc<str>,
    pub(super) version: Version,
    pub(super) behaviour: Arc<Behaviour>,
    /// Messages with QoS 1 and 2 that may be under way to the client.
    pub(super) window: u16,
    /// In bytes with headers.
    pub(super) maximum_packet: Option<u32>,
    pub(super) will: Option<Box<Will>>,
    /// Topics by alias, as the client defined them.
    pub(super) aliases: Vec<(u16, Arc<str>)>,
    /// Acknowledgements so far, for [`Behaviour::drop_acks`].
    pub(super) acknowledgements: u32,
    /// Publishes with QoS 1 whose PUBACK was withheld.
    pub(super) withheld: Vec<u16>,
}

impl Connection {
    /// True for each n-th acknowledgement, which is not to be sent.
    pub(super) fn withholds(&mut self) -> bool {
        self.acknowledgements = self.acknowledgements.wrapping_add(1);
        let every = self.behaviour.drop_acks;
        every != 0 && self.acknowledgements.is_multiple_of(every)
    }
}

/// For how long a client that asked for this keep-alive may be silent: 1.5 times as long
/// [MQTT-3.1.2-24].
pub(super) fn patience(keep_alive: u16) -> Option<Duration> {
    (keep_alive > 0).then(|| Duration::from_secs(u64::from(keep_alive)) * 3 / 2)
}
