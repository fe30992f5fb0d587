//! The registry of the article, "fixed" version: a map from device to client, whose handlers do
//! not ask which client they belong to. It leaks a second time, and so we know what to test for.

use super::world::World;
use crate::error::Cause;
use crate::fleet::{Input, SlotKey};
use crate::policy::Limits;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// `const clients = new Map()`, and the sockets that live.
#[derive(Default)]
struct Naive {
    clients: HashMap<u32, u32>,
    live: HashSet<(u32, u32)>,
    next: u32,
}

impl Naive {
    /// `existing.end(true); clients.delete(id); clients.set(id, connect())`.
    fn reconnect(&mut self, device: u32) {
        if let Some(existing) = self.clients.remove(&device) {
            self.live.remove(&(device, existing));
        }
        self.next += 1;
        self.clients.insert(device, self.next);
        self.live.insert((device, self.next));
    }

    /// `client.on('error', () => { client.end(true); clients.delete(id); })`: the entry may be
    /// another client's by now.
    fn error(&mut self, device: u32, client: u32) {
        self.live.remove(&(device, client));
        self.clients.remove(&device);
    }

    fn most_sockets_of_one_device(&self) -> usize {
        let mut counts = HashMap::new();
        for (device, _) in &self.live {
            *counts.entry(device).or_insert(0) += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reconnect(u32),
    /// An error of one of the device's clients, however old.
    Error {
        device: u32,
        age: u32,
    },
    Online(u32),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let device = 0..3_u32;
    let step = prop_oneof![
        device.clone().prop_map(Step::Reconnect),
        (device.clone(), 0..3_u32).prop_map(|(device, age)| Step::Error { device, age }),
        device.prop_map(Step::Online),
        (0..3_000_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

/// Plays the steps; says how many sockets a device had at most with the naive map. The world
/// itself fails when the fleet makes a second one.
fn play(steps: &[Step]) -> usize {
    let mut naive = Naive::default();
    let mut world = World::new(Limits::adaptive());
    world.add(3);
    (0..3).for_each(|device| naive.reconnect(device));
    let mut most = 0;
    for step in steps {
        match *step {
            Step::Reconnect(device) => {
                naive.reconnect(device);
                world.reconnect(device);
            }
            Step::Error { device, age } => {
                naive.error(device, naive.next.saturating_sub(age));
                let key = SlotKey(device);
                let Some(current) = world.live.get(&key).copied() else { continue };
                // Every generation that ever was may still say something.
                let mut late = crate::Generation::default();
                for _ in age..current.number().saturating_sub(1) {
                    late = late.next();
                }
                if late == current {
                    world.end(device, Cause::Reset);
                } else {
                    let cause = Cause::Reset;
                    world.tell(Input::Ended { key, generation: late, cause, had_socket: true });
                    world.tell(Input::Receipt { key, generation: late });
                    let latency = Duration::ZERO;
                    world.tell(Input::Online { key, generation: late, latency });
                }
            }
            Step::Online(device) => world.come_online(device),
            Step::Pass(milliseconds) => {
                world.told_to_stop.clone().into_iter().for_each(|(key, _)| {
                    world.end(key.0, Cause::Replaced);
                });
                world.receipts();
                world.advance(Duration::from_millis(milliseconds));
            }
        }
        most = most.max(naive.most_sockets_of_one_device());
    }
    world.settle(Duration::from_secs(130));
    assert_eq!(world.online(), 3, "every device finds its way back");
    most
}

#[test]
fn the_late_error_of_an_old_client_leaks_in_the_article_and_not_here() {
    let steps = [
        Step::Online(0),
        Step::Pass(2_000),
        Step::Reconnect(0),
        // The old client is client 1 of the map; the article's handler deletes client 4's entry.
        Step::Error { device: 0, age: 3 },
        Step::Reconnect(0),
    ];
    assert_eq!(play(&steps), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_order_of_late_events_makes_a_second_socket(steps in steps()) {
        play(&steps);
    }
}
