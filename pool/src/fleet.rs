//! All devices together: who may connect, who has to go, and what happens next. Pure.
//!
//! It is told what happened ([`Input`]) and when, and says what to do ([`Action`]). It opens
//! nothing and asks nobody for the time, so a storm of 4,000 devices can be played in
//! milliseconds.
//!
//! ```text
//!             ┌────────────── due, admission ◀───────────────┐
//!             ▼                                              │
//! Waiting ─▶ Connecting ─▶ Online ─▶ Stopping ─▶ Releasing ──┴─▶ (removed)
//!                │            │                    ▲
//!                └────────────┴── ended ───────────┘
//! ```
//!
//! A live session that is to be replaced waits for its turn *before* it is destroyed: with 4,000
//! to replace, one is down at a time, not all of them. What holds is this: between the moment a
//! session is stopped and the receipt for its socket, nothing is dialled for its device.

mod redirect;
mod slot;
mod takeover;

pub(crate) use redirect::AllowList;
pub use slot::State;

use crate::admission::{Admission, Entry, Outcome};
use crate::budget::DescriptorBudget;
use crate::device::{Generation, Priority};
use crate::error::Cause;
use crate::policy::{BackoffPolicy, Limits, TakeoverPolicy};
use slot::Slot;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A slot's number; never used twice, so that a late event finds nobody instead of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SlotKey(pub(crate) u32);

/// What the fleet is told.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Add {
        key: SlotKey,
        priority: Priority,
    },
    /// `cause` is ours: removed, or the pool shuts down.
    Remove {
        key: SlotKey,
        cause: Cause,
    },
    Reconnect {
        key: SlotKey,
        priority: Option<Priority>,
        deadline: Option<Instant>,
    },
    /// CONNACK came, so long after the dial.
    Online {
        key: SlotKey,
        generation: Generation,
        latency: Duration,
    },
    /// The session is over, and its socket, if there was one, is closed.
    Ended {
        key: SlotKey,
        generation: Generation,
        cause: Cause,
        had_socket: bool,
    },
    /// The kernel has let go of the socket.
    Receipt {
        key: SlotKey,
        generation: Generation,
    },
    /// The way to the broker is congested: somebody saw it from outside.
    Congestion,
    SetLimits(Limits),
}

/// What the fleet wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Begin a session: make a socket, claim it, connect it. `server` is another one than the
    /// configured, and on the allow-list.
    Dial { key: SlotKey, generation: Generation, server: Option<Arc<str>> },
    /// End the session, and say `Ended` when its socket is closed.
    Stop { key: SlotKey, generation: Generation, cause: Cause },
    /// Ask what became of the closed socket, and say `Receipt`.
    AwaitReceipt { key: SlotKey, generation: Generation },
    /// The slot is in this state now.
    Entered { key: SlotKey, generation: Generation, state: State },
    /// Something that people may want to know.
    Notice { key: SlotKey, generation: Generation, notice: Notice },
    /// The slot is gone; its key will not come back.
    Gone { key: SlotKey },
}

/// What is worth telling about a slot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notice {
    Online {
        latency: Duration,
    },
    /// `lived` since its CONNACK, if it had one.
    Ended {
        cause: Cause,
        lived: Option<Duration>,
    },
    /// No receipt within the time allowed; the next dial goes ahead without.
    Unreleased,
    /// Another client fights for the client id; no connect for so long.
    Quarantined {
        period: Duration,
    },
    Redirected {
        server: Arc<str>,
    },
    /// The server it names is not on the allow-list.
    RedirectRefused {
        server: String,
    },
    /// The request to reconnect was not served in time.
    DeadlinePassed,
    /// How long the dial waited for its turn after it was due.
    Granted {
        waited: Duration,
    },
}

/// The policies in one place.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) backoff: BackoffPolicy,
    pub(crate) takeover: TakeoverPolicy,
    pub(crate) receipt_timeout: Duration,
    pub(crate) redirects: AllowList,
}

/// How many slots are in each state.
pub(crate) type Census = [usize; State::ALL.len()];

/// See the [module](self).
pub(crate) struct Fleet {
    rules: Rules,
    admission: Admission<SlotKey>,
    descriptors: DescriptorBudget,
    slots: HashMap<SlotKey, Slot>,
    census: Census,
    /// When receipts are overdue; in order, for all have the same patience.
    releasing: VecDeque<(Instant, SlotKey, Generation)>,
    actions: VecDeque<Action>,
    /// Events of a session that is not the slot's any more. They change nothing.
    late: u64,
    random: fastrand::Rng,
}

