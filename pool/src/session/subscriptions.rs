//! SUBSCRIBE and UNSUBSCRIBE: what waits, what is unanswered, and what the application added.

use crate::message::Subscription;
use crate::request::Ticket;
use std::collections::VecDeque;
use std::sync::Arc;

/// Unanswered packets at once. Chosen: enough to hide the way to the broker, and a bound on what a
/// device with thousands of filters has under way.
const MOST_BATCHES: usize = 16;

/// Filters in one packet: as many as AWS IoT Core takes ("AWS IoT Core endpoints and quotas",
/// subscriptions per subscribe request).
const MOST_FILTERS: usize = 8;

/// Changes in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    waiting: VecDeque<Change>,
    /// Sent on this connection and not answered.
    sent: Vec<Batch>,
    /// Those that the application added at run time and the broker granted; they are made again
    /// when the broker lost its session. The device's own are in the device.
    added: Vec<Subscription>,
}

#[derive(Debug)]
pub(super) enum Change {
    /// Without a ticket, it is one of the device's or an added one that is made again.
    Subscribe(Subscription, Option<Ticket>),
    Unsubscribe(Arc<str>, Ticket),
}

/// The changes of one packet, all of one kind.
#[derive(Debug)]
struct Batch {
    id: u16,
    changes: Vec<Change>,
}

/// The content of one packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filters {
    Subscribe(Vec<Subscription>),
    Unsubscribe(Vec<Arc<str>>),
}

impl Filters {
    /// How many of them are in the packet.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Subscribe(subscriptions) => subscriptions.len(),
            Self::Unsubscribe(filters) => filters.len(),
        }
    }

    /// Leaves the last one for another packet.
    pub(super) fn shorten(&mut self) {
        match self {
            Self::Subscribe(subscriptions) => drop(subscriptions.pop()),
            Self::Unsubscribe(filters) => drop(filters.pop()),
        }
    }
}

impl Subscriptions {
    pub(super) fn push(&mut self, change: Change) {
        self.waiting.push_back(change);
    }

    /// Those of the device, before all that waits.
    pub(super) fn push_device(&mut self, subscriptions: &[Subscription]) {
        for subscription in subscriptions.iter().rev() {
            self.waiting.push_front(Change::Subscribe(subscription.clone(), None));
        }
    }

    /// The broker has none of them any more: the device's and the added ones are made again, then
    /// what waits, in its order.
    pub(super) fn renew(&mut self, device: &[Subscription]) {
        self.waiting.retain(|change| !matches!(change, Change::Subscribe(_, None)));
        let gone: Vec<Arc<str>> = self.waiting.iter().filter_map(Change::unsubscribed).collect();
        for subscription in self.added.iter().rev() {
            if !gone.contains(&subscription.filter) {
                self.waiting.push_front(Change::Subscribe(subscription.clone(), None));
            }
        }
        self.push_device(device);
    }

    /// Whether one more packet may be under way, and something is there for it.
    pub(super) fn next(&self) -> Option<Filters> {
        if self.sent.len() >= MOST_BATCHES {
            return None;
        }
        let first = self.waiting.iter().take(MOST_FILTERS);
        let filters = match self.waiting.front()? {
            Change::Subscribe(..) => {
                Filters::Subscribe(first.map_while(Change::subscription).collect())
            }
            Change::Unsubscribe(..) => {
                Filters::Unsubscribe(first.map_while(Change::unsubscribed).collect())
            }
        };
        Some(filters)
    }

    /// So many from the front are in a packet now.
    pub(super) fn mark_sent(&mut self, id: u16, count: usize) {
        let changes = self.waiting.drain(..count.min(self.waiting.len())).collect();
        self.sent.push(Batch { id, changes });
    }

    /// The first that waits, which cannot be sent at all.
    pub(super) fn give_up_next(&mut self) -> Option<Change> {
        self.waiting.pop_front()
    }

    /// Which batch a SUBACK, or else an UNSUBACK, answers, and how many changes it has.
    pub(super) fn find(&self, id: u16, is_subscribe: bool) -> Option<(usize, usize)> {
        let index = self.sent.iter().position(|batch| {
            let first = batch.changes.first();
            batch.id == id && is_subscribe == matches!(first, Some(Change::Subscribe(..)))
        })?;
        Some((index, self.sent[index].changes.len()))
    }

    /// The changes of the batch at a place of [`Subscriptions::find`], in order.
    pub(super) fn take(&mut self, index: usize) -> Vec<Change> {
        self.sent.remove(index).changes
    }

    /// The broker granted what the application asked for.
    pub(super) fn add(&mut self, subscription: Subscription) {
        self.remove(&subscription.filter);
        self.added.push(subscription);
    }

