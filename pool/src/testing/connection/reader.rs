//! The incoming direction: bytes to packets to the hub, and where in its life a connection is.

use super::super::behaviour::Behaviour;
use super::super::broker::Shared;
use super::super::hub::Admission;
use super::super::line::Line;
use super::super::session::patience;
use super::super::wire::{CONNECT, Connect, Incoming, Malformed, code, frame_length, read};
use super::timing::Timing;
use crate::packet::Version;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest CONNECT: five fields of 65,535 bytes and properties.
const MAX_CONNECT: u32 = 1 << 20;

/// What may come before CONNACK, in bytes.
const MAX_EARLY: usize = 64 << 10;

/// Small while nothing is half read.
#[derive(Debug)]
pub(in crate::testing) struct Reader {
    /// A packet that is not all there, or packets that wait for CONNACK.
    partial: Vec<u8>,
    /// When the last byte came.
    pub(super) heard: Instant,
    pub(super) phase: Phase,
    /// The name in its CONNECT, for as long as the witness has it.
    client: Option<Arc<str>>,
    /// The peer ended it.
    closed: bool,
    frozen: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// CONNECT has not come.
    Fresh,
    /// CONNECT waits for its answer.
    Delayed { connect: Box<Connect>, behaviour: Arc<Behaviour>, until: Instant },
    /// CONNECT is answered, if the behaviour wants it so.
    Answered { version: Version, behaviour: Arc<Behaviour>, timing: Timing },
}

impl Reader {
    pub(in crate::testing) fn new(now: Instant) -> Self {
        Self {
            partial: Vec::new(),
            heard: now,
            phase: Phase::Fresh,
            client: None,
            closed: false,
            frozen: false,
        }
    }

    /// Takes bytes of the client.
    pub(super) fn feed(&mut self, shared: &Shared, line: &Line, now: Instant, bytes: &[u8]) {
        self.heard = now;
        if self.is_half_open() {
            // Only the other way of reading comes here, and it wants to see the end.
            return;
        }
        if self.partial.is_empty() {
            let used = self.parse(shared, line, now, bytes);
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            self.partial.extend_from_slice(bytes);
            self.parse_partial(shared, line, now);
        }
    }

