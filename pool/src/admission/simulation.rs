//! A storm in virtual time: devices that all want to dial, a limiter, and a model of a broker.

use super::broker::{Broker, Event};
use super::{Admission, Entry, Outcome};
use crate::device::Priority;
use crate::policy::Limits;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Where virtual time begins.
pub(super) fn origin() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(super) struct Storm {
    pub(super) admission: Admission<u32>,
    pub(super) broker: Broker,
    pub(super) origin: Instant,
    pub(super) now: Duration,
    /// When each dial began.
    pub(super) dials: Vec<Duration>,
    pub(super) accepted: usize,
    pub(super) windows: Vec<usize>,
    /// The kernel tells of SYNs that are sent again.
    pub(super) has_hints: bool,
    begun: HashMap<u32, Duration>,
}

impl Storm {
    /// All devices become due at once.
    pub(super) fn new(limits: Limits, devices: u32, broker: Broker) -> Self {
        let origin = origin();
        let mut admission = Admission::new(limits, origin);
        for device in 0..devices {
            admission.enqueue(device, entry(origin));
        }
        Self {
            admission,
            broker,
            origin,
            now: Duration::ZERO,
            dials: Vec::new(),
            accepted: 0,
            windows: Vec::new(),
            has_hints: true,
            begun: HashMap::new(),
        }
    }

    /// Until all are connected, and how long that took.
    pub(super) fn run(&mut self) -> Duration {
        let begin = self.now;
        while self.step() {}
        assert_eq!((self.admission.queued(), self.admission.in_flight()), (0, 0), "stuck");
        self.now - begin
    }

    /// Until the next thing happens; false when nothing will.
    pub(super) fn step(&mut self) -> bool {
        let now = self.origin + self.now;
        while let Some(device) = self.admission.take(now) {
            self.dials.push(self.now);
            assert!(self.begun.insert(device, self.now).is_none(), "{device} dials twice at once");
            self.broker.dial(device, self.now);
        }
        self.windows.push(self.admission.window());
        let limiter = self.admission.poll_timeout().map(|at| at - self.origin);
        let Some(next) = limiter.into_iter().chain(self.broker.next()).min() else { return false };
        assert!(limiter.is_none_or(|at| at > self.now), "a timeout that changes nothing");
        self.now = next;
        if self.broker.next() == Some(next)
            && let Some(event) = self.broker.event(next)
        {
            self.tell(event);
        }
        true
    }

    fn tell(&mut self, event: Event) {
        let now = self.origin + self.now;
        match event {
            Event::Accepted { device } => {
                let begun = self.begun.remove(&device).expect("invariant: it dialled");
                let outcome = Outcome::Accepted { latency: self.now - begun };
                self.admission.finished(device, now, outcome);
                self.accepted += 1;
            }
            Event::Refused { device } => {
                self.begun.remove(&device);
                self.admission.finished(device, now, Outcome::Congested);
                self.admission.enqueue(device, entry(now + Duration::from_millis(100)));
            }
            Event::SynAgain { .. } if self.has_hints => self.admission.congestion_hint(now),
            Event::SynAgain { .. } | Event::Syn { .. } => {}
        }
    }
}

fn entry(due: Instant) -> Entry {
    Entry { priority: Priority::Normal, due, deadline: None }
}
