//! What the application wants sent.

use super::inflight::Stage;
use super::subscriptions::{Change, Filters};
use super::{OUTPUT_LIMIT, Refusal, Session, State};
use crate::codec::{self, TooLarge};
use crate::error::{CallerError, Cause, Error};
use crate::message::{Publish, QoS};
use crate::packet::{Outgoing, OutgoingPublish, Version};
use crate::request::{Request, Ticket};
use std::time::Instant;

/// Exchanges at once, whatever the window: the other packet ids are for subscriptions.
const MOST_EXCHANGES: u16 = 60_000;

impl Session {
    /// Whether one more request can go out at once: online, with room in the window, and nothing
    /// before it that waits.
    pub(crate) fn can_take(&self) -> bool {
        if self.state != State::Online || self.output.len() >= OUTPUT_LIMIT {
            return false;
        }
        self.carried.work().is_none_or(|work| {
            work.inflight.sent() < self.window()
                && !work.inflight.has_waiting()
                && !work.subscriptions.has_waiting()
                && !work.subscriptions.is_full()
        })
    }

    /// Takes a request over, with its ticket. Only while [`Session::can_take`]: what comes at
    /// another time waits for the next session, or is lost with this one if it has QoS 0.
    pub(crate) fn request(&mut self, now: Instant, request: Request) {
        match request {
            Request::Publish(publish, ticket) if publish.qos == QoS::AtMostOnce => {
                self.send_once(now, &publish, ticket);
            }
            Request::Publish(publish, ticket) => self.push_publish(publish, ticket),
            Request::Subscribe(subscription, ticket) => {
                let change = Change::Subscribe(subscription, Some(ticket));
                self.carried.needed().subscriptions.push(change);
            }
            Request::Unsubscribe(filter, ticket) => {
                let change = Change::Unsubscribe(filter, ticket);
                self.carried.needed().subscriptions.push(change);
            }
        }
        self.pump(now);
        self.carried.tidy();
    }

    /// Fills the output with what waits, as far as the windows and the output's limit allow:
    /// subscriptions first, so that no answer to a publish is missed.
    pub(super) fn pump(&mut self, now: Instant) {
        if self.state != State::Online {
            return;
        }
        while self.output.len() < OUTPUT_LIMIT
            && (self.send_subscriptions(now) || self.send_publish(now))
        {}
    }

    pub(super) fn window(&self) -> usize {
        let ours = self.settings.inflight.clamp(1, MOST_EXCHANGES);
        usize::from(ours.min(self.limits.receive_maximum))
    }

    fn send_once(&mut self, now: Instant, publish: &Publish, ticket: Ticket) {
        if self.state != State::Online {
            self.rare().unsent.push(ticket);
            return;
        }
        let packet = Outgoing::Publish(packet(publish, 0, false));
        let sent = self.check_publish(publish).and_then(|()| self.send_checked(now, &packet));
        match sent {
            Ok(()) => self.rare().unwritten.push(ticket),
            Err(error) => ticket.settle(Err(error)),
        }
    }

    fn push_publish(&mut self, publish: Publish, ticket: Ticket) {
        let waiting = self.carried.work().map_or(0, |work| work.inflight.len());
        if waiting >= usize::from(MOST_EXCHANGES) {
            let device = self.device.id().clone();
            ticket.settle(Err(CallerError::OutboxFull { device, waiting }.into()));
            return;
        }
        let id = self.carried.free_id();
        self.carried.needed().inflight.push(id, publish, ticket);
    }

    /// Sends the next exchange, for the first time or again, or gives it up. `false` when there is
    /// none, or no room in the window.
    fn send_publish(&mut self, now: Instant) -> bool {
        let window = self.window();
        // Taken out, so that the rest of the session can be used beside it.
        let Some(mut inflight) =
            self.carried.existing().map(|work| std::mem::take(&mut work.inflight))
        else {
            return false;
        };
        let mut progress = false;
        if inflight.sent() < window
            && let Some((index, exchange)) = inflight.next_waiting()
        {
            progress = true;
            let id = exchange.id;
            let sent = match &exchange.stage {
                Stage::Fresh(publish) => self.send_exchange(now, publish, id, false),
                Stage::Sent(publish) => self.send_exchange(now, publish, id, true),
                Stage::Released => {
                    self.send_small(now, &Outgoing::PubRel { id, code: 0 });
                    Ok(())
                }
            };
            match sent {
                Ok(()) => inflight.mark_sent(),
                Err(error) => {
                    if let Some(exchange) = inflight.remove(index) {
                        exchange.ticket.settle(Err(error));
                    }
                }
            }
        }
        self.carried.needed().inflight = inflight;
        progress
    }

