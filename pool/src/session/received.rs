//! The messages with QoS 2 that the broker has not released yet, so that none is delivered twice.

/// The packet ids between a PUBLISH with QoS 2 and its PUBREL (MQTT 3.1.1 §4.3.3, method B).
///
/// Sorted, for a broker may have 65,535 of them under way, and each costs a look-up.
#[derive(Debug, Default)]
pub(super) struct Received {
    entries: Vec<Entry>,
    /// Those that count against the receive maximum of this connection.
    counted: usize,
}

#[derive(Debug)]
struct Entry {
    id: u16,
    /// The application's queue has it, or it was dropped and counted.
    accepted: bool,
    /// The broker sent it on this connection. Quotas begin anew with each connection
    /// (MQTT 5 §4.9), so what an earlier one left over must not be held against the broker.
    counted: bool,
    /// The broker may have begun a new session since, without our knowing: what it sends for the
    /// first time under this id is a new message, and no copy.
    doubtful: bool,
}

/// What a PUBLISH with QoS 2 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A message not seen before: it is to be delivered.
    New,
    /// Its first copy is not accepted yet; PUBREC follows when it is.
    Waiting,
    /// It was delivered already: PUBREC, and no second delivery.
    Accepted,
}

/// What a PUBREL finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// The exchange is complete.
    Done,
    /// There was no PUBREC yet that it could answer.
    TooEarly,
    /// Nothing: the exchange was completed before, or never begun.
    Unknown,
}

impl Received {
    /// A PUBLISH came, with its mark of a duplicate or without it.
    ///
    /// The mark is asked in doubt only: the id alone decides elsewhere (MQTT 3.1.1 §4.3.3), so
    /// that a broker which forgets the mark does no harm.
    pub(super) fn arrive(&mut self, id: u16, duplicate: bool) -> Arrival {
        match self.find(id) {
            Ok(index) => {
                let entry = &mut self.entries[index];
                self.counted += usize::from(!entry.counted);
                entry.counted = true;
                if std::mem::take(&mut entry.doubtful) && !duplicate {
                    entry.accepted = false;
                    return Arrival::New;
                }
                if entry.accepted { Arrival::Accepted } else { Arrival::Waiting }
            }
            Err(index) => {
                let entry = Entry { id, accepted: false, counted: true, doubtful: false };
                self.entries.insert(index, entry);
                self.counted += 1;
                Arrival::New
            }
        }
    }

    /// Whether it was waiting for that, so that PUBREC is due.
    pub(super) fn accept(&mut self, id: u16) -> bool {
        let Ok(index) = self.find(id) else { return false };
        !std::mem::replace(&mut self.entries[index].accepted, true)
    }

    pub(super) fn release(&mut self, id: u16) -> Release {
        let Ok(index) = self.find(id) else { return Release::Unknown };
        if !self.entries[index].accepted {
            return Release::TooEarly;
        }
        let entry = self.entries.remove(index);
        self.counted -= usize::from(entry.counted);
        Release::Done
    }

    /// How many count against the receive maximum.
    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// For the next connection: what nobody accepted has to come again.
    pub(super) fn restart(&mut self) {
        self.entries.retain(|entry| entry.accepted);
        for entry in &mut self.entries {
            entry.counted = false;
        }
        self.counted = 0;
    }

    /// The broker has a session, and it may not be the one that these are of.
    pub(super) fn doubt(&mut self) {
        for entry in &mut self.entries {
            entry.doubtful = true;
        }
    }

    /// The broker lost its session: ids mean something new from now on.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find(&self, id: u16) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once() {
        let mut received = Received::default();
        assert_eq!(received.arrive(7, false), Arrival::New);
        assert_eq!(received.arrive(7, false), Arrival::Waiting);
        assert_eq!(received.release(7), Release::TooEarly);
        assert!(received.accept(7));
        assert!(!received.accept(7));
        assert_eq!(received.arrive(7, false), Arrival::Accepted);
        assert_eq!(received.release(7), Release::Done);
        assert_eq!(received.release(7), Release::Unknown);
        assert_eq!(received.arrive(7, false), Arrival::New);
        assert!(!received.accept(8));
    }

    #[test]
    fn the_next_connection_knows_what_was_accepted_and_counts_nothing() {
        let mut received = Received::default();
        for id in [9, 3, 5] {
            received.arrive(id, false);
        }
        received.accept(5);
        assert_eq!(received.counted(), 3);
        received.restart();
        assert_eq!(received.counted(), 0);
        assert_eq!(received.arrive(5, false), Arrival::Accepted);
        assert_eq!(received.arrive(5, false), Arrival::Accepted);
        assert_eq!(received.counted(), 1);
        assert_eq!(received.arrive(9, true), Arrival::New);
        assert_eq!(received.counted(), 2);
        assert_eq!(received.release(5), Release::Done);
        assert_eq!(received.counted(), 1);
        received.forget();
        assert!(received.is_empty());
        assert_eq!(received.counted(), 0);
    }

    #[test]
    fn in_doubt_the_mark_of_a_duplicate_decides() {
        let mut received = Received::default();
        for id in [1, 2, 3] {
            received.arrive(id, false);
            received.accept(id);
        }
        received.restart();
        received.doubt();
        received.restart();
        assert_eq!(received.arrive(1, true), Arrival::Accepted);
        assert_eq!(received.arrive(2, false), Arrival::New);
        assert_eq!(received.arrive(2, false), Arrival::Waiting);
        assert_eq!(received.release(2), Release::TooEarly);
        assert_eq!(received.release(3), Release::Done);
    }
}
