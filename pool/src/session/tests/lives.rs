//! Many lives of one device: connections that are lost at any byte, and what must not be lost.

use super::broker::Broker;
use super::*;
use crate::message::Subscription;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Action {
    /// The application publishes.
    Publish(u8),
    Subscribe(u8),
    Unsubscribe(u8),
    /// The system takes so many bytes of the output.
    Write(usize),
    /// So many of them reach the broker.
    Carry(usize),
    /// The broker gives answers that it owes.
    Answer(usize),
    /// So many of the broker's bytes are read.
    Read(usize),
    /// The application's queue takes messages.
    Accept(usize),
    BrokerPublish(u8),
    Pass(u64),
    Stop,
    Cut,
    /// The broker restarts without its sessions.
    Forget,
}

fn action(forgets: bool) -> impl Strategy<Value = Action> {
    let bytes = prop_oneof![1..8_usize, Just(1_000)];
    prop_oneof![
        4 => (0..3_u8).prop_map(Action::Publish),
        1 => (0..4_u8).prop_map(Action::Subscribe),
        1 => (0..4_u8).prop_map(Action::Unsubscribe),
        6 => bytes.clone().prop_map(Action::Write),
        6 => bytes.clone().prop_map(Action::Carry),
        4 => (1..4_usize).prop_map(Action::Answer),
        6 => bytes.prop_map(Action::Read),
        3 => (1..4_usize).prop_map(Action::Accept),
        3 => (0..3_u8).prop_map(Action::BrokerPublish),
        1 => (1..40_u64).prop_map(Action::Pass),
        1 => Just(Action::Stop),
        2 => Just(Action::Cut),
        1 => Just(if forgets { Action::Forget } else { Action::Cut }),
    ]
}

struct World {
    rig: Rig,
    broker: Broker,
    /// On the way to the broker.
    up: BytesMut,
    outbox: VecDeque<Request>,
    /// Received, and not in the application's queue.
    pending: VecDeque<(Message, Acknowledge)>,
    stale: Vec<Acknowledge>,
    delivered: Vec<(u8, u32)>,
    deliveries: Vec<(u8, u32, Delivery)>,
    wanted: BTreeSet<String>,
    published: u32,
    is_over: bool,
}

impl World {
    fn new(version: Version, window: u16) -> Self {
        let own = ["own/1", "own/2"].iter().fold(device(), |device, filter| {
            device.subscribe(filter, QoS::AtLeastOnce).expect("invariant: a filter")
        });
        Self {
            rig: Rig::idle(settings(version), own),
            broker: Broker::new(version, window),
            up: BytesMut::new(),
            outbox: VecDeque::new(),
            pending: VecDeque::new(),
            stale: Vec::new(),
            delivered: Vec::new(),
            deliveries: Vec::new(),
            wanted: ["own/1", "own/2"].map(str::to_owned).into(),
            published: 0,
            is_over: false,
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Publish(qos) => self.publish(qos),
            Action::Subscribe(number) => {
                let filter = format!("run/{number}");
                let subscription =
                    Subscription::new(&filter, QoS::AtLeastOnce).expect("invariant: a filter");
                self.wanted.insert(filter);
                self.ask(3, |ticket| Request::Subscribe(subscription, ticket));
            }
            Action::Unsubscribe(number) => {
                let filter = format!("run/{number}");
                self.wanted.remove(&filter);
                self.ask(3, |ticket| Request::Unsubscribe(filter.into(), ticket));
            }
            Action::Write(count) => self.write(count),
            Action::Carry(count) => {
                let count = count.min(self.up.len());
                self.broker.receive(&self.up.split_to(count));
            }
            Action::Answer(count) => {
                for _ in 0..count {
                    self.broker.answer();
                }
            }
            Action::Read(count) => self.read(count),
            Action::Accept(count) => {
                for _ in 0..count {
                    self.accept();
                }
            }
            Action::BrokerPublish(qos) => {
                self.published += 1;
                self.broker.publish(qos, self.published);
            }
            Action::Pass(seconds) => {
                self.rig.pass(seconds);
                self.is_over |= self.rig.session.handle_timeout(self.rig.now).is_err();
            }
            Action::Stop => {
                self.rig.session.stop(self.rig.now);
                self.is_over = true;
            }
            Action::Cut => self.cut(),
            Action::Forget => {
                self.cut();
                self.broker.forget();
            }
        }
        while self.rig.session.can_take()
            && let Some(request) = self.outbox.pop_front()
        {
            self.rig.session.request(self.rig.now, request);
        }
    }

    fn publish(&mut self, qos: u8) {
        self.published += 1;
        let number = self.published;
        let level = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
        let payload = number.to_be_bytes().to_vec();
        let publish = Publish::new("t", level, payload).expect("invariant: a topic");
        self.ask(qos, |ticket| Request::Publish(publish, ticket));
    }

    fn ask(&mut self, kind: u8, request: impl FnOnce(Ticket) -> Request) {
        let (ticket, delivery) = Ticket::new();
        self.outbox.push_back(request(ticket));
        self.deliveries.push((kind, self.published, delivery));
    }

    fn write(&mut self, count: usize) {
        let output = self.rig.session.output();
        let count = count.min(output.len());
        self.up.extend_from_slice(&output.split_to(count));
        self.rig.session.output_written(self.rig.now);
    }

