use super::*;
use crate::testing::behaviour::{Announcement, Answer, Fault, Takeover};
use crate::testing::wire::{Connect, Message, Publish, Will};
use bytes::Bytes;
use std::time::Duration;

/// A hub, a clock that only the test moves, and what the hub said last.
struct Scene {
    hub: Hub,
    now: Instant,
    next: u64,
}

impl Scene {
    fn new() -> Self {
        let hub = Hub::new(HubLimits { queue: 3, record: 100 });
        Self { hub, now: tokio::time::Instant::now().into_std(), next: 0 }
    }

    fn connect(&mut self, connect: Connect, behaviour: Behaviour) -> (ConnectionId, Vec<String>) {
        let id = ConnectionId(self.next);
        self.next += 1;
        self.hub.handle_connect(self.now, id, &connect, &Arc::new(behaviour));
        (id, self.said())
    }

    /// A client with a session that stays, and a subscription to everything.
    fn listener(&mut self, name: &str, qos: QoS) -> ConnectionId {
        let (id, _) = self.connect(lasting(name), Behaviour::default());
        self.subscribe(id, "#", qos);
        id
    }

    fn subscribe(&mut self, id: ConnectionId, filter: &str, qos: QoS) -> Vec<String> {
        let filter = Filter { filter: filter.to_owned(), qos, no_local: false, keep_retain: false };
        self.packet(id, Incoming::Subscribe { id: 9, filters: vec![filter] })
    }

    fn packet(&mut self, id: ConnectionId, packet: Incoming) -> Vec<String> {
        self.hub.handle_packet(self.now, id, packet);
        self.said()
    }

    fn publish(&mut self, id: ConnectionId, qos: QoS, packet: u16) -> Vec<String> {
        let publish = Publish { duplicate: false, id: packet, alias: None, message: message(qos) };
        self.packet(id, Incoming::Publish(Box::new(publish)))
    }

    fn end(&mut self, id: ConnectionId) -> Vec<String> {
        self.hub.handle_end(self.now, id);
        self.said()
    }

    fn wait(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.hub.handle_timeout(self.now);
        self.said()
    }

    /// One short line for each output.
    fn said(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.hub.poll_output()).map(|output| short(&output)).collect()
    }
}

fn short(output: &Output) -> String {
    match output {
        Output::Close(id) => format!("{}: close", id.0),
        Output::Bytes(id, bytes) => format!("{}: {bytes:02x?}", id.0),
        Output::Packet(id, _, packet) => {
            let text = match packet {
                Outgoing::ConnAck(connack) => {
                    format!("connack {:#x} {}", connack.code, connack.session_present)
                }
                Outgoing::Publish(delivery) => {
                    let again = if delivery.duplicate { " again" } else { "" };
                    format!("publish {}{again}", delivery.id)
                }
                other => format!("{other:?}").to_lowercase(),
            };
            format!("{}: {text}", id.0)
        }
    }
}

fn message(qos: QoS) -> Message {
    Message {
        topic: "t".into(),
        payload: Bytes::from_static(b"payload"),
        qos,
        retain: false,
        properties: Bytes::new(),
        expiry: None,
        expires: None,
    }
}

fn connect(client_id: &str, version: Version) -> Connect {
    Connect {
        version,
        client_id: client_id.to_owned(),
        clean_start: true,
        keep_alive: 60,
        will: None,
        session_expiry: 0,
        receive_maximum: None,
        maximum_packet: None,
    }
}

fn lasting(client_id: &str) -> Connect {
    Connect { clean_start: false, session_expiry: u32::MAX, ..connect(client_id, Version::V311) }
}

fn with_will(connect: Connect, delay: u32) -> Connect {
    let message = Arc::new(Message { topic: "will".into(), ..message(QoS::AtMostOnce) });
    Connect { will: Some(Box::new(Will { message, delay })), ..connect }
}

#[test]
fn a_second_connect_of_a_client_takes_over_the_first() {
    let cases = [
        (Takeover::Close, Version::V311, vec!["0: close", "1: connack 0x0 false"]),
        (
            Takeover::Disconnect,
            Version::V311,
            vec!["0: disconnect { code: 142 }", "0: close", "1: connack 0x0 false"],
        ),
        (
            Takeover::Disconnect,
            Version::V5,
            vec!["0: disconnect { code: 142 }", "0: close", "1: connack 0x0 false"],
        ),
        (Takeover::Ignore, Version::V5, vec!["1: connack 0x0 false"]),
    ];
    for (takeover, version, expected) in cases {
        let mut scene = Scene::new();
        let behaviour = Behaviour { takeover, ..Behaviour::default() };
        scene.connect(connect("c", version), behaviour.clone());
        let (_, said) = scene.connect(connect("c", version), behaviour);
        assert_eq!(said, expected, "{takeover:?}");
        assert_eq!(scene.hub.counters.takeovers, 1);
    }
}

