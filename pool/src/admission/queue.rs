//! Who waits for a dial, and whose turn it is.

use super::{Enqueued, Entry};
use crate::device::Priority;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// A map of more entries than this gives its memory back when it is empty. Chosen.
const KEPT: usize = 256;

/// One entry for each key, in order: higher priority, then due time, then arrival.
///
/// Entries that are not due yet are kept apart, so that the first one is found in O(log n).
#[derive(Debug)]
pub(super) struct Queue<K> {
    entries: HashMap<K, Waiter>,
    ready: BTreeMap<(Reverse<Priority>, Instant, u64), K>,
    /// Until they are due.
    early: BTreeMap<(Instant, u64), K>,
    deadlines: BTreeMap<(Instant, u64), K>,
    /// How many ever came: it numbers them.
    arrivals: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    entry: Entry,
    arrival: u64,
    place: Place,
}

/// Where a waiter stands, beside `deadlines`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In `early`.
    Early,
    /// In `ready`.
    Ready,
    /// In neither: its key is in flight, or its deadline has passed.
    Held,
}

impl<K: Copy + Eq + Hash> Queue<K> {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            ready: BTreeMap::new(),
            early: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            arrivals: 0,
        }
    }

    /// Puts a key in, or merges with its entry. A held one waits for [`Queue::release`].
    pub(super) fn put(&mut self, key: K, entry: Entry, is_held: bool) -> Enqueued {
        let old = self.remove(&key);
        let (entry, arrival) = match old {
            Some((old, arrival)) => (old.merged_with(entry), arrival),
            None => {
                self.arrivals += 1;
                (entry, self.arrivals)
            }
        };
        let place = if is_held { Place::Held } else { Place::Early };
        if place == Place::Early {
            self.early.insert((entry.due, arrival), key);
        }
        if let Some(deadline) = entry.deadline {
            self.deadlines.insert((deadline, arrival), key);
        }
        self.entries.insert(key, Waiter { entry, arrival, place });
        if old.is_some() { Enqueued::Merged } else { Enqueued::New }
    }

    /// Lets a held key stand in the order again.
    pub(super) fn release(&mut self, key: &K) {
        if let Some(waiter) = self.entries.get_mut(key)
            && waiter.place == Place::Held
        {
            waiter.place = Place::Early;
            self.early.insert((waiter.entry.due, waiter.arrival), *key);
        }
    }

    /// Takes a key out, with its entry and its arrival.
    pub(super) fn remove(&mut self, key: &K) -> Option<(Entry, u64)> {
        let Waiter { entry, arrival, place } = self.entries.remove(key)?;
        match place {
            Place::Early => drop(self.early.remove(&(entry.due, arrival))),
            Place::Ready => drop(self.ready.remove(&rank(&entry, arrival))),
            Place::Held => {}
        }
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, arrival));
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = HashMap::new();
        }
        Some((entry, arrival))
    }

    /// Lets those take their place whose due time has come.
    pub(super) fn promote(&mut self, now: Instant) {
        while let Some(first) = self.early.first_entry()
            && first.key().0 <= now
        {
            let key = first.remove();
            if let Some(waiter) = self.entries.get_mut(&key) {
                waiter.place = Place::Ready;
                self.ready.insert(rank(&waiter.entry, waiter.arrival), key);
            }
        }
    }

    /// Whose turn it is. Whose deadline has passed is put aside for [`Queue::next_expired`].
    pub(super) fn first(&mut self, now: Instant) -> Option<K> {
        while let Some(first) = self.ready.first_entry() {
            let key = *first.get();
            match self.entries.get_mut(&key) {
                Some(waiter) if waiter.entry.deadline.is_none_or(|deadline| now < deadline) => {
                    return Some(key);
                }
                Some(waiter) => waiter.place = Place::Held,
                None => {}
            }
            first.remove();
        }
        None
    }

    /// Takes out one whose deadline has passed.
    pub(super) fn next_expired(&mut self, now: Instant) -> Option<K> {
        let (&(deadline, _), &key) = self.deadlines.first_key_value()?;
        if now < deadline {
            return None;
        }
        self.remove(&key);
        Some(key)
    }

    /// When the next one is due, which may be past.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let ready = self.ready.first_key_value().map(|(&(_, due, _), _)| due);
        ready.or_else(|| self.early.first_key_value().map(|(&(due, _), _)| due))
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first_key_value().map(|(&(deadline, _), _)| deadline)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Those who are due.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }
}

