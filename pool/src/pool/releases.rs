use crate::device::Generation;
use crate::fleet::SlotKey;
use crate::receipt::ClosedSocket;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// The first question comes right after the close; then so long after it, and twice as long each
/// further time.
const FIRST_RETRY: Duration = Duration::from_millis(1);

/// The longest interval between two questions within the first seconds.
const QUICK_RETRY: Duration = Duration::from_millis(50);

/// And after them: somebody holds the socket, and may do so for hours.
const SLOW_RETRY: Duration = Duration::from_secs(1);

/// So long the questions are quick.
const QUICK_FOR: Duration = Duration::from_secs(2);

/// Sockets without a receipt that are still asked for. Chosen: far more than a sick host has, and
/// small. Beyond it the oldest is given up.
const MOST_OVERDUE: usize = 4_096;

/// Closed sockets for which no receipt is there yet.
#[derive(Debug, Default)]
pub(super) struct Releases {
    waiting: HashMap<u64, Release>,
    due: BTreeSet<(Instant, u64)>,
    /// In the order in which they became overdue.
    overdue: VecDeque<u64>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    pub(super) key: SlotKey,
    pub(super) generation: Generation,
    pub(super) socket: ClosedSocket,
    since: Instant,
    retry: Duration,
    due: Instant,
}

impl Releases {
    pub(super) fn insert(
        &mut self,
        now: Instant,
        key: SlotKey,
        generation: Generation,
        socket: ClosedSocket,
    ) {
        let due = now + FIRST_RETRY;
        self.due.insert((due, socket.cookie));
        let release = Release { key, generation, socket, since: now, retry: FIRST_RETRY, due };
        self.waiting.insert(socket.cookie, release);
    }

    /// The next one to ask for by now. It is asked for again later, unless it is removed.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Release> {
        let (due, cookie) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        let release = self.waiting.get_mut(&cookie)?;
        let age = now.saturating_duration_since(release.since);
        let longest = if age < QUICK_FOR { QUICK_RETRY } else { SLOW_RETRY };
        release.retry = (release.retry * 2).min(longest);
        release.due = now + release.retry;
        self.due.insert((release.due, cookie));
        Some(*release)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(super) fn remove(&mut self, cookie: u64) -> Option<Release> {
        let release = self.waiting.remove(&cookie)?;
        self.due.remove(&(release.due, cookie));
        Some(release)
    }

    /// The slot went on without a receipt for its socket. Says which one to give up for it, if
    /// there are too many.
    pub(super) fn overdue(&mut self, key: SlotKey, generation: Generation) -> (u64, Option<u64>) {
        let cookie = self
            .waiting
            .values()
            .find(|release| release.key == key && release.generation == generation)
            .map_or(0, |release| release.socket.cookie);
        if self.overdue.len() >= MOST_OVERDUE {
            self.overdue.retain(|cookie| self.waiting.contains_key(cookie));
        }
        self.overdue.push_back(cookie);
        let too_many = self.overdue.len() > MOST_OVERDUE;
        let given_up = if too_many { self.overdue.pop_front() } else { None };
        (cookie, given_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn socket(cookie: u64) -> ClosedSocket {
        ClosedSocket { cookie, local: None, remote: ([127, 0, 0, 1], 1883).into() }
    }

    #[test]
    fn questions_come_at_growing_intervals() {
        let (mut releases, start) = (Releases::default(), clock::now());
        releases.insert(start, SlotKey(0), Generation::default(), socket(1));
        let mut asked = Vec::new();
        while let Some(due) = releases.poll_timeout().filter(|due| *due < start + 8 * SLOW_RETRY) {
            assert_eq!(releases.next_due(due).map(|release| release.socket.cookie), Some(1));
            assert!(releases.next_due(due).is_none());
            asked.push(due.duration_since(start).as_millis());
        }
        assert_eq!(asked[..8], [1, 3, 7, 15, 31, 63, 113, 163]);
        let last: Vec<u128> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(last[last.len() - 3..], [1_000; 3]);
        assert!(asked.len() < 60, "{}", asked.len());
    }

    #[test]
    fn what_is_removed_is_not_asked_for() {
        let (mut releases, start) = (Releases::default(), clock::now());
        releases.insert(start, SlotKey(0), Generation::default(), socket(1));
        assert!(releases.remove(1).is_some());
        assert!(releases.remove(1).is_none());
        assert_eq!(releases.poll_timeout(), None);
    }

    #[test]
    fn the_oldest_overdue_one_is_given_up_when_there_are_too_many() {
        let (mut releases, start) = (Releases::default(), clock::now());
        let mut generation = Generation::default();
        let mut given_up = Vec::new();
        for cookie in 1..=MOST_OVERDUE as u64 + 2 {
            generation = generation.next();
            releases.insert(start, SlotKey(0), generation, socket(cookie));
            let (overdue, too_many) = releases.overdue(SlotKey(0), generation);
            assert_eq!(overdue, cookie);
            given_up.extend(too_many);
            for cookie in &given_up {
                releases.remove(*cookie);
            }
        }
        assert_eq!(given_up, [1, 2]);
    }
}
