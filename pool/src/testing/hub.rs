//! The broker without its sockets: told what each connection sends and what time it is, it says
//! what to send to whom.

mod connect;
mod publish;

use super::behaviour::Behaviour;
use super::counters::{Counters, Received, SessionInfo};
use super::line::ConnectionId;
use super::session::{Connection, Session};
use super::topics::{Subscriber, Topics};
use super::wire::{Filter, Incoming, Malformed, Outgoing, code};
use crate::message::{QoS, Subscription};
use crate::packet::Version;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// The deepest topic filter taken, in levels: Mosquitto's limit too, and it bounds a recursion.
const MAX_LEVELS: usize = 200;

/// Messages under way at once to a client that names no limit. Mosquitto's number.
const DEFAULT_WINDOW: u16 = 20;

/// All sessions, and the connections that have one.
#[derive(Debug)]
pub(super) struct Hub {
    sessions: HashMap<Arc<str>, Session>,
    connections: HashMap<ConnectionId, Connection>,
    topics: Topics,
    /// Sessions without a connection that have something to do at a time. May name some that
    /// have not any more.
    timers: BTreeSet<(Instant, Arc<str>)>,
    outputs: VecDeque<Output>,
    pub(super) counters: Counters,
    limits: HubLimits,
    record: VecDeque<Received>,
    /// For clients that leave their name to the broker.
    assigned: u64,
}

/// What the hub keeps at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct HubLimits {
    /// Messages that wait for one session.
    pub(super) queue: usize,
    /// Publishes recorded for a test to look at.
    pub(super) record: usize,
}

/// What is to be done for a connection, in order.
#[derive(Debug)]
pub(super) enum Output {
    /// To be sent.
    Packet(ConnectionId, Version, Outgoing),
    /// To be sent as it is.
    Bytes(ConnectionId, Vec<u8>),
    /// To be closed, when the packets before are sent.
    Close(ConnectionId),
}

/// What became of a CONNECT, as far as the socket's task has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is a session; the client may be silent for so many seconds and half of them.
    Session { keep_alive: u16 },
    /// There is none: the connection is being closed, or kept without a session by a fault.
    None,
}

