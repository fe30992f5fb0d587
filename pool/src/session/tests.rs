//! A session, and a broker whose packets are written by hand.

mod broker;
mod garbage;
mod incoming;
mod lives;
mod outgoing;
mod resume;
mod subscribing;
mod time;
mod wire;

use super::*;
use crate::message::Publish;
use crate::request::{Delivery, Request};
use futures_util::FutureExt;

const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn settings(version: Version) -> Settings {
    Settings {
        version,
        clean_start: false,
        session_expiry: Some(3_600),
        keep_alive: Duration::from_secs(60),
        credentials: None,
        max_packet: 4_096,
        inflight: 4,
        packet_timeout: Duration::from_secs(30),
    }
}

fn device() -> Device {
    Device::new("d").expect("invariant: a device id")
}

#[expect(clippy::disallowed_methods, reason = "a test needs one instant to count from")]
fn start() -> Instant {
    Instant::now()
}

/// A session and its time.
struct Rig {
    version: Version,
    settings: Arc<Settings>,
    device: Arc<Device>,
    session: Session,
    now: Instant,
    inbox: BytesMut,
}

impl Rig {
    /// CONNECT is in the output.
    fn idle(settings: Settings, device: Device) -> Self {
        let (settings, device, now) = (Arc::new(settings), Arc::new(device), start());
        let carried = Carried::default();
        let session = Session::new(settings.clone(), device.clone(), carried, now);
        Self { version: settings.version, settings, device, session, now, inbox: BytesMut::new() }
    }

    /// CONNECT is written.
    fn with(settings: Settings, device: Device) -> Self {
        let mut rig = Self::idle(settings, device);
        assert!(rig.sent().starts_with("CONNECT d"));
        rig
    }

    fn new(version: Version) -> Self {
        Self::with(settings(version), device())
    }

    /// With a broker that had no session, and limits of its own in MQTT 5.
    fn online_at(settings: Settings, device: Device, properties: &[u8]) -> Self {
        let mut rig = Self::with(settings, device);
        let steps = rig.feed(&wire::connack(rig.version, false, 0, properties));
        assert!(matches!(steps[..], [Step::Online { session_present: false, .. }]), "{steps:?}");
        rig
    }

