//! One MQTT connection's life, for 3.1.1 and 5, without a socket and without a clock.
//!
//! The driver feeds it what was read, writes what it puts out, and tells it the time. The order of
//! its calls in one turn: write the output and say [`Session::output_written`]; while
//! [`Session::can_receive`], read, and call [`Session::receive`] until it needs more; then
//! [`Session::handle_timeout`] when [`Session::poll_timeout`] has come; then hand over requests
//! while [`Session::can_take`]. Reading comes before the timeout: after a pause of the whole
//! process, what proves that the broker lives may lie in the socket.
//!
//! What outlives the connection is in [`Carried`].

mod carried;
mod clock;
mod incoming;
mod inflight;
mod outgoing;
mod received;
mod subscriptions;

pub(crate) use carried::Carried;

use crate::codec::{self, TooLarge};
use crate::device::{Credentials, Device};
use crate::error::{Cause, Error, ProtocolError};
use crate::message::{Message, QoS};
use crate::packet::{Connect, Outgoing, ServerLimits, Version};
use crate::request::Ticket;
use bytes::BytesMut;
use clock::{Clock, Due};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Beyond so many bytes of unwritten output, nothing is added that can wait. Chosen: some packets
/// of telemetry, and still only 200 MB if all brokers of 12,000 devices stop reading.
const OUTPUT_LIMIT: usize = 16 << 10;

/// What all sessions of a pool have in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) version: Version,
    /// The broker forgets what it has of the device. Clean session in 3.1.1.
    pub(crate) clean_start: bool,
    /// MQTT 5, in seconds; `None` ends the broker's session with the connection.
    pub(crate) session_expiry: Option<u32>,
    /// Whole seconds up to 65,535; 0 is off. A device may have its own.
    pub(crate) keep_alive: Duration,
    /// For devices without their own.
    pub(crate) credentials: Option<Credentials>,
    /// The largest packet that the broker may send, in bytes with headers.
    pub(crate) max_packet: u32,
    /// Publishes with QoS 1 and 2 under way at once, in either direction.
    pub(crate) inflight: u16,
    /// For the rest of a packet whose first byte is there.
    pub(crate) packet_timeout: Duration,
}

/// What came of one packet.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// No whole packet is in the buffer.
    NeedMore,
    /// One was taken; there may be another one.
    Handled,
    /// The broker accepted the session.
    Online {
        /// It still had the one of before.
        session_present: bool,
        /// The one in force, which MQTT 5 lets the broker choose; 0 is off.
        keep_alive: Duration,
    },
    /// A message for the application. [`Session::accept`] says that it has it; a message that is
    /// not accepted when its session ends is to be dropped, for with QoS 1 and 2 it comes again.
    Message(Message, Acknowledge),
    /// The session is over.
    Ended(Cause),
}

/// The right to acknowledge one message, once, on the session that received it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "without it the broker sends the message again"]
pub(crate) struct Acknowledge {
    session: u32,
    id: u16,
    qos: QoS,
}

/// A subscription that cannot be had, and that nobody waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its topic filter.
    pub(crate) filter: Arc<str>,
    /// Why.
    pub(crate) error: Error,
}

/// One connection's life.
#[derive(Debug)]
pub(crate) struct Session {
    settings: Arc<Settings>,
    device: Arc<Device>,
    output: BytesMut,
    carried: Carried,
    clock: Clock,
    limits: ServerLimits,
    rare: Option<Box<Rare>>,
    /// Messages with QoS 1 that the application does not have yet.
    unaccepted: u32,
    /// PUBRELs that ended no exchange of ours: so many PUBCOMPs will come for nothing.
    surplus_releases: u32,
    /// How long CONNECT is, in bytes; 0 from CONNACK on.
    unanswered_connect: usize,
    /// The output holds or held something since it was last written out.
    has_output: bool,
    state: State,
}

/// Moved by [`Session::receive`], [`Session::stop`] and [`Session::handle_timeout`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// CONNECT is out. To `Online` by CONNACK; to `Ended` by anything else, or a stop.
    Connecting,
    /// To `Stopping` by a stop; to `Ended` by what the broker does, or does not do in time.
    Online,
    /// DISCONNECT is in the output, and nothing may follow it (MQTT-3.14.4-2 in 3.1.1). What still comes
    /// is taken. To `Ended` when the broker breaks the protocol.
    Stopping,
    /// Nothing is taken and nothing is put out any more.
    Ended,
}

