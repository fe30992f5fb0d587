//! What goes wrong in a storm.

use super::agenda::Event;
use super::broker::{Farewell, Rival};
use super::plan::custom_limits;
use super::trace::Note;
use super::wire::Break;
use super::world::{Sabotage, World};
use crate::device::{Generation, Priority};
use crate::error::Cause;
use crate::fleet::{Input, State};
use crate::packet::Version;
use crate::policy::Limits;
use std::time::{Duration, Instant};

/// One of them, and when. Its steps are spread over its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    /// From the beginning of the storm.
    pub(super) begin: Duration,
    pub(super) lasts: Duration,
    /// Of the devices or connections that it concerns.
    pub(super) share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The broker ends the connections of a share of the devices.
    Kick,
    /// The application wants new sessions for all.
    ReconnectAll,
    /// The broker's process dies, and is started again at the end.
    Crash { keeps_sessions: bool },
    /// The broker needs long for each connection.
    Slow,
    /// The broker refuses each CONNECT.
    Busy,
    /// The broker's process is stopped: its kernel acknowledges, and nobody answers.
    Silence,
    /// Another client uses the ids of a share of the devices.
    Duel { cleans: bool },
    /// Connections break at any byte, SYNs get lost.
    Loss,
    /// Devices leave and join.
    Churn,
    /// The limits change.
    Limits,
    /// The fleet hears things late, and twice.
    LateEvents,
    /// Closed sockets are still held by somebody, for a short or a long time.
    Held,
    /// The rest of the process takes the descriptors.
    NoDescriptors,
    /// The broker's name cannot be resolved.
    Unresolved,
}

impl Kind {
    pub(super) const ALL: [Self; 16] = [
        Self::Kick,
        Self::ReconnectAll,
        Self::Crash { keeps_sessions: true },
        Self::Crash { keeps_sessions: false },
        Self::Slow,
        Self::Busy,
        Self::Silence,
        Self::Duel { cleans: false },
        Self::Duel { cleans: true },
        Self::Loss,
        Self::Churn,
        Self::Limits,
        Self::LateEvents,
        Self::Held,
        Self::NoDescriptors,
        Self::Unresolved,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Kick => "kick",
            Self::ReconnectAll => "reconnect all",
            Self::Crash { .. } => "crash",
            Self::Slow => "slow",
            Self::Busy => "busy",
            Self::Silence => "silence",
            Self::Duel { .. } => "duel",
            Self::Loss => "loss",
            Self::Churn => "churn",
            Self::Limits => "limits",
            Self::LateEvents => "late events",
            Self::Held => "held",
            Self::NoDescriptors => "no descriptors",
            Self::Unresolved => "unresolved",
        }
    }

    /// How many steps it has beside its beginning.
    fn steps(self) -> u32 {
        match self {
            Self::Kick => 1,
            Self::ReconnectAll => 4,
            Self::Held | Self::Unresolved => 2,
            Self::Churn => 20,
            Self::Limits => 5,
            Self::LateEvents => 100,
            Self::Crash { .. }
            | Self::Slow
            | Self::Busy
            | Self::Silence
            | Self::Duel { .. }
            | Self::Loss
            | Self::NoDescriptors => 0,
        }
    }
}

impl World {
    /// Plans all troubles from now on.
    pub(super) fn plan_troubles(&mut self) {
        let start = self.wire.now;
        for (index, trouble) in self.plan.troubles.clone().iter().enumerate() {
            let begin = start + trouble.begin;
            self.plan_burst(begin, trouble.share);
            self.plan_burst(begin + trouble.lasts, trouble.share);
            self.wire.agenda.plan(begin, Event::Begin(index));
            let steps = trouble.kind.steps();
            for step in 0..steps {
                let at = begin + trouble.lasts * step / steps;
                self.wire.agenda.plan(at, Event::Go(index));
            }
            self.wire.agenda.plan(begin + trouble.lasts, Event::End(index));
        }
    }

    /// Exchanges that are under way just when something happens, and others right after it.
    fn plan_burst(&mut self, at: Instant, share: f64) {
        let around = self.plan.latency * 8;
        for device in 0..self.plan.devices {
            if self.plan.messages > 0 && self.wire.happens(share / 2.0) {
                for _ in 0..2 {
                    let when = at + self.wire.up_to(around * 2);
                    self.wire.agenda.plan(when - around, Event::Deliver { device });
                }
                let when = at + self.wire.up_to(around * 2);
                self.wire.agenda.plan(when - around, Event::Publish { device });
            }
        }
    }

