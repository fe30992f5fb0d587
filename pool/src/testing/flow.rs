//! The deliveries of one session with QoS 1 and 2, in both directions (MQTT 3.1.1 §4.3, §4.4).

use super::wire::Message;
use crate::message::QoS;
use std::collections::VecDeque;
use std::sync::Arc;

/// Made when a session first needs it, and thrown away when nothing is left in it.
#[derive(Debug, Default)]
pub(super) struct Flow {
    last_id: u16,
    in_flight: VecDeque<InFlight>,
    waiting: VecDeque<Waiting>,
    /// Ids of the client's publishes with QoS 2 that it has not released yet.
    received: Vec<u16>,
}

/// A message on its way to the client.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InFlight {
    pub(super) id: u16,
    pub(super) stage: Stage,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) message: Arc<Message>,
}

/// What the client has to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// PUBACK ends it.
    Acknowledge,
    /// PUBREC makes it [`Stage::Complete`], or ends it by a code of 0x80 and above.
    Receive,
    /// PUBCOMP ends it.
    Complete,
}

#[derive(Debug)]
struct Waiting {
    qos: QoS,
    retain: bool,
    message: Arc<Message>,
}

impl Flow {
    /// Queues a message with QoS 1 or 2; false when `limit` of them wait already.
    pub(super) fn push(
        &mut self,
        qos: QoS,
        retain: bool,
        message: Arc<Message>,
        limit: usize,
    ) -> bool {
        if self.waiting.len() >= limit {
            return false;
        }
        self.waiting.push_back(Waiting { qos, retain, message });
        true
    }

    /// The next message to send, when fewer than `window` are under way.
    pub(super) fn start_next(&mut self, window: u16) -> Option<&InFlight> {
        if self.in_flight.len() >= usize::from(window) {
            return None;
        }
        let Waiting { qos, retain, message } = self.waiting.pop_front()?;
        let stage = if qos == QoS::ExactlyOnce { Stage::Receive } else { Stage::Acknowledge };
        let id = self.free_id();
        self.in_flight.push_back(InFlight { id, stage, qos, retain, message });
        self.in_flight.back()
    }

    /// PUBACK; false when nothing waits for it.
    pub(super) fn acknowledged(&mut self, id: u16) -> bool {
        self.finish(id, Stage::Acknowledge)
    }

    /// PUBREC; false when nothing waits for it.
    pub(super) fn recorded(&mut self, id: u16, code: u8) -> bool {
        if code >= 0x80 {
            return self.finish(id, Stage::Receive);
        }
        // It may come twice: once more after a reconnect.
        let found =
            self.in_flight.iter_mut().find(|one| one.id == id && one.qos > QoS::AtLeastOnce);
        match found {
            Some(one) => {
                one.stage = Stage::Complete;
                true
            }
            None => false,
        }
    }

    /// PUBCOMP; false when nothing waits for it.
    pub(super) fn completed(&mut self, id: u16) -> bool {
        self.finish(id, Stage::Complete)
    }

    /// Takes a message out again that cannot be sent.
    pub(super) fn abandon(&mut self, id: u16) {
        self.in_flight.retain(|one| one.id != id);
    }

    /// What a new connection has to send again, in order [MQTT-4.4.0-1].
    pub(super) fn unfinished(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter()
    }

    /// A publish of the client with QoS 2; false when it is here already.
    pub(super) fn receive(&mut self, id: u16) -> bool {
        let new = !self.received.contains(&id);
        if new {
            self.received.push(id);
        }
        new
    }

    /// PUBREL; false when there is no such publish.
    pub(super) fn release(&mut self, id: u16) -> bool {
        let before = self.received.len();
        self.received.retain(|one| *one != id);
        self.received.len() < before
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn queued(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn unreleased(&self) -> &[u16] {
        &self.received
    }

    /// Nothing is left in it.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty() && self.received.is_empty()
    }

    fn finish(&mut self, id: u16, stage: Stage) -> bool {
        let before = self.in_flight.len();
        self.in_flight.retain(|one| !(one.id == id && one.stage == stage));
        self.in_flight.len() < before
    }

    fn free_id(&mut self) -> u16 {
        // A window has at most 65,535 messages and one of them is not there yet: an id is free.
        loop {
            self.last_id = if self.last_id == u16::MAX { 1 } else { self.last_id + 1 };
            if self.in_flight.iter().all(|one| one.id != self.last_id) {
                return self.last_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(messages: &[QoS]) -> Flow {
        let mut flow = Flow::default();
        for qos in messages {
            assert!(flow.push(*qos, false, Arc::new(message(*qos)), 10));
        }
        flow
    }

    fn message(qos: QoS) -> Message {
        Message {
            topic: "t".into(),
            payload: bytes::Bytes::new(),
            qos,
            retain: false,
            properties: bytes::Bytes::new(),
            expiry: None,
            expires: None,
        }
    }

    fn start_all(flow: &mut Flow, window: u16) -> Vec<u16> {
        std::iter::from_fn(|| flow.start_next(window).map(|one| one.id)).collect()
    }

    #[test]
    fn no_more_than_the_window_is_under_way() {
        let mut flow = flow(&[QoS::AtLeastOnce; 5]);
        assert_eq!(start_all(&mut flow, 2), [1, 2]);
        assert!(flow.acknowledged(1));
        assert_eq!(start_all(&mut flow, 2), [3]);
        assert_eq!((flow.in_flight(), flow.queued()), (2, 2));
    }

    #[test]
    fn qos_2_needs_both_answers_in_order() {
        let mut flow = flow(&[QoS::ExactlyOnce]);
        start_all(&mut flow, 10);
        assert!(!flow.acknowledged(1));
        assert!(!flow.completed(1));
        assert!(flow.recorded(1, 0));
        assert!(flow.recorded(1, 0), "a repeated PUBREC is answered again");
        assert!(flow.completed(1));
        assert!(flow.is_idle());
    }

    #[test]
    fn a_refused_publish_is_over() {
        let mut flow = flow(&[QoS::ExactlyOnce]);
        start_all(&mut flow, 10);
        assert!(flow.recorded(1, 0x97));
        assert!(flow.is_idle());
    }

    #[test]
    fn ids_wrap_round_zero_and_those_in_use() {
        let mut flow = flow(&[QoS::AtLeastOnce; 3]);
        flow.start_next(10);
        flow.last_id = u16::MAX - 1;
        assert_eq!(start_all(&mut flow, 10), [u16::MAX, 2]);
    }

    #[test]
    fn a_publish_with_qos_2_is_new_once_until_it_is_released() {
        let mut flow = Flow::default();
        assert!(flow.receive(7));
        assert!(!flow.receive(7));
        assert!(flow.release(7));
        assert!(!flow.release(7));
        assert!(flow.receive(7));
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let mut flow = flow(&[QoS::AtLeastOnce; 10]);
        assert!(!flow.push(QoS::AtLeastOnce, false, Arc::new(message(QoS::AtLeastOnce)), 10));
    }
}