#[test]
fn the_session_stays_for_a_client_that_wants_it() {
    let mut scene = Scene::new();
    let (id, said) = scene.connect(lasting("c"), Behaviour::default());
    assert_eq!(said, ["0: connack 0x0 false"]);
    scene.end(id);
    let (id, said) = scene.connect(lasting("c"), Behaviour::default());
    assert_eq!(said, ["1: connack 0x0 true"]);
    scene.end(id);
    let forgetful = Behaviour { lose_session: true, ..Behaviour::default() };
    assert_eq!(scene.connect(lasting("c"), forgetful).1, ["2: connack 0x0 false"]);
    let (id, said) = scene.connect(connect("c", Version::V311), Behaviour::default());
    assert_eq!(said, ["2: close", "3: connack 0x0 false"]);
    scene.end(id);
    assert_eq!(scene.hub.sessions(), []);
}

#[test]
fn a_session_of_mqtt_5_ends_when_its_time_is_over() {
    let mut scene = Scene::new();
    let wanted = || Connect { clean_start: false, session_expiry: 10, ..connect("c", Version::V5) };
    let (id, _) = scene.connect(wanted(), Behaviour::default());
    scene.end(id);
    scene.wait(9);
    let (id, said) = scene.connect(wanted(), Behaviour::default());
    assert_eq!(said, ["1: connack 0x0 true"]);
    scene.wait(100);
    assert_eq!(scene.hub.sessions().len(), 1, "not while it is connected");
    scene.end(id);
    scene.wait(10);
    assert_eq!(scene.hub.sessions(), []);
    assert_eq!(scene.hub.poll_timeout(), None);
}

#[test]
fn refusals_have_the_code_of_the_version_and_close() {
    let redirect = Answer::Redirect { server: "other".to_owned() };
    let cases = [
        (Answer::Busy, Version::V311, 3),
        (Answer::Busy, Version::V5, 0x89),
        (redirect.clone(), Version::V311, 3),
        (redirect, Version::V5, 0x9C),
        (Answer::Refuse { code: 0xFE }, Version::V5, 0xFE),
    ];
    for (connack, version, code) in cases {
        let mut scene = Scene::new();
        let behaviour = Behaviour { connack, ..Behaviour::default() };
        let (_, said) = scene.connect(connect("c", version), behaviour);
        assert_eq!(said, [format!("0: connack {code:#x} false"), "0: close".to_owned()]);
        assert_eq!(scene.hub.counters.connacks[&code], 1);
        assert_eq!(scene.hub.sessions(), []);
    }
}

#[test]
fn faults_stand_round_connack_in_order() {
    let mut scene = Scene::new();
    let faults = vec![
        Fault::Early(crate::testing::Stray::PubAck),
        Fault::Late(crate::testing::Stray::PingResp),
        Fault::Truncated,
    ];
    let behaviour = Behaviour { faults, ..Behaviour::default() };
    let (_, said) = scene.connect(connect("c", Version::V311), behaviour);
    assert_eq!(
        said,
        [
            "0: [40, 02, ff, dd]",
            "0: connack 0x0 false",
            "0: [d0, 00, 30, 14, 00, 09, 74, 72, 75]",
            "0: close",
        ]
    );
}

#[test]
fn messages_wait_for_a_client_up_to_the_limit_and_are_counted_beyond() {
    let mut scene = Scene::new();
    let listener = scene.listener("l", QoS::ExactlyOnce);
    scene.end(listener);
    let (sender, _) = scene.connect(connect("s", Version::V311), Behaviour::default());
    for packet in 1..=5 {
        scene.publish(sender, QoS::AtLeastOnce, packet);
    }
    scene.publish(sender, QoS::AtMostOnce, 0);
    assert_eq!(scene.hub.counters.dropped_full, 2);
    assert_eq!(scene.hub.counters.dropped_offline, 1);
    let (_, said) = scene.connect(lasting("l"), Behaviour::default());
    assert_eq!(said, ["2: connack 0x0 true", "2: publish 1", "2: publish 2", "2: publish 3"]);
}

