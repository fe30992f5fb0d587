//! One storm, from the first device to the last.

use super::agenda::{Cookie, Event};
use super::broker::Broker;
use super::driver::Driver;
use super::ledger::Ledger;
use super::plan::Plan;
use super::runner::{FILTERS, extra_filter};
use super::trace::Trace;
use super::watch::{Tally, Watch};
use super::wire::Wire;
use crate::budget::DescriptorBudget;
use crate::clock;
use crate::device::Generation;
use crate::error::Cause;
use crate::fleet::{AllowList, Fleet, Rules, SlotKey, State};
use crate::line::Line;
use crate::registry::Registry;
use crate::session::{Carried, Settings};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether everything is as it should be.
const LOOK: Duration = Duration::from_millis(500);

/// More events than that at one time are a loop that never ends.
const MOST_AT_ONCE: u32 = 200_000;

/// See the [module](self).
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) wire: Wire,
    pub(super) broker: Broker,
    pub(super) ledger: Ledger,
    pub(super) watch: Watch,
    pub(super) trace: Trace,
    pub(super) fleet: Fleet,
    pub(super) registry: Registry,
    pub(super) settings: Arc<Settings>,
    pub(super) remote: SocketAddr,
    /// By the number of the slot.
    pub(super) lines: Vec<Option<Arc<Line>>>,
    pub(super) owners: Vec<usize>,
    pub(super) carried: Vec<Option<Carried>>,
    pub(super) closed: Vec<Option<Cookie>>,
    pub(super) current: Vec<Option<Cookie>>,
    /// By the number of the socket.
    pub(super) drivers: Vec<Option<Box<Driver>>>,
    /// By device: its slot, and the filters that it has beside its own.
    pub(super) keys: Vec<Option<SlotKey>>,
    pub(super) wanted: Vec<[bool; FILTERS]>,
    /// Nobody joins any more.
    pub(super) is_closed: bool,
    /// Generations that are over.
    pub(super) history: Vec<(SlotKey, Generation)>,
}

