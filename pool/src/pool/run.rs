//! The loop: the one place where the fleet meets the clock, the tasks and the callers.

use super::releases::Releases;
use super::{ReconnectOptions, Shared};
use crate::admission::Counts;
use crate::clock;
use crate::device::{Generation, Priority};
use crate::driver::descriptors;
use crate::driver::task::{self, End, Finished, Online, Order};
use crate::error::{CallerError, Cause, Error};
use crate::event::Event;
use crate::fleet::{Action, Census, Fleet, Input, Notice, SlotKey};
use crate::line::Line;
use crate::metrics::add;
use crate::policy::Limits;
use crate::receipt::{ClosedSocket, Receipt};
use crate::session::Carried;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// How often the descriptors of the rest of the process are counted.
const SAMPLE_EVERY: Duration = Duration::from_secs(30);

/// How often the use of local ports is looked at, while anything happens at all.
const LOOK_AT_PORTS_EVERY: Duration = Duration::from_secs(1);

/// What callers ask of the loop.
pub(super) enum Control {
    Add {
        line: Arc<Line>,
        priority: Priority,
    },
    Remove {
        key: SlotKey,
        done: oneshot::Sender<()>,
    },
    Reconnect {
        key: SlotKey,
        options: ReconnectOptions,
        done: Option<oneshot::Sender<Result<Generation, Error>>>,
    },
    SetLimits(Limits),
    Congestion,
    Receipt {
        cookie: u64,
        receipt: Receipt,
    },
    Shutdown,
}

/// Everything that can happen to the loop.
enum Happening {
    Asked(Control),
    CameOnline(Online),
    Finished(Finished),
    Due,
}

/// What the loop tells the handles.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    pub(super) census: Census,
    pub(super) queued: usize,
    pub(super) in_flight: usize,
    pub(super) window: usize,
    pub(super) late_events: u64,
    pub(super) reservoir: Option<usize>,
    pub(super) counts: Counts,
}

/// See the [module](self).
pub(super) struct Runner {
    fleet: Fleet,
    shared: Arc<Shared>,
    controls: mpsc::UnboundedReceiver<Control>,
    came_online: mpsc::UnboundedReceiver<Online>,
    tasks: JoinSet<Finished>,
    lines: HashMap<SlotKey, Arc<Line>>,
    /// What the last session of a device left to the next one.
    carried: HashMap<SlotKey, Carried>,
    /// Closed a moment ago; the fleet decides whether a receipt is wanted.
    closed: HashMap<SlotKey, ClosedSocket>,
    releases: Releases,
    reconnects: HashMap<SlotKey, Vec<oneshot::Sender<Result<Generation, Error>>>>,
    removals: HashMap<SlotKey, Vec<oneshot::Sender<()>>>,
    /// Of the last [`Online`], until the fleet's notice.
    session_present: bool,
    sample_due: Instant,
    ports_due: Instant,
    shutting_down: bool,
}

impl Runner {
    pub(super) fn new(
        fleet: Fleet,
        shared: Arc<Shared>,
        controls: mpsc::UnboundedReceiver<Control>,
        came_online: mpsc::UnboundedReceiver<Online>,
    ) -> Self {
        Self {
            fleet,
            shared,
            controls,
            came_online,
            tasks: JoinSet::new(),
            lines: HashMap::new(),
            carried: HashMap::new(),
            closed: HashMap::new(),
            releases: Releases::default(),
            reconnects: HashMap::new(),
            removals: HashMap::new(),
            session_present: false,
            sample_due: clock::now() + SAMPLE_EVERY,
            ports_due: clock::now(),
            shutting_down: false,
        }
    }

    /// Runs until the pool is shut down or all handles are gone; then all sockets are closed.
    pub(super) async fn run(mut self) {
        while !(self.shutting_down && self.fleet.is_empty()) {
            let Some(happening) = self.next().await else { break };
            self.handle(happening);
            self.act();
        }
        self.tasks.shutdown().await;
    }

    /// What happens next; `None` when all handles are gone, or the runtime is.
    async fn next(&mut self) -> Option<Happening> {
        let due = [self.fleet.poll_timeout(), self.releases.poll_timeout(), Some(self.sample_due)];
        let due = due.into_iter().flatten().min().expect("invariant: there is a next sample");
        tokio::select! {
            control = self.controls.recv() => {
                control.map(Happening::Asked)
            }
            Some(online) = self.came_online.recv() => Some(Happening::CameOnline(online)),
            Some(finished) = self.tasks.join_next() => match finished {
                Ok(finished) => Some(Happening::Finished(finished)),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // Nobody aborts a task: the runtime is going, and takes the loop along.
                Err(_cancelled) => None,
            },
            () = sleep_until(due.into()) => Some(Happening::Due),
        }
    }

