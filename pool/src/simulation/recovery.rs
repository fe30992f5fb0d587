//! How long the whole fleet of the incident needs, in virtual time: 4,000 devices, kicked by the
//! broker all at once.

use super::broker::Farewell;
use super::plan::Plan;
use super::world::World;
use crate::fleet::Input;
use crate::policy::Limits;
use std::time::Duration;

const DEVICES: usize = 4_000;

/// From the kick to the last CONNACK.
#[track_caller]
fn check(profile: &'static str, lag: Duration, expected: Duration) {
    // They came up in another way, a while ago; the limits of interest count from the kick.
    let plan = Plan { lag, ..Plan::calm(1, DEVICES, "adaptive") };
    let mut world = World::new(plan);
    world.bring_up();
    world.run_until(world.wire.now + Duration::from_secs(30));
    let limits = Limits::named(profile).expect("invariant: listed");
    world.tell(Input::SetLimits(limits));
    let start = world.wire.now;
    let kicked = world.broker.kick(&mut world.wire, 1.0, Farewell::Fin);
    assert_eq!(kicked, DEVICES);
    world.run_until(start + Duration::from_secs(1));
    world.wait_until_online();
    assert_eq!(world.report(), None);
    let last = world.watch.last_online.expect("invariant: all are online");
    let took = last.saturating_duration_since(start);
    let ratio = took.as_secs_f64() / expected.as_secs_f64();
    assert!((0.98..=1.02).contains(&ratio), "{profile} takes {took:?} and not {expected:?}");
    assert_eq!(world.tally().dials, 2 * DEVICES, "nobody had to try twice");
    assert_eq!(world.broker.overflows, 0);
    assert_eq!(world.fleet.late_events(), 0);
    world.tear_down();
    assert_eq!(world.report(), None);
}

#[test]
fn the_articles_limits_need_192_seconds_for_4_000_devices() {
    check("article", Duration::ZERO, Duration::from_secs(192));
}

#[test]
fn the_default_needs_40_seconds_for_4_000_devices() {
    check("paced", Duration::ZERO, Duration::from_secs(40));
}

#[test]
fn timers_that_are_late_cost_nothing() {
    check("paced", Duration::from_millis(1), Duration::from_secs(40));
}