impl Hub {
    pub(super) fn new(limits: HubLimits) -> Self {
        Self {
            sessions: HashMap::new(),
            connections: HashMap::new(),
            topics: Topics::default(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            limits,
            record: VecDeque::new(),
            assigned: 0,
        }
    }

    /// What to do next; `None` when nothing is left.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Hub::handle_timeout`] has to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Publishes wills whose delay is over, and ends sessions that expired.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, client)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, client));
                return;
            }
            let Some(session) = self.sessions.get_mut(&client) else { continue };
            if session.has_expired(now) {
                self.end_session(now, &client);
            } else if let Some((_, will)) = session.pending_will.take_if(|(at, _)| *at <= now) {
                let next = session.next_timeout();
                self.publish_will(now, &client, &will);
                self.timers.extend(next.map(|at| (at, client)));
            }
        }
    }

    /// A packet that is no CONNECT.
    pub(super) fn handle_packet(&mut self, now: Instant, id: ConnectionId, packet: Incoming) {
        let Some(connection) = self.connections.get_mut(&id) else {
            self.counters.ignored += 1;
            return;
        };
        let client = connection.client.clone();
        match packet {
            Incoming::Connect(_) => {
                let problem = "a second CONNECT [MQTT-3.1.0-2]";
                self.handle_malformed(id, Malformed { code: code::PROTOCOL_ERROR, problem });
            }
            Incoming::Publish(publish) => self.handle_publish(now, id, *publish),
            Incoming::PubAck { id: packet } => {
                self.with_flow(&client, |flow| flow.acknowledged(packet));
                self.send_waiting(now, &client);
            }
            Incoming::PubRec { id: packet, code } => self.handle_pubrec(now, id, packet, code),
            Incoming::PubRel { id: packet } => self.handle_pubrel(id, packet),
            Incoming::PubComp { id: packet } => {
                self.with_flow(&client, |flow| flow.completed(packet));
                self.send_waiting(now, &client);
            }
            Incoming::Subscribe { id: packet, filters } => {
                let codes =
                    filters.into_iter().map(|filter| self.subscribe(id, &client, filter)).collect();
                self.send(id, Outgoing::SubAck { id: packet, codes });
            }
            Incoming::Unsubscribe { id: packet, filters } => {
                let codes =
                    filters.into_iter().map(|filter| self.unsubscribe(&client, &filter)).collect();
                self.send(id, Outgoing::UnsubAck { id: packet, codes });
            }
            Incoming::PingReq => {
                self.counters.pings += 1;
                self.send(id, Outgoing::PingResp);
            }
            Incoming::Disconnect { code, session_expiry } => {
                self.handle_disconnect(now, id, code, session_expiry);
            }
        }
    }

    /// A client that broke the protocol is told so, where the version can, and closed.
    pub(super) fn handle_malformed(&mut self, id: ConnectionId, malformed: Malformed) {
        self.counters.protocol_error(malformed.problem);
        self.send(id, Outgoing::Disconnect { code: malformed.code });
        self.outputs.push_back(Output::Close(id));
    }

    /// Nothing came for too long [MQTT-3.1.2-24].
    pub(super) fn handle_silence(&mut self, id: ConnectionId) {
        self.counters.keep_alive_timeouts += 1;
        self.send(id, Outgoing::Disconnect { code: code::KEEP_ALIVE });
        self.outputs.push_back(Output::Close(id));
    }

    /// Ends a client's connection with a DISCONNECT; false when it has none.
    pub(super) fn disconnect(&mut self, client: &str, code: u8) -> bool {
        let Some(id) = self.connection_of(client) else { return false };
        self.send(id, Outgoing::Disconnect { code });
        self.outputs.push_back(Output::Close(id));
        true
    }

    /// The connection that has the client's session.
    pub(super) fn connection_of(&self, client: &str) -> Option<ConnectionId> {
        self.sessions.get(client).and_then(|session| session.connection)
    }

    /// All sessions by client id.
    pub(super) fn sessions(&self) -> Vec<SessionInfo> {
        let mut all: Vec<_> =
            self.sessions.iter().map(|(client, session)| session.info(client)).collect();
        all.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        all
    }

    /// The recorded publishes, which are gone from the record then.
    pub(super) fn take_record(&mut self) -> Vec<Received> {
        std::mem::take(&mut self.record).into()
    }

    fn subscribe(&mut self, id: ConnectionId, client: &Arc<str>, filter: Filter) -> u8 {
        self.counters.subscribes += 1;
        let Some(connection) = self.connections.get(&id) else { return code::UNSPECIFIED };
        if let Some(code) = connection.behaviour.refuse_subscribe {
            return code;
        }
        let (refused, shared) = match connection.version {
            Version::V311 => (code::UNSPECIFIED, code::UNSPECIFIED),
            Version::V5 => (code::BAD_FILTER, code::NO_SHARED),
        };
        let Filter { filter, qos, no_local, keep_retain } = filter;
        if filter.starts_with("$share/") {
            return shared;
        }
        let too_deep = filter.split('/').count() > MAX_LEVELS;
        if too_deep || Subscription::new(&filter, qos).is_err() {
            return refused;
        }
        let highest = connection.behaviour.announce.maximum_qos;
        let qos = qos.min(highest.unwrap_or(QoS::ExactlyOnce));
        let subscriber = Subscriber { client: client.clone(), qos, no_local, keep_retain };
        self.topics.insert(&filter, subscriber);
        if let Some(session) = self.sessions.get_mut(client)
            && session.subscriptions.iter().all(|one| **one != *filter)
        {
            session.subscriptions.push(filter.into());
        }
        qos as u8
    }

    fn unsubscribe(&mut self, client: &str, filter: &str) -> u8 {
        self.counters.unsubscribes += 1;
        let Some(session) = self.sessions.get_mut(client) else { return code::NO_SUBSCRIPTION };
        let Some(index) = session.subscriptions.iter().position(|one| **one == *filter) else {
            return code::NO_SUBSCRIPTION;
        };
        session.subscriptions.swap_remove(index);
        self.topics.remove(filter, client);
        0
    }

    /// To a connection with a session; to any other there is nothing to say.
    fn send(&mut self, id: ConnectionId, packet: Outgoing) {
        if let Some(connection) = self.connections.get(&id) {
            self.outputs.push_back(Output::Packet(id, connection.version, packet));
        }
    }

    fn behaviour(&self, id: ConnectionId) -> Option<&Behaviour> {
        self.connections.get(&id).map(|connection| &*connection.behaviour)
    }
}

#[cfg(test)]
mod tests;
