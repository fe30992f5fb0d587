//! A model of a broker that keeps sessions: it does what MQTT says, and on demand what brokers do
//! on a bad day.

mod exchange;

use super::agenda::{Cookie, End, Event, Segment};
use super::ledger::Ledger;
use super::wire::Wire;
use crate::codec::server::{self, ClientConnect, FromClient, ToClient};
use crate::message::QoS;
use crate::packet::{ConnAck, ServerLimits, Version};
use bytes::BytesMut;
use exchange::Exchanges;
pub(super) use exchange::{number_of, payload};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Mosquitto's: `listen(sock, 100)`, src/net.c.
const BACKLOG: usize = 100;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Broker {
    version: Version,
    /// Its process runs.
    pub(super) listening: bool,
    /// Since when its process is stopped, as by SIGSTOP; the kernel goes on for it.
    pub(super) frozen: Option<Instant>,
    /// Refuses each CONNECT with this code.
    pub(super) refuses: Option<u8>,
    /// What its one thread needs for each new connection.
    pub(super) service: Duration,
    /// What a CONNECT waits for its database.
    pub(super) authentication: Duration,
    pub(super) limits: ServerLimits,
    /// Until when another client fights for the id of a device.
    pub(super) rivals: Vec<Option<Rival>>,
    /// The listen queue.
    waiting: VecDeque<Cookie>,
    accepting: bool,
    connections: Vec<Option<Connection>>,
    sessions: Vec<Session>,
    /// SYNs that found the listen queue full.
    pub(super) overflows: usize,
    /// More connects than the backlog may be under way, by the limits.
    pub(super) may_overflow: bool,
}

/// Another client with the id of one of our devices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rival {
    pub(super) until: Instant,
    /// How long it waits before it connects again.
    pub(super) pause: Duration,
    /// It asks for a clean session.
    pub(super) cleans: bool,
}

#[derive(Debug)]
struct Connection {
    device: Option<usize>,
    accepted: bool,
    /// The client closed; what it sent before is still to be read.
    finished: bool,
    online: bool,
    input: BytesMut,
    output: BytesMut,
    connect: Option<Box<ClientConnect>>,
    keep_alive: Duration,
    heard: Instant,
}

/// What the broker has of one client id.
#[derive(Debug, Default)]
struct Session {
    exists: bool,
    holder: Holder,
    filters: BTreeMap<String, QoS>,
    exchanges: Exchanges,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Holder {
    #[default]
    Nobody,
    Pool(Cookie),
    Rival,
}

/// How the broker ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// DISCONNECT with this code in MQTT 5, and then a FIN.
    Word(u8),
    Fin,
    Reset,
}

impl Broker {
    pub(super) fn new(version: Version, devices: usize, limits: ServerLimits) -> Self {
        Self {
            version,
            listening: true,
            frozen: None,
            refuses: None,
            service: Duration::from_micros(55),
            authentication: Duration::ZERO,
            limits,
            rivals: vec![None; devices],
            waiting: VecDeque::new(),
            accepting: false,
            connections: Vec::new(),
            sessions: (0..devices).map(|_| Session::default()).collect(),
            overflows: 0,
            may_overflow: false,
        }
    }

    /// A SYN of the pool arrives at its host.
    pub(super) fn syn(&mut self, wire: &mut Wire, cookie: Cookie, attempt: u32) {
        if !self.listening {
            return wire.answer_syn(cookie, false);
        }
        // The kernel's queue holds one more than the backlog (sk_acceptq_is_full, net/sock.h).
        if self.waiting.len() > BACKLOG {
            self.overflows += 1;
            let is_ours = self.waiting.iter().all(|waiting| wire.sockets[*waiting].open);
            if is_ours && !self.may_overflow {
                wire.complain(Some(wire.sockets[cookie].device), "the listen queue overflowed");
            }
            return wire.syn_again(cookie, attempt);
        }
        self.waiting.push_back(cookie);
        self.connections.resize_with(wire.sockets.len(), || None);
        self.connections[cookie] = Some(Connection::new(wire.now));
        wire.answer_syn(cookie, true);
        self.accept_later(wire);
    }

    /// Takes the next connection from the listen queue.
    pub(super) fn accept(&mut self, wire: &mut Wire, ledger: &mut Ledger) {
        self.accepting = false;
        if self.frozen.is_some() || !self.listening {
            return;
        }
        let Some(cookie) = self.waiting.pop_front() else { return };
        if let Some(connection) = self.connection(cookie) {
            connection.accepted = true;
        }
        self.accept_later(wire);
        self.process(wire, ledger, cookie);
    }

