//! The network, the two kernels, the time and the dice: what all the others stand on.

use super::agenda::{Agenda, Cookie, End, Event, Segment};
use super::plan::Plan;
use crate::device::Generation;
use crate::error::Cause;
use crate::fleet::SlotKey;
use bytes::BytesMut;
use fastrand::Rng;
use std::time::{Duration, Instant};

/// When a SYN without an answer is sent again, counted from the first one, in seconds
/// (`TCP_TIMEOUT_INIT`, include/net/tcp.h; doubled each time).
const SYN_RETRIES: [u64; 5] = [1, 3, 7, 15, 31];

/// Idle for so long, a dead connection is found by TCP's own probes: 30 s to the first one, and
/// `TCP_USER_TIMEOUT` after it.
const PROBES: Duration = Duration::from_secs(50);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) agenda: Agenda,
    pub(super) random: Rng,
    pub(super) sockets: Vec<Socket>,
    pub(super) weather: Weather,
    pub(super) tcp_user_timeout: Duration,
    pub(super) keep_alive: Duration,
    /// The first rule that was broken, and about which device. Nothing after it counts.
    pub(super) complaint: Option<(Option<usize>, String)>,
}

/// How the network and the kernel behave at the moment. Shares are from 0 to 1.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// One way; each connection draws its own, up to twice as long.
    pub(super) latency: Duration,
    /// SYNs that get lost.
    pub(super) syn_loss: f64,
    /// New connections that break at some byte.
    pub(super) cut: f64,
    /// Writes that are taken in part, and segments that arrive in two.
    pub(super) split: f64,
    /// Closes after which somebody else still holds the socket.
    pub(super) held: f64,
    /// For how long at most.
    pub(super) held_for: Duration,
    /// Look-ups of the broker's name that fail.
    pub(super) unresolved: f64,
}

/// One connection of the pool, as the kernels see it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) key: SlotKey,
    pub(super) generation: Generation,
    pub(super) device: usize,
    /// There was a socket at all: the broker's name could be resolved.
    pub(super) made: bool,
    /// The kernel has it: from socket(2) until the last holder has let go of it.
    pub(super) alive: bool,
    /// The pool has not closed it.
    pub(super) open: bool,
    /// Read from the network and not yet by the driver.
    pub(super) received: BytesMut,
    /// What a read says when all is read.
    pub(super) over: Option<Cause>,
    /// Since when nothing passes any more.
    pub(super) severed: Option<Instant>,
    cut: Option<Cut>,
    latency: Duration,
    opened: Instant,
    arrivals: [Instant; 2],
    full_until: Instant,
    timeout_planned: bool,
}

/// A connection breaks after so many bytes of both directions.
#[derive(Clone, Copy, Debug)]
struct Cut {
    bytes: usize,
    how: Break,
}

/// How a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// Both ends get a reset.
    Reset,
    /// Only the pool gets one: the broker has half a connection.
    ResetOfPool,
    /// Only the broker gets one.
    ResetOfBroker,
    /// Nobody hears anything.
    Silence,
}

impl Break {
    const ALL: [Self; 4] = [Self::Reset, Self::ResetOfPool, Self::ResetOfBroker, Self::Silence];
}

impl Weather {
    fn fair(latency: Duration) -> Self {
        Self {
            latency,
            syn_loss: 0.0,
            cut: 0.0,
            split: 0.02,
            held: 0.0,
            held_for: Duration::ZERO,
            unresolved: 0.0,
        }
    }
}