    fn read(&mut self, count: usize) {
        let down = &mut self.broker.down;
        let bytes = down.split_to(count.min(down.len()));
        for step in self.rig.feed(&bytes) {
            match step {
                Step::Message(message, acknowledge) => {
                    self.pending.push_back((message, acknowledge));
                }
                Step::Ended(cause) => panic!("the broker did nothing wrong: {cause}"),
                Step::Handled | Step::NeedMore | Step::Online { .. } => {}
            }
        }
    }

    fn accept(&mut self) {
        if let Some(stale) = self.stale.pop() {
            self.rig.session.accept(self.rig.now, stale);
        }
        let Some((message, acknowledge)) = self.pending.pop_front() else { return };
        let number: [u8; 4] = message.payload[..].try_into().expect("invariant: a number");
        self.delivered.push((message.qos as u8, u32::from_be_bytes(number)));
        self.rig.session.accept(self.rig.now, acknowledge);
    }

    fn cut(&mut self) {
        self.up.clear();
        self.stale.extend(self.pending.drain(..).map(|(_, acknowledge)| acknowledge));
        self.broker.disconnected();
        self.rig.replace();
        self.is_over = false;
    }

    /// Without further accidents, until nothing moves any more.
    fn settle(&mut self) {
        if self.is_over {
            self.cut();
        }
        let mut rounds = 0;
        while !self.is_quiet() {
            for action in [
                Action::Write(usize::MAX),
                Action::Carry(usize::MAX),
                Action::Answer(100),
                Action::Read(usize::MAX),
                Action::Accept(100),
            ] {
                self.act(&action);
            }
            rounds += 1;
            assert!(rounds < 10_000, "it never comes to rest");
        }
        assert!(self.outbox.is_empty() && !self.broker.has_messages());
    }

    fn is_quiet(&mut self) -> bool {
        self.up.is_empty()
            && self.pending.is_empty()
            && self.rig.session.output().is_empty()
            && self.broker.is_quiet()
    }

    /// All that holds whatever the broker forgets.
    fn check_tickets(&mut self) {
        for (qos, number, delivery) in &mut self.deliveries {
            let outcome = outcome(delivery).expect("every ticket is settled");
            match outcome {
                Ok(()) => {}
                Err(Error::Session(Cause::Reset)) if *qos == 0 => continue,
                Err(error) => panic!("message {number} with QoS {qos}: {error}"),
            }
            let taken = self.broker.taken.contains(&(*qos, *number));
            assert!(taken || *qos == 0 || *qos == 3, "message {number} with QoS {qos} is lost");
        }
        assert_eq!(self.broker.subscriptions, self.wanted);
        let work = self.rig.session.carried.work();
        assert!(work.is_none_or(|work| work.inflight.is_empty()
            && !work.subscriptions.has_waiting()
            && work.subscriptions.ids().next().is_none()));
    }
}

/// The first of each, in the order in which they came.
fn firsts(messages: &[(u8, u32)], qos: u8) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    let of_qos = messages.iter().filter(|(of, _)| *of == qos).map(|(_, number)| *number);
    of_qos.filter(|number| seen.insert(*number)).collect()
}

#[track_caller]
fn check_order(messages: &[(u8, u32)]) {
    for qos in 0..3 {
        let firsts = firsts(messages, qos);
        assert!(firsts.is_sorted(), "QoS {qos} out of order: {firsts:?}");
        let count = messages.iter().filter(|(of, _)| *of == qos).count();
        assert!(qos == 1 || count == firsts.len(), "QoS {qos} twice: {messages:?}");
    }
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_while_the_broker_keeps_its_session(
        version in version(),
        window in 1..6_u16,
        actions in prop::collection::vec(action(false), 0..250),
    ) {
        let mut world = World::new(version, if version == Version::V5 { window } else { 4 });
        let mut sent = [Vec::new(), Vec::new(), Vec::new()];
        for action in &actions {
            world.act(action);
            if let Action::BrokerPublish(qos) = action {
                sent[usize::from(*qos)].push(world.published);
            }
        }
        world.settle();
        world.check_tickets();
        check_order(&world.broker.taken);
        check_order(&world.delivered);
        let work = world.rig.session.carried.work();
        prop_assert!(work.is_none_or(|work| work.received.is_empty()));
        for qos in [1, 2] {
            prop_assert_eq!(&firsts(&world.delivered, qos), &sent[usize::from(qos)]);
        }
    }

    #[test]
    fn no_ticket_and_no_subscription_is_lost_when_the_broker_forgets(
        version in version(),
        window in 1..6_u16,
        actions in prop::collection::vec(action(true), 0..250),
    ) {
        let mut world = World::new(version, if version == Version::V5 { window } else { 4 });
        let mut sent = Vec::new();
        for action in &actions {
            world.act(action);
            match action {
                Action::BrokerPublish(1) => sent.push(world.published),
                Action::Forget => sent.clear(),
                _ => {}
            }
        }
        world.settle();
        world.check_tickets();
        let delivered = firsts(&world.delivered, 1);
        prop_assert!(sent.iter().all(|number| delivered.contains(number)));
    }
}
