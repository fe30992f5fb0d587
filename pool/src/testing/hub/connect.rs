//! How sessions begin and end.

use super::{Admission, DEFAULT_WINDOW, Hub, Output};
use crate::packet::Version;
use crate::testing::behaviour::{Answer, Behaviour, Takeover};
use crate::testing::faults;
use crate::testing::line::ConnectionId;
use crate::testing::session::Connection;
use crate::testing::wire::{ConnAck, Connect, Malformed, Outgoing, Will, code};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Hub {
    /// Decides about a CONNECT: ends an older connection of the client, finds or makes its
    /// session, answers, and sends again what was under way.
    pub(in crate::testing) fn handle_connect(
        &mut self,
        now: Instant,
        id: ConnectionId,
        connect: &Connect,
        behaviour: &Arc<Behaviour>,
    ) -> Admission {
        let old_protocol = connect.version == Version::V311;
        let refusal = match &behaviour.connack {
            Answer::Wrong(bytes) => {
                self.outputs.push_back(Output::Bytes(id, bytes.to_vec()));
                return Admission::None;
            }
            Answer::Never => return Admission::None,
            Answer::Refuse { code } => Some(*code),
            Answer::Busy if old_protocol => Some(code::UNAVAILABLE),
            Answer::Busy => Some(code::BUSY),
            Answer::Redirect { .. } if old_protocol => Some(code::UNAVAILABLE),
            Answer::Redirect { .. } => Some(code::OTHER_SERVER),
            // A session needs a name [MQTT-3.1.3-8].
            Answer::Accept
                if old_protocol && connect.client_id.is_empty() && !connect.clean_start =>
            {
                Some(code::ID_REJECTED)
            }
            Answer::Accept => None,
        };
        if let Some(code) = refusal {
            self.connack(id, connect.version, code, false, None, behaviour);
            self.outputs.push_back(Output::Close(id));
            return Admission::None;
        }
        let (client, assigned) = self.name(&connect.client_id);
        self.take_over(now, &client);
        let present = self.open_session(now, &client, connect.clean_start, behaviour);
        let session = self.sessions.entry(client.clone()).or_default();
        session.connection = Some(id);
        session.expires = None;
        session.expiry = match connect.version {
            Version::V311 => connect.session_expiry,
            Version::V5 => behaviour.announce.session_expiry.unwrap_or(connect.session_expiry),
        };
        let default_window = if old_protocol { DEFAULT_WINDOW } else { u16::MAX };
        self.connections.insert(
            id,
            Connection {
                client: client.clone(),
                version: connect.version,
                behaviour: behaviour.clone(),
                window: connect.receive_maximum.unwrap_or(default_window),
                maximum_packet: connect.maximum_packet,
                will: connect.will.clone(),
                aliases: Vec::new(),
                acknowledgements: 0,
                withheld: Vec::new(),
            },
        );
        let assigned = assigned.then(|| client.clone());
        self.connack(id, connect.version, 0, present, assigned, behaviour);
        if faults::closes(&behaviour.faults) {
            self.outputs.push_back(Output::Close(id));
        } else if !behaviour.silence {
            self.resume(now, id, &client);
        }
        let announced = behaviour.announce.server_keep_alive.filter(|_| !old_protocol);
        Admission::Session { keep_alive: announced.unwrap_or(connect.keep_alive) }
    }

    /// A first packet that is no CONNECT that we know.
    pub(in crate::testing) fn handle_bad_connect(&mut self, id: ConnectionId, why: Malformed) {
        self.counters.protocol_error(why.problem);
        if why.code == code::UNSUPPORTED_VERSION {
            // In the form of the oldest version, which all can read [MQTT-3.1.2-2].
            *self.counters.connacks.entry(1).or_default() += 1;
            self.outputs.push_back(Output::Bytes(id, vec![0x20, 2, 0, 1]));
        }
        self.outputs.push_back(Output::Close(id));
    }

    /// DISCONNECT: the will is dropped, unless its code asks for it (MQTT 5 §3.14.2.1).
    pub(super) fn handle_disconnect(
        &mut self,
        now: Instant,
        id: ConnectionId,
        code: u8,
        session_expiry: Option<u32>,
    ) {
        self.counters.disconnects += 1;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if code != code::WILL_TOO {
            connection.will = None;
        }
        let client = connection.client.clone();
        if let Some(expiry) = session_expiry
            && let Some(session) = self.sessions.get_mut(&client)
        {
            if session.expiry == 0 && expiry != 0 {
                let problem = "DISCONNECT turns session expiry on (MQTT 5 section 3.14.2.2.2)";
                self.handle_malformed(id, Malformed { code: code::PROTOCOL_ERROR, problem });
                return;
            }
            session.expiry = expiry;
        }
        // From here on the session has no connection, whenever the socket's end is seen.
        self.handle_end(now, id);
        self.outputs.push_back(Output::Close(id));
    }

    /// The connection is gone. Says nothing about one that has no session.
    pub(in crate::testing) fn handle_end(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let client = connection.client;
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if session.connection != Some(id) {
            // It was taken over and left open. The session is another connection's.
            if let Some(will) = connection.will {
                self.publish_will(now, &client, &will);
            }
            return;
        }
        session.connection = None;
        let expiry = session.expiry;
        if expiry != u32::MAX {
            session.expires = Some(later(now, expiry));
        }
        session.pending_will = connection.will.map(|will| (later(now, will.delay), will));
        if expiry == 0 {
            self.end_session(now, &client);
            return;
        }
        let next = session.next_timeout();
        self.timers.extend(next.map(|at| (at, client)));
        self.handle_timeout(now);
    }

    /// Ends the session with all it has; a will that still waits is published.
    pub(super) fn end_session(&mut self, now: Instant, client: &str) {
        let Some(session) = self.sessions.remove(client) else { return };
        for filter in &session.subscriptions {
            self.topics.remove(filter, client);
        }
        if let Some((_, will)) = session.pending_will {
            self.publish_will(now, client, &will);
        }
    }

    pub(super) fn publish_will(&mut self, now: Instant, client: &str, will: &Will) {
        self.counters.wills += 1;
        let mut message = (*will.message).clone();
        message.start_expiry(now);
        self.route(now, client, Arc::new(message));
    }

    fn name(&mut self, given: &str) -> (Arc<str>, bool) {
        if !given.is_empty() {
            return (given.into(), false);
        }
        loop {
            self.assigned += 1;
            let name: Arc<str> = format!("assigned-{}", self.assigned).into();
            if !self.sessions.contains_key(&name) {
                return (name, true);
            }
        }
    }

    fn take_over(&mut self, now: Instant, client: &str) {
        let Some(older) = self.connection_of(client) else { return };
        self.counters.takeovers += 1;
        let how = self.behaviour(older).map_or(Takeover::Close, |behaviour| behaviour.takeover);
        match how {
            Takeover::Ignore => return,
            Takeover::Disconnect => {
                self.send(older, Outgoing::Disconnect { code: code::TAKEN_OVER })
            }
            Takeover::Close => {}
        }
        self.outputs.push_back(Output::Close(older));
        self.handle_end(now, older);
    }

    /// True when the session was there already.
    fn open_session(
        &mut self,
        now: Instant,
        client: &Arc<str>,
        clean_start: bool,
        behaviour: &Behaviour,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(client) else { return false };
        if clean_start || behaviour.lose_session || session.has_expired(now) {
            self.end_session(now, client);
            return false;
        }
        // It came back in time (MQTT 5 §3.1.3.2.2).
        session.pending_will = None;
        self.counters.resumed += 1;
        true
    }

    fn connack(
        &mut self,
        id: ConnectionId,
        version: Version,
        code: u8,
        session_present: bool,
        assigned: Option<Arc<str>>,
        behaviour: &Arc<Behaviour>,
    ) {
        let before = faults::before_connack(&behaviour.faults, version);
        if !before.is_empty() {
            self.outputs.push_back(Output::Bytes(id, before));
        }
        *self.counters.connacks.entry(code).or_default() += 1;
        let behaviour = behaviour.clone();
        let connack = ConnAck { session_present, code, assigned, behaviour: behaviour.clone() };
        self.outputs.push_back(Output::Packet(id, version, Outgoing::ConnAck(Box::new(connack))));
        let after = faults::after_connack(&behaviour, version);
        if !after.is_empty() {
            self.outputs.push_back(Output::Bytes(id, after));
        }
    }
}

/// 136 years at most: no sum of it and a present time overflows.
fn later(now: Instant, seconds: u32) -> Instant {
    now + Duration::from_secs(u64::from(seconds))
}
