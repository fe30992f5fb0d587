//! A model of the drivers: what `driver::dial`, `driver::task` and `driver::connection` do, around
//! the real session.

use super::agenda::{Cookie, Event};
use super::broker::number_of;
use super::trace::Note;
use super::world::{Sabotage, World};
use crate::device::Generation;
use crate::error::{Cause, Phase, ProtocolError};
use crate::fleet::SlotKey;
use crate::line::Line;
use crate::registry::{Claim, Stage as ClaimStage};
use crate::session::{Acknowledge, Carried, Session, Step};
use bytes::BytesMut;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One driver, from the dial to the close.
#[derive(Debug)]
pub(super) struct Driver {
    key: SlotKey,
    generation: Generation,
    device: usize,
    line: Arc<Line>,
    stage: Stage,
    started: Instant,
    /// Until there is a session to hold it.
    carried: Option<Carried>,
    session: Option<Session>,
    rest: BytesMut,
    /// A message that waits for space at the application.
    blocked: Option<Blocked>,
    /// When it is woken for the session's timeout.
    timer: Option<Instant>,
    /// When it last read.
    heard: Instant,
    /// What came behind the CONNACK is not looked at yet.
    is_behind: bool,
    /// Why it leaves.
    stopped: Option<Cause>,
}

#[derive(Debug)]
struct Blocked {
    number: usize,
    qos: crate::QoS,
    acknowledge: Acknowledge,
    has_space: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The handshake of TCP.
    Reaching,
    /// CONNECT is out.
    Connecting,
    Serving,
    /// DISCONNECT is out, and the broker has to close.
    Leaving,
}

/// Why a step ended.
enum Interrupt {
    Nothing,
    Progress,
    Online,
    Ended(Cause),
}

impl World {
    /// Makes a socket, claims it, connects it.
    pub(super) fn dial(&mut self, key: SlotKey, generation: Generation) {
        let Some(line) = self.line(key).map(Arc::clone) else { return };
        let device = self.device_of(key);
        let carried = self.take_carried(key);
        let cookie = self.wire.open(key, generation, device);
        if !self.wire.sockets[cookie].made {
            let host = "broker".to_owned();
            let cause = Cause::Resolve { host, problem: "try again".to_owned() };
            let end = Box::new((cause, carried));
            self.drivers.push(None);
            return self.wire.after(Duration::from_millis(5), Event::Finished { cookie, end });
        }
        self.trace.note(self.wire.now, Note::Opened(key, generation));
        self.watch.opened(&mut self.wire, cookie);
        self.registry.publish(Claim {
            cookie: cookie as u64,
            device: line.device.id().clone(),
            generation,
            stage: ClaimStage::Connecting,
            remote: self.remote,
        });
        self.drivers.push(Some(Box::new(Driver {
            key,
            generation,
            device,
            line,
            stage: Stage::Reaching,
            started: self.wire.now,
            carried: Some(carried),
            session: None,
            rest: BytesMut::new(),
            blocked: None,
            timer: None,
            heard: self.wire.now,
            is_behind: false,
            stopped: None,
        })));
        self.current[key.0 as usize] = Some(cookie);
        self.wire.connect(cookie);
        self.wire.after(self.plan.timeouts.connect, Event::ConnectTimeout { cookie });
    }

    pub(super) fn connected(&mut self, cookie: Cookie) {
        let Some(driver) = &mut self.drivers[cookie] else { return };
        self.trace.note(self.wire.now, Note::Connected(driver.key, driver.generation));
        let carried = driver.carried.take().expect("invariant: connected once");
        let device = Arc::clone(&driver.line.device);
        let session = Session::new(Arc::clone(&self.settings), device, carried, self.wire.now);
        driver.session = Some(session);
        driver.stage = Stage::Connecting;
        self.turn(cookie);
    }

    pub(super) fn connect_timeout(&mut self, cookie: Cookie) {
        let phase = match self.drivers[cookie].as_ref().map(|driver| driver.stage) {
            Some(Stage::Reaching) => Phase::Tcp,
            Some(Stage::Connecting) => Phase::ConnAck,
            Some(Stage::Serving | Stage::Leaving) | None => return,
        };
        let after = self.plan.timeouts.connect;
        self.close(cookie, Cause::ConnectTimeout { after, phase });
    }

    pub(super) fn goodbye_over(&mut self, cookie: Cookie) {
        let is_leaving = |driver: &Driver| driver.stage == Stage::Leaving;
        if self.drivers[cookie].as_deref().is_some_and(is_leaving) {
            self.close_stopped(cookie);
        }
    }

    pub(super) fn unblock(&mut self, cookie: Cookie) {
        if let Some(blocked) = self.drivers[cookie].as_mut().and_then(|it| it.blocked.as_mut()) {
            blocked.has_space = true;
            self.turn(cookie);
        }
    }