    pub(super) fn begin(&mut self, index: usize) {
        let Trouble { kind, lasts, share, .. } = self.plan.troubles[index];
        self.trace.note(self.wire.now, Note::Trouble(kind.name(), index));
        match kind {
            Kind::Crash { keeps_sessions } => {
                self.broker.crash(&mut self.wire, &mut self.ledger, keeps_sessions);
            }
            Kind::Slow => {
                self.broker.service = self.wire.up_to(Duration::from_millis(100));
                self.broker.authentication = self.wire.up_to(Duration::from_secs(4));
            }
            Kind::Busy => {
                let codes: &[u8] = match self.plan.version {
                    Version::V311 => &[3],
                    Version::V5 => &[0x88, 0x89, 0x97, 0x9F],
                };
                self.broker.refuses = Some(codes[self.wire.random.usize(..codes.len())]);
                self.broker.kick(&mut self.wire, share, Farewell::Word(0x89));
            }
            Kind::Silence => {
                self.broker.frozen = Some(self.wire.now);
                for cookie in self.broker.online() {
                    // What it said before is still under way.
                    self.wire.expect_end(cookie);
                }
            }
            Kind::Duel { cleans } => {
                for device in 0..self.plan.devices {
                    if self.wire.happens(share / 2.0) {
                        let pause = Duration::from_millis(self.wire.random.u64(100..1_500));
                        let rival = Rival { until: self.wire.now + lasts, pause, cleans };
                        self.broker.rivals[device] = Some(rival);
                        self.wire.after(pause, Event::RivalConnects { device });
                    }
                }
            }
            Kind::Loss => {
                self.wire.weather.cut = share / 2.0;
                self.wire.weather.syn_loss = share / 4.0;
                for cookie in self.broker.online() {
                    if self.wire.happens(share) {
                        let breaks = [Break::Reset, Break::ResetOfPool, Break::Silence];
                        let how = breaks[self.wire.random.usize(..breaks.len())];
                        self.wire.sever(cookie, how);
                    }
                }
            }
            Kind::Held => {
                self.wire.weather.held = share;
                self.wire.weather.held_for = self.plan.timeouts.receipt * 2;
            }
            Kind::NoDescriptors => self.fleet.descriptors().observe_others(u64::MAX),
            Kind::Unresolved => self.wire.weather.unresolved = share,
            Kind::Kick | Kind::ReconnectAll | Kind::Churn | Kind::Limits | Kind::LateEvents => {}
        }
    }

    /// One step of a trouble.
    pub(super) fn go(&mut self, index: usize) {
        let Trouble { kind, share, .. } = self.plan.troubles[index];
        match kind {
            // Held sockets and failing look-ups show themselves when sessions end.
            Kind::Kick | Kind::Held | Kind::Unresolved => {
                if self.broker.frozen.is_none() {
                    let farewells = [Farewell::Word(0x98), Farewell::Fin, Farewell::Reset];
                    let farewell = farewells[self.wire.random.usize(..farewells.len())];
                    self.broker.kick(&mut self.wire, share, farewell);
                }
                if kind != Kind::Kick {
                    self.reconnect_all();
                }
            }
            Kind::ReconnectAll => self.reconnect_all(),
            Kind::Churn => {
                let device = self.wire.random.usize(..self.keys.len());
                if self.keys[device].is_none() {
                    self.add(device);
                } else if self.wire.happens(share) {
                    self.remove(device, Cause::Removed);
                    let pause = self.wire.up_to(Duration::from_secs(3));
                    self.wire.after(pause, Event::Add { device });
                }
            }
            Kind::Limits => {
                let named = ["article", "paced", "adaptive"].get(self.wire.random.usize(..6));
                let limits = named.and_then(|name| Limits::named(name));
                let limits = limits.unwrap_or_else(|| custom_limits(&mut self.wire.random));
                self.tell(Input::SetLimits(limits));
            }
            Kind::LateEvents => self.late_event(),
            _ => {}
        }
    }

    pub(super) fn end(&mut self, index: usize) {
        let Trouble { kind, .. } = self.plan.troubles[index];
        self.trace.note(self.wire.now, Note::Trouble("it is over", index));
        match kind {
            Kind::Crash { .. } => self.broker.listening = true,
            Kind::Slow => {
                self.broker.service = Duration::from_micros(55);
                self.broker.authentication = Duration::ZERO;
            }
            Kind::Busy => self.broker.refuses = None,
            Kind::Silence => self.broker.thaw(&mut self.wire, &mut self.ledger),
            Kind::Duel { .. } => {
                for device in 0..self.plan.devices {
                    self.broker.rival_leaves(device);
                }
            }
            Kind::Loss => {
                (self.wire.weather.cut, self.wire.weather.syn_loss) = (0.0, 0.0);
                self.wire.mend();
            }
            Kind::Held => self.wire.weather.held = 0.0,
            Kind::Unresolved => self.wire.weather.unresolved = 0.0,
            Kind::NoDescriptors => self.fleet.descriptors().observe_others(0),
            Kind::Limits => self.tell(Input::SetLimits(self.plan.limits.clone())),
            Kind::Kick | Kind::ReconnectAll | Kind::Churn | Kind::LateEvents => {}
        }
    }

    fn reconnect_all(&mut self) {
        for device in 0..self.keys.len() {
            let Some(key) = self.keys[device] else { continue };
            let priorities = [None, Some(Priority::Low), Some(Priority::High)];
            let priority = priorities[self.wire.random.usize(..priorities.len())];
            let wait = Duration::from_millis(self.wire.random.u64(1..10_000));
            let deadline = self.wire.happens(0.2).then(|| self.wire.now + wait);
            self.tell(Input::Reconnect { key, priority, deadline });
        }
    }

    /// What was true of an earlier generation is said again.
    fn late_event(&mut self) {
        if self.history.is_empty() {
            return;
        }
        let (key, generation) = self.history[self.wire.random.usize(..self.history.len())];
        let latency = Duration::from_millis(3);
        let current = self.watch.generation(key);
        let named = match self.sabotage {
            Some(Sabotage::TakesLateForCurrent) => current,
            _ => generation,
        };
        let is_online = self.watch.state(key) == Some(State::Online);
        let ended = |generation: Generation| Input::Ended {
            key,
            generation,
            cause: Cause::Reset,
            had_socket: true,
        };
        let input = match self.wire.random.u8(..5) {
            0 => Input::Online { key, generation: named, latency },
            1 => Input::Receipt { key, generation: named },
            // These two of the present generation mean nothing while it is online.
            2 if is_online => Input::Online { key, generation: current, latency },
            3 if is_online => Input::Receipt { key, generation: current },
            _ => ended(named),
        };
        let before = self.fleet.late_events();
        self.tell(input);
        if self.fleet.late_events() != before + 1 && self.sabotage.is_none() {
            self.wire.complain(Some(self.device_of(key)), "a late event was not counted");
        }
    }
}