    /// A segment of the pool arrives.
    pub(super) fn arrive(
        &mut self,
        wire: &mut Wire,
        ledger: &mut Ledger,
        cookie: Cookie,
        segment: Segment,
    ) {
        let Some(connection) = self.connection(cookie) else {
            if matches!(segment, Segment::Data(_)) {
                wire.send(cookie, End::Pool, Segment::Reset);
            }
            return;
        };
        match segment {
            Segment::Data(data) => connection.input.extend_from_slice(&data),
            Segment::Fin | Segment::Reset => connection.finished = true,
        }
        self.process(wire, ledger, cookie);
    }

    /// Its process goes on after a stop.
    pub(super) fn thaw(&mut self, wire: &mut Wire, ledger: &mut Ledger) {
        self.frozen = None;
        for cookie in 0..self.connections.len() {
            self.process(wire, ledger, cookie);
        }
        self.accept_later(wire);
    }

    /// Its process ends. The kernel resets all connections.
    pub(super) fn crash(&mut self, wire: &mut Wire, ledger: &mut Ledger, keeps_sessions: bool) {
        self.listening = false;
        self.waiting.clear();
        for cookie in 0..self.connections.len() {
            if self.connections[cookie].is_some() {
                self.close(wire, cookie, Farewell::Reset);
            }
        }
        for device in 0..self.sessions.len() {
            if !keeps_sessions {
                self.lose_session(ledger, device);
            }
            self.sessions[device].holder = Holder::Nobody;
        }
    }

    /// Ends the connections of a share of the devices, and says of how many.
    pub(super) fn kick(&mut self, wire: &mut Wire, share: f64, farewell: Farewell) -> usize {
        let mut kicked = 0;
        for cookie in 0..self.connections.len() {
            let online = self.connections[cookie].as_ref().is_some_and(|it| it.online);
            if online && (share >= 1.0 || wire.happens(share)) {
                self.close(wire, cookie, farewell);
                kicked += 1;
            }
        }
        kicked
    }

    /// Whether its process did nothing since then.
    pub(super) fn is_silent_since(&self, since: Instant) -> bool {
        self.frozen.is_some_and(|frozen| frozen <= since)
    }

    /// The connections that are online now.
    pub(super) fn online(&self) -> Vec<Cookie> {
        let is_online = |cookie: &Cookie| {
            self.connections[*cookie].as_ref().is_some_and(|connection| connection.online)
        };
        (0..self.connections.len()).filter(is_online).collect()
    }

    /// The database says yes.
    pub(super) fn authenticated(&mut self, wire: &mut Wire, ledger: &mut Ledger, cookie: Cookie) {
        if self.frozen.is_some() {
            // Its process looks at the answer when it runs again.
            return wire.after(Duration::from_millis(100), Event::Authenticated { cookie });
        }
        let connect = self.connection(cookie).and_then(|connection| connection.connect.take());
        if let Some(connect) = connect {
            self.admit(wire, ledger, cookie, &connect);
            self.process(wire, ledger, cookie);
        }
    }

    /// Looks whether a client said nothing for 1.5 times the keep-alive (MQTT-3.1.2-24 in 3.1.1).
    pub(super) fn keep_alive(&mut self, wire: &mut Wire, cookie: Cookie) {
        let (now, frozen) = (wire.now, self.frozen.is_some());
        let Some(connection) = self.connection(cookie) else { return };
        let due = connection.heard + connection.keep_alive.mul_f64(1.5);
        if frozen {
            return wire.after(connection.keep_alive, Event::BrokerKeepAlive { cookie });
        }
        if now < due {
            return wire.agenda.plan(due, Event::BrokerKeepAlive { cookie });
        }
        let socket = &wire.sockets[cookie];
        if socket.open && socket.severed.is_none() {
            let device = Some(socket.device);
            wire.complain(device, "a living session said nothing for 1.5 times the keep-alive");
        }
        self.close(wire, cookie, Farewell::Word(0x8D));
    }

    /// The other client with the id of a device connects, and takes the session.
    pub(super) fn rival_connects(&mut self, wire: &mut Wire, ledger: &mut Ledger, device: usize) {
        let Some(rival) = self.rivals[device].filter(|rival| wire.now < rival.until) else {
            return;
        };
        if !self.listening || self.frozen.is_some() {
            return wire.after(rival.pause, Event::RivalConnects { device });
        }
        if let Holder::Pool(cookie) = self.sessions[device].holder {
            self.close(wire, cookie, Farewell::Word(0x8E));
        }
        if rival.cleans {
            self.lose_session(ledger, device);
        }
        self.sessions[device].holder = Holder::Rival;
    }

    /// The other client goes away for good.
    pub(super) fn rival_leaves(&mut self, device: usize) {
        self.rivals[device] = None;
        if self.sessions[device].holder == Holder::Rival {
            self.sessions[device].holder = Holder::Nobody;
        }
    }

