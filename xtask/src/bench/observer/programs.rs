//! What each program of ours in the kernel costs, by the kernel's own count.

use super::Setting;
use super::cpu::{CYCLES, WARM_UP, Watcher};
use crate::bench::bpf;
use crate::bench::cycles::Cycles;
use crate::bench::figure::Figure;
use crate::bench::rival::{self, RIVALS};
use crate::bench::run_stats::RunStats;
use crate::failure::{Failure, Result};
use std::collections::BTreeMap;

const USUAL_REPS: u32 = 3;
/// Our program on the hook that the rivals have too.
const SET_STATE: &str = "state";
/// Programs that take a call stack once a cycle, and what the figure of each is called.
const TAKERS: [(&str, &str); 2] =
    [(SET_STATE, "observer.stacks_ns_per_connect"), ("accept", "observer.stacks_ns_per_accept")];
/// Below this the mean is chance: the programs of processes and of snapshots, in this loop.
const LEAST_RUNS: u64 = 1_000;

/// Nanoseconds per run of each program.
type Means = BTreeMap<String, f64>;

/// Runs and time of each program.
type Counters = BTreeMap<String, bpf::Counter>;

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» Time of each program in the kernel: {reps} repetitions.");
    let _counted = RunStats::set(true)?;
    let mut ours = BTreeMap::<String, Vec<f64>>::new();
    let mut rivals = BTreeMap::<&str, Vec<f64>>::new();
    let mut stacks = BTreeMap::<&str, Vec<f64>>::new();
    for rep in 1..=reps {
        let without = counters(Watcher::Sockwarden, setting)?;
        let with = counters(Watcher::WithStacks, setting)?;
        for (program, figure) in TAKERS {
            let time = |all: &Counters| all.get(program).map(|it| it.run_time_ns as f64);
            if let (Some(with), Some(without)) = (time(&with), time(&without)) {
                stacks.entry(figure).or_default().push((with - without) / f64::from(CYCLES));
            }
        }
        for (name, mean) in means(without) {
            ours.entry(name).or_default().push(mean);
        }
        for name in RIVALS {
            let all = means(counters(Watcher::Rival(name), setting)?);
            let same_hook = all.into_iter().filter(|(program, _)| program.contains(rival::PROGRAM));
            rivals.entry(name).or_default().extend(same_hook.map(|(_, mean)| mean));
        }
        eprintln!("  {rep}/{reps}");
    }
    if !ours.contains_key(SET_STATE) {
        let ran: Vec<&str> = ours.keys().map(String::as_str).collect();
        let what = format!("the program `{SET_STATE}` did not run, but [{}]", ran.join(", "));
        return Err(Failure::new(what, "if it has another name now, correct SET_STATE in xtask"));
    }
    let figure = |(name, samples): (String, Vec<f64>)| {
        if name != SET_STATE {
            return Figure::new(format!("observer.ns_per_{name}"), "ns", None, samples);
        }
        let ours = Figure::new("observer.ns_per_set_state", "ns", None, samples)?;
        Ok(rivals.iter().fold(ours, |figure, (name, means)| figure.with_rival(name, means)))
    };
    let stacks = stacks.into_iter().map(|(name, samples)| Figure::new(name, "ns", None, samples));
    ours.into_iter().map(figure).chain(stacks).collect()
}

/// What the programs of the watcher took while the loop ran.
fn counters(watcher: Watcher, setting: &Setting) -> Result<Counters> {
    let mut cycles = Cycles::start()?;
    let running = watcher.attach(setting, cycles.pid())?;
    let running = running.expect("invariant: only nobody has no process");
    cycles.run(WARM_UP)?;
    let before = bpf::counters_of(running.pid())?;
    cycles.run(CYCLES)?;
    let after = bpf::counters_of(running.pid())?;
    watcher.detach(running)?;
    let during = after.into_iter().map(|(name, counter)| {
        let before = before.get(&name).copied().unwrap_or_default();
        (name, counter.since(before))
    });
    Ok(during.collect())
}

/// What a run of each took, of those that the loop ran.
fn means(counters: Counters) -> Means {
    let often = counters.into_iter().filter(|(_, counter)| counter.run_cnt >= LEAST_RUNS);
    often.filter_map(|(name, counter)| Some((name, counter.ns_per_run()?))).collect()
}
