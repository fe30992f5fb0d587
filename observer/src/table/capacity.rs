//! Who leaves when the table is full.

use std::collections::VecDeque;

use crate::model::MonoTime;

/// How many of the oldest entries are compared before one has to go. Chosen: enough to step over
/// a few that matter, few enough that a full table costs no more per insertion than an empty one.
const CANDIDATES: usize = 8;

/// How many entries of members that left may wait before they are swept out.
const SLACK: usize = 1024;

/// How much a member would be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// Nothing refers to it.
    Little,
    /// Somebody holds it.
    Held,
    /// It is the subject of an open incident.
    Reported,
}

/// The members in the order in which they were last touched, roughly: a member that was touched
/// goes to the back only when its turn to leave comes. So a touch costs nothing, and each step to
/// the back is paid for by a touch.
#[derive(Debug)]
pub(super) struct Order<K> {
    queue: VecDeque<(MonoTime, K)>,
}

impl<K: Copy> Order<K> {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new() }
    }

    pub(super) fn push(&mut self, time: MonoTime, key: K) {
        self.queue.push_back((time, key));
    }

    /// Takes out the member that is missed least. `look` says when a member was last touched and
    /// what it is worth; `None` for one that has left.
    pub(super) fn victim(
        &mut self,
        mut look: impl FnMut(&K) -> Option<(MonoTime, Worth)>,
    ) -> Option<K> {
        let mut passed: Vec<(Worth, MonoTime, K)> = Vec::new();
        while passed.len() < CANDIDATES {
            let Some((stamp, key)) = self.queue.pop_front() else { break };
            match look(&key) {
                None => {}
                Some((touched, _)) if touched > stamp => self.queue.push_back((touched, key)),
                Some((_, Worth::Little)) => {
                    self.queue.extend(passed.iter().map(|(_, stamp, key)| (*stamp, *key)));
                    return Some(key);
                }
                Some((_, worth)) => passed.push((worth, stamp, key)),
            }
        }
        // `min_by_key` takes the first of equals: the oldest.
        let (index, _) = passed.iter().enumerate().min_by_key(|(_, (worth, ..))| *worth)?;
        let (_, _, victim) = passed.remove(index);
        self.queue.extend(passed.iter().map(|(_, stamp, key)| (*stamp, *key)));
        Some(victim)
    }

    /// Sweeps out members that left, when they have become most of the queue.
    pub(super) fn sweep(&mut self, members: usize, is_member: impl Fn(&K) -> bool) {
        if self.queue.len() > 2 * members + SLACK {
            self.queue.retain(|(_, key)| is_member(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(keys: &[u64]) -> Order<u64> {
        let mut order = Order::new();
        for key in keys {
            order.push(MonoTime::from_nanos(0), *key);
        }
        order
    }

    #[test]
    fn the_oldest_that_nobody_misses_goes_first() {
        let mut order = order(&[1, 2, 3]);
        let worth = |key: &u64| {
            let worth = if *key == 1 { Worth::Held } else { Worth::Little };
            Some((MonoTime::from_nanos(0), worth))
        };
        assert_eq!(order.victim(worth), Some(2));
        assert_eq!(order.victim(worth), Some(3));
        assert_eq!(order.victim(worth), Some(1), "the last one goes whatever it is worth");
        assert_eq!(order.victim(worth), None);
    }

    #[test]
    fn an_open_incident_outweighs_a_holder() {
        let worth = |key: &u64| {
            Some((MonoTime::from_nanos(0), if *key == 1 { Worth::Reported } else { Worth::Held }))
        };
        assert_eq!(order(&[1, 2, 3]).victim(worth), Some(2));
    }

    #[test]
    fn a_touched_member_goes_to_the_back_once() {
        let mut order = order(&[1, 2]);
        let look =
            |key: &u64| Some((MonoTime::from_nanos(if *key == 1 { 5 } else { 0 }), Worth::Little));
        assert_eq!(order.victim(look), Some(2));
        assert_eq!(order.victim(look), Some(1));
    }

    #[test]
    fn members_that_left_are_swept_out() {
        let mut order = order(&[]);
        for key in 0..2 * SLACK as u64 {
            order.push(MonoTime::from_nanos(0), key);
        }
        order.sweep(1, |key| *key == 7);
        assert_eq!(order.queue.len(), 1);
    }
}
