//! One fault a case: the cause that it has, and the other devices.

use super::{add, broker, builder, end_of, hostile, online};
use pool::testing::{Answer, Behaviour, Fault, Stray};
use pool::{State, Timeouts, Version};
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Runs one bad device beside a good one. The cause's text begins with `expected`.
async fn check(version: Version, behaviour: Behaviour, code: &str, expected: &str) {
    let broker = broker().await;
    let what = format!("{version:?}, {behaviour:?}");
    hostile(&broker, "bad", behaviour);
    let timeouts = Timeouts {
        connect: 700 * MILLISECOND,
        packet: Duration::from_secs(1),
        ..Timeouts::default()
    };
    let pool = builder(&broker, version)
        .timeouts(timeouts)
        .keep_alive(Duration::from_secs(1))
        .build()
        .expect("invariant: valid values");
    let mut events = pool.events();
    add(&pool, &["good"]);
    online(&mut events, "good").await;
    add(&pool, &["bad"]);
    let (cause, _) = end_of(&mut events, "bad").await;
    assert_eq!(cause.code(), code, "{cause}; {what}");
    let text = cause.to_string();
    assert!(text.starts_with(expected), "{text}; {what}");
    assert_eq!(pool.device("good").map(|it| it.state), Ok(State::Online), "{what}");
    assert_eq!(pool.device("good").map(|it| it.generation.number()), Ok(1), "{what}");
    // It comes back when the broker behaves.
    hostile(&broker, "bad", Behaviour::default());
    online(&mut events, "bad").await;
    assert_eq!(broker.counters().overlaps, 0, "{what}");
    pool.shutdown().await;
    broker.shutdown().await;
}

fn fault(fault: Fault) -> Behaviour {
    Behaviour { faults: vec![fault], ..Behaviour::default() }
}

#[tokio::test]
async fn what_breaks_the_protocol_costs_the_session_by_name() {
    let cases = [
        (Fault::Early(Stray::PubAck), "unexpected PUBACK"),
        (Fault::Early(Stray::PingResp), "unexpected PINGRESP"),
        (Fault::SecondConnAck, "unexpected CONNACK"),
        (Fault::Late(Stray::PubAck), "unexpected PUBACK"),
        (Fault::Late(Stray::PubComp), "unexpected PUBCOMP"),
        (Fault::Late(Stray::SubAck), "unexpected SUBACK"),
        (Fault::Late(Stray::UnsubAck), "unexpected UNSUBACK"),
        (Fault::Late(Stray::PingReq), "unexpected PINGREQ"),
        (Fault::Late(Stray::Connect), "unexpected CONNECT"),
        (Fault::Oversized { bytes: 300_000 }, "a packet of 300000 bytes"),
        (Fault::HugeLength, "a packet of 2684354"),
        (Fault::EndlessLength, "malformed "),
    ];
    for version in [Version::V311, Version::V5] {
        for (case, expected) in &cases {
            let expected = format!("the broker broke the protocol: {expected}");
            check(version, fault(case.clone()), "protocol", &expected).await;
        }
    }
}

#[tokio::test]
async fn garbage_never_does_more_than_end_the_session() {
    let broker = broker().await;
    // Some of it looks like the beginning of a packet.
    let timeouts = Timeouts { packet: Duration::from_secs(1), ..Timeouts::default() };
    let pool =
        builder(&broker, Version::V5).timeouts(timeouts).build().expect("invariant: valid values");
    let mut events = pool.events();
    add(&pool, &["good"]);
    online(&mut events, "good").await;
    for seed in 0..100 {
        let name = format!("bad-{seed}");
        hostile(&broker, &name, fault(Fault::Garbage { seed, bytes: 5_000 }));
        add(&pool, &[&name]);
        let (cause, _) = end_of(&mut events, &name).await;
        assert!(["protocol", "disconnected", "peer-closed"].contains(&cause.code()), "{cause}");
        pool.remove(&name).await.expect("it is there");
    }
    assert_eq!(pool.device("good").map(|it| it.generation.number()), Ok(1));
    pool.shutdown().await;
}

#[tokio::test]
async fn who_says_nothing_or_says_it_too_slowly_is_left_in_time() {
    let never = Behaviour { connack: Answer::Never, ..Behaviour::default() };
    let in_connack = "no session after 700ms, in the phase ConnAck";
    check(Version::V311, never, "connect-timeout", in_connack).await;
    let slow = Behaviour { connack_delay: 2_000 * MILLISECOND, ..Behaviour::default() };
    check(Version::V5, slow, "connect-timeout", in_connack).await;
    let drip = Behaviour { drip: Some(400 * MILLISECOND), ..Behaviour::default() };
    check(Version::V5, drip, "connect-timeout", in_connack).await;
    let silence = Behaviour { silence: true, ..Behaviour::default() };
    check(Version::V311, silence, "keep-alive", "the broker was silent for 1.5s").await;
    let half_open = Behaviour { half_open: true, ..Behaviour::default() };
    check(Version::V5, half_open, "keep-alive", "the broker was silent for 1.5s").await;
}

#[tokio::test]
async fn refusals_have_their_code_and_name() {
    let refuse = |code| Behaviour { connack: Answer::Refuse { code }, ..Behaviour::default() };
    let text = "the broker refused the connect: ";
    for (version, code) in [(Version::V311, 5), (Version::V5, 0x87), (Version::V5, 1)] {
        check(version, refuse(code), "connect-refused", text).await;
    }
    let busy = Behaviour { connack: Answer::Busy, ..Behaviour::default() };
    check(Version::V5, busy, "connect-refused", text).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_is_named_by_how() {
    let cut = Behaviour { close_after_connack: Some(20 * MILLISECOND), ..Behaviour::default() };
    check(Version::V311, cut, "peer-closed", "closed by the peer").await;
    let reset = Behaviour { reset_after_connack: Some(20 * MILLISECOND), ..Behaviour::default() };
    check(Version::V5, reset, "reset", "reset by the peer").await;
    check(Version::V5, fault(Fault::Truncated), "peer-closed", "closed by the peer").await;
}