impl Fleet {
    pub(crate) fn new(
        rules: Rules,
        limits: Limits,
        descriptors: DescriptorBudget,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            rules,
            admission: Admission::new(limits, now),
            descriptors,
            slots: HashMap::new(),
            census: Census::default(),
            releasing: VecDeque::new(),
            actions: VecDeque::new(),
            late: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Tells it what happened.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        // What was due comes first: a stream of inputs must not put it off.
        self.handle_timeout(now);
        match input {
            Input::Add { key, priority } => self.add(now, key, priority),
            Input::Remove { key, cause } => self.remove(now, key, cause),
            Input::Reconnect { key, priority, deadline } => {
                self.reconnect(now, key, priority, deadline);
            }
            Input::Online { key, generation, latency } => {
                self.online(now, key, generation, latency);
            }
            Input::Ended { key, generation, cause, had_socket } => {
                self.ended(now, key, generation, cause, had_socket);
            }
            Input::Receipt { key, generation } => self.receipt(now, key, generation),
            Input::Congestion => self.admission.congestion_hint(now),
            Input::SetLimits(limits) => self.admission.set_limits(limits, now),
        }
        self.grant(now);
    }

    /// Does what is due by now.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, key, generation)) = self.releasing.pop_front_if(|it| it.0 <= now) {
            if self.is(key, generation, &[State::Releasing]) {
                self.notice(key, generation, Notice::Unreleased);
                self.released(now, key);
            }
        }
        while let Some(key) = self.admission.next_expired(now) {
            self.expired(now, key);
        }
        self.grant(now);
    }

    /// When [`Fleet::handle_timeout`] has something to do, though nothing happens until then.
    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        let overdue = self.releasing.front().map(|(deadline, ..)| *deadline);
        [overdue, self.admission.poll_timeout()].into_iter().flatten().min()
    }

    /// What to do next; ask until there is nothing.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(crate) fn descriptors(&mut self) -> &mut DescriptorBudget {
        &mut self.descriptors
    }

    pub(crate) fn admission(&self) -> &Admission<SlotKey> {
        &self.admission
    }

    pub(crate) fn census(&self) -> &Census {
        &self.census
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn late_events(&self) -> u64 {
        self.late
    }

    fn add(&mut self, now: Instant, key: SlotKey, priority: Priority) {
        let slot = Slot::new(priority, now);
        self.census[slot.state() as usize] += 1;
        if self.slots.insert(key, slot).is_none() {
            self.enqueue(now, key, now, None, None);
        }
    }

    fn remove(&mut self, now: Instant, key: SlotKey, cause: Cause) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.removing = true;
        self.admission.cancel(key);
        if std::mem::take(&mut slot.permit) {
            self.admission.finished(key, now, Outcome::Failed);
        }
        let generation = slot.generation;
        match slot.state() {
            State::Waiting | State::Quarantined => self.gone(key),
            State::Connecting | State::Online => {
                self.enter(key, State::Stopping);
                self.actions.push_back(Action::Stop { key, generation, cause });
            }
            // The end of its session and the receipt are awaited already.
            State::Stopping | State::Releasing => {}
        }
    }

    fn reconnect(
        &mut self,
        now: Instant,
        key: SlotKey,
        priority: Option<Priority>,
        deadline: Option<Instant>,
    ) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if slot.removing {
            return;
        }
        match slot.state() {
            State::Waiting | State::Quarantined | State::Online => {
                self.enqueue(now, key, now, priority, deadline);
                if self.is_in(key, State::Quarantined) {
                    self.enter(key, State::Waiting);
                }
            }
            // A new session is on its way already; this only takes its delay away.
            State::Connecting | State::Stopping | State::Releasing => slot.due = now,
        }
    }

    fn online(&mut self, now: Instant, key: SlotKey, generation: Generation, latency: Duration) {
        if !self.is(key, generation, &[State::Connecting]) {
            return self.too_late();
        }
        self.admission.finished(key, now, Outcome::Accepted { latency });
        let slot = self.slot(key);
        slot.permit = false;
        // The spacing counts from here too: the CONNECT left some time after the dial.
        slot.last_connect = Some(now);
        slot.online_at = Some(now);
        slot.redirects = 0;
        self.enter(key, State::Online);
        self.notice(key, generation, Notice::Online { latency });
    }

    fn ended(
        &mut self,
        now: Instant,
        key: SlotKey,
        generation: Generation,
        cause: Cause,
        had_socket: bool,
    ) {
        let with_session = [State::Connecting, State::Online, State::Stopping];
        if !self.is(key, generation, &with_session) {
            return self.too_late();
        }
        let slot = self.slot(key);
        let was_connecting = slot.state() == State::Connecting;
        let lived = slot.online_at.take().map(|since| now.saturating_duration_since(since));
        if was_connecting {
            slot.permit = false;
            slot.last_connect = Some(now);
            let congested = cause.is_congestion();
            let outcome = if congested { Outcome::Congested } else { Outcome::Failed };
            self.admission.finished(key, now, outcome);
        }
        self.plan(now, key, &cause, lived);
        self.notice(key, generation, Notice::Ended { cause, lived });
        self.enter(key, State::Releasing);
        if had_socket {
            self.releasing.push_back((now + self.rules.receipt_timeout, key, generation));
            self.actions.push_back(Action::AwaitReceipt { key, generation });
        } else {
            self.released(now, key);
        }
    }

    /// Decides when the next dial is due, and where to.
    fn plan(&mut self, now: Instant, key: SlotKey, cause: &Cause, lived: Option<Duration>) {
        let random = self.random.f64();
        let slot = self.slots.get_mut(&key).expect("invariant: the caller looked it up");
        let generation = slot.generation;
        slot.quarantine = None;
        // What we ended ourselves says nothing about the broker.
        if matches!(cause, Cause::Replaced | Cause::Removed | Cause::Shutdown) {
            slot.due = now;
            return;
        }
        match self.rules.redirects.follow(cause, slot.redirects) {
            redirect::Verdict::None => slot.server = None,
            redirect::Verdict::Follow(server) => {
                slot.redirects += 1;
                slot.server = Some(Arc::clone(&server));
                slot.due = now;
                return self.notice(key, generation, Notice::Redirected { server });
            }
            redirect::Verdict::Refuse(server) => {
                slot.server = None;
                self.actions.push_back(Action::Notice {
                    key,
                    generation,
                    notice: Notice::RedirectRefused { server },
                });
            }
        }
        if let Some(lived) = lived {
            slot.backoff.session_ended(&self.rules.backoff, lived);
        }
        let had_failed = slot.backoff.failures() > 0;
        let delay = slot.backoff.next(&self.rules.backoff, random);
        // The first attempt after a session waits for its turn only, unless it was no good either.
        let is_first = lived.is_some() && !had_failed;
        slot.due = if is_first { now } else { now + delay };
        if slot.takeovers.ended(&self.rules.takeover, now, cause, lived) {
            let period = slot.takeovers.quarantine(&self.rules.takeover);
            slot.due = now + period;
            slot.quarantine = Some(period);
        }
    }

    fn receipt(&mut self, now: Instant, key: SlotKey, generation: Generation) {
        if self.is(key, generation, &[State::Releasing]) {
            self.released(now, key);
        } else {
            self.too_late();
        }
    }

    /// The socket is gone, or we waited for long enough: on to whatever comes next.
    fn released(&mut self, now: Instant, key: SlotKey) {
        let slot = self.slot(key);
        let (generation, due, quarantine) = (slot.generation, slot.due, slot.quarantine.take());
        if slot.removing {
            self.gone(key);
        } else if let Some(period) = quarantine {
            if std::mem::take(&mut slot.permit) {
                self.admission.finished(key, now, Outcome::Failed);
            }
            // A request that waited for its turn would end the quarantine before it began.
            self.admission.cancel(key);
            self.enter(key, State::Quarantined);
            self.notice(key, generation, Notice::Quarantined { period });
            self.enqueue(now, key, due, None, None);
        } else if slot.permit {
            self.dial(now, key);
        } else {
            self.enter(key, State::Waiting);
            self.enqueue(now, key, due, None, None);
        }
    }

    fn enqueue(
        &mut self,
        now: Instant,
        key: SlotKey,
        due: Instant,
        priority: Option<Priority>,
        deadline: Option<Instant>,
    ) {
        let spacing = self.admission.limits().connect_spacing;
        let slot = self.slot(key);
        let spaced = slot.last_connect.map_or(due, |last| due.max(last + spacing));
        let due = spaced.max(now);
        slot.due = due;
        let priority = priority.unwrap_or(slot.priority);
        self.admission.enqueue(key, Entry { priority, due, deadline });
    }

    /// Nobody is left out for ever: the request is over, the device still comes back.
    fn expired(&mut self, now: Instant, key: SlotKey) {
        let Some(slot) = self.slots.get(&key) else { return };
        let (generation, state, due) = (slot.generation, slot.state(), slot.due);
        self.notice(key, generation, Notice::DeadlinePassed);
        if matches!(state, State::Waiting | State::Quarantined) {
            self.enqueue(now, key, due, None, None);
        }
    }

    fn grant(&mut self, now: Instant) {
        while let Some(key) = self.admission.take(now) {
            let Some(slot) = self.slots.get_mut(&key) else {
                self.admission.finished(key, now, Outcome::Failed);
                continue;
            };
            slot.permit = true;
            let generation = slot.generation;
            let waited = now.saturating_duration_since(slot.due);
            self.notice(key, generation, Notice::Granted { waited });
            match self.slot(key).state() {
                State::Waiting | State::Quarantined => self.dial(now, key),
                State::Online => {
                    self.enter(key, State::Stopping);
                    let cause = Cause::Replaced;
                    self.actions.push_back(Action::Stop { key, generation, cause });
                }
                // Goes on when the old socket is gone.
                State::Stopping | State::Releasing => {}
                State::Connecting => {
                    unreachable!("invariant: a connecting slot is not in the queue")
                }
            }
        }
    }

    fn dial(&mut self, now: Instant, key: SlotKey) {
        let open = self.open_sockets() as u64;
        if let Err(error) = self.descriptors.may_open(open) {
            let slot = self.slot(key);
            slot.permit = false;
            let generation = slot.generation;
            self.admission.finished(key, now, Outcome::Failed);
            let cause = Cause::Operator(error);
            self.plan(now, key, &cause, None);
            self.notice(key, generation, Notice::Ended { cause, lived: None });
            let due = self.slot(key).due;
            self.enter(key, State::Waiting);
            return self.enqueue(now, key, due, None, None);
        }
        let slot = self.slot(key);
        slot.generation = slot.generation.next();
        slot.last_connect = Some(now);
        let (generation, server) = (slot.generation, slot.server.clone());
        self.enter(key, State::Connecting);
        self.actions.push_back(Action::Dial { key, generation, server });
    }

    /// Slots that have a socket.
    fn open_sockets(&self) -> usize {
        let with_socket = [State::Connecting, State::Online, State::Stopping];
        with_socket.iter().map(|state| self.census[*state as usize]).sum()
    }

    /// The one place where a slot changes its state.
    fn enter(&mut self, key: SlotKey, state: State) {
        let slot = self.slots.get_mut(&key).expect("invariant: the caller looked it up");
        self.census[slot.state() as usize] -= 1;
        self.census[state as usize] += 1;
        slot.enter(state);
        let generation = slot.generation;
        self.actions.push_back(Action::Entered { key, generation, state });
    }

    fn gone(&mut self, key: SlotKey) {
        if let Some(slot) = self.slots.remove(&key) {
            self.census[slot.state() as usize] -= 1;
            self.actions.push_back(Action::Gone { key });
        }
    }

    fn notice(&mut self, key: SlotKey, generation: Generation, notice: Notice) {
        self.actions.push_back(Action::Notice { key, generation, notice });
    }

    fn too_late(&mut self) {
        self.late += 1;
    }

    fn slot(&mut self, key: SlotKey) -> &mut Slot {
        self.slots.get_mut(&key).expect("invariant: the caller looked it up")
    }

    fn is_in(&self, key: SlotKey, state: State) -> bool {
        self.slots.get(&key).is_some_and(|slot| slot.state() == state)
    }

    fn is(&self, key: SlotKey, generation: Generation, states: &[State]) -> bool {
        self.slots
            .get(&key)
            .is_some_and(|slot| slot.generation == generation && states.contains(&slot.state()))
    }
}

#[cfg(test)]
mod tests;
