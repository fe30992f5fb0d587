//! The rules that hold at every step.

use super::agenda::Cookie;
use super::plan::Plan;
use super::wire::Wire;
use crate::device::Generation;
use crate::fleet::{Action, Census, Fleet, Notice, SlotKey, State};
use crate::policy::Limits;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How late a dial may begin without moving the ones after it: what `admission` allows itself.
const FORGIVEN: Duration = Duration::from_millis(5);

/// Windows of the reservoir end with a heartbeat of the limiter, as in Bottleneck.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// What is known of the slots without asking the fleet.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    receipt_timeout: Duration,
    /// How late the pool's timers are.
    lag: Duration,
    /// By the number of the slot.
    slots: Vec<Slot>,
    census: Census,
    last_grant: Option<Instant>,
    /// When the present window of the reservoir began, and how many were granted since.
    window: (Instant, usize),
    /// The most that ever could be in flight.
    most_places: usize,
    /// By device: sockets that the kernel has, in the order in which they were made.
    sockets: Vec<Vec<Known>>,
    /// When the last slot came online.
    pub(super) last_online: Option<Instant>,
    pub(super) tally: Tally,
}

/// What was played, for a storm in which nothing happens proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) dials: usize,
    pub(super) unreleased: usize,
    pub(super) quarantines: usize,
    pub(super) deadlines: usize,
    pub(super) late_events: u64,
    /// Requests and messages.
    pub(super) messages: usize,
    /// By the code of their cause.
    pub(super) ends: BTreeMap<&'static str, usize>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.dials += other.dials;
        self.unreleased += other.unreleased;
        self.quarantines += other.quarantines;
        self.deadlines += other.deadlines;
        self.late_events += other.late_events;
        self.messages += other.messages;
        for (code, count) in &other.ends {
            *self.ends.entry(code).or_default() += count;
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    device: usize,
    /// `None` when it is gone.
    state: Option<State>,
    generation: Generation,
    /// The last one that was dialled, and when.
    dialled: Generation,
    last_dial: Option<Instant>,
    /// Since when it waits for a receipt.
    releasing: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    cookie: Cookie,
    generation: Generation,
    key: SlotKey,
    /// The fleet was told that it is closed.
    ended: Option<Instant>,
    /// It went on without a receipt, and said so.
    unreleased: bool,
    /// The fleet was told that the kernel has let go of it.
    released: bool,
}

impl Watch {
    pub(super) fn new(start: Instant, plan: &Plan) -> Self {
        let devices = plan.devices + plan.newcomers;
        Self {
            limits: plan.limits.clone(),
            receipt_timeout: plan.timeouts.receipt,
            lag: plan.lag,
            slots: Vec::new(),
            census: Census::default(),
            last_grant: None,
            window: (start, 0),
            most_places: plan.limits.max_in_flight,
            sockets: vec![Vec::new(); devices],
            last_online: None,
            tally: Tally::default(),
        }
    }

    pub(super) fn added(&mut self, key: SlotKey, device: usize) {
        assert_eq!(self.slots.len(), key.0 as usize, "keys are given in order");
        let generation = Generation::default();
        let state = Some(State::Waiting);
        self.slots.push(Slot {
            device,
            state,
            generation,
            dialled: generation,
            last_dial: None,
            releasing: None,
        });
        self.census[State::Waiting as usize] += 1;
    }

    pub(super) fn set_limits(&mut self, now: Instant, limits: Limits) {
        if limits.reservoir != self.limits.reservoir {
            self.window = (now, 0);
        }
        // A longer spacing holds for whoever is queued from now on.
        if limits.connect_spacing > self.limits.connect_spacing {
            self.slots.iter_mut().for_each(|slot| slot.last_dial = None);
        }
        self.most_places = self.most_places.max(limits.max_in_flight);
        self.limits = limits;
        // What the old interval allowed was judged; the new one counts from the last dial.
        self.last_grant = None;
    }

    pub(super) fn state(&self, key: SlotKey) -> Option<State> {
        self.slots[key.0 as usize].state
    }

    pub(super) fn generation(&self, key: SlotKey) -> Generation {
        self.slots[key.0 as usize].generation
    }

