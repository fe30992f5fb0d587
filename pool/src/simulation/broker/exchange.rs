//! The broker's half of the exchanges with QoS 1 and 2 of one session.

use super::down_filter;
use crate::codec::server::{FromClient, ToClient};
use crate::message::QoS;
use crate::packet::IncomingPublish;
use crate::simulation::ledger::Ledger;
use crate::simulation::wire::Wire;
use bytes::Bytes;
use std::collections::VecDeque;

/// Mosquitto's `max_inflight_messages`, for clients that name no receive maximum.
const WINDOW: usize = 20;

/// Outlives the connection.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    /// Messages that were not sent yet.
    waiting: VecDeque<(usize, QoS)>,
    /// In the order in which they were sent first.
    under_way: VecDeque<Exchange>,
    /// So many of them were sent on this connection.
    sent: usize,
    window: usize,
    last_id: u16,
    /// Packet ids of the client between PUBLISH with QoS 2 and PUBREL.
    received: Vec<u16>,
    /// Those that the client began on this connection.
    begun: usize,
}

#[derive(Debug)]
struct Exchange {
    id: u16,
    number: usize,
    qos: QoS,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    Sent,
    Released,
}

impl Exchanges {
    pub(super) fn queue(&mut self, number: usize, qos: QoS) {
        self.waiting.push_back((number, qos));
    }

    /// A new connection: all that is under way is sent again (MQTT-4.4.0-1).
    pub(super) fn connected(&mut self, receive_maximum: Option<u16>) {
        (self.sent, self.begun) = (0, 0);
        self.window = receive_maximum.map_or(WINDOW, |maximum| usize::from(maximum).min(WINDOW));
    }

    /// The next packet that the window allows.
    pub(super) fn next(&mut self, device: usize) -> Option<ToClient> {
        if self.sent >= self.window {
            return None;
        }
        if self.sent == self.under_way.len() {
            let (number, qos) = self.waiting.pop_front()?;
            let id = self.free_id();
            self.under_way.push_back(Exchange { id, number, qos, stage: Stage::Fresh });
        }
        let exchange = &mut self.under_way[self.sent];
        self.sent += 1;
        let Exchange { id, number, qos, stage } = *exchange;
        if stage == Stage::Released {
            return Some(ToClient::PubRel { id, code: 0 });
        }
        exchange.stage = Stage::Sent;
        Some(publish(device, number, qos, id, stage == Stage::Sent))
    }

    /// A packet of an exchange, and the answer to it.
    pub(super) fn handle(
        &mut self,
        wire: &mut Wire,
        ledger: &mut Ledger,
        device: usize,
        packet: &FromClient,
        receive_maximum: usize,
    ) -> Result<Option<ToClient>, &'static str> {
        match packet {
            FromClient::Publish { publish, .. } => {
                let number = number_of(&publish.payload).ok_or("its payload is broken")?;
                if publish.topic != format!("u/{device}") {
                    return Err("its topic is another device's");
                }
                let id = publish.id;
                if publish.qos == QoS::ExactlyOnce && self.received.contains(&id) {
                    return Ok(Some(ToClient::PubRec { id, code: 0 }));
                }
                ledger.record(wire, device, publish.qos, number);
                match publish.qos {
                    QoS::AtMostOnce => Ok(None),
                    QoS::AtLeastOnce => Ok(Some(ToClient::PubAck { id, code: 0 })),
                    QoS::ExactlyOnce => {
                        self.received.push(id);
                        self.begun += 1;
                        if self.begun > receive_maximum {
                            return Err("more at once than our receive maximum");
                        }
                        Ok(Some(ToClient::PubRec { id, code: 0 }))
                    }
                }
            }
            FromClient::PubAck { id, .. } => {
                let index = self.find(*id, QoS::AtLeastOnce, Stage::Sent)?;
                self.end(index);
                Ok(None)
            }
            FromClient::PubRec { id, .. } => {
                let index = self.find(*id, QoS::ExactlyOnce, Stage::Sent)?;
                self.under_way[index].stage = Stage::Released;
                Ok(Some(ToClient::PubRel { id: *id, code: 0 }))
            }
            FromClient::PubRel { id, .. } => {
                if let Some(index) = self.received.iter().position(|received| received == id) {
                    self.received.swap_remove(index);
                    self.begun = self.begun.saturating_sub(1);
                }
                Ok(Some(ToClient::PubComp { id: *id, code: 0 }))
            }
            FromClient::PubComp { id, .. } => {
                let index = self.find(*id, QoS::ExactlyOnce, Stage::Released)?;
                self.end(index);
                Ok(None)
            }
            _ => Err("it has no place here"),
        }
    }

    fn find(&self, id: u16, qos: QoS, stage: Stage) -> Result<usize, &'static str> {
        let sent = self.under_way.iter().take(self.sent);
        sent.enumerate()
            .find(|(_, it)| it.id == id && it.qos == qos && it.stage == stage)
            .map(|(index, _)| index)
            .ok_or("it answers nothing that was sent on this connection")
    }

    fn end(&mut self, index: usize) {
        self.under_way.remove(index);
        self.sent -= 1;
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.under_way.iter().all(|exchange| exchange.id != self.last_id) {
                return self.last_id;
            }
        }
    }
}

/// A message to a device.
pub(super) fn publish(
    device: usize,
    number: usize,
    qos: QoS,
    id: u16,
    duplicate: bool,
) -> ToClient {
    ToClient::Publish(IncomingPublish {
        duplicate,
        qos,
        retain: false,
        topic: down_filter(device),
        id,
        payload: payload(number),
        properties: None,
    })
}

/// A number, and behind it what makes the packets differ in length.
pub(in crate::simulation) fn payload(number: usize) -> Bytes {
    let mut bytes = format!("{number}:").into_bytes();
    bytes.resize(bytes.len() + number % 47, b'.');
    bytes.into()
}

/// The number of a message.
pub(in crate::simulation) fn number_of(payload: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(payload).ok()?;
    let (number, filling) = text.split_once(':')?;
    let number = number.parse().ok()?;
    (filling.len() == number % 47).then_some(number)
}