    fn online(version: Version) -> Self {
        Self::online_at(settings(version), device(), &[])
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// What comes of some bytes; the last `NeedMore` is left away.
    fn feed(&mut self, bytes: &[u8]) -> Vec<Step> {
        self.inbox.extend_from_slice(bytes);
        let mut steps = Vec::new();
        loop {
            match self.session.receive(self.now, &mut self.inbox) {
                Step::NeedMore => return steps,
                step => steps.push(step),
            }
        }
    }

    /// What comes of one packet.
    fn take(&mut self, bytes: &[u8]) -> Step {
        let mut steps = self.feed(bytes);
        assert_eq!(steps.len(), 1, "{steps:?}");
        steps.remove(0)
    }

    fn ack(&mut self, name: &str, id: u16, code: u8) -> Step {
        self.take(&wire::ack(self.version, name, id, code))
    }

    /// The message and the right to acknowledge it.
    fn message(&mut self, qos: u8, id: u16) -> Acknowledge {
        match self.take(&wire::publish(self.version, "t", qos, id, false, b"")) {
            Step::Message(_, acknowledge) => acknowledge,
            other => panic!("no message: {other:?}"),
        }
    }

    /// Writes the output out, to the end, and says what it was.
    fn sent(&mut self) -> String {
        let mut packets = Vec::new();
        while !self.session.output().is_empty() {
            while let Some(packet) = wire::read(self.version, self.session.output()) {
                packets.push(packet.to_string());
            }
            assert!(self.session.output().is_empty(), "half a packet");
            self.session.output_written(self.now);
        }
        packets.join(", ")
    }

    fn publish(&mut self, topic: &str, qos: QoS) -> Delivery {
        let publish = Publish::new(topic, qos, "payload").expect("invariant: a topic");
        self.request(|ticket| Request::Publish(publish, ticket))
    }

    fn subscribe(&mut self, filter: &str) -> Delivery {
        let subscription = crate::message::Subscription::new(filter, QoS::AtLeastOnce)
            .expect("invariant: a filter");
        self.request(|ticket| Request::Subscribe(subscription, ticket))
    }

    fn unsubscribe(&mut self, filter: &str) -> Delivery {
        self.request(|ticket| Request::Unsubscribe(filter.into(), ticket))
    }

    fn request(&mut self, request: impl FnOnce(Ticket) -> Request) -> Delivery {
        let (ticket, delivery) = Ticket::new();
        self.session.request(self.now, request(ticket));
        delivery
    }

    /// The connection is lost; the next one has CONNECT in its output.
    fn replace(&mut self) {
        let fresh = Carried::default();
        let spare = Session::new(self.settings.clone(), self.device.clone(), fresh, self.now);
        let carried = std::mem::replace(&mut self.session, spare).into_carried(&Cause::Reset);
        let (settings, device) = (self.settings.clone(), self.device.clone());
        self.session = Session::new(settings, device, carried, self.now);
        self.inbox.clear();
    }

    /// The connection is lost; the next one has written its CONNECT.
    fn reconnect(&mut self) {
        self.replace();
        assert!(self.sent().starts_with("CONNECT d"));
    }

    /// The connection is lost; the next one is online.
    fn resume(&mut self, session_present: bool) {
        self.reconnect();
        let step = self.take(&wire::connack(self.version, session_present, 0, &[]));
        assert!(matches!(step, Step::Online { .. }), "{step:?}");
    }
}

/// What became of a request: `None` while it is open.
fn outcome(delivery: &mut Delivery) -> Option<Result<(), Error>> {
    delivery.now_or_never()
}

fn rejected(version: Version, code: u8) -> Error {
    Error::Session(Cause::Rejected { code, reason: codec::reason_name(version, code) })
}

/// The step that ends the session for a packet that has no place.
#[track_caller]
fn assert_unexpected(step: &Step, name: &str) {
    let Step::Ended(Cause::Protocol(ProtocolError::Unexpected { packet, .. })) = step else {
        panic!("no unexpected {name}: {step:?}");
    };
    assert_eq!(*packet, name);
}

#[test]
fn a_session_at_rest_is_small_and_owns_nothing() {
    assert!(size_of::<Session>() <= 200, "{}", size_of::<Session>());
    for version in BOTH {
        let mut rig = Rig::online(version);
        let mut delivery = rig.publish("t", QoS::AtMostOnce);
        rig.sent();
        assert_eq!(outcome(&mut delivery), Some(Ok(())));
        assert!(rig.session.rare.is_none() && rig.session.carried.is_empty());
        assert_eq!(rig.session.output.capacity(), 0);
    }
}

#[test]
fn connect_says_what_device_and_settings_say() {
    for version in BOTH {
        let maximum = if version == Version::V5 { 4 } else { 0 };
        let mut settings = Settings { clean_start: true, ..settings(version) };
        let check = |settings: &Settings, device: Device, expected: &str| {
            let (settings, device) = (Arc::new(settings.clone()), Arc::new(device));
            let mut session = Session::new(settings, device, Carried::default(), start());
            let packet = wire::read(version, session.output()).expect("invariant: CONNECT");
            assert_eq!(packet.to_string(), format!("CONNECT {expected} max={maximum}"));
        };
        check(&settings, device(), "d clean alive=60");
        settings.clean_start = false;
        let other = device().client_id("other").expect("invariant: an id");
        let other = other.keep_alive(Duration::from_secs(5)).expect("invariant: in range");
        check(&settings, other, "other alive=5");
        settings.keep_alive = Duration::from_secs(1_000_000);
        check(&settings, device(), "d alive=65535");
    }
}

#[test]
fn a_connect_that_cannot_be_written_ends_the_session_with_its_cause() {
    let mut rig = Rig::new(Version::V5);
    let cause = Cause::Io("too large".to_owned());
    rig.session.rare().failure = Some(cause.clone());
    assert_eq!(rig.session.poll_timeout(), Some(rig.now));
    assert_eq!(rig.session.handle_timeout(rig.now), Err(cause));
    assert_eq!(rig.session.poll_timeout(), None);
    assert_eq!(rig.session.receive(rig.now, &mut rig.inbox), Step::NeedMore);
}

#[test]
fn a_stop_says_disconnect_and_nothing_after_it() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let first = rig.message(1, 1);
        let mut qos2 = rig.publish("a", QoS::ExactlyOnce);
        let mut qos0 = rig.publish("b", QoS::AtMostOnce);
        rig.session.stop(rig.now);
        rig.session.stop(rig.now);
        rig.session.accept(rig.now, first);
        assert!(!rig.session.can_take());
        let mut late = rig.publish("c", QoS::AtMostOnce);
        assert_eq!(rig.sent(), "PUBLISH 1 a qos2, PUBLISH 0 b qos0, DISCONNECT");
        assert_eq!(outcome(&mut qos0), Some(Ok(())));
        // What still comes is taken, and answered by the next session.
        assert_eq!(rig.ack("PUBREC", 1, 0), Step::Handled);
        let acknowledge = rig.message(2, 9);
        rig.session.accept(rig.now, acknowledge);
        rig.pass(1_000);
        assert_eq!(rig.session.poll_timeout(), None);
        assert_eq!(rig.session.handle_timeout(rig.now), Ok(()));
        assert_eq!(rig.sent(), "");
        rig.resume(true);
        assert_eq!(outcome(&mut late), Some(Err(Error::Session(Cause::Reset))));
        assert_eq!(rig.sent(), "PUBREL 1");
        let again = wire::publish(version, "t", 2, 9, true, b"");
        assert_eq!(rig.take(&again), Step::Handled);
        assert_eq!(rig.sent(), "PUBREC 9");
        assert_eq!(outcome(&mut qos2), None);
    }
}

