//! How messages travel through the hub.

use super::{Hub, Output};
use crate::message::QoS;
use crate::testing::counters::Received;
use crate::testing::flow::{Flow, InFlight, Stage};
use crate::testing::line::ConnectionId;
use crate::testing::session::Connection;
use crate::testing::wire::{Delivery, Malformed, Message, Outgoing, Publish, code};
use std::sync::Arc;
use std::time::Instant;

impl Hub {
    /// Publishes a message of the broker's own, to everybody who subscribed.
    pub(in crate::testing) fn publish(&mut self, now: Instant, message: Message) {
        self.route(now, "", Arc::new(message));
    }

    pub(super) fn handle_publish(&mut self, now: Instant, id: ConnectionId, publish: Publish) {
        let Publish { duplicate, id: packet, alias, mut message } = publish;
        let qos = message.qos;
        self.counters.publishes[qos as usize] += 1;
        self.counters.duplicates += u64::from(duplicate);
        self.counters.retain_ignored += u64::from(message.retain);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Err(malformed) = check(connection, &mut message, alias) {
            return self.handle_malformed(id, malformed);
        }
        let client = connection.client.clone();
        let refused = connection.behaviour.refuse_publish.filter(|_| connection.speaks_codes());
        let code = refused.unwrap_or(0);
        message.start_expiry(now);
        if !self.count_unacknowledged(id, &client, packet, qos) {
            let problem = "more unacknowledged publishes than the receive maximum";
            return self.handle_malformed(id, Malformed { code: code::RECEIVE_MAXIMUM, problem });
        }
        let new = qos != QoS::ExactlyOnce
            || self.sessions.get_mut(&client).is_none_or(|session| session.flow().receive(packet));
        if !new {
            self.counters.suppressed += 1;
        } else if code < 0x80 {
            self.record(&client, &message, duplicate);
            self.route(now, &client, Arc::new(message));
        }
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                let sent = self.acknowledge(id, Outgoing::PubAck { id: packet, code });
                if !sent && let Some(connection) = self.connections.get_mut(&id) {
                    connection.withheld.push(packet);
                }
            }
            QoS::ExactlyOnce => {
                if code >= 0x80 {
                    // It is over for this id (MQTT 5 §4.3.3).
                    self.with_flow(&client, |flow| flow.release(packet));
                }
                self.acknowledge(id, Outgoing::PubRec { id: packet, code });
            }
        }
    }

    pub(super) fn handle_pubrec(&mut self, now: Instant, id: ConnectionId, packet: u16, code: u8) {
        let Some(connection) = self.connections.get(&id) else { return };
        let client = connection.client.clone();
        let known = self.with_flow(&client, |flow| flow.recorded(packet, code));
        if code < 0x80 {
            let code = if known { 0 } else { code::UNKNOWN_ID };
            self.send(id, Outgoing::PubRel { id: packet, code });
        }
        self.send_waiting(now, &client);
    }

    pub(super) fn handle_pubrel(&mut self, id: ConnectionId, packet: u16) {
        let Some(connection) = self.connections.get(&id) else { return };
        let client = connection.client.clone();
        let known = self.with_flow(&client, |flow| flow.release(packet));
        let code = if known { 0 } else { code::UNKNOWN_ID };
        self.acknowledge(id, Outgoing::PubComp { id: packet, code });
    }

    /// To all who subscribed; `from` is empty for the broker itself.
    pub(super) fn route(&mut self, now: Instant, from: &str, message: Arc<Message>) {
        for subscriber in self.topics.matches(&message.topic) {
            if subscriber.no_local && *subscriber.client == *from {
                continue;
            }
            let qos = subscriber.qos.min(message.qos);
            let retain = message.retain && subscriber.keep_retain;
            self.deliver(now, &subscriber.client, qos, retain, message.clone());
        }
    }

    /// Sends as much of what waits for the client as its window allows.
    pub(super) fn send_waiting(&mut self, now: Instant, client: &str) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        let Some(id) = session.connection else { return };
        let Some(connection) = self.connections.get(&id) else { return };
        if let Some(flow) = session.existing_flow() {
            while let Some(next) = flow.start_next(connection.window) {
                let (packet, delivery) = (next.id, delivery_of(next, false, now));
                match delivery.filter(|delivery| connection.takes(delivery)) {
                    Some(delivery) => {
                        self.counters.sent[delivery.qos as usize] += 1;
                        let publish = Outgoing::Publish(Box::new(delivery));
                        self.outputs.push_back(Output::Packet(id, connection.version, publish));
                    }
                    None => {
                        // It is as if it had been delivered (MQTT 5 §3.1.2.11.4).
                        flow.abandon(packet);
                        self.counters.dropped_unfit += 1;
                    }
                }
            }
        }
        session.tidy();
    }

    /// Sends again what was under way when the last connection ended.
    pub(super) fn resume(&mut self, now: Instant, id: ConnectionId, client: &str) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        let unfinished: Vec<InFlight> = session
            .existing_flow()
            .map(|flow| flow.unfinished().cloned().collect())
            .unwrap_or_default();
        for one in unfinished {
            if one.stage == Stage::Complete {
                self.send(id, Outgoing::PubRel { id: one.id, code: 0 });
                continue;
            }
            // Its time may be over, but it was begun, so it has to be ended.
            let delivery = delivery_of(&one, true, now)
                .unwrap_or_else(|| Delivery { expiry: Some(0), ..begun(&one, true) });
            self.counters.sent[one.qos as usize] += 1;
            self.counters.redelivered += 1;
            self.send(id, Outgoing::Publish(Box::new(delivery)));
        }
        self.send_waiting(now, client);
    }

    /// Runs on the deliveries of a client if there are any; false otherwise.
    pub(super) fn with_flow(&mut self, client: &str, run: impl FnOnce(&mut Flow) -> bool) -> bool {
        let Some(session) = self.sessions.get_mut(client) else { return false };
        let outcome = session.existing_flow().is_some_and(run);
        session.tidy();
        outcome
    }

    fn deliver(
        &mut self,
        now: Instant,
        client: &str,
        qos: QoS,
        retain: bool,
        message: Arc<Message>,
    ) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        if qos > QoS::AtMostOnce {
            if session.flow().push(qos, retain, message, self.limits.queue) {
                self.send_waiting(now, client);
            } else {
                self.counters.dropped_full += 1;
            }
            return;
        }
        let Some(id) = session.connection else {
            self.counters.dropped_offline += 1;
            return;
        };
        let Some(connection) = self.connections.get(&id) else { return };
        let one = InFlight { id: 0, stage: Stage::Acknowledge, qos, retain, message };
        match delivery_of(&one, false, now).filter(|delivery| connection.takes(delivery)) {
            Some(delivery) => {
                self.counters.sent[0] += 1;
                let publish = Outgoing::Publish(Box::new(delivery));
                self.outputs.push_back(Output::Packet(id, connection.version, publish));
            }
            None => self.counters.dropped_unfit += 1,
        }
    }

    /// Sends an acknowledgement, unless it is one to withhold; says whether it was sent.
    fn acknowledge(&mut self, id: ConnectionId, packet: Outgoing) -> bool {
        let withhold = self.connections.get_mut(&id).is_some_and(Connection::withholds);
        if withhold {
            self.counters.acks_withheld += 1;
        } else {
            self.send(id, packet);
        }
        !withhold
    }

    /// Counts this publish with those that the client got no last answer for; false when they are
    /// more than it may have.
    fn count_unacknowledged(
        &mut self,
        id: ConnectionId,
        client: &str,
        packet: u16,
        qos: QoS,
    ) -> bool {
        if qos == QoS::AtMostOnce {
            return true;
        }
        let Some(connection) = self.connections.get_mut(&id) else { return true };
        let unreleased = self
            .sessions
            .get_mut(client)
            .and_then(|session| session.existing_flow())
            .map_or(&[][..], |flow| flow.unreleased());
        let known = connection.withheld.contains(&packet) || unreleased.contains(&packet);
        let count = connection.withheld.len() + unreleased.len() + usize::from(!known);
        // The one sent again gets a new chance to be acknowledged.
        connection.withheld.retain(|one| *one != packet);
        self.counters.most_unacknowledged = self.counters.most_unacknowledged.max(count);
        let maximum = connection.behaviour.announce.receive_maximum;
        !connection.speaks_codes() || maximum.is_none_or(|maximum| count <= usize::from(maximum))
    }

    fn record(&mut self, client: &Arc<str>, message: &Message, duplicate: bool) {
        if self.record.len() >= self.limits.record {
            self.counters.not_recorded += 1;
            return;
        }
        self.record.push_back(Received {
            client_id: client.clone(),
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            qos: message.qos,
            duplicate,
            retain: message.retain,
        });
    }
}

