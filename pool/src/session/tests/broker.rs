//! A broker as the standard wants it, which checks the client at every packet.

use super::wire::{self, Sent};
use crate::packet::Version;
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) struct Broker {
    version: Version,
    /// What it takes at once.
    pub(super) window: u16,
    inbox: BytesMut,
    /// On the way to the client.
    pub(super) down: BytesMut,
    /// Not given yet, in order, and the packet id that each sets free.
    answers: VecDeque<(Vec<u8>, Option<u16>)>,
    /// Packet ids that the client uses on this connection; those of publishes are `true`.
    used: BTreeMap<u16, bool>,
    is_online: bool,

    // The session, which outlives the connection.
    has_session: bool,
    /// Packet ids between PUBLISH with QoS 2 and PUBREL, and which message it was.
    held: BTreeMap<u16, u32>,
    /// Messages that the client sent without the mark of a duplicate.
    seen: BTreeSet<u32>,
    pub(super) subscriptions: BTreeSet<String>,
    messages: VecDeque<Message>,
    last_id: u16,

    /// All publishes of the client that were passed on: quality of service and message.
    pub(super) taken: Vec<(u8, u32)>,
}

struct Message {
    id: u16,
    qos: u8,
    number: u32,
    was_sent: bool,
    is_released: bool,
    /// On this connection.
    is_sent: bool,
}