    /// Answers a CONNECT that waited, or ends what is over time.
    pub(super) fn handle_timeout(&mut self, shared: &Shared, line: &Line, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Fresh) {
            Phase::Delayed { connect, behaviour, until } if now >= until => {
                self.answer(shared, line, now, &connect, behaviour);
                self.parse_partial(shared, line, now);
            }
            phase => {
                self.phase = phase;
                self.handle_late(shared, line, now);
            }
        }
    }

    /// The peer ended it.
    pub(super) fn close(&mut self, shared: &Shared, line: &Line) {
        self.closed = true;
        if line.ordered_end().is_none() {
            shared.with_hub(|hub| hub.counters.lost += 1);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Wants to read.
    pub(super) fn reads(&self) -> bool {
        let full = matches!(self.phase, Phase::Delayed { .. }) && self.partial.len() > MAX_EARLY;
        !self.closed && !full && !self.is_half_open()
    }

    pub(super) fn drip(&self) -> Option<Duration> {
        self.behaviour().and_then(|behaviour| behaviour.drip)
    }

    pub(super) fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Time stood still meanwhile: what the client sent has to be read before it is judged.
    pub(super) fn thaw(&mut self, now: Instant) {
        if std::mem::take(&mut self.frozen) {
            self.heard = now;
        }
    }

    pub(super) fn take_client(&mut self) -> Option<Arc<str>> {
        self.client.take()
    }

    pub(super) fn is_half_open(&self) -> bool {
        matches!(&self.phase, Phase::Answered { behaviour, .. } if behaviour.half_open)
    }

    fn behaviour(&self) -> Option<&Behaviour> {
        match &self.phase {
            Phase::Fresh => None,
            Phase::Delayed { behaviour, .. } | Phase::Answered { behaviour, .. } => Some(behaviour),
        }
    }

    fn parse_partial(&mut self, shared: &Shared, line: &Line, now: Instant) {
        let mut partial = std::mem::take(&mut self.partial);
        let used = self.parse(shared, line, now, &partial);
        if used < partial.len() {
            partial.drain(..used);
            self.partial = partial;
        }
    }

    /// Handles all whole packets; returns how many bytes they were.
    fn parse(&mut self, shared: &Shared, line: &Line, now: Instant, bytes: &[u8]) -> usize {
        let mut used = 0;
        while !matches!(self.phase, Phase::Delayed { .. }) && !self.is_half_open() {
            if line.ordered_end().is_some() {
                // What comes after DISCONNECT, or after an error, is not for us any more.
                return bytes.len();
            }
            let rest = &bytes[used..];
            if matches!(self.phase, Phase::Fresh) && rest.first().is_some_and(|it| *it != CONNECT) {
                // Known at the first byte: what looks like its length may never come.
                let problem = "the first packet is no CONNECT [MQTT-3.1.0-1]";
                self.refuse(shared, line, Malformed { code: code::PROTOCOL_ERROR, problem });
                return bytes.len();
            }
            let packet = match frame_length(rest, self.limit()) {
                Ok(Some(length)) if length <= rest.len() => &rest[..length],
                Ok(_) => break,
                Err(malformed) => {
                    self.refuse(shared, line, malformed);
                    return bytes.len();
                }
            };
            match read(self.version(), packet) {
                Ok(packet) => self.handle(shared, line, now, packet),
                Err(malformed) => self.refuse(shared, line, malformed),
            }
            used += packet.len();
        }
        used
    }

    fn handle(&mut self, shared: &Shared, line: &Line, now: Instant, packet: Incoming) {
        match (&self.phase, packet) {
            (Phase::Fresh, Incoming::Connect(connect)) => {
                self.handle_connect(shared, line, now, connect);
            }
            (_, packet) => shared.with_hub(|hub| hub.handle_packet(now, line.id, packet)),
        }
    }

    fn handle_connect(
        &mut self,
        shared: &Shared,
        line: &Line,
        now: Instant,
        connect: Box<Connect>,
    ) {
        let client: Arc<str> = connect.client_id.as_str().into();
        let behaviour = shared.arrive(&client, line.id, now);
        if !client.is_empty() {
            self.client = Some(client);
        }
        if behaviour.connack_delay.is_zero() {
            self.answer(shared, line, now, &connect, behaviour);
        } else {
            let until = now + behaviour.connack_delay;
            self.phase = Phase::Delayed { connect, behaviour, until };
        }
    }

    fn answer(
        &mut self,
        shared: &Shared,
        line: &Line,
        now: Instant,
        connect: &Connect,
        behaviour: Arc<Behaviour>,
    ) {
        let admission =
            shared.with_hub(|hub| hub.handle_connect(now, line.id, connect, &behaviour));
        if behaviour.silence {
            line.silence();
        }
        let patience = match admission {
            Admission::Session { keep_alive } => patience(keep_alive),
            Admission::None => None,
        };
        self.heard = now;
        let timing = Timing { since: now, patience };
        self.phase = Phase::Answered { version: connect.version, behaviour, timing };
    }

    fn refuse(&self, shared: &Shared, line: &Line, malformed: Malformed) {
        let fresh = matches!(self.phase, Phase::Fresh);
        shared.with_hub(|hub| match fresh {
            true => hub.handle_bad_connect(line.id, malformed),
            false => hub.handle_malformed(line.id, malformed),
        });
    }

    /// That of the first packet is in itself.
    fn version(&self) -> Version {
        match self.phase {
            Phase::Answered { version, .. } => version,
            _ => Version::default(),
        }
    }

    fn limit(&self) -> Option<u32> {
        match &self.phase {
            Phase::Answered { version: Version::V5, behaviour, .. } => {
                behaviour.announce.maximum_packet_size
            }
            Phase::Answered { .. } => None,
            _ => Some(MAX_CONNECT),
        }
    }
}