/// What few sessions have, and none for long.
#[derive(Debug, Default)]
struct Rare {
    /// Of publishes with QoS 0 in the output.
    unwritten: Vec<Ticket>,
    /// Of publishes with QoS 0 that came too late to be put there.
    unsent: Vec<Ticket>,
    refusals: VecDeque<Refusal>,
    /// Why there is no CONNECT.
    failure: Option<Cause>,
}

impl Session {
    /// A new connection, with CONNECT in the output.
    pub(crate) fn new(
        settings: Arc<Settings>,
        device: Arc<Device>,
        mut carried: Carried,
        now: Instant,
    ) -> Self {
        carried.session = carried.session.wrapping_add(1);
        let mut session = Self {
            settings,
            device,
            output: BytesMut::new(),
            carried,
            clock: Clock::new(now),
            limits: ServerLimits::default(),
            rare: None,
            unaccepted: 0,
            surplus_releases: 0,
            unanswered_connect: 0,
            has_output: false,
            state: State::Connecting,
        };
        if let Err(TooLarge { size, limit }) = session.connect() {
            // Only the user properties of a will can be so many.
            let text = format!("CONNECT would have {size} bytes, MQTT allows {limit}");
            session.rare().failure = Some(Cause::Io(text));
        }
        session
    }

    /// Takes at most one packet off the buffer. To be called until it needs more.
    pub(crate) fn receive(&mut self, now: Instant, buffer: &mut BytesMut) -> Step {
        if let Err(cause) = self.check_failure() {
            return Step::Ended(cause);
        }
        if self.state == State::Ended {
            buffer.clear();
            return Step::NeedMore;
        }
        let step = match codec::decode(self.settings.version, buffer, self.settings.max_packet) {
            Ok(None) => {
                self.clock.unfinished(now, buffer.len());
                return Step::NeedMore;
            }
            Ok(Some(packet)) => {
                self.clock.received(now);
                self.handle(now, packet)
            }
            Err(error) => Err(error.into()),
        };
        let step = step.unwrap_or_else(|cause| {
            self.end(now, &cause);
            Step::Ended(cause)
        });
        self.pump(now);
        self.carried.tidy();
        step
    }

    /// Whether there is room for the answers to one more packet. Otherwise write first: a broker
    /// that sends and does not read would fill the memory. That is no reason to stop the clock by
    /// [`Session::set_reading`], for such a broker is one that has to be given up.
    pub(crate) fn can_receive(&self) -> bool {
        self.output.len() < 2 * OUTPUT_LIMIT
    }

    /// A planned end: DISCONNECT, upon which the broker does not publish the will.
    pub(crate) fn stop(&mut self, now: Instant) {
        let next = match self.state {
            State::Connecting => State::Ended,
            State::Online => State::Stopping,
            State::Stopping | State::Ended => return,
        };
        self.send_small(now, &Outgoing::Disconnect { code: 0 });
        self.state = next;
    }

    /// `false` while the consumer is slow: silence of the broker proves nothing then, and pings
    /// still go out. With `true` the time of the silence begins anew.
    pub(crate) fn set_reading(&mut self, now: Instant, reading: bool) {
        self.clock.set_reading(now, reading);
    }