    /// Nothing came from the broker since then, and the session has had its time to see that.
    pub(super) fn overdue(&mut self, cookie: Cookie, since: Instant) {
        let severed = self.wire.sockets[cookie].severed;
        let is_dead =
            severed.is_some_and(|severed| severed <= since) || self.broker.is_silent_since(since);
        let Some(driver) = self.drivers[cookie].as_ref().filter(|_| is_dead) else { return };
        if driver.stage != Stage::Serving {
            return;
        }
        // While a message waits for space, nothing is read, and the silence begins anew after it.
        let began = if driver.blocked.is_some() { self.wire.now } else { driver.heard };
        let due = began + self.plan.keep_alive.mul_f64(1.5) + self.plan.lag;
        if due < self.wire.now {
            self.wire.complain(Some(driver.device), "a dead connection still counts as alive");
        } else {
            let at = due + Duration::from_millis(1);
            self.wire.agenda.plan(at, Event::Overdue { cookie, since });
        }
    }

    /// The driver of a slot has something new to look at, if there is one.
    pub(super) fn wake_soon(&mut self, key: SlotKey) {
        if let Some(cookie) = self.current[key.0 as usize] {
            let delay = self.wire.up_to(Duration::from_micros(100));
            self.wire.after(delay, Event::Wake { cookie });
        }
    }

    /// Closes the socket; the pool's loop hears of it a little later.
    pub(super) fn close(&mut self, cookie: Cookie, cause: Cause) {
        let Some(driver) = self.drivers[cookie].take() else { return };
        let Driver { key, generation, session, carried, .. } = *driver;
        self.trace.note(self.wire.now, Note::Closed(key, generation, cause.clone()));
        let reset = matches!(cause, Cause::KeepAlive(_) | Cause::TcpTimeout | Cause::Protocol(_));
        self.wire.close(cookie, reset);
        let left = session.map(|session| session.into_carried(&cause)).or(carried);
        let carried = left.expect("invariant: in the session or not there yet");
        if self.current[key.0 as usize] == Some(cookie) {
            self.current[key.0 as usize] = None;
        }
        if let Cause::Protocol(error) = &cause {
            self.judge_protocol(cookie, error);
        }
        let delay = self.wire.up_to(Duration::from_micros(200));
        self.wire.after(delay, Event::Finished { cookie, end: Box::new((cause, carried)) });
    }

    /// The driver's loop, until it has to wait.
    pub(super) fn turn(&mut self, cookie: Cookie) {
        let Some(mut driver) = self.drivers[cookie].take() else { return };
        let end = self.drive(cookie, &mut driver);
        let deadline = driver.session.as_ref().and_then(Session::poll_timeout);
        let is_later = |timer: Instant| deadline.is_some_and(|deadline| deadline < timer);
        if let Some(deadline) = deadline.filter(|_| driver.timer.is_none_or(is_later)) {
            let at = deadline.max(self.wire.now) + self.plan.lag;
            driver.timer = Some(deadline);
            self.wire.agenda.plan(at, Event::Wake { cookie });
        }
        self.drivers[cookie] = Some(driver);
        match end {
            None => {}
            Some(Some(cause)) => self.close(cookie, cause),
            Some(None) => self.close_stopped(cookie),
        }
    }

    /// `Some(None)`: it left as it was told to.
    fn drive(&mut self, cookie: Cookie, driver: &mut Driver) -> Option<Option<Cause>> {
        let now = self.wire.now;
        if driver.timer.is_some_and(|timer| timer <= now) {
            driver.timer = None;
        }
        for _ in 0..10_000 {
            let may_stop = self.sabotage != Some(Sabotage::IgnoresStop);
            if matches!(driver.stage, Stage::Reaching | Stage::Connecting) {
                let stop = driver.line.take_stop(driver.generation).filter(|_| may_stop);
                if stop.is_some() || driver.stage == Stage::Reaching {
                    return stop.map(Some);
                }
            }
            if driver.stage == Stage::Serving {
                if let Some(cause) = driver.line.take_stop(driver.generation).filter(|_| may_stop) {
                    let session = driver.session.as_mut().expect("invariant: it serves");
                    session.stop(now);
                    driver.stage = Stage::Leaving;
                    driver.stopped = Some(cause);
                    let patience = self.plan.timeouts.close;
                    self.wire.after(patience, Event::GoodbyeOver { cookie });
                } else {
                    self.take_requests(driver);
                }
            }
            if driver.stage == Stage::Leaving {
                return self.drain(cookie, driver);
            }
            match self.step(cookie, driver) {
                Interrupt::Nothing => return None,
                Interrupt::Progress => {}
                Interrupt::Online => {
                    driver.stage = Stage::Serving;
                    self.registry.set_stage(cookie as u64, ClaimStage::Online);
                    let latency = now.saturating_duration_since(driver.started);
                    let delay = self.wire.up_to(Duration::from_micros(200));
                    self.wire.after(delay, Event::Online { cookie, latency });
                }
                Interrupt::Ended(cause) => return Some(Some(cause)),
            }
        }
        self.wire.complain(Some(driver.device), "a session never rests");
        None
    }

