//! What the broker sends.

use super::inflight::Stage;
use super::received::{Arrival, Release};
use super::{Acknowledge, Session, State, Step, whole_seconds};
use crate::codec;
use crate::error::{Cause, Error, ProtocolError};
use crate::message::{Message, QoS};
use crate::packet::{ConnAck, Incoming, IncomingPublish, Outgoing, Version};
use std::time::{Duration, Instant};

/// From here on, a reason code is a failure (MQTT 5 §2.4).
const FAILURE: u8 = 0x80;

/// The reason code for a packet id that stands for nothing (MQTT 5 §3.6.2.1 and §3.7.2.1).
const ID_NOT_FOUND: u8 = 0x92;

/// The reason code for another client that took the session (MQTT 5 §3.14.2.1).
const TAKEN_OVER: u8 = 0x8E;

impl Session {
    /// The application's queue has the message, or dropped it and counted: PUBACK or PUBREC is
    /// due. To be called in the order of the messages (MQTT-4.6.0-2 and 3 in 3.1.1).
    ///
    /// That of a message of another session of the device does nothing, for its packet id means
    /// something else here.
    pub(crate) fn accept(&mut self, now: Instant, acknowledge: Acknowledge) {
        let Acknowledge { session, id, qos } = acknowledge;
        if session != self.carried.session {
            return;
        }
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.unaccepted = self.unaccepted.saturating_sub(1);
                self.send_small(now, &Outgoing::PubAck { id, code: 0 });
            }
            QoS::ExactlyOnce => {
                // Noted after the end as well: the next session must not deliver it again.
                if self.carried.existing().is_some_and(|work| work.received.accept(id)) {
                    self.send_small(now, &Outgoing::PubRec { id, code: 0 });
                }
            }
        }
    }

    pub(super) fn handle(&mut self, now: Instant, packet: Incoming) -> Result<Step, Cause> {
        if self.state == State::Connecting {
            return match packet {
                Incoming::ConnAck(ack) => self.connected(now, ack),
                other => unexpected(name(&other), "the first packet has to be CONNACK"),
            };
        }
        match packet {
            Incoming::ConnAck(_) => unexpected("CONNACK", "there was one before"),
            Incoming::Publish(publish) => self.published(now, publish),
            Incoming::PubAck { id, code } => self.puback(id, code),
            Incoming::PubRec { id, code } => self.pubrec(now, id, code),
            Incoming::PubRel { id, .. } => self.pubrel(now, id),
            Incoming::PubComp { id, code } => self.pubcomp(id, code),
            Incoming::SubAck { id, codes } => self.suback(id, &codes),
            Incoming::UnsubAck { id, codes } => self.unsuback(id, &codes),
            // One for nothing is let pass: nothing depends on it.
            Incoming::PingResp => {
                self.clock.ponged();
                Ok(Step::Handled)
            }
            Incoming::Disconnect { code: TAKEN_OVER, .. } => Err(Cause::TakenOver),
            Incoming::Disconnect { code, detail } => {
                Err(Cause::Disconnected { code, reason: self.reason(code), detail })
            }
            Incoming::Unexpected(name) => unexpected(name, "a broker may not send it"),
        }
    }

    fn connected(&mut self, now: Instant, ack: ConnAck) -> Result<Step, Cause> {
        self.unanswered_connect = 0;
        // MQTT-3.2.2-1 and 4 in 3.1.1, MQTT-3.2.2-2 and 6 in 5.
        if ack.session_present && ack.code != 0 {
            return unexpected("CONNACK", "a refusal with a session");
        }
        if ack.session_present && self.settings.clean_start {
            return unexpected("CONNACK", "a session is present although we asked for a clean one");
        }
        if ack.code != 0 {
            let reason = codec::refusal_name(ack.code);
            return Err(Cause::ConnectRefused { code: ack.code, reason, detail: ack.detail });
        }
        // MQTT 5 §3.2.2.3.3 and 6: with either, nothing could be sent for ever.
        if ack.limits.receive_maximum == 0 || ack.limits.maximum_packet == Some(0) {
            return unexpected("CONNACK", "a limit of 0");
        }
        self.limits = ack.limits;
        let ours = whole_seconds(self.device.keep_alive.unwrap_or(self.settings.keep_alive));
        let keep_alive = ack.server_keep_alive.unwrap_or(ours);
        self.clock.keep_alive(keep_alive);
        self.clock.received(now);
        self.take_up(ack.session_present);
        self.state = State::Online;
        Ok(Step::Online {
            session_present: ack.session_present,
            keep_alive: Duration::from_secs(keep_alive.into()),
        })
    }

    /// Takes up what was carried over.
    ///
    /// MQTT 5 (MQTT-3.2.2-4) would have a client without a session close here when the broker has
    /// one. A device's first session in this process has an empty one, which is one too: to close
    /// would lock every persistent session out for ever, and to clean it would lose its messages.
    ///
    /// When an earlier CONNECT had no answer, the session that is present may have begun with that
    /// one: the broker lost the one before, and said so in a CONNACK that never arrived. Then the
    /// subscriptions are made again, which changes nothing where they are, and packet ids of the
    /// broker are trusted less.
    fn take_up(&mut self, session_present: bool) {
        let own = &self.device.subscriptions;
        if !session_present {
            if let Some(work) = self.carried.existing() {
                work.received.forget();
                for ticket in work.inflight.forget() {
                    ticket.settle(Ok(()));
                }
            }
            self.carried.needed().subscriptions.renew(own);
        } else if self.carried.doubt {
            let work = self.carried.needed();
            work.received.doubt();
            work.subscriptions.renew(own);
        } else if !self.carried.subscribed {
            self.carried.needed().subscriptions.push_device(own);
        }
        self.carried.subscribed = true;
        self.carried.doubt = false;
    }

    fn published(&mut self, now: Instant, publish: IncomingPublish) -> Result<Step, Cause> {
        let IncomingPublish { duplicate, qos, retain, topic, id, payload, properties } = publish;
        if qos != QoS::AtMostOnce && id == 0 {
            return unexpected("PUBLISH", "its packet identifier is 0");
        }
        let arrival = match qos {
            QoS::AtMostOnce => Arrival::New,
            QoS::AtLeastOnce => {
                self.unaccepted = self.unaccepted.saturating_add(1);
                self.check_receive_maximum()?;
                Arrival::New
            }
            QoS::ExactlyOnce => {
                let arrival = self.carried.needed().received.arrive(id, duplicate);
                self.check_receive_maximum()?;
                arrival
            }
        };
        match arrival {
            Arrival::New => {}
            Arrival::Waiting => return Ok(Step::Handled),
            Arrival::Accepted => {
                self.send_small(now, &Outgoing::PubRec { id, code: 0 });
                return Ok(Step::Handled);
            }
        }
        let device = self.device.id().clone();
        let message = Message { device, topic, payload, qos, retain, duplicate, properties };
        let session = self.carried.session;
        Ok(Step::Message(message, Acknowledge { session, id, qos }))
    }

    /// MQTT-3.3.4-9 in 5. A broker of 3.1.1 was never told of a maximum.
    fn check_receive_maximum(&self) -> Result<(), ProtocolError> {
        let counted = self.carried.work().map_or(0, |work| work.received.counted());
        let unaccepted = usize::try_from(self.unaccepted).unwrap_or(usize::MAX);
        let maximum = self.settings.inflight.max(1);
        let is_over = counted.saturating_add(unaccepted) > usize::from(maximum);
        if self.settings.version == Version::V5 && is_over {
            return Err(ProtocolError::ReceiveMaximum(maximum));
        }
        Ok(())
    }

    fn puback(&mut self, id: u16, code: u8) -> Result<Step, Cause> {
        match self.stage(id) {
            Some((index, Stage::Sent(publish))) if publish.qos == QoS::AtLeastOnce => {
                self.settle_exchange(index, code);
                Ok(Step::Handled)
            }
            _ => unexpected("PUBACK", "nothing with this packet identifier waits for it"),
        }
    }

    /// PUBREL is the answer to each PUBREC (MQTT-4.3.3-1 in 3.1.1, MQTT-4.3.3-4 in 5), known or
    /// not. An id that stands for nothing here is left over from an earlier process, whose
    /// session the broker kept: PUBREL makes the broker forget it, while to close would bring the
    /// same PUBREC at the next connection, and at each one after it.
    fn pubrec(&mut self, now: Instant, id: u16, code: u8) -> Result<Step, Cause> {
        let is_failure = code >= FAILURE;
        let is_sent = self.is_sent(id);
        let release = match self.stage(id) {
            Some((index, stage)) if stage.awaits_pubrec() => {
                if is_failure {
                    self.settle_exchange(index, code);
                    return Ok(Step::Handled);
                }
                *stage = Stage::Released;
                // One that waits for the window is released when its turn comes.
                is_sent.then_some(0)
            }
            // The broker said before that it has the message.
            Some((_, Stage::Released)) if is_failure => None,
            // Once more, as some brokers do when an answer takes long.
            Some((_, Stage::Released)) => {
                self.surplus_releases = self.surplus_releases.saturating_add(is_sent.into());
                is_sent.then_some(0)
            }
            None if id != 0 && !is_failure => {
                self.surplus_releases = self.surplus_releases.saturating_add(1);
                Some(self.only_in_v5(ID_NOT_FOUND))
            }
            _ => return unexpected("PUBREC", "nothing with this packet identifier waits for it"),
        };
        if let Some(code) = release {
            self.send_small(now, &Outgoing::PubRel { id, code });
        }
        Ok(Step::Handled)
    }

    /// PUBCOMP is the answer to each PUBREL, known or not: our own PUBCOMP may have been lost with
    /// the last connection (MQTT 3.1.1 §4.3.3).
    fn pubrel(&mut self, now: Instant, id: u16) -> Result<Step, Cause> {
        if id == 0 {
            return unexpected("PUBREL", "its packet identifier is 0");
        }
        let release = self.carried.existing().map(|work| work.received.release(id));
        let code = match release {
            Some(Release::Done) => 0,
            Some(Release::TooEarly) => return unexpected("PUBREL", "we sent no PUBREC yet"),
            Some(Release::Unknown) | None => self.only_in_v5(ID_NOT_FOUND),
        };
        self.send_small(now, &Outgoing::PubComp { id, code });
        Ok(Step::Handled)
    }

    /// That the broker does not find the id (0x92) is success too: it completed the exchange
    /// before, and its first PUBCOMP was lost with the connection.
    fn pubcomp(&mut self, id: u16, code: u8) -> Result<Step, Cause> {
        let stage = self.stage(id);
        let released = stage.filter(|(_, stage)| matches!(stage, Stage::Released));
        match released.map(|(index, _)| index) {
            Some(index) => self.settle_exchange(index, if code == ID_NOT_FOUND { 0 } else { code }),
            None if self.surplus_releases > 0 => self.surplus_releases -= 1,
            None => {
                return unexpected("PUBCOMP", "nothing with this packet identifier waits for it");
            }
        }
        Ok(Step::Handled)
    }

    fn suback(&mut self, id: u16, codes: &[u8]) -> Result<Step, Cause> {
        let Some((index, count)) = self.batch(id, true) else {
            return unexpected("SUBACK", "nothing with this packet identifier waits for it");
        };
        if codes.len() != count {
            return unexpected("SUBACK", "it has not one code for each filter");
        }
        if codes.iter().any(|code| (3..FAILURE).contains(code)) {
            return unexpected("SUBACK", "it has a code that the standard reserves");
        }
        self.settle_batch(index, codes.iter().copied());
        Ok(Step::Handled)
    }

    fn unsuback(&mut self, id: u16, codes: &[u8]) -> Result<Step, Cause> {
        let Some((index, count)) = self.batch(id, false) else {
            return unexpected("UNSUBACK", "nothing with this packet identifier waits for it");
        };
        match self.settings.version {
            Version::V311 => self.settle_batch(index, std::iter::repeat_n(0, count)),
            Version::V5 if codes.len() == count => self.settle_batch(index, codes.iter().copied()),
            Version::V5 => return unexpected("UNSUBACK", "it has not one code for each filter"),
        }
        Ok(Step::Handled)
    }

    fn batch(&self, id: u16, is_subscribe: bool) -> Option<(usize, usize)> {
        self.carried.work()?.subscriptions.find(id, is_subscribe)
    }

    fn settle_batch(&mut self, index: usize, codes: impl Iterator<Item = u8>) {
        let Some(work) = self.carried.existing() else { return };
        for (change, code) in work.subscriptions.take(index).into_iter().zip(codes) {
            let outcome = self.outcome(code);
            self.settle_change(change, outcome);
        }
    }

    fn stage(&mut self, id: u16) -> Option<(usize, &mut Stage)> {
        let inflight = &mut self.carried.existing()?.inflight;
        let index = inflight.find(id)?;
        Some((index, inflight.stage(index)?))
    }

    /// Whether the exchange was taken up on this connection.
    fn is_sent(&self, id: u16) -> bool {
        let inflight = self.carried.work().map(|work| &work.inflight);
        inflight.is_some_and(|inflight| inflight.find(id).is_some_and(|at| inflight.is_sent(at)))
    }

    fn settle_exchange(&mut self, index: usize, code: u8) {
        let outcome = self.outcome(code);
        let exchange = self.carried.existing().and_then(|work| work.inflight.remove(index));
        if let Some(exchange) = exchange {
            exchange.ticket.settle(outcome);
        }
    }

    fn outcome(&self, code: u8) -> Result<(), Error> {
        if code < FAILURE {
            return Ok(());
        }
        Err(Error::Session(Cause::Rejected { code, reason: self.reason(code) }))
    }

    fn reason(&self, code: u8) -> &'static str {
        codec::reason_name(self.settings.version, code)
    }

    fn only_in_v5(&self, code: u8) -> u8 {
        if self.settings.version == Version::V5 { code } else { 0 }
    }
}

fn unexpected(packet: &'static str, problem: &'static str) -> Result<Step, Cause> {
    Err(ProtocolError::Unexpected { packet, problem }.into())
}

fn name(packet: &Incoming) -> &'static str {
    match packet {
        Incoming::ConnAck(_) => "CONNACK",
        Incoming::Publish(_) => "PUBLISH",
        Incoming::PubAck { .. } => "PUBACK",
        Incoming::PubRec { .. } => "PUBREC",
        Incoming::PubRel { .. } => "PUBREL",
        Incoming::PubComp { .. } => "PUBCOMP",
        Incoming::SubAck { .. } => "SUBACK",
        Incoming::UnsubAck { .. } => "UNSUBACK",
        Incoming::PingResp => "PINGRESP",
        Incoming::Disconnect { .. } => "DISCONNECT",
        Incoming::Unexpected(name) => name,
    }
}
