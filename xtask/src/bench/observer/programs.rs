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
/// Below this the mean is chance: the programs of processes and of snapshots, in this loop.
const LEAST_RUNS: u64 = 1_000;

/// Nanoseconds per run of each program.
type Means = BTreeMap<String, f64>;

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» Time of each program in the kernel: {reps} repetitions.");
    let _counted = RunStats::set(true)?;
    let mut ours = BTreeMap::<String, Vec<f64>>::new();
    let mut rivals = BTreeMap::<&str, Vec<f64>>::new();
    for rep in 1..=reps {
        for (name, mean) in means(Watcher::Sockwarden, setting)? {
            ours.entry(name).or_default().push(mean);
        }
        for name in RIVALS {
            let all = means(Watcher::Rival(name), setting)?;
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
    ours.into_iter().map(figure).collect()
}

/// The programs of the watcher that the loop ran, and what each run took.
fn means(watcher: Watcher, setting: &Setting) -> Result<Means> {
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
    let often = during.filter(|(_, counter)| counter.run_cnt >= LEAST_RUNS);
    Ok(often.filter_map(|(name, counter)| Some((name, counter.ns_per_run()?))).collect())
}