#[test]
fn unfinished_deliveries_are_sent_again_with_their_ids() {
    let mut scene = Scene::new();
    let listener = scene.listener("l", QoS::ExactlyOnce);
    let (sender, _) = scene.connect(connect("s", Version::V311), Behaviour::default());
    assert_eq!(scene.publish(sender, QoS::AtLeastOnce, 1)[0], "0: publish 1");
    scene.publish(sender, QoS::ExactlyOnce, 2);
    scene.publish(sender, QoS::ExactlyOnce, 3);
    let said = scene.packet(listener, Incoming::PubRec { id: 3, code: 0 });
    assert_eq!(said, ["0: pubrel { id: 3, code: 0 }"]);
    scene.end(listener);
    let (listener, said) = scene.connect(lasting("l"), Behaviour::default());
    assert_eq!(
        said,
        [
            "2: connack 0x0 true",
            "2: publish 1 again",
            "2: publish 2 again",
            "2: pubrel { id: 3, code: 0 }",
        ]
    );
    assert_eq!(scene.hub.counters.redelivered, 2);
    scene.packet(listener, Incoming::PubAck { id: 1 });
    scene.packet(listener, Incoming::PubRec { id: 2, code: 0 });
    scene.packet(listener, Incoming::PubComp { id: 2 });
    scene.packet(listener, Incoming::PubComp { id: 3 });
    assert_eq!(scene.hub.sessions()[0].in_flight, 0);
}

#[test]
fn a_publish_with_qos_2_is_published_once_however_often_it_comes() {
    let mut scene = Scene::new();
    scene.listener("l", QoS::AtMostOnce);
    let (sender, _) = scene.connect(lasting("s"), Behaviour::default());
    assert_eq!(
        scene.publish(sender, QoS::ExactlyOnce, 7),
        ["0: publish 0", "1: pubrec { id: 7, code: 0 }"]
    );
    scene.end(sender);
    let (sender, _) = scene.connect(lasting("s"), Behaviour::default());
    assert_eq!(scene.publish(sender, QoS::ExactlyOnce, 7), ["2: pubrec { id: 7, code: 0 }"]);
    assert_eq!(scene.hub.counters.suppressed, 1);
    let said = scene.packet(sender, Incoming::PubRel { id: 7 });
    assert_eq!(said, ["2: pubcomp { id: 7, code: 0 }"]);
    let said = scene.packet(sender, Incoming::PubRel { id: 7 });
    assert_eq!(said, ["2: pubcomp { id: 7, code: 146 }"]);
    assert_eq!(scene.publish(sender, QoS::ExactlyOnce, 7).len(), 2);
    assert_eq!(scene.hub.take_record().len(), 2);
}

#[test]
fn every_nth_acknowledgement_is_withheld() {
    let mut scene = Scene::new();
    let behaviour = Behaviour { drop_acks: 2, ..Behaviour::default() };
    let (sender, _) = scene.connect(connect("s", Version::V311), behaviour);
    assert_eq!(scene.publish(sender, QoS::AtLeastOnce, 1).len(), 1);
    assert_eq!(scene.publish(sender, QoS::AtLeastOnce, 2).len(), 0);
    assert_eq!(scene.publish(sender, QoS::ExactlyOnce, 3).len(), 1);
    assert_eq!(scene.packet(sender, Incoming::PubRel { id: 3 }).len(), 0);
    assert_eq!(scene.hub.counters.acks_withheld, 2);
    assert_eq!(scene.hub.counters.most_unacknowledged, 2);
}

#[test]
fn more_publishes_than_the_receive_maximum_end_the_connection() {
    let announce = Announcement { receive_maximum: Some(2), ..Announcement::default() };
    let behaviour = Behaviour { announce, drop_acks: 1, ..Behaviour::default() };
    let mut scene = Scene::new();
    let (sender, _) = scene.connect(connect("s", Version::V5), behaviour);
    assert_eq!(scene.publish(sender, QoS::AtLeastOnce, 1).len(), 0);
    assert_eq!(scene.publish(sender, QoS::ExactlyOnce, 2).len(), 0);
    assert_eq!(scene.publish(sender, QoS::AtLeastOnce, 1).len(), 0, "once more is no more");
    assert_eq!(
        scene.publish(sender, QoS::AtLeastOnce, 3),
        ["0: disconnect { code: 147 }", "0: close"]
    );
}