    /// Somebody publishes to a device.
    pub(super) fn publish(
        &mut self,
        wire: &mut Wire,
        ledger: &mut Ledger,
        device: usize,
        qos: QoS,
    ) {
        if !self.listening || self.frozen.is_some() {
            return;
        }
        let session = &mut self.sessions[device];
        let subscribed = session.exists && session.filters.contains_key(&down_filter(device));
        let number = ledger.message(device, qos, subscribed && qos > QoS::AtMostOnce);
        if !subscribed {
            return;
        }
        let holder = session.holder;
        match qos {
            QoS::AtMostOnce => {
                if let Holder::Pool(cookie) = holder {
                    self.put(cookie, &exchange::publish(device, number, qos, 0, false));
                }
            }
            _ => session.exchanges.queue(number, qos),
        }
        self.pump(device);
        if let Holder::Pool(cookie) = holder {
            self.flush(wire, cookie);
        }
    }

    /// The filters that a device's session has.
    pub(super) fn filters(&self, device: usize) -> Vec<&str> {
        self.sessions[device].filters.keys().map(String::as_str).collect()
    }

    fn accept_later(&mut self, wire: &mut Wire) {
        if !self.waiting.is_empty() && self.frozen.is_none() && !self.accepting {
            self.accepting = true;
            wire.after(self.service, Event::Accept);
        }
    }

    /// Reads all that is there, and answers.
    fn process(&mut self, wire: &mut Wire, ledger: &mut Ledger, cookie: Cookie) {
        let version = self.version;
        while let Some(connection) = self.connection(cookie) {
            let (accepted, waits) = (connection.accepted, connection.connect.is_some());
            let finished = connection.finished;
            if self.frozen.is_some() || !accepted {
                return;
            }
            if waits {
                // A client that goes away while its CONNECT waits is seen to be gone at once.
                if finished {
                    self.close(wire, cookie, Farewell::Fin);
                }
                return;
            }
            let connection = self.connection(cookie).expect("invariant: it was there");
            match server::decode(version, &mut connection.input) {
                Ok(Some(packet)) => {
                    connection.heard = wire.now;
                    self.handle(wire, ledger, cookie, packet);
                }
                Ok(None) => break,
                Err(problem) => {
                    let device = Some(wire.sockets[cookie].device);
                    return wire.complain(device, format!("the broker cannot read it: {problem}"));
                }
            }
        }
        self.flush(wire, cookie);
        if self.connection(cookie).is_some_and(|connection| connection.finished) {
            self.close(wire, cookie, Farewell::Fin);
        }
    }

    fn connect(
        &mut self,
        wire: &mut Wire,
        ledger: &mut Ledger,
        cookie: Cookie,
        connect: Box<ClientConnect>,
    ) {
        let expected = format!("d{}", wire.sockets[cookie].device);
        if connect.client_id != expected || connect.version != self.version {
            let device = Some(wire.sockets[cookie].device);
            return wire.complain(device, format!("a strange CONNECT: {connect:?}"));
        }
        if let Some(code) = self.refuses {
            let ack = ConnAck { code, ..ConnAck::default() };
            self.put(cookie, &ToClient::ConnAck(ack));
            return self.close(wire, cookie, Farewell::Fin);
        }
        if self.authentication.is_zero() {
            return self.admit(wire, ledger, cookie, &connect);
        }
        let connection = self.connection(cookie).expect("invariant: its CONNECT was read");
        connection.connect = Some(connect);
        let wait = self.authentication / 2 + wire.up_to(self.authentication / 2);
        wire.after(wait, Event::Authenticated { cookie });
    }

    fn admit(
        &mut self,
        wire: &mut Wire,
        ledger: &mut Ledger,
        cookie: Cookie,
        connect: &ClientConnect,
    ) {
        let device = wire.sockets[cookie].device;
        match self.sessions[device].holder {
            Holder::Pool(other) => self.close(wire, other, Farewell::Word(0x8E)),
            Holder::Rival => {
                if let Some(rival) = self.rivals[device] {
                    wire.after(rival.pause, Event::RivalConnects { device });
                }
            }
            Holder::Nobody => {}
        }
        if connect.clean_start {
            self.lose_session(ledger, device);
        }
        let session = &mut self.sessions[device];
        let session_present = std::mem::replace(&mut session.exists, true);
        session.holder = Holder::Pool(cookie);
        session.exchanges.connected(connect.receive_maximum);
        let connection = self.connection(cookie).expect("invariant: its CONNECT was read");
        connection.device = Some(device);
        connection.online = true;
        connection.keep_alive = Duration::from_secs(connect.keep_alive.into());
        if connect.keep_alive > 0 {
            let wait = connection.keep_alive.mul_f64(1.5);
            wire.after(wait, Event::BrokerKeepAlive { cookie });
        }
        let limits = self.limits;
        let ack = ConnAck { session_present, limits, ..ConnAck::default() };
        self.put(cookie, &ToClient::ConnAck(ack));
        self.pump(device);
    }