    fn take_requests(&mut self, driver: &mut Driver) {
        let session = driver.session.as_mut().expect("invariant: it serves");
        while let Some(refusal) = session.poll_refusal() {
            let text = format!("a subscription was refused: {refusal:?}");
            self.wire.complain(Some(driver.device), text);
        }
        while session.can_take() {
            let Some(request) = driver.line.pop() else { break };
            session.request(self.wire.now, request);
        }
    }

    fn step(&mut self, cookie: Cookie, driver: &mut Driver) -> Interrupt {
        let now = self.wire.now;
        let written = match self.write(cookie, driver) {
            Ok(written) => written,
            Err(cause) => return Interrupt::Ended(cause),
        };
        let session = driver.session.as_mut().expect("invariant: connected");
        if let Some(blocked) = driver.blocked.take_if(|blocked| blocked.has_space) {
            let Blocked { number, qos, acknowledge, .. } = blocked;
            if self.sabotage != Some(Sabotage::DropsMessages) {
                self.ledger.deliver(&mut self.wire, driver.device, qos, number);
            }
            session.set_reading(now, true);
            session.accept(now, acknowledge);
            return self.handle_packets(cookie, driver);
        }
        if driver.blocked.is_none() && session.can_receive() {
            let socket = &mut self.wire.sockets[cookie];
            if !socket.received.is_empty() || driver.is_behind {
                driver.is_behind = false;
                let received = socket.received.split();
                driver.rest.unsplit(received);
                return self.handle_packets(cookie, driver);
            }
            if let Some(cause) = &socket.over {
                return Interrupt::Ended(cause.clone());
            }
        }
        if session.poll_timeout().is_some_and(|due| due <= now) {
            return match session.handle_timeout(now) {
                Ok(()) => Interrupt::Progress,
                Err(cause) => Interrupt::Ended(cause),
            };
        }
        if written > 0 { Interrupt::Progress } else { Interrupt::Nothing }
    }

    fn write(&mut self, cookie: Cookie, driver: &mut Driver) -> Result<usize, Cause> {
        let session = driver.session.as_mut().expect("invariant: connected");
        let written = self.wire.write(cookie, session.output())?;
        if written > 0 {
            session.output_written(self.wire.now);
        }
        Ok(written)
    }

    fn handle_packets(&mut self, cookie: Cookie, driver: &mut Driver) -> Interrupt {
        let now = self.wire.now;
        driver.heard = now;
        let session = driver.session.as_mut().expect("invariant: connected");
        loop {
            match session.receive(now, &mut driver.rest) {
                Step::NeedMore => return Interrupt::Progress,
                Step::Handled => {}
                Step::Online { .. } => {
                    driver.is_behind = true;
                    return Interrupt::Online;
                }
                Step::Message(message, acknowledge) => {
                    let Some(number) = number_of(&message.payload) else {
                        self.wire.complain(Some(driver.device), "a broken payload");
                        return Interrupt::Nothing;
                    };
                    if self.wire.happens(self.plan.blocked) {
                        session.set_reading(now, false);
                        let space = self.wire.up_to(Duration::from_secs(2));
                        self.wire.after(space, Event::Unblock { cookie });
                        let (qos, has_space) = (message.qos, false);
                        driver.blocked = Some(Blocked { number, qos, acknowledge, has_space });
                        return Interrupt::Progress;
                    }
                    self.ledger.deliver(&mut self.wire, driver.device, message.qos, number);
                    session.accept(now, acknowledge);
                }
                Step::Ended(cause) => return Interrupt::Ended(cause),
            }
        }
    }

    /// Writes what there is, and waits for the broker to close.
    fn drain(&mut self, cookie: Cookie, driver: &mut Driver) -> Option<Option<Cause>> {
        let patience_is_over = self.plan.timeouts.close.is_zero();
        if self.write(cookie, driver).is_err() || patience_is_over {
            return Some(None);
        }
        let socket = &mut self.wire.sockets[cookie];
        socket.received.clear();
        socket.over.is_some().then_some(None)
    }

    fn close_stopped(&mut self, cookie: Cookie) {
        let stopped = self.drivers[cookie].as_mut().and_then(|driver| driver.stopped.take());
        let cause = stopped.unwrap_or(Cause::Replaced);
        self.close(cookie, cause);
    }

    /// The model broker keeps to the protocol: whoever says otherwise is wrong.
    fn judge_protocol(&mut self, cookie: Cookie, error: &ProtocolError) {
        let device = self.wire.sockets[cookie].device;
        // A packet whose end was cut off together with the connection never ends.
        let is_cut = self.wire.sockets[cookie].severed.is_some()
            && matches!(error, ProtocolError::SlowPacket(_));
        if !is_cut {
            self.wire.complain(Some(device), format!("the broker is blamed: {error}"));
        }
    }
}