impl Wire {
    pub(super) fn new(start: Instant, plan: &Plan) -> Self {
        Self {
            now: start,
            start,
            agenda: Agenda::default(),
            random: Rng::with_seed(plan.seed),
            sockets: Vec::new(),
            weather: Weather::fair(plan.latency),
            tcp_user_timeout: plan.timeouts.tcp_user,
            keep_alive: plan.keep_alive,
            complaint: None,
        }
    }

    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        self.agenda.plan(self.now + wait, event);
    }

    /// Uniform from zero to `most`.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.u64(0..=most))
    }

    /// True in this share of all cases. Draws nothing where the answer is sure.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.f64() < share
    }

    pub(super) fn complain(&mut self, device: Option<usize>, text: impl Into<String>) {
        self.complaint.get_or_insert((device, text.into()));
    }

    /// A socket that is not connected yet.
    pub(super) fn open(&mut self, key: SlotKey, generation: Generation, device: usize) -> Cookie {
        let made = !self.happens(self.weather.unresolved);
        let latency = self.weather.latency + self.up_to(self.weather.latency);
        let cut = self.happens(self.weather.cut).then(|| {
            let how = Break::ALL[self.random.usize(..Break::ALL.len())];
            Cut { bytes: self.random.usize(0..600), how }
        });
        self.sockets.push(Socket {
            key,
            generation,
            device,
            made,
            alive: made,
            open: made,
            received: BytesMut::new(),
            over: None,
            severed: None,
            cut,
            latency,
            opened: self.now,
            arrivals: [self.now; 2],
            full_until: self.now,
            timeout_planned: false,
        });
        self.sockets.len() - 1
    }

    /// connect(2).
    pub(super) fn connect(&mut self, cookie: Cookie) {
        self.after(self.sockets[cookie].latency, Event::Syn { cookie, attempt: 0 });
    }

    /// Whether a SYN reaches the broker's host, and is of a socket that is still there.
    pub(super) fn syn_arrives(&mut self, cookie: Cookie, attempt: u32) -> bool {
        if !self.sockets[cookie].open {
            return false;
        }
        if self.happens(self.weather.syn_loss) {
            self.syn_again(cookie, attempt);
            return false;
        }
        true
    }

    /// The SYN got no answer.
    pub(super) fn syn_again(&mut self, cookie: Cookie, attempt: u32) {
        let socket = &self.sockets[cookie];
        if let Some(seconds) = SYN_RETRIES.get(attempt as usize) {
            let at = socket.opened + Duration::from_secs(*seconds) + socket.latency;
            self.agenda.plan(at, Event::Syn { cookie, attempt: attempt + 1 });
        }
    }

    /// The answer to a SYN is under way.
    pub(super) fn answer_syn(&mut self, cookie: Cookie, listening: bool) {
        let latency = self.sockets[cookie].latency;
        let event = if listening { Event::Connected { cookie } } else { Event::Refused { cookie } };
        self.after(latency, event);
    }

    /// write(2) of the driver: how many bytes the kernel took off the front.
    pub(super) fn write(&mut self, cookie: Cookie, output: &mut BytesMut) -> Result<usize, Cause> {
        if let Some(cause @ (Cause::Reset | Cause::TcpTimeout)) = &self.sockets[cookie].over {
            return Err(cause.clone());
        }
        if output.is_empty() || self.now < self.sockets[cookie].full_until {
            return Ok(0);
        }
        let mut count = output.len();
        if self.happens(self.weather.split) {
            count = self.random.usize(1..=count);
        }
        if count < output.len() {
            let space = Duration::from_millis(self.random.u64(1..20));
            self.sockets[cookie].full_until = self.now + space;
            self.after(space, Event::Wake { cookie });
        }
        let data = output.split_to(count).to_vec();
        self.send(cookie, End::Broker, Segment::Data(data));
        if self.sockets[cookie].severed.is_some() {
            self.time_out(cookie, self.tcp_user_timeout);
        }
        Ok(count)
    }

    /// close(2) of the driver. With unread data it is a reset, whatever was asked for
    /// (`tcp_close`, net/ipv4/tcp.c).
    pub(super) fn close(&mut self, cookie: Cookie, reset: bool) {
        let held = self.happens(self.weather.held);
        let held_for = if held { self.up_to(self.weather.held_for) } else { Duration::ZERO };
        let socket = &mut self.sockets[cookie];
        socket.open = false;
        socket.alive = !held_for.is_zero();
        let has_ended = matches!(socket.over, Some(Cause::Reset | Cause::TcpTimeout));
        let segment =
            if reset || !socket.received.is_empty() { Segment::Reset } else { Segment::Fin };
        if !has_ended {
            self.send(cookie, End::Broker, segment);
        }
        if !held_for.is_zero() {
            self.after(held_for, Event::Release { cookie });
        }
    }

    /// A segment leaves for an end.
    pub(super) fn send(&mut self, cookie: Cookie, to: End, mut segment: Segment) {
        if self.sockets[cookie].severed.is_some() {
            return;
        }
        let mut broken = None;
        if let (Segment::Data(data), Some(cut)) = (&mut segment, &mut self.sockets[cookie].cut) {
            if data.len() >= cut.bytes {
                data.truncate(cut.bytes);
                broken = Some(cut.how);
            }
            cut.bytes -= data.len();
        }
        match segment {
            Segment::Data(data) if data.is_empty() => {}
            Segment::Data(mut data) if data.len() > 1 && self.happens(self.weather.split) => {
                let rest = data.split_off(self.random.usize(1..data.len()));
                self.deliver(cookie, to, Segment::Data(data));
                self.deliver(cookie, to, Segment::Data(rest));
            }
            segment => self.deliver(cookie, to, segment),
        }
        if let Some(how) = broken {
            self.sever(cookie, how);
        }
    }

    /// The connection breaks.
    pub(super) fn sever(&mut self, cookie: Cookie, how: Break) {
        if matches!(how, Break::Reset | Break::ResetOfPool) {
            self.deliver(cookie, End::Pool, Segment::Reset);
        }
        if matches!(how, Break::Reset | Break::ResetOfBroker) {
            self.deliver(cookie, End::Broker, Segment::Reset);
        }
        self.sockets[cookie].severed = Some(self.now);
        self.time_out(cookie, PROBES);
        self.expect_end(cookie);
    }

    /// Nothing comes from the broker any more: the session has to end by its keep-alive.
    pub(super) fn expect_end(&mut self, cookie: Cookie) {
        // What is under way comes first.
        let wait = self.keep_alive.mul_f64(1.5) + Duration::from_millis(200);
        self.after(wait, Event::Overdue { cookie, since: self.now });
    }

    /// No connection that lives breaks any more.
    pub(super) fn mend(&mut self) {
        for socket in &mut self.sockets {
            socket.cut = None;
        }
    }

    /// A segment arrives at the pool's end; says whether its driver has something to look at.
    pub(super) fn arrive(&mut self, cookie: Cookie, segment: Segment) -> bool {
        let socket = &mut self.sockets[cookie];
        if !socket.open {
            if matches!(segment, Segment::Data(_)) {
                self.send(cookie, End::Broker, Segment::Reset);
            }
            return false;
        }
        match segment {
            Segment::Data(data) => socket.received.extend_from_slice(&data),
            Segment::Fin => drop(socket.over.get_or_insert(Cause::PeerClosed)),
            Segment::Reset => socket.over = Some(Cause::Reset),
        }
        true
    }

    /// `TCP_USER_TIMEOUT` has come; says whether it ended the connection.
    pub(super) fn tcp_timeout(&mut self, cookie: Cookie) -> bool {
        let socket = &mut self.sockets[cookie];
        if !socket.open || socket.severed.is_none() || socket.over.is_some() {
            return false;
        }
        socket.over = Some(Cause::TcpTimeout);
        true
    }

    fn time_out(&mut self, cookie: Cookie, wait: Duration) {
        // The probes' timeout may be planned already; that of a write comes earlier.
        if wait == PROBES || !std::mem::replace(&mut self.sockets[cookie].timeout_planned, true) {
            self.after(wait, Event::TcpTimeout { cookie });
        }
    }

    /// In order: nothing overtakes what left before it for the same end.
    fn deliver(&mut self, cookie: Cookie, end: End, segment: Segment) {
        let jitter = self.random.u64(0..100);
        let socket = &mut self.sockets[cookie];
        let latest = &mut socket.arrivals[end as usize];
        let at = (self.now + socket.latency + Duration::from_micros(jitter)).max(*latest);
        *latest = at;
        self.agenda.plan(at, Event::Arrive { cookie, end, segment });
    }
}