#[test]
fn limits_of_the_announcement_are_enforced_in_mqtt_5() {
    let announce = Announcement {
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        topic_alias_maximum: Some(1),
        ..Announcement::default()
    };
    let publish = |alias, message| Publish { duplicate: false, id: 1, alias, message };
    let at = |topic: &str, qos| Message { topic: topic.into(), ..message(qos) };
    let cases = [
        (publish(None, at("t", QoS::ExactlyOnce)), Some(0x9B)),
        (publish(None, Message { retain: true, ..at("t", QoS::AtMostOnce) }), Some(0x9A)),
        (publish(Some(2), at("t", QoS::AtMostOnce)), Some(0x94)),
        (publish(Some(1), at("", QoS::AtMostOnce)), Some(0x82)),
        (publish(Some(1), at("t", QoS::AtMostOnce)), None),
    ];
    for (publish, code) in cases {
        let behaviour = Behaviour { announce: announce.clone(), ..Behaviour::default() };
        let mut scene = Scene::new();
        let (sender, _) = scene.connect(connect("s", Version::V5), behaviour);
        let said = scene.packet(sender, Incoming::Publish(Box::new(publish)));
        let expected = code
            .map(|code| vec![format!("0: disconnect {{ code: {code} }}"), "0: close".to_owned()]);
        assert_eq!(said, expected.unwrap_or_default());
    }
}

#[test]
fn an_alias_stands_for_its_topic() {
    let announce = Announcement { topic_alias_maximum: Some(1), ..Announcement::default() };
    let behaviour = Behaviour { announce, ..Behaviour::default() };
    let mut scene = Scene::new();
    let (sender, _) = scene.connect(connect("s", Version::V5), behaviour);
    for topic in ["first", "", "second", ""] {
        let message = Message { topic: topic.into(), ..message(QoS::AtMostOnce) };
        let publish = Publish { duplicate: false, id: 0, alias: Some(1), message };
        assert_eq!(scene.packet(sender, Incoming::Publish(Box::new(publish))), [""; 0]);
    }
    let topics: Vec<_> = scene.hub.take_record().into_iter().map(|one| one.topic).collect();
    assert_eq!(topics, ["first", "first", "second", "second"].map(Arc::from));
}

#[test]
fn a_will_is_published_when_the_connection_ends_without_disconnect() {
    let mut scene = Scene::new();
    scene.listener("l", QoS::AtMostOnce);
    let (id, _) = scene.connect(with_will(connect("c", Version::V311), 0), Behaviour::default());
    assert_eq!(scene.end(id), ["0: publish 0"]);
    let (id, _) = scene.connect(with_will(connect("c", Version::V311), 0), Behaviour::default());
    let goodbye = Incoming::Disconnect { code: 0, session_expiry: None };
    assert_eq!(scene.packet(id, goodbye), ["2: close"]);
    assert_eq!(scene.end(id), [""; 0]);
    let (id, _) = scene.connect(with_will(connect("c", Version::V5), 0), Behaviour::default());
    let with_it = Incoming::Disconnect { code: 4, session_expiry: None };
    assert_eq!(scene.packet(id, with_it), ["0: publish 0", "3: close"]);
    assert_eq!(scene.hub.counters.wills, 2);
}

#[test]
fn a_will_waits_for_its_delay_and_for_the_client() {
    let wanted = || {
        let connect =
            Connect { clean_start: false, session_expiry: 100, ..connect("c", Version::V5) };
        with_will(connect, 10)
    };
    let mut scene = Scene::new();
    scene.listener("l", QoS::AtMostOnce);
    let (id, _) = scene.connect(wanted(), Behaviour::default());
    assert_eq!(scene.end(id), [""; 0]);
    assert_eq!(scene.wait(9), [""; 0]);
    let (id, said) = scene.connect(wanted(), Behaviour::default());
    assert_eq!(said, ["2: connack 0x0 true"], "it came back in time");
    assert_eq!(scene.wait(50), [""; 0]);
    assert_eq!(scene.end(id), [""; 0]);
    assert_eq!(scene.wait(10), ["0: publish 0"]);
    assert_eq!(scene.wait(80), [""; 0]);
    assert_eq!(scene.hub.sessions().len(), 2);
    scene.wait(11);
    assert_eq!(scene.hub.sessions().len(), 1);
}