    /// The kernel makes a socket.
    pub(super) fn opened(&mut self, wire: &mut Wire, cookie: Cookie) {
        let (key, generation) = (wire.sockets[cookie].key, wire.sockets[cookie].generation);
        let device = wire.sockets[cookie].device;
        for known in &self.sockets[device] {
            let socket = &wire.sockets[known.cookie];
            if socket.open {
                let text = format!("two sockets: {generation} beside {}", known.generation);
                return wire.complain(Some(device), text);
            }
            if socket.alive && !known.unreleased {
                let text =
                    format!("{generation} has a socket, and {} is not released", known.generation);
                return wire.complain(Some(device), text);
            }
        }
        // Those of which everything is known are of no interest any more.
        let is_over = |known: &Known| !wire.sockets[known.cookie].alive && known.released;
        self.sockets[device].retain(|known| !is_over(known));
        let known =
            Known { cookie, generation, key, ended: None, unreleased: false, released: false };
        self.sockets[device].push(known);
    }

    /// The fleet is told that a socket is closed.
    pub(super) fn ended(&mut self, now: Instant, device: usize, cookie: Cookie) {
        if let Some(known) = self.known(device, cookie) {
            known.ended = Some(now);
        }
    }

    /// The fleet is told that the kernel has let go of a socket.
    pub(super) fn released(&mut self, device: usize, cookie: Cookie) {
        if let Some(known) = self.known(device, cookie) {
            known.released = true;
        }
    }

    /// What the fleet wants done, before it is done.
    pub(super) fn look(&mut self, wire: &mut Wire, fleet: &Fleet, action: &Action) {
        match *action {
            Action::Dial { key, generation, .. } => self.dial(wire, fleet, key, generation),
            Action::Entered { key, generation, state } => {
                let slot = &mut self.slots[key.0 as usize];
                let device = slot.device;
                let Some(before) = slot.state.replace(state) else {
                    return wire.complain(Some(device), "a slot that is gone has a state");
                };
                slot.generation = generation;
                self.census[before as usize] -= 1;
                self.census[state as usize] += 1;
                if state == State::Online {
                    self.last_online = Some(wire.now);
                }
                let releasing = (state == State::Releasing).then_some(wire.now);
                let since = std::mem::replace(&mut slot.releasing, releasing);
                self.waited(wire, device, since);
            }
            Action::Gone { key } => {
                let slot = &mut self.slots[key.0 as usize];
                let device = slot.device;
                let Some(before) = slot.state.take() else {
                    return wire.complain(Some(device), "a slot is gone twice");
                };
                let since = slot.releasing.take();
                self.census[before as usize] -= 1;
                self.waited(wire, device, since);
                let left = self.sockets[device].iter().find(|known| {
                    known.key == key && wire.sockets[known.cookie].alive && !known.unreleased
                });
                if let Some(known) = left {
                    let text = format!("gone, and the socket of {} is there", known.generation);
                    wire.complain(Some(device), text);
                }
            }
            Action::Notice { key, generation, ref notice } => {
                self.notice(wire, fleet, key, generation, notice);
            }
            Action::Stop { .. } | Action::AwaitReceipt { .. } => {}
        }
    }

    /// After each event.
    pub(super) fn check(&self, wire: &mut Wire, fleet: &Fleet) {
        if self.census != *fleet.census() {
            let text = format!("the census says {:?}, and it is {:?}", fleet.census(), self.census);
            wire.complain(None, text);
        }
        let count = |state: State| self.census[state as usize];
        let least = count(State::Connecting);
        // Whoever is to be replaced has its place from the moment when it is told to stop.
        let most = least + count(State::Stopping) + count(State::Releasing);
        let in_flight = fleet.admission().in_flight();
        if !(least..=most).contains(&in_flight) {
            let text = format!("{in_flight} count as in flight, and it is {least} to {most}");
            wire.complain(None, text);
        }
    }