impl Connection {
    /// The largest packet that the client takes has room for it.
    fn takes(&self, delivery: &Delivery) -> bool {
        self.maximum_packet.is_none_or(|maximum| delivery.size(self.version) <= maximum as usize)
    }

    /// MQTT 5, which has reason codes and limits.
    fn speaks_codes(&self) -> bool {
        self.version == crate::packet::Version::V5
    }
}

/// What this broker takes of a publish; fills in the topic where an alias stands for it.
fn check(
    connection: &mut Connection,
    message: &mut Message,
    alias: Option<u16>,
) -> Result<(), Malformed> {
    let announce = &connection.behaviour.announce;
    if !connection.speaks_codes() {
        return Ok(());
    }
    if announce.maximum_qos.is_some_and(|highest| message.qos > highest) {
        let problem = "QoS above the maximum QoS";
        return Err(Malformed { code: code::QOS_TOO_HIGH, problem });
    }
    if message.retain && announce.retain_available == Some(false) {
        let problem = "RETAIN where it is not available";
        return Err(Malformed { code: code::NO_RETAIN, problem });
    }
    let Some(alias) = alias else { return Ok(()) };
    if alias > announce.topic_alias_maximum.unwrap_or(0) {
        let problem = "a topic alias above the maximum";
        return Err(Malformed { code: code::BAD_ALIAS, problem });
    }
    let known = connection.aliases.iter_mut().find(|(one, _)| *one == alias);
    match known {
        Some((_, topic)) if message.topic.is_empty() => message.topic = topic.clone(),
        Some((_, topic)) => *topic = message.topic.clone(),
        None if message.topic.is_empty() => {
            let problem = "a topic alias that was never defined";
            return Err(Malformed { code: code::PROTOCOL_ERROR, problem });
        }
        None => connection.aliases.push((alias, message.topic.clone())),
    }
    Ok(())
}

/// `None` when its time is over.
fn delivery_of(one: &InFlight, duplicate: bool, now: Instant) -> Option<Delivery> {
    let Some(expires) = one.message.expires else { return Some(begun(one, duplicate)) };
    let left = expires.checked_duration_since(now).filter(|left| !left.is_zero())?;
    // Rounded up: a message that was forwarded at once keeps its number.
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    Some(Delivery { expiry: u32::try_from(seconds).ok(), ..begun(one, duplicate) })
}

fn begun(one: &InFlight, duplicate: bool) -> Delivery {
    Delivery {
        duplicate,
        qos: one.qos,
        id: one.id,
        retain: one.retain,
        expiry: None,
        message: one.message.clone(),
    }
}