    fn handle(&mut self, wire: &mut Wire, ledger: &mut Ledger, cookie: Cookie, packet: FromClient) {
        let device = match (packet, self.connection(cookie).and_then(|it| it.device)) {
            (FromClient::Connect(connect), None) => {
                return self.connect(wire, ledger, cookie, connect);
            }
            (FromClient::Disconnect { .. }, Some(_)) => {
                return self.close(wire, cookie, Farewell::Fin);
            }
            (FromClient::PingReq, Some(_)) => return self.put(cookie, &ToClient::PingResp),
            (FromClient::Subscribe { id, filters }, Some(device)) => {
                let codes = filters.iter().map(|(_, qos)| *qos as u8).collect();
                self.sessions[device].filters.extend(filters);
                return self.put(cookie, &ToClient::SubAck { id, codes });
            }
            (FromClient::Unsubscribe { id, filters }, Some(device)) => {
                let removed = &mut self.sessions[device].filters;
                let code = |filter| if removed.remove(filter).is_some() { 0 } else { 0x11 };
                let mut codes: Vec<u8> = filters.iter().map(code).collect();
                if self.version == Version::V311 {
                    codes.clear();
                }
                return self.put(cookie, &ToClient::UnsubAck { id, codes });
            }
            (packet, Some(device)) => {
                let exchanges = &mut self.sessions[device].exchanges;
                let maximum = usize::from(self.limits.receive_maximum);
                match exchanges.handle(wire, ledger, device, &packet, maximum) {
                    Ok(Some(answer)) => self.put(cookie, &answer),
                    Ok(None) => {}
                    Err(problem) => wire.complain(Some(device), format!("{packet:?}: {problem}")),
                }
                device
            }
            (packet, None) => {
                let device = Some(wire.sockets[cookie].device);
                return wire.complain(device, format!("{packet:?} before CONNECT"));
            }
        };
        self.pump(device);
    }

    /// Sends to a device what its window allows.
    fn pump(&mut self, device: usize) {
        let Session { holder: Holder::Pool(cookie), .. } = self.sessions[device] else { return };
        while let Some(packet) = self.sessions[device].exchanges.next(device) {
            self.put(cookie, &packet);
        }
    }

    fn put(&mut self, cookie: Cookie, packet: &ToClient) {
        let version = self.version;
        if let Some(connection) = self.connection(cookie) {
            server::encode(version, packet, &mut connection.output);
        }
    }

    fn flush(&mut self, wire: &mut Wire, cookie: Cookie) {
        let Some(connection) = self.connection(cookie) else { return };
        if !connection.output.is_empty() {
            let data = connection.output.split().to_vec();
            wire.send(cookie, End::Pool, Segment::Data(data));
        }
    }

    fn close(&mut self, wire: &mut Wire, cookie: Cookie, farewell: Farewell) {
        if let (Farewell::Word(code), Version::V5) = (farewell, self.version)
            && self.connection(cookie).is_some_and(|connection| connection.online)
        {
            self.put(cookie, &ToClient::Disconnect { code, detail: None });
        }
        self.flush(wire, cookie);
        let Some(connection) = self.connections[cookie].take() else { return };
        if let Some(device) = connection.device
            && self.sessions[device].holder == Holder::Pool(cookie)
        {
            self.sessions[device].holder = Holder::Nobody;
        }
        let segment = if farewell == Farewell::Reset { Segment::Reset } else { Segment::Fin };
        wire.send(cookie, End::Pool, segment);
    }

    fn lose_session(&mut self, ledger: &mut Ledger, device: usize) {
        let holder = self.sessions[device].holder;
        if std::mem::take(&mut self.sessions[device]).exists {
            ledger.session_lost(device);
        }
        self.sessions[device].holder = holder;
    }

    fn connection(&mut self, cookie: Cookie) -> Option<&mut Connection> {
        self.connections.get_mut(cookie)?.as_mut()
    }
}

impl Connection {
    fn new(now: Instant) -> Self {
        Self {
            device: None,
            accepted: false,
            finished: false,
            online: false,
            input: BytesMut::new(),
            output: BytesMut::new(),
            connect: None,
            keep_alive: Duration::ZERO,
            heard: now,
        }
    }
}

/// Where the messages for a device are published.
pub(super) fn down_filter(device: usize) -> String {
    format!("d/{device}")
}
