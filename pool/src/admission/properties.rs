//! What holds for every history.

use super::simulation::origin;
use super::{Admission, Entry, Outcome};
use crate::device::Priority;
use crate::policy::{Adaptive, Limits, Reservoir};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
/// A late wake-up is forgiven by no more than this.
const FORGIVEN: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
enum Op {
    Enqueue { key: u8, priority: Priority, due: u8, deadline: Option<u8> },
    Cancel(u8),
    Wait(u8),
    WaitForTimeout,
    Take,
    Expire,
    Finish(u8, Outcome),
    Hint,
    SetLimits(Limits),
}

fn limits() -> impl Strategy<Value = Limits> {
    let interval = prop_oneof![Just(Duration::ZERO), (1..30_u32).prop_map(|ms| MS * ms)];
    let reservoir = (1..9_u32, 1..9_u32, 10..2_000_u64).prop_map(|(amount, refresh_amount, ms)| {
        Reservoir { amount, refresh_amount, refresh_interval: Duration::from_millis(ms) }
    });
    let adaptive = (1..9_usize).prop_map(|initial| Adaptive { initial, tolerance: 2.0 });
    (interval, 1..12_usize, proptest::option::of(reservoir), proptest::option::of(adaptive))
        .prop_map(|(min_interval, max_in_flight, reservoir, adaptive)| Limits {
            min_interval,
            max_in_flight,
            reservoir,
            adaptive: adaptive.map(|it| Adaptive { initial: it.initial.min(max_in_flight), ..it }),
            connect_spacing: Duration::ZERO,
        })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => (0..500_u64).prop_map(|ms| Outcome::Accepted { latency: Duration::from_millis(ms) }),
        1 => Just(Outcome::Failed),
        1 => Just(Outcome::Congested),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..24_u8;
    let priority = prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)];
    let deadline = proptest::option::weighted(0.3, 0..200_u8);
    prop_oneof![
        6 => (key.clone(), priority, 0..60_u8, deadline).prop_map(
            |(key, priority, due, deadline)| Op::Enqueue { key, priority, due, deadline }
        ),
        1 => key.clone().prop_map(Op::Cancel),
        3 => any::<u8>().prop_map(Op::Wait),
        3 => Just(Op::WaitForTimeout),
        8 => Just(Op::Take),
        2 => Just(Op::Expire),
        4 => (key, outcome()).prop_map(|(key, outcome)| Op::Finish(key, outcome)),
        1 => Just(Op::Hint),
        1 => limits().prop_map(Op::SetLimits),
    ]
}

/// The limiter beside a plain list of who waits, in the order of arrival.
struct Pair {
    admission: Admission<u8>,
    now: Instant,
    waiting: Vec<(u8, Entry)>,
    in_flight: Vec<u8>,
    entered: u64,
    /// The first dial since the limits changed, and how many there were.
    dials: Option<(Instant, u32)>,
}