#[test]
fn a_stop_before_connack_is_the_end() {
    for version in BOTH {
        let mut rig = Rig::new(version);
        rig.session.stop(rig.now);
        assert_eq!(rig.sent(), "DISCONNECT");
        assert_eq!(rig.feed(&wire::connack(version, false, 0, &[])), []);
        assert!(!rig.session.can_take());
    }
}

#[test]
fn after_the_end_every_call_is_harmless() {
    for version in BOTH {
        let mut rig = Rig::online(version);
        let acknowledges = [rig.message(0, 0), rig.message(1, 5), rig.message(2, 6)];
        assert_unexpected(&rig.take(&wire::connack(version, false, 0, &[])), "CONNACK");
        let told = if version == Version::V5 { "DISCONNECT 0x82" } else { "" };
        assert_eq!(rig.sent(), told);
        for acknowledge in acknowledges {
            rig.session.accept(rig.now, acknowledge);
        }
        let mut deliveries = [
            rig.publish("a", QoS::AtMostOnce),
            rig.publish("a", QoS::AtLeastOnce),
            rig.subscribe("a"),
            rig.unsubscribe("a"),
        ];
        rig.session.set_reading(rig.now, false);
        rig.session.set_reading(rig.now, true);
        rig.session.stop(rig.now);
        rig.pass(10_000);
        assert_eq!(rig.feed(&wire::publish(version, "t", 1, 1, false, b"")), []);
        assert_eq!(rig.session.handle_timeout(rig.now), Ok(()));
        assert_eq!(rig.session.poll_timeout(), None);
        assert!(!rig.session.can_take());
        assert_eq!(rig.sent(), "");
        rig.resume(true);
        assert_eq!(outcome(&mut deliveries[0]), Some(Err(Error::Session(Cause::Reset))));
        assert!(deliveries[1..].iter_mut().all(|delivery| outcome(delivery).is_none()));
        assert_eq!(rig.sent(), "SUBSCRIBE 2 a, UNSUBSCRIBE 3 a, PUBLISH 1 a qos1");
    }
}

#[test]
fn abandoned_tickets_learn_why() {
    let mut rig = Rig::online(Version::V5);
    let mut deliveries =
        [rig.publish("a", QoS::AtLeastOnce), rig.subscribe("a"), rig.unsubscribe("a")];
    rig.session.carried.restart();
    let carried = std::mem::take(&mut rig.session.carried);
    assert_eq!(carried.abandon(&Cause::Removed), 3);
    for delivery in &mut deliveries {
        assert_eq!(outcome(delivery), Some(Err(Error::Session(Cause::Removed))));
    }
}
