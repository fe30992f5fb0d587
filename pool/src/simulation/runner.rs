//! A model of the pool's loop: what `pool::run` does, around the real fleet.

use super::agenda::{Cookie, Event};
use super::trace::Note;
use super::world::{Sabotage, World};
use crate::device::{Device, Generation};
use crate::error::{CallerError, Cause};
use crate::fleet::{Action, Input, Notice, SlotKey};
use crate::line::Line;
use crate::message::{Publish, QoS, Subscription};
use crate::registry::Stage;
use crate::request::Request;
use crate::session::Carried;
use std::sync::Arc;
use std::time::Duration;

/// As `pool::releases` asks.
const FIRST_RETRY: Duration = Duration::from_millis(1);
const SLOW_RETRY: Duration = Duration::from_secs(1);

/// Filters that a device subscribes and unsubscribes at run time.
pub(super) const FILTERS: usize = 3;

pub(super) fn extra_filter(place: usize) -> String {
    format!("x/{place}")
}

impl World {
    pub(super) fn line(&self, key: SlotKey) -> Option<&Arc<Line>> {
        self.lines[key.0 as usize].as_ref()
    }

    pub(super) fn device_of(&self, key: SlotKey) -> usize {
        self.owners[key.0 as usize]
    }

    pub(super) fn take_carried(&mut self, key: SlotKey) -> Carried {
        let carried = self.carried[key.0 as usize].take();
        let first = self.wire.random.u16(..);
        match self.sabotage {
            Some(Sabotage::LosesCarried) => Carried::starting_at(first),
            _ => carried.unwrap_or_else(|| Carried::starting_at(first)),
        }
    }

    /// Puts a device into the pool.
    pub(super) fn add(&mut self, device: usize) {
        if self.is_closed || self.keys[device].is_some() {
            return;
        }
        let name = format!("d{device}");
        let filter = super::broker::down_filter(device);
        let made = Device::new(name).and_then(|made| made.subscribe(filter, QoS::ExactlyOnce));
        let made = made.expect("invariant: a short name and a filter");
        let priority = made.priority;
        let key = SlotKey(u32::try_from(self.lines.len()).expect("invariant: few"));
        let line = Arc::new(Line::new(key, made, self.wire.now));
        self.lines.push(Some(line));
        self.owners.push(device);
        self.carried.push(None);
        self.closed.push(None);
        self.current.push(None);
        self.keys[device] = Some(key);
        self.ledger.joined(device);
        self.watch.added(key, device);
        self.tell(Input::Add { key, priority });
    }

    /// Takes a device out of the pool.
    pub(super) fn remove(&mut self, device: usize, cause: Cause) {
        if let Some(key) = self.keys[device] {
            self.ledger.left(device);
            self.tell(Input::Remove { key, cause });
        }
    }

    /// Asks something of a device's session.
    pub(super) fn ask(&mut self, device: usize, change: bool) {
        let Some(key) = self.keys[device] else { return };
        let Some(line) = self.line(key).map(Arc::clone) else { return };
        let qos = (!change).then(|| super::plan::Plan::qos(&mut self.wire.random));
        let (number, ticket) = self.ledger.ask(device, qos);
        let place = self.wire.random.usize(..FILTERS);
        let request = match qos {
            Some(qos) => {
                let topic = format!("u/{device}");
                let publish = Publish::new(topic, qos, super::broker::payload(number));
                Request::Publish(publish.expect("invariant: a topic"), ticket)
            }
            None if self.wanted[device][place] => {
                Request::Unsubscribe(extra_filter(place).into(), ticket)
            }
            None => {
                let subscription = Subscription::new(extra_filter(place), QoS::AtMostOnce);
                Request::Subscribe(subscription.expect("invariant: a filter"), ticket)
            }
        };
        match line.push(request, self.plan.outbox) {
            Ok(()) => {
                self.wanted[device][place] ^= change;
                self.wake_soon(key);
            }
            Err(CallerError::OutboxFull { .. }) => self.ledger.refused(),
            Err(error) => self.wire.complain(Some(device), format!("{error}")),
        }
    }