    /// Sends a ping, or says why the session is over.
    ///
    /// # Errors
    ///
    /// [`Cause::KeepAlive`] when nothing came for 1.5 times the keep-alive, and
    /// [`ProtocolError::SlowPacket`] when a packet was begun and not ended.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Cause> {
        self.check_failure()?;
        if !matches!(self.state, State::Connecting | State::Online) {
            return Ok(());
        }
        let cause = match self.clock.check(now, self.settings.packet_timeout) {
            Due::Nothing => return Ok(()),
            Due::Ping => {
                if self.clock.ping(now, !self.output.is_empty()) {
                    self.send_small(now, &Outgoing::PingReq);
                }
                return Ok(());
            }
            Due::Silence(silence) => Cause::KeepAlive(silence),
            Due::SlowPacket => ProtocolError::SlowPacket(self.settings.packet_timeout).into(),
        };
        self.end(now, &cause);
        Err(cause)
    }

    /// When to call [`Session::handle_timeout`]. The time for the whole connect is the driver's.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.rare.as_ref().is_some_and(|rare| rare.failure.is_some()) {
            return Some(self.clock.last_sent());
        }
        match self.state {
            State::Connecting | State::Online => self.clock.deadline(self.settings.packet_timeout),
            State::Stopping | State::Ended => None,
        }
    }

    /// What to write to the socket. The driver takes off its front what the system took.
    ///
    /// It may hold something after the end too: MQTT 5 wants a broker told why (§4.13.1). That is
    /// worth one attempt, and no waiting.
    pub(crate) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// The system took all of the output. It may be filled again when this returns.
    pub(crate) fn output_written(&mut self, now: Instant) {
        if !self.output.is_empty() || !self.has_output {
            return;
        }
        // An idle session keeps no buffer.
        self.output = BytesMut::new();
        self.has_output = false;
        self.clock.sent(now);
        if let Some(rare) = &mut self.rare {
            for ticket in std::mem::take(&mut rare.unwritten) {
                ticket.settle(Ok(()));
            }
        }
        self.pump(now);
        self.carried.tidy();
        self.rare.take_if(|rare| rare.is_empty());
    }

    /// Subscriptions of the device that the broker refused, one by one.
    pub(crate) fn poll_refusal(&mut self) -> Option<Refusal> {
        self.rare.as_mut()?.refusals.pop_front()
    }

    /// What the next session takes over. Publishes with QoS 0 that were not written are lost: their
    /// tickets say so, with the cause.
    pub(crate) fn into_carried(mut self, cause: &Cause) -> Carried {
        if let Some(rare) = self.rare {
            for ticket in rare.unwritten.into_iter().chain(rare.unsent) {
                ticket.settle(Err(Error::Session(cause.clone())));
            }
        }
        // While some of it is still here, the broker has not read a whole CONNECT.
        self.carried.doubt |= self.output.len() < self.unanswered_connect;
        self.carried.restart();
        self.carried
    }

    fn connect(&mut self) -> Result<(), TooLarge> {
        let (settings, device) = (&self.settings, &self.device);
        let connect = Outgoing::Connect(Connect {
            client_id: device.mqtt_client_id(),
            clean_start: settings.clean_start,
            keep_alive: whole_seconds(device.keep_alive.unwrap_or(settings.keep_alive)),
            credentials: device.credentials.as_deref().or(settings.credentials.as_ref()),
            will: device.will.as_deref(),
            session_expiry: settings.session_expiry,
            receive_maximum: settings.inflight.max(1),
            maximum_packet: settings.max_packet,
        });
        codec::encode(settings.version, &connect, &mut self.output)?;
        self.has_output = true;
        self.unanswered_connect = self.output.len();
        Ok(())
    }

    fn check_failure(&mut self) -> Result<(), Cause> {
        let failure = self.rare.as_mut().and_then(|rare| rare.failure.take());
        let Some(cause) = failure else { return Ok(()) };
        self.state = State::Ended;
        Err(cause)
    }

    /// MQTT 5 wants a broker that broke the protocol told so (§4.13.1); 3.1.1 has no word for it.
    fn end(&mut self, now: Instant, cause: &Cause) {
        if let (Cause::Protocol(error), Version::V5, State::Online) =
            (cause, self.settings.version, self.state)
        {
            let code = match error {
                ProtocolError::Malformed { .. } => 0x81,
                ProtocolError::Unexpected { .. } => 0x82,
                ProtocolError::ReceiveMaximum(_) => 0x93,
                ProtocolError::Oversized { .. } => 0x95,
                ProtocolError::SlowPacket(_) => 0x80,
            };
            self.send_small(now, &Outgoing::Disconnect { code });
        }
        self.state = State::Ended;
    }

    /// Puts one packet into the output, if the state lets it.
    fn send(&mut self, now: Instant, packet: &Outgoing<'_>) -> Result<(), TooLarge> {
        if !matches!(self.state, State::Connecting | State::Online) {
            return Ok(());
        }
        codec::encode(self.settings.version, packet, &mut self.output)?;
        self.has_output = true;
        self.clock.sent(now);
        Ok(())
    }

    fn send_small(&mut self, now: Instant, packet: &Outgoing<'_>) {
        self.send(now, packet).expect("invariant: a packet of a few bytes is not too large");
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.unwritten.is_empty()
            && self.unsent.is_empty()
            && self.refusals.is_empty()
            && self.failure.is_none()
    }
}

/// As MQTT counts the keep-alive.
fn whole_seconds(keep_alive: Duration) -> u16 {
    u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
