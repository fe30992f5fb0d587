//! What outlives the connection.

use super::inflight::Inflight;
use super::received::Received;
use super::subscriptions::Subscriptions;
use crate::error::{Cause, Error};

/// What a device's next session takes over from its last one: publishes and subscriptions that are
/// not answered to the end, with their tickets; run-time subscriptions; the ids of messages with
/// QoS 2 that must not be delivered twice.
///
/// Empty, as it is for a device at rest, it owns no memory.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    work: Option<Box<Work>>,
    /// Which session of the device it is in: the name that an [`Acknowledge`] carries.
    ///
    /// [`Acknowledge`]: super::Acknowledge
    pub(super) session: u32,
    last_id: u16,
    /// The device's own subscriptions were asked for once: those not answered are in `work`.
    pub(super) subscribed: bool,
    /// A CONNECT went out and had no answer: the broker may have a new session, unknown to us.
    pub(super) doubt: bool,
}

/// What costs memory only while it is needed.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) inflight: Inflight,
    pub(super) received: Received,
    pub(super) subscriptions: Subscriptions,
}

impl Carried {
    /// With the first packet id of this process; 0 counts as 1.
    ///
    /// A broker that kept the session of an earlier process may hold packet ids of it, between
    /// PUBREC and PUBREL, and takes a new message under one of them for the old one. Two
    /// processes that both begin with 1 meet on them; two random ones hardly.
    pub(crate) fn starting_at(first_id: u16) -> Self {
        Self { last_id: first_id.max(1) - 1, ..Self::default() }
    }

    /// Nothing is under way, and nothing was added at run time.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.work.is_none()
    }

    /// There will be no next session: settles all tickets with the cause, and says how many
    /// requests that were.
    pub(crate) fn abandon(self, cause: &Cause) -> usize {
        let Some(work) = self.work else { return 0 };
        let tickets = work.inflight.into_tickets().chain(work.subscriptions.into_tickets());
        tickets.map(|ticket| ticket.settle(Err(Error::Session(cause.clone())))).count()
    }

    pub(super) fn work(&self) -> Option<&Work> {
        self.work.as_deref()
    }

    pub(super) fn existing(&mut self) -> Option<&mut Work> {
        self.work.as_deref_mut()
    }

    pub(super) fn needed(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// Frees what is empty.
    pub(super) fn tidy(&mut self) {
        self.work.take_if(|work| work.is_empty());
    }

    /// A packet id that is not in use (MQTT 3.1.1 §2.3.1).
    ///
    /// There always is one: both windows together are smaller than the ids.
    pub(super) fn free_id(&mut self) -> u16 {
        let mut id = successor(self.last_id);
        if let Some(work) = &self.work {
            let mut used: Vec<u16> = Vec::new();
            if work.ids().any(|used| used == id) {
                used.extend(work.ids());
                used.sort_unstable();
            }
            while used.binary_search(&id).is_ok() && used.len() < usize::from(u16::MAX) {
                id = successor(id);
            }
        }
        self.last_id = id;
        id
    }

    /// The connection is gone.
    pub(super) fn restart(&mut self) {
        if let Some(work) = &mut self.work {
            work.inflight.restart();
            work.received.restart();
            work.subscriptions.restart();
        }
        self.tidy();
    }
}

impl Work {
    fn is_empty(&self) -> bool {
        self.inflight.is_empty() && self.received.is_empty() && self.subscriptions.is_empty()
    }

    fn ids(&self) -> impl Iterator<Item = u16> {
        self.inflight.ids().chain(self.subscriptions.ids())
    }
}

fn successor(id: u16) -> u16 {
    id.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Publish, QoS};
    use crate::request::Ticket;

    #[test]
    fn ids_go_round_and_leave_out_zero_and_those_in_use() {
        let mut carried = Carried::starting_at(65_534);
        for id in [65_535, 1, 2] {
            let publish = Publish::new("t", QoS::AtLeastOnce, "").expect("invariant: a topic");
            carried.needed().inflight.push(id, publish, Ticket::default());
        }
        assert_eq!(carried.free_id(), 65_534);
        assert_eq!(carried.free_id(), 3);
        assert_eq!(carried.free_id(), 4);
    }

    #[test]
    fn the_first_id_is_never_zero() {
        assert_eq!(Carried::default().free_id(), 1);
        assert_eq!(Carried::starting_at(0).free_id(), 1);
        assert_eq!(Carried::starting_at(1).free_id(), 1);
        assert_eq!(Carried::starting_at(65_535).free_id(), 65_535);
    }

    #[test]
    fn a_device_at_rest_carries_no_memory() {
        assert!(size_of::<Carried>() <= 24, "{}", size_of::<Carried>());
        let mut carried = Carried::default();
        carried.needed().received.arrive(1, false);
        carried.restart();
        assert!(carried.is_empty());
    }
}