    fn handle(&mut self, happening: Happening) {
        let now = clock::now();
        self.look_at_ports(now);
        match happening {
            Happening::Asked(control) => self.asked(now, control),
            Happening::CameOnline(online) => {
                self.session_present = online.session_present;
                let Online { key, generation, latency, .. } = online;
                self.fleet.handle(now, Input::Online { key, generation, latency });
            }
            Happening::Finished(finished) => self.finished(now, finished),
            Happening::Due => {
                self.fleet.handle_timeout(now);
                self.ask_for_receipts(now);
                self.sample_descriptors(now);
            }
        }
    }

    fn asked(&mut self, now: Instant, control: Control) {
        match control {
            Control::Add { line, priority } => {
                let key = line.key;
                self.lines.insert(key, line);
                self.fleet.handle(now, Input::Add { key, priority });
            }
            Control::Remove { key, done } => {
                if self.lines.contains_key(&key) {
                    self.removals.entry(key).or_default().push(done);
                    self.fleet.handle(now, Input::Remove { key, cause: Cause::Removed });
                } else {
                    let _nobody_waits = done.send(());
                }
            }
            Control::Reconnect { key, options, done } => {
                let Some(line) = self.lines.get(&key) else { return };
                line.heard_reconnect();
                if let Some(done) = done {
                    self.reconnects.entry(key).or_default().push(done);
                }
                let ReconnectOptions { priority, deadline } = options;
                self.fleet.handle(now, Input::Reconnect { key, priority, deadline });
            }
            Control::SetLimits(limits) => self.fleet.handle(now, Input::SetLimits(limits)),
            Control::Congestion => self.fleet.handle(now, Input::Congestion),
            Control::Receipt { cookie, receipt } => self.receipt(now, cookie, receipt),
            Control::Shutdown => {
                self.shutting_down = true;
                let keys: Vec<SlotKey> = self.lines.keys().copied().collect();
                for key in keys {
                    self.fleet.handle(now, Input::Remove { key, cause: Cause::Shutdown });
                }
            }
        }
    }

    fn finished(&mut self, now: Instant, finished: Finished) {
        let Finished { key, generation, end: End { cause, closed, carried } } = finished;
        if let Some(socket) = closed {
            self.closed.insert(key, socket);
        }
        self.carried.insert(key, carried);
        let had_socket = closed.is_some();
        self.fleet.handle(now, Input::Ended { key, generation, cause, had_socket });
    }

    fn act(&mut self) {
        // First, so that whoever hears of a change by an event finds it in the numbers.
        self.publish_numbers();
        while let Some(action) = self.fleet.poll_action() {
            match action {
                Action::Dial { key, generation, server } => self.dial(key, generation, server),
                Action::Stop { key, generation, cause } => {
                    if let Some(line) = self.lines.get(&key) {
                        line.stop(generation, cause);
                    }
                }
                Action::AwaitReceipt { key, generation } => {
                    let now = clock::now();
                    if let Some(socket) = self.closed.remove(&key) {
                        self.releases.insert(now, key, generation, socket);
                        self.ask_for(now, socket);
                        #[cfg(any(test, feature = "testing"))]
                        self.go_wrong(now, key, generation, socket);
                        // A receipt at once has moved the slot on.
                        self.publish_numbers();
                    }
                }
                Action::Entered { key, generation, state } => {
                    if let Some(line) = self.lines.get(&key) {
                        line.set_state(state, generation, clock::now());
                    }
                }
                Action::Notice { key, generation, notice } => {
                    self.notice(key, generation, notice);
                }
                Action::Gone { key } => self.gone(key),
            }
        }
    }

    fn dial(&mut self, key: SlotKey, generation: Generation, server: Option<Arc<str>>) {
        let Some(line) = self.lines.get(&key) else { return };
        add(&self.shared.context.counters.dials, 1);
        let line = Arc::clone(line);
        let carried = self.carried.remove(&key);
        let carried = carried.unwrap_or_else(|| Carried::starting_at(fastrand::u16(..)));
        let order = Order { key, generation, line, carried, server };
        self.tasks.spawn(task::run(Arc::clone(&self.shared.context), order));
    }