fn rank(entry: &Entry, arrival: u64) -> (Reverse<Priority>, Instant, u64) {
    (Reverse(entry.priority), entry.due, arrival)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::simulation::origin;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    /// Puts in (key, priority, due in ms, deadline in ms) and takes all out at 100 ms.
    #[track_caller]
    fn check(entries: &[(u32, Priority, u32, Option<u32>)], order: &[u32], expired: &[u32]) {
        let (origin, mut queue) = (origin(), Queue::new());
        for (key, priority, due, deadline) in entries {
            let deadline = deadline.map(|deadline| origin + MS * deadline);
            let entry = Entry { priority: *priority, due: origin + MS * *due, deadline };
            queue.put(*key, entry, false);
        }
        let now = origin + MS * 100;
        queue.promote(now);
        let mut taken = Vec::new();
        while let Some(key) = queue.first(now) {
            queue.remove(&key);
            taken.push(key);
        }
        let expirations: Vec<u32> = std::iter::from_fn(|| queue.next_expired(now)).collect();
        assert_eq!((taken.as_slice(), expirations.as_slice()), (order, expired));
        assert_eq!(queue.len(), queue.early.len());
        assert_eq!(queue.ready.len() + queue.deadlines.len(), 0);
    }

    use Priority::{High, Low, Normal};

    #[test]
    fn higher_priority_then_due_time_then_arrival() {
        let entries = [
            (1, Low, 0, None),
            (2, Normal, 5, None),
            (3, Normal, 5, None),
            (4, Normal, 3, None),
            (5, High, 9, None),
        ];
        check(&entries, &[5, 4, 2, 3, 1], &[]);
    }

    #[test]
    fn who_is_not_due_waits_whatever_the_priority() {
        check(&[(1, High, 101, None), (2, Low, 100, None)], &[2], &[]);
    }

    #[test]
    fn who_is_past_the_deadline_is_not_taken() {
        let entries = [(1, High, 0, Some(100)), (2, Low, 0, Some(101)), (3, Low, 200, Some(7))];
        check(&entries[..2], &[2], &[1]);
        check(&entries[2..], &[], &[3]);
    }

    #[test]
    fn a_second_entry_merges_and_keeps_the_place_by_arrival() {
        check(&[(1, Low, 5, None), (2, Low, 5, None), (1, Low, 5, None)], &[1, 2], &[]);
        check(&[(1, Low, 5, None), (2, Low, 5, None), (2, High, 5, None)], &[2, 1], &[]);
        check(&[(1, High, 5, None), (2, Low, 5, None), (1, Low, 5, None)], &[1, 2], &[]);
        check(&[(1, Low, 500, None), (2, Low, 5, None), (1, Low, 4, None)], &[1, 2], &[]);
        check(&[(1, Low, 4, None), (2, Low, 5, None), (1, Low, 500, None)], &[1, 2], &[]);
    }

    #[test]
    fn the_deadline_given_last_counts() {
        check(&[(1, Low, 0, Some(50)), (1, Low, 0, None)], &[], &[1]);
        check(&[(1, Low, 0, Some(50)), (1, Low, 0, Some(150))], &[1], &[]);
        check(&[(1, Low, 0, Some(150)), (1, Low, 0, Some(50))], &[], &[1]);
        check(&[(1, Low, 0, None), (1, Low, 0, Some(50))], &[], &[1]);
    }

    #[test]
    fn a_new_deadline_revives_who_was_put_aside() {
        let (origin, mut queue) = (origin(), Queue::new());
        let entry = |deadline| Entry {
            priority: Normal,
            due: origin,
            deadline: Some(origin + MS * deadline),
        };
        queue.put(1_u32, entry(10), false);
        let now = origin + MS * 20;
        queue.promote(now);
        assert_eq!(queue.first(now), None);
        assert_eq!(queue.put(1, entry(30), false), Enqueued::Merged);
        queue.promote(now);
        assert_eq!(queue.first(now), Some(1));
        assert_eq!(queue.next_expired(now), None);
    }

    #[test]
    fn a_held_key_stands_in_no_order_but_expires() {
        let (origin, mut queue) = (origin(), Queue::new());
        let entry = Entry { priority: Normal, due: origin, deadline: Some(origin + MS) };
        queue.put(1_u32, entry, true);
        queue.promote(origin);
        assert_eq!((queue.first(origin), queue.next_due()), (None, None));
        queue.release(&1);
        queue.promote(origin);
        assert_eq!(queue.first(origin), Some(1));
        queue.put(1, entry, true);
        assert_eq!(queue.next_expired(origin + MS), Some(1));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn an_empty_queue_gives_its_memory_back() {
        let (origin, mut queue) = (origin(), Queue::new());
        for key in 0..12_000_u32 {
            let entry = Entry { priority: Normal, due: origin, deadline: None };
            queue.put(key, entry, false);
        }
        for key in 0..12_000 {
            queue.remove(&key);
        }
        assert_eq!(queue.entries.capacity(), 0);
    }
}