    fn dial(&mut self, wire: &mut Wire, fleet: &Fleet, key: SlotKey, generation: Generation) {
        self.tally.dials += 1;
        let slot = self.slots[key.0 as usize];
        let device = slot.device;
        for known in &self.sockets[device] {
            if known.ended.is_none() {
                let text = format!("{generation} is dialled before {} has ended", known.generation);
                wire.complain(Some(device), text);
            } else if !known.released && !known.unreleased {
                let before = known.generation;
                let text = format!("{generation} is dialled before the receipt of {before}");
                wire.complain(Some(device), text);
            }
        }
        self.slots[key.0 as usize].dialled = generation;
        if generation <= slot.dialled || generation != slot.generation {
            wire.complain(Some(device), "a generation came twice");
        }
        // A device that left and came back is another one to the pool.
        let last = self.slots[key.0 as usize].last_dial.replace(wire.now);
        let spacing = self.limits.connect_spacing;
        if last.is_some_and(|last| wire.now.saturating_duration_since(last) < spacing) {
            wire.complain(Some(device), format!("two connects within {spacing:?}"));
        }
        if fleet.admission().in_flight() == 0 {
            wire.complain(Some(device), "a dial that is not in flight");
        }
    }

    /// Nobody waits for a receipt for longer than allowed.
    fn waited(&self, wire: &mut Wire, device: usize, since: Option<Instant>) {
        let most = self.receipt_timeout + self.lag;
        if since.is_some_and(|since| wire.now.saturating_duration_since(since) > most) {
            wire.complain(Some(device), format!("it waited longer than {most:?} for a receipt"));
        }
    }

    fn notice(
        &mut self,
        wire: &mut Wire,
        fleet: &Fleet,
        key: SlotKey,
        generation: Generation,
        notice: &Notice,
    ) {
        let device = self.slots[key.0 as usize].device;
        match notice {
            Notice::Unreleased => {
                self.tally.unreleased += 1;
                let timeout = self.receipt_timeout;
                let mut sockets = self.sockets[device].iter_mut();
                let known = sockets.find(|it| it.generation == generation && it.key == key);
                let Some(known) = known else {
                    return wire.complain(Some(device), "unreleased, and there was no socket");
                };
                known.unreleased = true;
                if known.ended.is_none_or(|ended| wire.now < ended + timeout) {
                    wire.complain(Some(device), "unreleased before its time");
                }
            }
            Notice::Granted { .. } => self.granted(wire, fleet, device),
            Notice::Quarantined { .. } => self.tally.quarantines += 1,
            Notice::DeadlinePassed => self.tally.deadlines += 1,
            Notice::Ended { cause, .. } => {
                *self.tally.ends.entry(cause.code()).or_default() += 1;
            }
            Notice::Online { .. } | Notice::Redirected { .. } | Notice::RedirectRefused { .. } => {}
        }
    }

    fn granted(&mut self, wire: &mut Wire, fleet: &Fleet, device: usize) {
        let (in_flight, most) = (fleet.admission().in_flight(), self.limits.max_in_flight);
        if in_flight > most {
            wire.complain(Some(device), format!("{in_flight} in flight, {most} may be"));
        }
        let interval = self.limits.min_interval;
        let least = interval - FORGIVEN.min(interval / 2);
        let last = self.last_grant.replace(wire.now);
        if last.is_some_and(|last| wire.now.saturating_duration_since(last) < least) {
            wire.complain(Some(device), format!("two grants within {interval:?}"));
        }
        let Some(reservoir) = self.limits.reservoir else { return };
        let beats = reservoir.refresh_interval.as_nanos().div_ceil(HEARTBEAT.as_nanos());
        let period = HEARTBEAT * u32::try_from(beats).unwrap_or(u32::MAX);
        while wire.now >= self.window.0 + period {
            self.window = (self.window.0 + period, 0);
        }
        self.window.1 += 1;
        // Those that had taken theirs from the stock before the window began, or before the limits
        // changed, may still begin in it.
        let most = reservoir.amount.max(reservoir.refresh_amount) as usize + self.most_places;
        if self.window.1 > most {
            wire.complain(Some(device), format!("more than {most} grants in {period:?}"));
        }
    }

    fn known(&mut self, device: usize, cookie: Cookie) -> Option<&mut Known> {
        self.sockets[device].iter_mut().find(|known| known.cookie == cookie)
    }
}