    /// It is not made again.
    pub(super) fn remove(&mut self, filter: &str) {
        self.added.retain(|subscription| &*subscription.filter != filter);
    }

    /// For the next connection: what was not answered is asked for again, in its order.
    pub(super) fn restart(&mut self) {
        for batch in std::mem::take(&mut self.sent).into_iter().rev() {
            for change in batch.changes.into_iter().rev() {
                self.waiting.push_front(change);
            }
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= MOST_BATCHES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty() && self.added.is_empty()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u16> {
        self.sent.iter().map(|batch| batch.id)
    }

    pub(super) fn into_tickets(self) -> impl Iterator<Item = Ticket> {
        let sent = self.sent.into_iter().flat_map(|batch| batch.changes);
        sent.chain(self.waiting).filter_map(Change::into_ticket)
    }
}

impl Change {
    fn subscription(&self) -> Option<Subscription> {
        match self {
            Self::Subscribe(subscription, _) => Some(subscription.clone()),
            Self::Unsubscribe(..) => None,
        }
    }

    fn unsubscribed(&self) -> Option<Arc<str>> {
        match self {
            Self::Subscribe(..) => None,
            Self::Unsubscribe(filter, _) => Some(Arc::clone(filter)),
        }
    }

    fn into_ticket(self) -> Option<Ticket> {
        match self {
            Self::Subscribe(_, ticket) => ticket,
            Self::Unsubscribe(_, ticket) => Some(ticket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::QoS;

    fn subscription(filter: &str) -> Subscription {
        Subscription::new(filter, QoS::AtLeastOnce).expect("invariant: a filter")
    }

    fn subscribe(filter: &str) -> Change {
        Change::Subscribe(subscription(filter), Some(Ticket::default()))
    }

    fn unsubscribe(filter: &str) -> Change {
        Change::Unsubscribe(filter.into(), Ticket::default())
    }

    /// All that waits, as packets: `+` for SUBSCRIBE, `-` for UNSUBSCRIBE.
    #[track_caller]
    fn check(subscriptions: &mut Subscriptions, expected: &[&str]) {
        let mut packets = Vec::new();
        let mut id = 0;
        while let Some(filters) = subscriptions.next() {
            id += 1;
            subscriptions.mark_sent(id, filters.len());
            packets.push(match filters {
                Filters::Subscribe(all) => {
                    all.iter().fold("+".to_owned(), |text, one| text + &one.filter)
                }
                Filters::Unsubscribe(all) => {
                    all.iter().fold("-".to_owned(), |text, one| text + one)
                }
            });
        }
        assert_eq!(packets, expected);
    }

    #[test]
    fn packets_keep_the_order_and_hold_eight_filters() {
        let mut subscriptions = Subscriptions::default();
        let device: Vec<_> = ["1", "2", "3", "4", "5", "6", "7", "8", "9"].map(subscription).into();
        subscriptions.push(subscribe("a"));
        subscriptions.push(unsubscribe("a"));
        subscriptions.push(unsubscribe("b"));
        subscriptions.push(subscribe("a"));
        subscriptions.push_device(&device);
        check(&mut subscriptions, &["+12345678", "+9a", "-ab", "+a"]);
        subscriptions.restart();
        check(&mut subscriptions, &["+12345678", "+9a", "-ab", "+a"]);
    }

    #[test]
    fn only_so_many_packets_are_under_way() {
        let mut subscriptions = Subscriptions::default();
        let device: Vec<_> = (0..200).map(|number| subscription(&number.to_string())).collect();
        subscriptions.push_device(&device);
        for id in 1..=16 {
            assert!(subscriptions.next().is_some());
            subscriptions.mark_sent(id, 8);
        }
        assert!(subscriptions.next().is_none() && subscriptions.is_full());
        assert_eq!(subscriptions.find(3, false), None);
        assert_eq!(subscriptions.find(3, true), Some((2, 8)));
        assert_eq!(subscriptions.take(2).len(), 8);
        assert!(subscriptions.next().is_some());
    }

    #[test]
    fn what_was_added_is_made_again_until_it_is_removed() {
        let device = [subscription("d")];
        let mut subscriptions = Subscriptions::default();
        for filter in ["a", "b", "c", "a"] {
            subscriptions.add(subscription(filter));
        }
        subscriptions.remove("b");
        subscriptions.renew(&device);
        check(&mut subscriptions, &["+dca"]);
        // Nothing of it was answered: it is not doubled when the session is lost again.
        subscriptions.restart();
        subscriptions.push(unsubscribe("c"));
        subscriptions.renew(&device);
        check(&mut subscriptions, &["+da", "-c"]);
    }
}