/// A rule that is broken on purpose, to see whether the simulation sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// The fleet is told of a receipt that nobody gave.
    AssumesReceipts,
    /// What was said of an earlier generation counts for the present one, as in the article.
    TakesLateForCurrent,
    /// The next session does not take over what the last one left.
    LosesCarried,
    /// A message that found no space is acknowledged and dropped.
    DropsMessages,
    /// Drivers do not listen when they are told to stop.
    IgnoresStop,
    /// Claims are never retracted.
    KeepsClaims,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let start = clock::now();
        let devices = plan.devices + plan.newcomers;
        let rules = Rules {
            backoff: plan.backoff,
            takeover: plan.takeover,
            receipt_timeout: plan.timeouts.receipt,
            redirects: AllowList::default(),
        };
        let descriptors = DescriptorBudget::new(20_000, 64, 0);
        let settings = Settings {
            version: plan.version,
            clean_start: false,
            session_expiry: Some(86_400),
            keep_alive: plan.keep_alive,
            credentials: None,
            max_packet: 256 << 10,
            inflight: plan.inflight,
            packet_timeout: plan.timeouts.packet,
        };
        let mut broker = Broker::new(plan.version, devices, plan.broker);
        broker.may_overflow = plan.limits.max_in_flight > 80;
        Self {
            sabotage: None,
            wire: Wire::new(start, &plan),
            broker,
            ledger: Ledger::new(devices),
            watch: Watch::new(start, &plan),
            trace: Trace::default(),
            fleet: Fleet::new(rules, plan.limits.clone(), descriptors, plan.seed, start),
            registry: Registry::default(),
            settings: Arc::new(settings),
            remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 1_883)),
            lines: Vec::new(),
            owners: Vec::new(),
            carried: Vec::new(),
            closed: Vec::new(),
            current: Vec::new(),
            drivers: Vec::new(),
            keys: vec![None; devices],
            wanted: vec![[false; FILTERS]; devices],
            is_closed: false,
            history: Vec::new(),
            plan,
        }
    }

    /// The whole storm. What went wrong is in the complaint.
    pub(super) fn play(&mut self) {
        self.bring_up();
        if self.wire.complaint.is_some() {
            return;
        }
        let start = self.wire.now;
        self.plan_load();
        self.plan_troubles();
        self.run_until(start + self.plan.duration());
        self.settle();
        if self.wire.complaint.is_none() {
            self.tear_down();
        }
    }

    /// Adds all devices, and waits until they are online.
    pub(super) fn bring_up(&mut self) {
        for device in 0..self.plan.devices {
            self.add(device);
        }
        self.wait_until_online();
    }

    /// Waits until all devices are online.
    pub(super) fn wait_until_online(&mut self) {
        let patience = self.plan.patience();
        self.wait_for(patience, "the time when all are online", Self::are_online);
    }

    /// Plays until that time, or until a rule is broken.
    pub(super) fn run_until(&mut self, end: Instant) {
        let mut at_once = 0;
        while self.wire.complaint.is_none() {
            let lag = self.plan.lag;
            let due = self.fleet.poll_timeout().map(|due| (due + lag).max(self.wire.now));
            let Some(next) = due.into_iter().chain(self.wire.agenda.next()).min() else { break };
            if next > end {
                break;
            }
            at_once = if next > self.wire.now { 0 } else { at_once + 1 };
            if at_once > MOST_AT_ONCE {
                return self.wire.complain(None, "it never rests");
            }
            self.wire.now = self.wire.now.max(next);
            if due.is_some_and(|due| due <= next) {
                self.fleet.handle_timeout(self.wire.now);
            } else if let Some(event) = self.wire.agenda.pop() {
                self.happens(event);
            }
            self.act();
            self.watch.check(&mut self.wire, &self.fleet);
        }
        if self.wire.complaint.is_none() {
            self.wire.now = end;
        }
    }

    /// The storm is over: everybody comes back, and everything is answered and delivered.
    fn settle(&mut self) {
        for device in 0..self.keys.len() {
            if self.keys[device].is_none() {
                self.ledger.forgive(device);
            }
        }
        let patience = self.plan.patience();
        self.wait_for(patience, "the end of the storm", |world| {
            world.are_online() && world.ledger.is_settled() && world.wrong_filters().is_none()
        });
    }

    /// Removes all devices, and looks what is left.
    pub(super) fn tear_down(&mut self) {
        self.is_closed = true;
        for device in 0..self.keys.len() {
            self.remove(device, Cause::Shutdown);
        }
        let patience = self.plan.timeouts.close + self.plan.timeouts.receipt * 3 + LOOK * 10;
        self.wait_for(patience, "the end of all", |world| {
            world.fleet.is_empty() && world.registry.is_empty() && world.ledger.is_settled()
        });
        let in_flight = self.fleet.admission().in_flight();
        let queued = self.fleet.admission().queued();
        let carried = self.carried.iter().flatten().count();
        let drivers = self.drivers.iter().flatten().count();
        let claims = self.registry.len();
        let left = [in_flight, queued, carried, drivers, claims];
        if left != [0; 5] {
            let text = format!(
                "left behind: {in_flight} in flight, {queued} in the queue, {carried} carried \
                 over, {drivers} drivers, {claims} claims"
            );
            self.wire.complain(None, text);
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let (late_events, messages) = (self.fleet.late_events(), self.ledger.count());
        Tally { late_events, messages, ..self.watch.tally.clone() }
    }

    /// What went wrong, for whoever has to find out why.
    pub(super) fn report(&self) -> Option<String> {
        let (device, complaint) = self.wire.complaint.as_ref()?;
        let key = device.and_then(|device| {
            let slots = self.owners.iter().enumerate();
            slots.rev().find(|it| *it.1 == device).map(|it| it.0)
        });
        let key = key.and_then(|key| u32::try_from(key).ok()).map(SlotKey);
        let whose = device.map_or(String::new(), |device| format!("d{device}: "));
        let trace = self.trace.show(self.wire.start, key);
        Some(format!("{whose}{complaint}\nseed {}: {}{trace}", self.plan.seed, self.plan))
    }

    fn are_online(&self) -> bool {
        let wanted = self.keys.iter().flatten().count();
        self.fleet.census()[State::Online as usize] == wanted
            && self.fleet.census().iter().sum::<usize>() == wanted
    }

    fn wait_for(&mut self, patience: Duration, what: &str, is_done: fn(&Self) -> bool) {
        let deadline = self.wire.now + patience;
        loop {
            self.ledger.look(&mut self.wire);
            if self.wire.complaint.is_some() || is_done(self) {
                return;
            }
            if self.wire.now >= deadline {
                let text = format!(
                    "{what} does not come within {patience:?}: {:?}, {} claims, {}, filters {:?}",
                    self.fleet.census(),
                    self.registry.len(),
                    self.ledger.open(),
                    self.wrong_filters()
                );
                let away = |key: &SlotKey| {
                    self.watch.state(*key).is_some_and(|state| state != State::Online)
                };
                let away = self.keys.iter().flatten().copied().find(away);
                let device = away.map(|key| self.device_of(key));
                let device = device.or(self.wrong_filters().map(|wrong| wrong.0));
                return self.wire.complain(device, text);
            }
            self.run_until(self.wire.now + LOOK);
        }
    }

    fn plan_load(&mut self) {
        for device in 0..self.plan.devices {
            for _ in 0..self.wire.random.usize(..=self.plan.messages) {
                let at = self.wire.up_to(self.plan.span);
                self.wire.after(at, Event::Publish { device });
                let at = self.wire.up_to(self.plan.span);
                self.wire.after(at, Event::Deliver { device });
            }
            if self.wire.happens(0.2) {
                let at = self.wire.up_to(self.plan.span);
                self.wire.after(at, Event::Change { device });
            }
        }
    }

    /// A device for which the broker has not the filters that it should have, and what it has.
    fn wrong_filters(&self) -> Option<(usize, Vec<&str>)> {
        (0..self.keys.len()).find_map(|device| {
            // What a device had when it left is the broker's for as long as it keeps its session.
            if self.keys[device].is_none() || self.ledger.has_left(device) {
                return None;
            }
            let mut wanted = vec![super::broker::down_filter(device)];
            let extra = (0..FILTERS).filter(|place| self.wanted[device][*place]);
            wanted.extend(extra.map(extra_filter));
            let filters = self.broker.filters(device);
            (filters != wanted).then_some((device, filters))
        })
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Syn { cookie, attempt } => {
                if self.wire.syn_arrives(cookie, attempt) {
                    self.broker.syn(&mut self.wire, cookie, attempt);
                }
            }
            Event::Connected { cookie } => self.connected(cookie),
            Event::Refused { cookie } => self.close(cookie, Cause::Refused),
            Event::Arrive { cookie, end: super::agenda::End::Broker, segment } => {
                self.broker.arrive(&mut self.wire, &mut self.ledger, cookie, segment);
            }
            Event::Arrive { cookie, segment, .. } => {
                if self.wire.arrive(cookie, segment) {
                    self.turn(cookie);
                }
            }
            Event::Overdue { cookie, since } => self.overdue(cookie, since),
            Event::TcpTimeout { cookie } => {
                if self.wire.tcp_timeout(cookie) {
                    self.turn(cookie);
                }
            }
            Event::Release { cookie } => self.release(cookie),
            Event::Wake { cookie } => self.turn(cookie),
            Event::Unblock { cookie } => self.unblock(cookie),
            Event::ConnectTimeout { cookie } => self.connect_timeout(cookie),
            Event::GoodbyeOver { cookie } => self.goodbye_over(cookie),
            Event::Online { cookie, latency } => self.came_online(cookie, latency),
            Event::Finished { cookie, end } => self.finished(cookie, end.0, end.1),
            Event::AskForReceipt { cookie, retry } => self.ask_for_receipt(cookie, retry),
            Event::Accept => self.broker.accept(&mut self.wire, &mut self.ledger),
            Event::Authenticated { cookie } => {
                self.broker.authenticated(&mut self.wire, &mut self.ledger, cookie);
            }
            Event::BrokerKeepAlive { cookie } => self.broker.keep_alive(&mut self.wire, cookie),
            Event::RivalConnects { device } => {
                self.broker.rival_connects(&mut self.wire, &mut self.ledger, device);
            }
            Event::Add { device } => self.add(device),
            Event::Publish { device } => self.ask(device, false),
            Event::Change { device } => self.ask(device, true),
            Event::Deliver { device } => {
                let qos = Plan::qos(&mut self.wire.random);
                self.broker.publish(&mut self.wire, &mut self.ledger, device, qos);
            }
            Event::Begin(index) => self.begin(index),
            Event::Go(index) => self.go(index),
            Event::End(index) => self.end(index),
        }
    }
}