    fn notice(&mut self, key: SlotKey, generation: Generation, notice: Notice) {
        let Some(line) = self.lines.get(&key) else { return };
        let context = &self.shared.context;
        let device = || line.device.id.clone();
        match notice {
            Notice::Online { latency } => {
                add(&context.counters.connected, 1);
                context.counters.connect_time.observe(latency);
                let session_present = self.session_present;
                context.events.tell(|| Event::Online {
                    device: device(),
                    generation,
                    session_present,
                    latency,
                });
                self.answer(key, &Ok(generation));
            }
            Notice::Ended { cause, lived } => {
                context.counters.session_ended(&cause, lived);
                line.set_last_end(cause.clone());
                context.events.tell(|| Event::Ended {
                    device: device(),
                    generation,
                    cause: cause.clone(),
                    lived,
                });
                if lived.is_none() {
                    self.answer(key, &Err(Error::Session(cause)));
                }
            }
            Notice::Unreleased => {
                add(&context.counters.unreleased, 1);
                let (cookie, given_up) = self.releases.overdue(key, generation);
                context.events.tell(|| Event::Unreleased { device: device(), generation, cookie });
                if let Some(cookie) = given_up {
                    self.releases.remove(cookie);
                    context.registry.retract(cookie, false);
                }
            }
            Notice::Quarantined { period } => {
                add(&context.counters.quarantines, 1);
                context.events.tell(|| Event::Quarantined { device: device(), period });
            }
            Notice::Redirected { server } => {
                context.events.tell(|| Event::Redirected { device: device(), server });
            }
            Notice::RedirectRefused { server } => {
                context.events.tell(|| Event::RedirectRefused { device: device(), server });
            }
            Notice::DeadlinePassed => self.answer(key, &Err(Error::Session(Cause::Deadline))),
            Notice::Granted { waited } => context.counters.admission_wait.observe(waited),
        }
    }

    /// Tells everybody who asked for a reconnect how it went.
    fn answer(&mut self, key: SlotKey, outcome: &Result<Generation, Error>) {
        for done in self.reconnects.remove(&key).into_iter().flatten() {
            let _nobody_waits = done.send(outcome.clone());
        }
    }

    fn gone(&mut self, key: SlotKey) {
        let Some(line) = self.lines.remove(&key) else { return };
        let device = line.device.id.clone();
        if let Some(carried) = self.carried.remove(&key) {
            carried.abandon(&Cause::Removed);
        }
        self.shared.forget(&line);
        let unknown = Error::Caller(CallerError::UnknownDevice(device.clone()));
        self.answer(key, &Err(unknown));
        for done in self.removals.remove(&key).into_iter().flatten() {
            let _nobody_waits = done.send(());
        }
        self.shared.context.events.tell(|| Event::Removed { device });
    }

    fn ask_for_receipts(&mut self, now: Instant) {
        while let Some(release) = self.releases.next_due(now) {
            self.ask_for(now, release.socket);
        }
    }

    fn ask_for(&mut self, now: Instant, socket: ClosedSocket) {
        if let Some(receipt) = self.shared.context.receipts.check(&socket) {
            self.receipt(now, socket.cookie, receipt);
        }
    }

    fn receipt(&mut self, now: Instant, cookie: u64, receipt: Receipt) {
        let Some(release) = self.releases.remove(cookie) else { return };
        self.shared.context.counters.receipt(receipt);
        self.shared.context.registry.retract(cookie, true);
        let (key, generation) = (release.key, release.generation);
        self.fleet.handle(now, Input::Receipt { key, generation });
    }

    /// Obeys a test that wants a broken pool.
    #[cfg(any(test, feature = "testing"))]
    fn go_wrong(&mut self, now: Instant, key: SlotKey, generation: Generation, of: ClosedSocket) {
        use crate::testing::Flaw;
        match self.shared.context.flaw(generation) {
            Some(Flaw::ForgetToClose) => self.receipt(now, of.cookie, Receipt::Destroyed),
            Some(Flaw::DialBeforeDestroy) => {
                self.fleet.handle(now, Input::Receipt { key, generation });
            }
            Some(Flaw::DieSilently | Flaw::KeepOpen) | None => {}
        }
    }

    fn look_at_ports(&mut self, now: Instant) {
        if now >= self.ports_due {
            self.ports_due = now + LOOK_AT_PORTS_EVERY;
            self.shared.context.warn_of_ports();
        }
    }

    fn sample_descriptors(&mut self, now: Instant) {
        if now < self.sample_due {
            return;
        }
        self.sample_due = now + SAMPLE_EVERY;
        if let Ok(open) = descriptors::count_open() {
            let others = open.saturating_sub(self.shared.context.registry.len() as u64);
            self.fleet.descriptors().observe_others(others);
            self.shared.directory().descriptors().observe_others(others);
        }
    }

    fn publish_numbers(&self) {
        let admission = self.fleet.admission();
        *self.shared.numbers() = Numbers {
            census: *self.fleet.census(),
            queued: admission.queued(),
            in_flight: admission.in_flight(),
            window: admission.window(),
            late_events: self.fleet.late_events(),
            reservoir: admission.reservoir(),
            counts: admission.counts(),
        };
    }
}

/// However the loop ends, by a shutdown or because the runtime goes: nobody waits for ever.
impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.directory().closed = true;
        self.shared.context.inbox.close();
        self.shared.context.events.close();
    }
}
