//! The simulation is blind to no bug that matters: each rule is broken on purpose, and seen.

use super::plan::Plan;
use super::play;
use super::trouble::{Kind, Trouble};
use super::world::{Sabotage, World};
use crate::policy::TakeoverPolicy;
use std::time::Duration;

/// How many storms it may take.
const TRIES: u64 = 20;

fn storm(seed: u64, kinds: &[Kind]) -> Plan {
    let mut plan = Plan::draw(seed);
    plan.keep_alive = Duration::from_secs(60);
    plan.takeover = TakeoverPolicy { max_quarantine: Duration::from_secs(60), ..plan.takeover };
    plan.takeover.quarantine = Duration::from_secs(5);
    plan.messages = plan.messages.max(4);
    plan.blocked = 0.3;
    (plan.newcomers, plan.troubles) = (0, Vec::new());
    let (begin, lasts) = (Duration::from_secs(2), Duration::from_secs(20));
    for kind in kinds {
        plan.troubles.push(Trouble { kind: *kind, begin, lasts, share: 0.5 });
    }
    plan
}

/// Within some storms of these kinds, it is seen, and said in these words.
#[track_caller]
fn check(sabotage: Sabotage, kinds: &[Kind], expected: &[&str]) {
    let mut said = Vec::new();
    for seed in 0..TRIES {
        let mut world = World::new(storm(seed, kinds));
        world.sabotage = Some(sabotage);
        if let Err(report) = play(world) {
            let complaint = report.lines().next().unwrap_or_default().to_owned();
            if expected.iter().any(|words| complaint.contains(words)) {
                return;
            }
            said.push(complaint);
        }
    }
    panic!("{sabotage:?} was not seen in {TRIES} storms; {said:#?}");
}

#[test]
fn a_healthy_pool_gets_through_the_same_storms() {
    let kinds = [Kind::Kick, Kind::ReconnectAll, Kind::Held, Kind::LateEvents, Kind::Loss];
    for seed in 0..TRIES {
        let world = World::new(storm(seed, &kinds));
        assert_eq!(play(world).err(), None);
    }
}

#[test]
fn a_dial_without_a_receipt_is_seen() {
    check(Sabotage::AssumesReceipts, &[Kind::Held], &["is not released"]);
}

#[test]
fn a_late_event_that_counts_for_the_present_session_is_seen() {
    let kinds = [Kind::Kick, Kind::ReconnectAll, Kind::LateEvents];
    check(Sabotage::TakesLateForCurrent, &kinds, &["two sockets", "before"]);
}

#[test]
fn a_session_that_takes_nothing_over_is_seen() {
    let expected = ["dropped without an answer", "doubled"];
    check(Sabotage::LosesCarried, &[Kind::Kick, Kind::Loss], &expected);
}

#[test]
fn a_message_that_is_acknowledged_and_dropped_is_seen() {
    check(Sabotage::DropsMessages, &[Kind::Kick], &["messages not delivered"]);
}

#[test]
fn a_driver_that_does_not_stop_is_seen() {
    check(Sabotage::IgnoresStop, &[Kind::ReconnectAll], &["the end of the storm does not come"]);
}

#[test]
fn a_claim_that_stays_is_seen() {
    check(Sabotage::KeepsClaims, &[Kind::Kick], &["the end of all does not come"]);
}