    pub(super) fn finished(&mut self, cookie: Cookie, cause: Cause, carried: Carried) {
        let socket = &self.wire.sockets[cookie];
        let (key, generation, device) = (socket.key, socket.generation, socket.device);
        let had_socket = socket.made;
        if had_socket {
            self.registry.set_stage(cookie as u64, Stage::Closed);
            self.closed[key.0 as usize] = Some(cookie);
            self.watch.ended(self.wire.now, device, cookie);
        } else {
            self.history.push((key, generation));
        }
        self.carried[key.0 as usize] = Some(carried);
        self.tell(Input::Ended { key, generation, cause, had_socket });
    }

    pub(super) fn came_online(&mut self, cookie: Cookie, latency: Duration) {
        let (key, generation) = self.name_of(cookie);
        self.tell(Input::Online { key, generation, latency });
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.trace.note(self.wire.now, Note::Told(input.clone()));
        if let Input::SetLimits(limits) = &input {
            self.watch.set_limits(self.wire.now, limits.clone());
        }
        self.fleet.handle(self.wire.now, input);
        self.act();
    }

    pub(super) fn act(&mut self) {
        while let Some(action) = self.fleet.poll_action() {
            self.watch.look(&mut self.wire, &self.fleet, &action);
            self.trace.note(self.wire.now, Note::Says(action.clone()));
            match action {
                Action::Dial { key, generation, .. } => self.dial(key, generation),
                Action::Stop { key, generation, cause } => {
                    if let Some(line) = self.line(key) {
                        line.stop(generation, cause);
                        self.wake_soon(key);
                    }
                }
                Action::AwaitReceipt { key, .. } => {
                    if let Some(cookie) = self.closed[key.0 as usize].take() {
                        self.ask_for_receipt(cookie, FIRST_RETRY);
                    }
                }
                Action::Notice { key, generation, notice: Notice::Unreleased } => {
                    self.history.push((key, generation));
                }
                Action::Entered { .. } | Action::Notice { .. } => {}
                Action::Gone { key } => self.gone(key),
            }
        }
    }

    pub(super) fn ask_for_receipt(&mut self, cookie: Cookie, retry: Duration) {
        let released = !self.wire.sockets[cookie].alive;
        if released || self.sabotage == Some(Sabotage::AssumesReceipts) {
            return self.receipt(cookie);
        }
        self.wire.after(retry, Event::AskForReceipt { cookie, retry: (retry * 2).min(SLOW_RETRY) });
    }

    /// Somebody who held a copy of a socket has let go of it.
    pub(super) fn release(&mut self, cookie: Cookie) {
        let (key, generation) = self.name_of(cookie);
        self.trace.note(self.wire.now, Note::Released(key, generation));
        self.wire.sockets[cookie].alive = false;
    }

    pub(super) fn name_of(&self, cookie: Cookie) -> (SlotKey, Generation) {
        (self.wire.sockets[cookie].key, self.wire.sockets[cookie].generation)
    }

    fn receipt(&mut self, cookie: Cookie) {
        if self.sabotage != Some(Sabotage::KeepsClaims) {
            self.registry.retract(cookie as u64, true);
        }
        let (key, generation) = self.name_of(cookie);
        self.watch.released(self.device_of(key), cookie);
        self.history.push((key, generation));
        self.trace.note(self.wire.now, Note::Told(Input::Receipt { key, generation }));
        self.fleet.handle(self.wire.now, Input::Receipt { key, generation });
    }

    fn gone(&mut self, key: SlotKey) {
        let Some(line) = self.lines[key.0 as usize].take() else { return };
        let device = self.device_of(key);
        if let Some(carried) = self.carried[key.0 as usize].take() {
            carried.abandon(&Cause::Removed);
        }
        self.keys[device] = None;
        while let Some(request) = line.pop() {
            request.settle(Err(CallerError::UnknownDevice(line.device.id().clone()).into()));
        }
    }
}