impl Broker {
    pub(super) fn new(version: Version, window: u16) -> Self {
        Self {
            version,
            window,
            inbox: BytesMut::new(),
            down: BytesMut::new(),
            answers: VecDeque::new(),
            used: BTreeMap::new(),
            is_online: false,
            has_session: false,
            held: BTreeMap::new(),
            seen: BTreeSet::new(),
            subscriptions: BTreeSet::new(),
            messages: VecDeque::new(),
            last_id: 0,
            taken: Vec::new(),
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.inbox.clear();
        self.down.clear();
        self.answers.clear();
        self.used.clear();
        self.is_online = false;
        for message in &mut self.messages {
            message.is_sent = false;
        }
    }

    pub(super) fn forget(&mut self) {
        self.has_session = false;
        self.held.clear();
        self.seen.clear();
        self.subscriptions.clear();
        self.messages.clear();
    }

    pub(super) fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Nothing is on the way to the client, and no answer is owed.
    pub(super) fn is_quiet(&self) -> bool {
        self.down.is_empty() && self.answers.is_empty()
    }

    /// Publishes to the client.
    pub(super) fn publish(&mut self, qos: u8, number: u32) {
        if qos == 0 {
            if self.is_online {
                self.write_publish(0, 0, number, false);
            }
            return;
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.messages.push_back(Message {
            id: self.last_id,
            qos,
            number,
            was_sent: false,
            is_released: false,
            is_sent: false,
        });
        self.pump();
    }

    /// Gives an answer that waits.
    pub(super) fn answer(&mut self) -> bool {
        let Some((answer, freed)) = self.answers.pop_front() else { return false };
        self.down.extend_from_slice(&answer);
        freed.map(|id| self.used.remove(&id));
        true
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while let Some(packet) = wire::read(self.version, &mut self.inbox) {
            let is_connect = matches!(packet, Sent::Connect { .. });
            assert_eq!(is_connect, !self.is_online, "{packet}");
            self.handle(packet);
            self.pump();
        }
    }

    fn handle(&mut self, packet: Sent) {
        match packet {
            Sent::Connect { .. } => {
                let properties = [&[0x21][..], &self.window.to_be_bytes()].concat();
                let connack = wire::connack(self.version, self.has_session, 0, &properties);
                self.down.extend_from_slice(&connack);
                self.is_online = true;
                self.has_session = true;
            }
            Sent::Publish { duplicate, qos, id, payload, .. } => {
                let number: [u8; 4] = payload[..].try_into().expect("invariant: a number");
                self.take(duplicate, qos, id, u32::from_be_bytes(number));
            }
            Sent::Ack { name, id, code } => self.acknowledged(name, id, code),
            Sent::Subscribe { id, filters } => {
                self.use_id(id, false);
                let codes = vec![0; filters.len()];
                self.subscriptions.extend(filters);
                self.answers.push_back((wire::suback(self.version, id, &codes), Some(id)));
            }
            Sent::Unsubscribe { id, filters } => {
                self.use_id(id, false);
                for filter in &filters {
                    self.subscriptions.remove(filter);
                }
                let codes = vec![0; filters.len()];
                self.answers.push_back((wire::unsuback(self.version, id, &codes), Some(id)));
            }
            Sent::PingReq => self.answers.push_back((wire::pingresp(), None)),
            // Planned, or because a packet of ours was too slow.
            Sent::Disconnect { code } => assert!(matches!(code, 0 | 0x80), "{code:#04x}"),
        }
    }

    fn use_id(&mut self, id: u16, is_publish: bool) {
        assert_ne!(id, 0);
        assert!(self.used.insert(id, is_publish).is_none(), "id {id} is in use");
        let publishes = self.used.values().filter(|is_publish| **is_publish).count();
        assert!(publishes <= usize::from(self.window), "{publishes} publishes at once");
    }

    fn take(&mut self, duplicate: bool, qos: u8, id: u16, number: u32) {
        if qos == 0 {
            assert!(!duplicate);
            self.taken.push((0, number));
            return;
        }
        self.use_id(id, true);
        let is_first = self.seen.insert(number);
        assert!(is_first || duplicate, "message {number} came before");
        if qos == 1 {
            self.taken.push((1, number));
            self.answers.push_back((wire::ack(self.version, "PUBACK", id, 0), Some(id)));
            return;
        }
        match self.held.insert(id, number) {
            Some(held) => assert_eq!(held, number, "another message under the id {id}"),
            None => self.taken.push((2, number)),
        }
        self.answers.push_back((wire::ack(self.version, "PUBREC", id, 0), None));
    }

    fn acknowledged(&mut self, name: &str, id: u16, code: u8) {
        if name == "PUBREL" {
            let is_known = self.held.remove(&id).is_some();
            let code = if is_known || self.version == Version::V311 { 0 } else { 0x92 };
            self.answers.push_back((wire::ack(self.version, "PUBCOMP", id, code), Some(id)));
            return;
        }
        let index = self.messages.iter().position(|message| message.id == id);
        let index = index.unwrap_or_else(|| panic!("{name} {id} answers nothing"));
        let message = &mut self.messages[index];
        assert!(message.is_sent, "{name} {id} was not asked for on this connection");
        match (name, message.qos, message.is_released) {
            ("PUBREC", 2, false) => {
                assert_eq!(code, 0);
                message.is_released = true;
                self.down.extend_from_slice(&wire::ack(self.version, "PUBREL", id, 0));
            }
            ("PUBACK", 1, false) | ("PUBCOMP", 2, true) => {
                assert!(code == 0 || (name == "PUBCOMP" && code == 0x92));
                self.messages.remove(index);
            }
            other => panic!("{other:?} for {id}"),
        }
    }

    /// Sends what the client's receive maximum allows, for the first time or again.
    fn pump(&mut self) {
        if !self.is_online {
            return;
        }
        for index in 0..self.messages.len().min(4) {
            let message = &mut self.messages[index];
            if message.is_sent {
                continue;
            }
            message.is_sent = true;
            let duplicate = std::mem::replace(&mut message.was_sent, true);
            let Message { id, qos, number, is_released, .. } = *message;
            if is_released {
                self.down.extend_from_slice(&wire::ack(self.version, "PUBREL", id, 0));
            } else {
                self.write_publish(qos, id, number, duplicate);
            }
        }
    }

    fn write_publish(&mut self, qos: u8, id: u16, number: u32, duplicate: bool) {
        let payload = number.to_be_bytes();
        let bytes = wire::publish(self.version, "t", qos, id, duplicate, &payload);
        self.down.extend_from_slice(&bytes);
    }
}