    fn send_exchange(
        &mut self,
        now: Instant,
        publish: &Publish,
        id: u16,
        duplicate: bool,
    ) -> Result<(), Error> {
        self.check_publish(publish)?;
        self.send_checked(now, &Outgoing::Publish(packet(publish, id, duplicate)))
    }

    /// What the broker said in its CONNACK that it does not take (MQTT 5 §3.2.2.3.4 and 5).
    fn check_publish(&self, publish: &Publish) -> Result<(), Error> {
        let code = if publish.qos > self.limits.maximum_qos {
            0x9B
        } else if publish.retain && !self.limits.retain_available {
            0x9A
        } else {
            return Ok(());
        };
        Err(Error::Session(Cause::Rejected { code, reason: codec::reason_name(Version::V5, code) }))
    }

    /// Not sent when it is larger than the broker takes (MQTT-3.2.2-15 in 5).
    fn send_checked(&mut self, now: Instant, packet: &Outgoing<'_>) -> Result<(), Error> {
        self.check_size(packet)?;
        self.send(now, packet).map_err(|TooLarge { size, limit }| {
            CallerError::PacketTooLarge { size, limit, by: "MQTT" }.into()
        })
    }

    fn check_size(&self, packet: &Outgoing<'_>) -> Result<(), Error> {
        let Some(limit) = self.limits.maximum_packet else { return Ok(()) };
        let size = codec::encoded_size(self.settings.version, packet);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if size > limit {
            return Err(CallerError::PacketTooLarge { size, limit, by: "the broker" }.into());
        }
        Ok(())
    }

    /// Sends the next SUBSCRIBE or UNSUBSCRIBE with as many filters as fit, or gives its first one
    /// up. `false` when there is none, or too many are under way.
    fn send_subscriptions(&mut self, now: Instant) -> bool {
        let next = self.carried.work().and_then(|work| work.subscriptions.next());
        let Some(mut filters) = next else { return false };
        let id = self.carried.free_id();
        let mut sent = self.send_filters(now, id, &filters);
        while sent.is_err() && filters.len() > 1 {
            filters.shorten();
            sent = self.send_filters(now, id, &filters);
        }
        let subscriptions = &mut self.carried.needed().subscriptions;
        match sent {
            Ok(()) => subscriptions.mark_sent(id, filters.len()),
            Err(error) => {
                let change = subscriptions.give_up_next();
                if let Some(change) = change {
                    self.settle_change(change, Err(error));
                }
            }
        }
        true
    }

    fn send_filters(&mut self, now: Instant, id: u16, filters: &Filters) -> Result<(), Error> {
        let packet = match filters {
            Filters::Subscribe(subscriptions) => Outgoing::Subscribe { id, subscriptions },
            Filters::Unsubscribe(filters) => Outgoing::Unsubscribe { id, filters },
        };
        self.send_checked(now, &packet)
    }

    /// The end of a change that went well, or did not.
    pub(super) fn settle_change(&mut self, change: Change, outcome: Result<(), Error>) {
        match (change, outcome) {
            (Change::Subscribe(subscription, Some(ticket)), outcome) => {
                if outcome.is_ok() {
                    self.carried.needed().subscriptions.add(subscription);
                }
                ticket.settle(outcome);
            }
            (Change::Subscribe(_, None), Ok(())) => {}
            (Change::Subscribe(subscription, None), Err(error)) => {
                let refusal = Refusal { filter: subscription.filter, error };
                self.rare().refusals.push_back(refusal);
            }
            (Change::Unsubscribe(filter, ticket), outcome) => {
                if outcome.is_ok() {
                    self.carried.needed().subscriptions.remove(&filter);
                }
                ticket.settle(outcome);
            }
        }
    }
}

fn packet(publish: &Publish, id: u16, duplicate: bool) -> OutgoingPublish<'_> {
    OutgoingPublish {
        duplicate,
        qos: publish.qos,
        retain: publish.retain,
        topic: &publish.topic,
        id,
        payload: &publish.payload,
        properties: publish.properties.as_deref(),
        topic_alias: None,
    }
}
