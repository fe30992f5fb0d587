//! How long the profiles take, and what the adaptive window does to brokers.

use super::broker::Broker;
use super::simulation::Storm;
use crate::policy::{Adaptive, Limits};
use std::time::Duration;

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);

/// A broker that answers after `latency`, whatever comes.
fn tireless(latency: Duration) -> Broker {
    Broker { round_trip: latency, service: |_| Duration::ZERO, ..Broker::default() }
}

#[track_caller]
fn check_profile(limits: Limits, devices: u32, latency: Duration, seconds: f64) {
    let mut storm = Storm::new(limits, devices, tireless(latency));
    let took = storm.run().as_secs_f64();
    assert!((took / seconds - 1.0).abs() < 0.02, "{took} s, expected {seconds} s");
    assert_eq!(storm.accepted, devices as usize);
}

/// The figures of the real Bottleneck 2.19.5: 192.4 s for 4,000 instant jobs, 593.7 s for the
/// first connects of 12,000 devices.
#[test]
fn article_takes_what_the_article_takes() {
    for latency in [Duration::ZERO, MS * 5] {
        check_profile(Limits::article(), 4_000, latency, 192.4);
    }
    check_profile(Limits::article(), 12_000, MS * 5, 593.7);
}

#[test]
fn article_dials_for_two_seconds_and_rests_for_eight() {
    let mut storm = Storm::new(Limits::article(), 4_000, tireless(MS * 5));
    storm.run();
    for (index, dial) in storm.dials.iter().enumerate() {
        let (window, place) = (index / 200, index % 200);
        assert_eq!(*dial, Duration::from_secs(10) * window as u32 + MS * 10 * place as u32);
    }
}

#[test]
fn paced_takes_what_the_article_promised() {
    for latency in [Duration::ZERO, MS * 5] {
        check_profile(Limits::paced(), 4_000, latency, 40.0);
    }
}

#[test]
fn a_fixed_window_is_held_until_connack() {
    // 80 places of half a second each are 160 a second.
    let limits = Limits { min_interval: Duration::ZERO, ..Limits::paced() };
    check_profile(limits, 4_000, MS * 500, 25.0);
}

/// How the adaptive profile connects 4,000 devices to a broker whose own best is `ideal`.
#[track_caller]
fn check(broker: Broker, ideal: Duration) -> Storm {
    let mut storm = Storm::new(Limits::adaptive(), 4_000, broker);
    let took = storm.run();
    assert_eq!(storm.accepted, 4_000);
    assert!(took < ideal.mul_f64(1.5), "{took:?}, ideal {ideal:?}");
    assert!(took >= ideal, "{took:?}, but {ideal:?} cannot be beaten");
    assert_eq!(storm.broker.overflows, 0, "the listen queue held at most 101");
    storm
}

#[test]
fn mosquitto_is_kept_busy_and_never_overflows() {
    let storm = check(Broker::default(), US * 55 * 4_000);
    assert_eq!(storm.admission.counts().halved, 0);
}

#[test]
fn a_slow_broker_has_a_short_queue() {
    let broker = Broker { service: |_| MS * 20, ..Broker::default() };
    let storm = check(broker, MS * 20 * 4_000);
    assert!(storm.broker.longest_queue <= 80, "{}", storm.broker.longest_queue);
}

#[test]
fn a_broker_that_becomes_ten_times_slower_is_not_overrun() {
    let service = |index| if index < 2_000 { US * 55 } else { US * 550 };
    let storm = check(Broker { service, ..Broker::default() }, US * 605 * 2_000);
    let largest = storm.windows.iter().max().expect("invariant: there are some");
    let least = storm.windows.iter().min().expect("invariant: there are some");
    assert!(least < largest, "{least} to {largest}");
}

#[test]
fn a_far_broker_gets_the_whole_window() {
    // 4,000 / 80 rounds of 20 ms.
    let storm = check(tireless(MS * 20), MS * 20 * 50);
    assert_eq!(storm.windows.last(), Some(&80));
}

#[test]
fn a_broker_that_bears_20_handshakes_refuses_few() {
    let broker = Broker { elsewhere: MS * 20, bears: 20, ..Broker::default() };
    let storm = check(broker, MS * 20 * 200);
    assert!(storm.broker.refusals < 80, "{} of 4,000", storm.broker.refusals);
}

#[test]
fn an_uneven_broker_is_no_reason_to_starve_it() {
    // From 5 to 500 us, in no order.
    let service = |index: usize| US * (5 + (index * 7_919 % 496) as u32);
    let ideal = (0..4_000).map(service).sum();
    check(Broker { service, ..Broker::default() }, ideal);
}

#[test]
fn a_broker_that_stands_still_for_a_while_is_taken_up_again() {
    let service = |index| if index == 2_000 { MS * 500 } else { US * 55 };
    check(Broker { service, ..Broker::default() }, US * 55 * 4_000 + MS * 500);
}

#[test]
fn a_backlog_smaller_than_the_window_halves_it_and_all_connect() {
    // Somebody set the window above the backlog of 10, so that SYNs are dropped.
    let mut storm =
        Storm::new(Limits::adaptive(), 4_000, Broker { backlog: 10, ..Broker::default() });
    let took = storm.run();
    let (overflows, halved) = (storm.broker.overflows, storm.admission.counts().halved);
    assert_eq!(storm.accepted, 4_000);
    assert!(overflows > 0 && halved > 0, "{overflows} overflows, {halved} halvings");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn after_congestion_the_window_opens_again() {
    let limits =
        Limits { adaptive: Some(Adaptive { initial: 1, tolerance: 2.0 }), ..Limits::adaptive() };
    let mut storm = Storm::new(limits, 4_000, tireless(MS * 20));
    while storm.accepted < 1_000 {
        storm.step();
    }
    assert_eq!(storm.admission.window(), 80);
    storm.admission.congestion_hint(storm.origin + storm.now);
    assert_eq!(storm.admission.window(), 40);
    storm.run();
    assert!(storm.admission.window() > 70, "{}", storm.admission.window());
}

#[test]
fn a_storm_of_50_000_ends_in_seconds() {
    // No bound in wall time, which would be flaky: with a queue of O(n) nobody would wait for it.
    let mut storm = Storm::new(Limits::adaptive(), 50_000, tireless(MS));
    storm.run();
    assert_eq!(storm.accepted, 50_000);
}