#[test]
fn a_will_does_not_outlive_its_session() {
    let short = Connect { session_expiry: 5, ..connect("c", Version::V5) };
    let mut scene = Scene::new();
    scene.listener("l", QoS::AtMostOnce);
    let (id, _) = scene.connect(with_will(short, 10), Behaviour::default());
    scene.end(id);
    assert_eq!(scene.wait(5), ["0: publish 0"]);
}

#[test]
fn a_message_out_of_date_or_too_large_is_counted_and_not_sent() {
    let mut scene = Scene::new();
    let small = Connect { maximum_packet: Some(10), ..lasting("l") };
    let (listener, _) =
        scene.connect(Connect { version: Version::V5, ..small }, Behaviour::default());
    scene.subscribe(listener, "#", QoS::AtLeastOnce);
    scene.hub.publish(scene.now, message(QoS::AtLeastOnce));
    assert_eq!(scene.said(), [""; 0]);
    scene.end(listener);
    scene.hub.publish(
        scene.now,
        Message { expires: Some(scene.now + Duration::from_secs(5)), ..message(QoS::AtLeastOnce) },
    );
    scene.wait(5);
    let (_, said) = scene.connect(lasting("l"), Behaviour::default());
    assert_eq!(said, ["1: connack 0x0 true"]);
    assert_eq!(scene.hub.counters.dropped_unfit, 2);
}

#[test]
fn a_window_is_kept() {
    let mut scene = Scene::new();
    let narrow = Connect { receive_maximum: Some(1), version: Version::V5, ..lasting("l") };
    let (listener, _) = scene.connect(narrow, Behaviour::default());
    scene.subscribe(listener, "t", QoS::AtLeastOnce);
    scene.hub.publish(scene.now, message(QoS::AtLeastOnce));
    scene.hub.publish(scene.now, message(QoS::AtLeastOnce));
    assert_eq!(scene.said(), ["0: publish 1"]);
    assert_eq!(scene.packet(listener, Incoming::PubAck { id: 1 }), ["0: publish 2"]);
}

#[test]
fn subscriptions_are_granted_refused_and_taken_back() {
    #[track_caller]
    fn check(version: Version, behaviour: Behaviour, filter: &str, code: u8) {
        let mut scene = Scene::new();
        let (id, _) = scene.connect(connect("c", version), behaviour);
        let said = scene.subscribe(id, filter, QoS::ExactlyOnce);
        assert_eq!(said, [format!("0: suback {{ id: 9, codes: [{code}] }}")]);
    }
    let correct = Behaviour::default;
    check(Version::V311, correct(), "a/+", 2);
    check(Version::V311, correct(), "a+", 0x80);
    check(Version::V5, correct(), "a+", 0x8F);
    check(Version::V5, correct(), "$share/g/a", 0x9E);
    check(Version::V5, correct(), &"/".repeat(60_000), 0x8F);
    let refusing = Behaviour { refuse_subscribe: Some(0x87), ..correct() };
    check(Version::V5, refusing, "a", 0x87);
    let announce = Announcement { maximum_qos: Some(QoS::AtMostOnce), ..Announcement::default() };
    check(Version::V5, Behaviour { announce, ..correct() }, "a", 0);

    let mut scene = Scene::new();
    let listener = scene.listener("l", QoS::AtMostOnce);
    let filters = vec!["#".to_owned(), "never".to_owned()];
    let said = scene.packet(listener, Incoming::Unsubscribe { id: 3, filters });
    assert_eq!(said, ["0: unsuback { id: 3, codes: [0, 17] }"]);
    scene.hub.publish(scene.now, message(QoS::AtMostOnce));
    assert_eq!(scene.said(), [""; 0]);
}

#[test]
fn a_client_without_a_name_is_given_one() {
    let mut scene = Scene::new();
    scene.connect(connect("", Version::V311), Behaviour::default());
    scene.connect(connect("", Version::V5), Behaviour::default());
    let names: Vec<_> = scene.hub.sessions().into_iter().map(|one| one.client_id).collect();
    assert_eq!(names, ["assigned-1", "assigned-2"].map(Arc::from));
    let (_, said) = scene.connect(lasting(""), Behaviour::default());
    assert_eq!(said, ["2: connack 0x2 false", "2: close"]);
}
