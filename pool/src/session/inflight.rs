//! Outgoing publishes with QoS 1 and 2 that the broker has not answered to the end.

use crate::message::{Publish, QoS};
use crate::request::Ticket;
use std::collections::VecDeque;

/// In the order in which they were asked for, which is the order in which they are sent, and sent
/// again (MQTT 3.1.1 §4.6).
///
/// Look-ups are linear: the window is small, and a broker answers in order, so that the first
/// ones match.
#[derive(Debug, Default)]
pub(super) struct Inflight {
    exchanges: VecDeque<Exchange>,
    /// So many from the front were sent on this connection; the others wait for the window.
    sent: usize,
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: u16,
    pub(super) stage: Stage,
    pub(super) ticket: Ticket,
}

/// How far an exchange is.
///
/// `Fresh` → `Sent` when it is written; `Sent` → `Released` by PUBREC; `Sent` → `Fresh` when the
/// broker lost its session; each ends by the last acknowledgement or a refusal.
#[derive(Debug)]
pub(super) enum Stage {
    /// The broker's session has never seen it.
    Fresh(Publish),
    /// The broker may have it: sent again, it is marked as a duplicate.
    Sent(Publish),
    /// PUBREC came, so PUBREL is what is sent again; the message itself is not needed any more.
    Released,
}

impl Stage {
    /// Whether it was sent with QoS 2, and the broker did not say yet that it has it.
    pub(super) fn awaits_pubrec(&self) -> bool {
        matches!(self, Self::Sent(publish) if publish.qos == QoS::ExactlyOnce)
    }
}

impl Inflight {
    pub(super) fn push(&mut self, id: u16, publish: Publish, ticket: Ticket) {
        self.exchanges.push_back(Exchange { id, stage: Stage::Fresh(publish), ticket });
    }

    /// How many were sent on this connection and are not ended.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.sent < self.exchanges.len()
    }

    pub(super) fn len(&self) -> usize {
        self.exchanges.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u16> {
        self.exchanges.iter().map(|exchange| exchange.id)
    }

    pub(super) fn find(&self, id: u16) -> Option<usize> {
        self.exchanges.iter().position(|exchange| exchange.id == id)
    }

    pub(super) fn stage(&mut self, index: usize) -> Option<&mut Stage> {
        self.exchanges.get_mut(index).map(|exchange| &mut exchange.stage)
    }

    /// Which of them was sent on this connection: an answer may come for those only.
    pub(super) fn is_sent(&self, index: usize) -> bool {
        index < self.sent
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Exchange> {
        let exchange = self.exchanges.remove(index)?;
        self.sent -= usize::from(index < self.sent);
        Some(exchange)
    }

    /// The next to send, and its place.
    pub(super) fn next_waiting(&self) -> Option<(usize, &Exchange)> {
        self.exchanges.get(self.sent).map(|exchange| (self.sent, exchange))
    }

    /// The one of [`Inflight::next_waiting`] is written.
    pub(super) fn mark_sent(&mut self) {
        let Some(exchange) = self.exchanges.get_mut(self.sent) else { return };
        exchange.stage = match std::mem::replace(&mut exchange.stage, Stage::Released) {
            Stage::Fresh(publish) | Stage::Sent(publish) => Stage::Sent(publish),
            Stage::Released => Stage::Released,
        };
        self.sent += 1;
    }

    /// For the next connection: all of them are sent again.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
    }

    /// The broker lost its session. Gives the tickets of those that are complete.
    ///
    /// A PUBREC says that the broker has taken the message over (MQTT 3.1.1 §4.3.3), so all that
    /// was missing is the tidying up of ids that the broker has forgotten anyway. To publish it
    /// once more would make a second message of it. The others may never have arrived, and are
    /// sent as new ones: MQTT 5 discards the session's state here (MQTT-3.2.2-5), but what the
    /// application asked for is not the session's.
    pub(super) fn forget(&mut self) -> Vec<Ticket> {
        self.sent = 0;
        let mut complete = Vec::new();
        for exchange in std::mem::take(&mut self.exchanges) {
            let Exchange { id, stage, ticket } = exchange;
            match stage {
                Stage::Fresh(publish) | Stage::Sent(publish) => self.push(id, publish, ticket),
                Stage::Released => complete.push(ticket),
            }
        }
        complete
    }

    pub(super) fn into_tickets(self) -> impl Iterator<Item = Ticket> {
        self.exchanges.into_iter().map(|exchange| exchange.ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Inflight {
        let mut inflight = Inflight::default();
        for id in [11, 12, 13] {
            let publish = Publish::new("t", QoS::ExactlyOnce, "").expect("invariant: a topic");
            inflight.push(id, publish, Ticket::default());
        }
        inflight
    }

    #[test]
    fn those_sent_are_a_prefix_whatever_is_removed() {
        let mut inflight = three();
        inflight.mark_sent();
        inflight.mark_sent();
        assert_eq!(inflight.sent(), 2);
        assert!(inflight.remove(2).is_some_and(|exchange| exchange.id == 13));
        assert_eq!(inflight.sent(), 2);
        assert!(!inflight.has_waiting());
        assert!(inflight.remove(0).is_some_and(|exchange| exchange.id == 11));
        assert_eq!(inflight.sent(), 1);
        inflight.mark_sent();
        assert_eq!(inflight.sent(), 1);
        inflight.restart();
        assert!(inflight.next_waiting().is_some_and(|(_, exchange)| exchange.id == 12));
    }

    #[test]
    fn a_broker_that_lost_its_session_gets_all_but_the_released_as_new_ones() {
        let mut inflight = three();
        inflight.mark_sent();
        inflight.mark_sent();
        let stage = inflight.stage(0).expect("invariant: three of them");
        *stage = Stage::Released;
        assert_eq!(inflight.forget().len(), 1);
        assert_eq!(inflight.ids().collect::<Vec<_>>(), [12, 13]);
        assert!(matches!(inflight.stage(0), Some(Stage::Fresh(_))));
    }
}