impl Pair {
    fn new(limits: Limits) -> Self {
        let now = origin();
        let admission = Admission::new(limits, now);
        Self { admission, now, waiting: vec![], in_flight: vec![], entered: 0, dials: None }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Enqueue { key, priority, due, deadline } => {
                let deadline = deadline.map(|ms| self.now + MS * u32::from(ms));
                let entry = Entry { priority, due: self.now + MS * u32::from(due), deadline };
                self.admission.enqueue(key, entry);
                match self.waiting.iter_mut().find(|(it, _)| *it == key) {
                    Some((_, old)) => {
                        old.priority = old.priority.max(priority);
                        old.due = old.due.min(entry.due);
                        old.deadline = deadline.or(old.deadline);
                    }
                    None => {
                        self.waiting.push((key, entry));
                        self.entered += 1;
                    }
                }
            }
            Op::Cancel(key) => {
                let waited = self.forget(key);
                assert_eq!(self.admission.cancel(key), waited);
            }
            Op::Wait(ms) => self.now += MS * u32::from(ms),
            Op::WaitForTimeout => {
                self.now = self.admission.poll_timeout().map_or(self.now, |at| at.max(self.now));
            }
            Op::Take => drop(self.take()),
            Op::Expire => drop(self.expire()),
            Op::Finish(key, outcome) => {
                self.in_flight.retain(|it| *it != key);
                self.admission.finished(key, self.now, outcome);
            }
            Op::Hint => self.admission.congestion_hint(self.now),
            Op::SetLimits(limits) => {
                self.dials = None;
                self.admission.set_limits(limits, self.now);
            }
        }
        self.check();
    }

    fn take(&mut self) -> Option<u8> {
        let timeout = self.admission.poll_timeout();
        let key = self.admission.take(self.now)?;
        assert!(timeout.is_some_and(|at| at <= self.now), "it would have been asked too late");
        let best = self
            .waiting
            .iter()
            .filter(|(key, entry)| {
                let in_time = entry.deadline.is_none_or(|deadline| self.now < deadline);
                entry.due <= self.now && in_time && !self.in_flight.contains(key)
            })
            .min_by_key(|(_, entry)| (Reverse(entry.priority), entry.due))
            .map(|(key, _)| *key);
        assert_eq!(Some(key), best, "the first of those who may go");
        assert!(self.forget(key));
        self.in_flight.push(key);
        assert!(self.in_flight.len() <= self.admission.window());
        assert!(self.admission.window() <= self.admission.limits().max_in_flight);
        let (first, before) = *self.dials.get_or_insert((self.now, 0));
        let least = self.admission.limits().min_interval * before;
        assert!(self.now + FORGIVEN >= first + least, "{before} dials since {first:?}");
        self.dials = Some((first, before + 1));
        Some(key)
    }

    fn expire(&mut self) -> Option<u8> {
        let timeout = self.admission.poll_timeout();
        let key = self.admission.next_expired(self.now)?;
        assert!(timeout.is_some_and(|at| at <= self.now), "it would have been asked too late");
        let (_, entry) = self.waiting.iter().find(|(it, _)| *it == key).expect("it waited");
        assert!(entry.deadline.is_some_and(|deadline| deadline <= self.now));
        self.forget(key);
        Some(key)
    }

    fn forget(&mut self, key: u8) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(it, _)| *it != key);
        self.waiting.len() < before
    }

    fn check(&self) {
        assert_eq!(self.admission.queued(), self.waiting.len());
        assert_eq!(self.admission.in_flight(), self.in_flight.len());
        assert!(self.admission.window() >= 1);
        let counts = self.admission.counts();
        let left = counts.granted + counts.cancelled + counts.expired;
        assert_eq!(self.entered, left + self.waiting.len() as u64, "each exactly once");
    }

    /// Nothing is to be had at this time any more, and the limiter knows.
    fn exhaust(&mut self) {
        while self.expire().is_some() || self.take().is_some() {
            self.check();
        }
        let timeout = self.admission.poll_timeout();
        assert!(timeout.is_none_or(|at| at > self.now), "it would be asked for ever");
    }

    /// Everybody gets a turn, when what is in flight ends and time goes on.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.exhaust();
            if self.waiting.is_empty() {
                return;
            }
            match self.admission.poll_timeout() {
                Some(at) => self.now = at,
                None => {
                    let key = self.in_flight.pop().expect("nobody goes, and nothing is in flight");
                    self.admission.finished(key, self.now, Outcome::Failed);
                }
            }
        }
        panic!("no end: {:?}", self.waiting);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_wish_ends_once_in_order_and_within_the_limits(
        limits in limits(),
        ops in vec(op(), 1..200),
    ) {
        let mut pair = Pair::new(limits);
        for op in ops {
            pair.apply(op);
        }
        pair.finish();
    }

    #[test]
    fn two_dials_are_the_interval_apart_when_the_caller_is_punctual(
        interval in 1..50_u32,
        arrivals in vec(0..3_000_u32, 1..60),
    ) {
        let (origin, interval) = (origin(), MS * interval);
        let limits = Limits { min_interval: interval, ..Limits::paced() };
        let jobs = jobs(&arrivals, &[1]);
        let dials = ours(limits, origin, &jobs);
        for pair in dials.windows(2) {
            prop_assert!(pair[1] - pair[0] >= interval, "{:?}", pair);
        }
    }

    #[test]
    fn the_dials_are_those_of_bottleneck(
        min_interval in prop_oneof![Just(0_u32), 1..80_u32],
        max_in_flight in 1..12_usize,
        amounts in (1..15_u32, 1..15_u32),
        refresh in 1..9_u64,
        arrivals in vec(0..6_000_u32, 1..80),
        durations in vec(0..400_u32, 1..8),
    ) {
        let limits = Limits {
            min_interval: MS * min_interval,
            max_in_flight,
            reservoir: Some(Reservoir {
                amount: amounts.0,
                refresh_amount: amounts.1,
                refresh_interval: Duration::from_millis(refresh * 250),
            }),
            ..Limits::article()
        };
        let jobs = jobs(&arrivals, &durations);
        prop_assert_eq!(ours(limits.clone(), origin(), &jobs), bottleneck(&limits, &jobs));
    }
}

