//! One rule a test.

use super::world::World;
use crate::error::{Cause, Detail};
use crate::fleet::{AllowList, Input, Notice, Rules, SlotKey, State};
use crate::policy::{BackoffPolicy, Limits, TakeoverPolicy};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// One device, and it is online.
fn one_online() -> World {
    let mut world = World::new(Limits::adaptive());
    world.add(1);
    world.come_online(0);
    assert_eq!(world.online(), 1);
    world.advance(60 * SECOND);
    world
}

#[test]
fn a_replacement_waits_for_the_end_and_the_receipt_of_the_old_socket() {
    let mut world = one_online();
    world.reconnect(0);
    let old = world.live[&SlotKey(0)];
    assert!(world.told_to_stop.contains(&(SlotKey(0), old)));
    world.advance(10 * SECOND);
    assert_eq!(world.live.get(&SlotKey(0)), Some(&old), "still not closed, so nothing is dialled");
    world.end(0, Cause::Replaced);
    assert_eq!(world.live.len(), 0, "closed, but the kernel has not said so");
    world.receipts();
    assert_eq!(world.live[&SlotKey(0)], old.next());
}

#[test]
fn without_a_receipt_it_goes_on_after_the_timeout_and_says_so() {
    let mut world = one_online();
    world.reconnect(0);
    world.end(0, Cause::Replaced);
    world.advance(SECOND);
    assert!(world.notices.contains(&(SlotKey(0), Notice::Unreleased)));
    assert_eq!(world.live.len(), 1);
}

#[test]
fn a_live_session_is_kept_until_it_is_its_turn() {
    let mut world = World::new(Limits::paced());
    world.add(10);
    world.settle(2 * SECOND);
    assert_eq!(world.online(), 10);
    world.advance(60 * SECOND);
    (0..10).for_each(|key| world.reconnect(key));
    assert_eq!(world.online(), 9, "one is on its way, nine are still up");
}

#[test]
fn a_device_that_was_kicked_comes_back_at_once_and_by_itself() {
    let mut world = one_online();
    for kick in 1..=3 {
        world.end(0, Cause::PeerClosed);
        world.receipts();
        assert_eq!(world.live.len(), 1, "kick {kick}");
        world.come_online(0);
        world.advance(60 * SECOND);
    }
}

#[test]
fn failures_back_off_and_never_end() {
    let mut world = World::new(Limits::adaptive());
    world.add(1);
    let start = world.now;
    for _ in 0..20 {
        world.end(0, Cause::Refused);
        world.receipts();
        assert_eq!(world.live.len(), 0);
        world.advance(121 * SECOND);
        assert_eq!(world.live.len(), 1, "tries again within the longest backoff");
    }
    assert!(world.now > start + 60 * SECOND);
    world.come_online(0);
    assert_eq!(world.online(), 1);
}

#[test]
fn two_connects_of_one_client_id_are_a_second_apart() {
    let mut world = World::new(Limits::adaptive());
    world.add(1);
    world.come_online(0);
    world.end(0, Cause::PeerClosed);
    world.receipts();
    assert_eq!(world.live.len(), 0);
    world.advance(Duration::from_millis(999));
    assert_eq!(world.live.len(), 0);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.live.len(), 1);
}

#[test]
fn a_rival_for_the_client_id_is_not_fought() {
    let mut world = World::new(Limits::adaptive());
    world.add(1);
    let mut connects = 0;
    for _ in 0..3_600 {
        if world.live.contains_key(&SlotKey(0)) {
            connects += 1;
            world.come_online(0);
            world.end(0, Cause::TakenOver);
            world.receipts();
        }
        world.advance(SECOND);
    }
    // Three, then after 1, 2, 4, 8 and 15 minutes, and 15 again.
    assert!((6..=10).contains(&connects), "{connects} connects in an hour");
    assert_eq!(world.fleet.census()[State::Quarantined as usize], 1);
    world.reconnect(0);
    world.come_online(0);
    assert_eq!(world.online(), 1, "a call ends the quarantine");
}

