//! A model of a broker, in virtual time: one thread that takes connects from a listen queue.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

pub(super) struct Broker {
    /// There and back.
    pub(super) round_trip: Duration,
    /// What the one thread needs for the n-th connect.
    pub(super) service: fn(usize) -> Duration,
    /// What a connect waits beside the thread, on a database perhaps: all of them at once.
    pub(super) elsewhere: Duration,
    /// How many may wait for the thread before a SYN is dropped. Mosquitto's is 100.
    pub(super) backlog: usize,
    /// How many handshakes it bears before it refuses.
    pub(super) bears: usize,
    pub(super) overflows: usize,
    pub(super) refusals: usize,
    pub(super) longest_queue: usize,
    pub(super) arrived: usize,
    pub(super) busy_until: Duration,
    /// When the waiting ones will be taken, in order.
    pub(super) takes: VecDeque<Duration>,
    /// When the handshakes end.
    pub(super) ends: BinaryHeap<Reverse<Duration>>,
    pub(super) events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    pub(super) events_made: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Syn { device: u32 },
    SynAgain { device: u32 },
    Accepted { device: u32 },
    Refused { device: u32 },
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            round_trip: Duration::from_micros(100),
            service: |_| Duration::from_micros(55),
            elsewhere: Duration::ZERO,
            backlog: 100,
            bears: usize::MAX,
            overflows: 0,
            refusals: 0,
            longest_queue: 0,
            arrived: 0,
            busy_until: Duration::ZERO,
            takes: VecDeque::new(),
            ends: BinaryHeap::new(),
            events: BinaryHeap::new(),
            events_made: 0,
        }
    }
}

impl Broker {
    pub(super) fn dial(&mut self, device: u32, now: Duration) {
        self.after(now + self.round_trip / 2, Event::Syn { device });
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    /// What the client sees at this time, if it sees anything.
    pub(super) fn event(&mut self, now: Duration) -> Option<Event> {
        let Reverse((at, _, event)) = self.events.pop()?;
        assert!(at <= now, "asked too early");
        match event {
            Event::Syn { device } => self.syn(device, now),
            Event::SynAgain { device } => {
                self.after(now, Event::Syn { device });
                return Some(event);
            }
            Event::Accepted { .. } | Event::Refused { .. } => return Some(event),
        }
        None
    }

    fn syn(&mut self, device: u32, now: Duration) {
        while self.takes.front().is_some_and(|at| *at <= now) {
            self.takes.pop_front();
        }
        while self.ends.peek().is_some_and(|Reverse(at)| *at <= now) {
            self.ends.pop();
        }
        if self.takes.len() > self.backlog {
            self.overflows += 1;
            self.after(now + Duration::from_secs(1), Event::SynAgain { device });
            return;
        }
        if self.ends.len() >= self.bears {
            self.refusals += 1;
            self.after(now + self.round_trip / 2, Event::Refused { device });
            return;
        }
        let take = self.busy_until.max(now);
        self.takes.push_back(take);
        self.longest_queue = self.longest_queue.max(self.takes.len());
        self.busy_until = take + (self.service)(self.arrived);
        self.arrived += 1;
        let end = self.busy_until + self.elsewhere;
        self.ends.push(Reverse(end));
        self.after(end + self.round_trip / 2, Event::Accepted { device });
    }

    fn after(&mut self, at: Duration, event: Event) {
        self.events_made += 1;
        self.events.push(Reverse((at, self.events_made, event)));
    }
}