/// When each comes, and how long each n-th one to begin takes. No two things happen at one time,
/// because nobody knows which of them Bottleneck would see first.
#[derive(Debug)]
struct Jobs {
    arrivals: Vec<Duration>,
    durations: Vec<Duration>,
}

fn jobs(arrivals: &[u32], durations: &[u32]) -> Jobs {
    let mut arrivals = arrivals.to_vec();
    arrivals.sort_unstable();
    let place = |(index, ms): (usize, &u32)| MS * *ms + Duration::from_nanos(1 + index as u64);
    let durations = durations.iter().cycle().take(arrivals.len());
    let duration =
        |(index, ms): (usize, &u32)| MS * *ms + Duration::from_nanos(1_000 * (1 + index as u64));
    Jobs {
        durations: durations.enumerate().map(duration).collect(),
        arrivals: arrivals.iter().enumerate().map(place).collect(),
    }
}

fn ours(limits: Limits, origin: Instant, jobs: &Jobs) -> Vec<Duration> {
    let mut admission = Admission::new(limits, origin);
    let (mut dials, mut ends) = (Vec::new(), BTreeSet::new());
    let mut arrivals = jobs.arrivals.iter().copied().enumerate().peekable();
    loop {
        let timeout = admission.poll_timeout().map(|at| at - origin);
        let arrival = arrivals.peek().map(|(_, at)| *at);
        let end = ends.first().map(|(at, _)| *at);
        let Some(now) = [timeout, arrival, end].into_iter().flatten().min() else { return dials };
        if end == Some(now) {
            let (_, key) = ends.pop_first().expect("invariant: looked at above");
            let outcome = Outcome::Accepted { latency: Duration::ZERO };
            admission.finished(key, origin + now, outcome);
        } else if arrival == Some(now) {
            let (key, _) = arrivals.next().expect("invariant: looked at above");
            let entry = Entry { priority: Priority::Normal, due: origin + now, deadline: None };
            admission.enqueue(key, entry);
        }
        while let Some(key) = admission.take(origin + now) {
            ends.insert((now + jobs.durations[dials.len()], key));
            dials.push(now);
        }
    }
}

/// `LocalDatastore` of Bottleneck 2.19.5, as far as our options go.
struct Bottleneck<'a> {
    limits: &'a Limits,
    jobs: &'a Jobs,
    waiting: usize,
    running: usize,
    stock: u32,
    next_request: Duration,
    begins: Vec<Duration>,
    ends: BinaryHeap<Reverse<Duration>>,
}