#[test]
fn a_removed_device_leaves_when_its_socket_is_gone() {
    let mut world = one_online();
    world.remove(0);
    assert!(world.gone.is_empty());
    world.end(0, Cause::Removed);
    assert!(world.gone.is_empty());
    world.receipts();
    assert!(world.gone.contains(&SlotKey(0)));
    assert_eq!(world.fleet.census().iter().sum::<usize>(), 0);
    assert_eq!(world.fleet.admission().in_flight(), 0);
}

#[test]
fn a_removal_at_any_stage_frees_its_place() {
    let stages: [fn(&mut World); 5] = [
        |_| {},
        |world| world.come_online(0),
        |world| {
            world.come_online(0);
            world.advance(2 * SECOND);
            world.reconnect(0);
        },
        |world| {
            world.come_online(0);
            world.advance(2 * SECOND);
            world.reconnect(0);
            world.end(0, Cause::Replaced);
        },
        |world| {
            world.end(0, Cause::Refused);
            world.receipts();
        },
    ];
    for (index, stage) in stages.into_iter().enumerate() {
        let mut world = World::new(Limits::adaptive());
        world.add(1);
        stage(&mut world);
        world.remove(0);
        world.end(0, Cause::Removed);
        world.receipts();
        assert!(world.gone.contains(&SlotKey(0)), "stage {index}");
        assert_eq!(world.fleet.admission().in_flight(), 0, "stage {index}");
        assert_eq!(world.fleet.admission().queued(), 0, "stage {index}");
    }
}

#[test]
fn a_deadline_ends_the_request_and_not_the_device() {
    let mut world = World::new(Limits { max_in_flight: 1, ..Limits::paced() });
    world.add(2);
    let deadline = Some(world.now + SECOND);
    world.tell(Input::Reconnect { key: SlotKey(1), priority: None, deadline });
    world.advance(2 * SECOND);
    assert!(world.notices.contains(&(SlotKey(1), Notice::DeadlinePassed)));
    world.come_online(0);
    world.advance(SECOND);
    world.come_online(1);
    assert_eq!(world.online(), 2);
}

#[test]
fn a_redirect_is_followed_under_the_allow_list_and_forgotten_after_an_end() {
    let rules = Rules {
        backoff: BackoffPolicy::default(),
        takeover: TakeoverPolicy::default(),
        receipt_timeout: SECOND,
        redirects: AllowList::new(vec!["b.example.com".to_owned()]),
    };
    let mut world = World::with_rules(rules, Limits::adaptive());
    world.add(1);
    let detail = |server: &str| {
        let server_reference = Some(server.to_owned());
        Some(Box::new(Detail { reason_string: None, server_reference }))
    };
    let refused = |server| Cause::ConnectRefused {
        code: 0x9C,
        reason: "use another server",
        detail: detail(server),
    };
    world.end(0, refused("b.example.com"));
    world.receipts();
    assert!(world.notices.iter().any(|it| matches!(it.1, Notice::Redirected { .. })));
    world.advance(SECOND);
    world.end(0, refused("evil.example.com"));
    assert!(world.notices.iter().any(|it| matches!(it.1, Notice::RedirectRefused { .. })));
}

#[test]
fn the_descriptors_budget_refuses_before_the_system_does() {
    let mut world = World::new(Limits::adaptive());
    world.fleet.descriptors().observe_others(19_999);
    world.add(1);
    assert_eq!(world.live.len(), 0);
    let refused = |notice: &Notice| {
        matches!(notice, Notice::Ended { cause: Cause::Operator(_), lived: None })
    };
    assert!(world.notices.iter().any(|it| refused(&it.1)));
    world.fleet.descriptors().observe_others(10);
    world.advance(130 * SECOND);
    assert_eq!(world.live.len(), 1, "and tries again");
}
