//! The whole pool in virtual time: the real fleet, one real session for each live socket and the
//! real codec, between a model of a broker, of the network, of the two kernels and of the drivers.
//!
//! ```text
//! callers ─▶ runner ─▶ fleet              broker ◀─▶ ledger
//!              │ ▲        (real)             ▲
//!              ▼ │                           │
//!            driver ─▶ session ─▶ codec ─▶ wire
//!                      (real)     (real)
//! ```
//!
//! One seed says everything that happens in a storm. A rule that is broken ends it with the seed,
//! what the storm was made of and the last things that happened:
//! `POOL_SIMULATION_SEED=<seed> cargo test -p sockwarden-pool --lib simulation::a_thousand_storms`
//! plays it again. With `POOL_SIMULATION_STORMS` too, so many are played from that seed on.

mod agenda;
mod broker;
mod driver;
mod ledger;
mod plan;
mod recovery;
mod runner;
mod sabotage;
mod trace;
mod trouble;
mod watch;
mod wire;
mod world;

use plan::Plan;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use watch::Tally;
use world::World;

/// The seed of the first of the thousand.
const FIRST: u64 = 0x5eed_0000;

/// How many cores the development machines have.
const THREADS: usize = 2;

/// Plays one storm; the report of what went wrong, a panic of the code under test included.
fn play(mut world: World) -> Result<World, String> {
    let played = catch_unwind(AssertUnwindSafe(|| world.play()));
    if let Err(panic) = played {
        world.wire.complain(None, format!("a panic: {}", message(&*panic)));
    }
    match world.report() {
        None => Ok(world),
        Some(report) => Err(report),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied()).unwrap_or("without a message")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("invariant: nobody panics while it is locked")
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("POOL_SIMULATION_SEED and POOL_SIMULATION_STORMS are numbers"))
}

#[test]
fn a_thousand_storms() {
    let seed = number("POOL_SIMULATION_SEED");
    let storms = number("POOL_SIMULATION_STORMS").unwrap_or(if seed.is_some() { 1 } else { 1_000 });
    let first = seed.unwrap_or(FIRST);
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= storms {
                        return;
                    }
                    let seed = first.wrapping_add(index);
                    match play(World::new(Plan::draw(seed))) {
                        Ok(world) => lock(&tally).add(&world.tally()),
                        Err(report) => lock(&failures).push((seed, report)),
                    }
                }
            });
        }
    });
    let mut failures = std::mem::take(&mut *lock(&failures));
    failures.sort();
    if let Some((_, report)) = failures.first() {
        let lines = failures.iter().map(|(seed, report)| {
            format!("{seed}: {}\n", report.lines().next().unwrap_or_default())
        });
        let all: String = lines.collect();
        panic!("{} of {storms} storms broke a rule\n{all}\nthe first:\n{report}", failures.len());
    }
    if storms >= 1_000 {
        check_tally(&lock(&tally));
    }
}

/// All that can go wrong did go wrong somewhere.
#[track_caller]
fn check_tally(tally: &Tally) {
    let ends = [
        "replaced",
        "removed",
        "shutdown",
        "operator",
        "resolve",
        "refused",
        "connect-timeout",
        "reset",
        "tcp-timeout",
        "peer-closed",
        "connect-refused",
        "disconnected",
        "taken-over",
        "keep-alive",
    ];
    for code in ends {
        assert!(tally.ends.contains_key(code), "no session ended by {code}: {tally:?}");
    }
    let Tally { unreleased, quarantines, deadlines, late_events, .. } = *tally;
    assert!(unreleased > 0 && quarantines > 0 && deadlines > 0 && late_events > 0, "{tally:?}");
}

#[test]
fn a_seed_says_everything_that_happens() {
    for seed in 0..10 {
        let outcome = || {
            let world = play(World::new(Plan::draw(seed)));
            world.map(|world| (world.tally(), world.trace.show(world.wire.start, None)))
        };
        assert_eq!(outcome(), outcome(), "seed {seed}");
    }
}