impl Bottleneck<'_> {
    /// `_drainAll`, with `__register__`.
    fn drain(&mut self, now: Duration) {
        while self.waiting > 0 && self.stock > 0 && self.running < self.limits.max_in_flight {
            self.waiting -= 1;
            self.running += 1;
            self.stock -= 1;
            let begin = self.next_request.max(now);
            self.next_request = begin + self.limits.min_interval;
            self.ends.push(Reverse(begin + self.jobs.durations[self.begins.len()]));
            self.begins.push(begin);
        }
    }
}

fn bottleneck(limits: &Limits, jobs: &Jobs) -> Vec<Duration> {
    let reservoir = limits.reservoir.expect("invariant: the test sets one");
    let mut it = Bottleneck {
        limits,
        jobs,
        waiting: 0,
        running: 0,
        stock: reservoir.amount,
        next_request: Duration::ZERO,
        begins: Vec::new(),
        ends: BinaryHeap::new(),
    };
    let mut refresh = reservoir.refresh_interval;
    let mut arrivals = jobs.arrivals.iter().copied().peekable();
    while it.begins.len() < jobs.arrivals.len() {
        let end = it.ends.peek().map(|Reverse(at)| *at);
        let arrival = arrivals.peek().copied();
        let now = [end, arrival].into_iter().flatten().fold(refresh, Duration::min);
        if now == refresh {
            it.stock = reservoir.refresh_amount;
            refresh += reservoir.refresh_interval;
        } else if end == Some(now) {
            it.ends.pop();
            it.running -= 1;
        } else {
            arrivals.next();
            it.waiting += 1;
        }
        it.drain(now);
    }
    it.begins
}

#[test]
fn a_key_in_flight_is_not_granted_again_before_it_ended() {
    let now = origin();
    let limits = Limits { min_interval: Duration::ZERO, ..Limits::paced() };
    let mut admission = Admission::new(limits, now);
    let entry = Entry { priority: Priority::Normal, due: now, deadline: None };
    admission.enqueue(7, entry);
    assert_eq!(admission.take(now), Some(7));
    admission.enqueue(7, entry);
    assert_eq!((admission.take(now), admission.poll_timeout()), (None, None));
    admission.finished(7, now, Outcome::Failed);
    assert_eq!(admission.take(now), Some(7));
    admission.finished(7, now, Outcome::Failed);
    admission.finished(7, now, Outcome::Failed);
    assert_eq!((admission.counts().stray, admission.in_flight()), (1, 0));
}

#[test]
fn a_smaller_window_waits_until_enough_have_ended() {
    let now = origin();
    let limits = Limits { min_interval: Duration::ZERO, max_in_flight: 3, ..Limits::paced() };
    let mut admission = Admission::new(limits.clone(), now);
    for key in 0..5 {
        admission.enqueue(key, Entry { priority: Priority::Normal, due: now, deadline: None });
        let _granted = admission.take(now);
    }
    admission.set_limits(Limits { max_in_flight: 1, ..limits }, now);
    assert_eq!((admission.in_flight(), admission.queued()), (3, 2));
    for key in 0..2 {
        admission.finished(key, now, Outcome::Failed);
        assert_eq!(admission.take(now), None);
    }
    admission.finished(2, now, Outcome::Failed);
    assert_eq!(admission.take(now), Some(3));
}

#[test]
fn nobody_is_late_who_did_not_wait() {
    let now = origin();
    let mut admission = Admission::new(Limits::paced(), now);
    let entry = Entry { priority: Priority::Normal, due: now, deadline: None };
    admission.enqueue(1, entry);
    admission.enqueue(2, entry);
    assert_eq!((admission.take(now), admission.take(now)), (Some(1), None));
    assert!(admission.cancel(2));
    assert_eq!(admission.take(now), None);
    admission.enqueue(3, entry);
    admission.enqueue(4, entry);
    assert_eq!(admission.take(now + MS * 13), Some(3));
    assert_eq!(admission.poll_timeout(), Some(now + MS * 23));
}

#[test]
fn it_can_move_to_another_thread() {
    fn check<T: Send>() {}
    check::<Admission<u32>>();
}
