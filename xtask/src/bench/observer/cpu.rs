//! What a watched process pays: CPU per cycle of a loop of connections, with and without observers.

use super::{Setting, watch};
use crate::bench::child::Running;
use crate::bench::cycles::Cycles;
use crate::bench::figure::Figure;
use crate::bench::rival::{self, RIVALS};
use crate::bench::run_stats::RunStats;
use crate::bench::schedstat;
use crate::failure::Result;
use std::thread;
use std::time::Duration;

const USUAL_REPS: u32 = 7;
const BAR: f64 = 1.15;
/// About a second of work.
pub(super) const CYCLES: u32 = 20_000;
/// Fills the caches, and the pages of everyone involved.
pub(super) const WARM_UP: u32 = 1_000;
/// After this even the last record is read.
const DRAINED: Duration = Duration::from_millis(300);

/// Who watches the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watcher {
    Nobody,
    Sockwarden,
    /// Taking a call stack of every connect and accept.
    WithStacks,
    Rival(&'static str),
}

/// The base comes first; the ratios of the others are to it.
const WATCHERS: [Watcher; 2 + RIVALS.len()] =
    [Watcher::Nobody, Watcher::Sockwarden, Watcher::Rival(RIVALS[0]), Watcher::Rival(RIVALS[1])];

/// CPU per cycle, and what the watcher did not see.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    of_loop: Duration,
    of_watcher: Duration,
    /// In all, not per cycle.
    lost_events: u64,
}

/// The ratios of one watcher, one for each repetition.
#[derive(Default)]
struct Ratios {
    of_loop: Vec<f64>,
    of_both: Vec<f64>,
}

pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(USUAL_REPS);
    eprintln!("» CPU of {CYCLES} connections, watched by {}: {reps} repetitions.", WATCHERS.len());
    // Counting costs too, so it would be measured with the programs.
    let _uncounted = RunStats::set(false)?;
    cost(Watcher::Nobody, setting)?;

    let mut ratios: [Ratios; WATCHERS.len()] = Default::default();
    for rep in 0..reps as usize {
        let costs = repetition(rep, setting)?;
        let base = costs[0].of_loop.as_secs_f64();
        let shown = WATCHERS.iter().zip(&costs).map(|(watcher, cost)| {
            let lost = match cost.lost_events {
                0 => String::new(),
                lost => format!(" (lost {lost} events)"),
            };
            format!("{} {:.1} µs{lost}", watcher.name(), cost.of_loop.as_secs_f64() * 1e6)
        });
        eprintln!("  {}/{reps}: {}", rep + 1, shown.collect::<Vec<_>>().join(", "));
        for (ratios, cost) in ratios.iter_mut().zip(&costs) {
            ratios.of_loop.push(cost.of_loop.as_secs_f64() / base);
            ratios.of_both.push((cost.of_loop + cost.of_watcher).as_secs_f64() / base);
        }
    }
    let figure = |name, bar, samples: fn(&Ratios) -> &Vec<f64>| {
        let ours = Figure::new(name, "x", bar, samples(&ratios[1]).clone())?;
        let rivals = RIVALS.iter().zip(&ratios[2..]);
        Ok(rivals.fold(ours, |figure, (name, ratios)| figure.with_rival(name, samples(ratios))))
    };
    Ok(vec![
        figure("observer.cpu_ratio", Some(BAR), |ratios| &ratios.of_loop)?,
        figure("observer.cpu_ratio_with_observer", None, |ratios| &ratios.of_both)?,
    ])
}

/// The costs with every watcher, in the order of [`WATCHERS`]. Each repetition begins with another
/// one, so that what drifts on the host favours nobody.
fn repetition(rep: usize, setting: &Setting) -> Result<[Cost; WATCHERS.len()]> {
    let mut costs = [Cost::default(); WATCHERS.len()];
    for index in rotated(rep) {
        costs[index] = cost(WATCHERS[index], setting)?;
    }
    Ok(costs)
}

fn rotated(rep: usize) -> impl Iterator<Item = usize> {
    (0..WATCHERS.len()).map(move |step| (rep + step) % WATCHERS.len())
}

fn cost(watcher: Watcher, setting: &Setting) -> Result<Cost> {
    let mut cycles = Cycles::start()?;
    let running = watcher.attach(setting, cycles.pid())?;
    let used = || running.as_ref().map_or(Ok(Duration::ZERO), |it| schedstat::cpu_time(it.pid()));
    cycles.run(WARM_UP)?;
    thread::sleep(DRAINED);
    let before = used()?;
    let of_loop = cycles.run(CYCLES)?;
    thread::sleep(DRAINED);
    let of_watcher = used()?.saturating_sub(before);
    let mut lost_events = 0;
    if let Some(running) = running {
        lost_events = watcher.lost_events(&running);
        watcher.detach(running)?;
    }
    Ok(Cost { of_loop: of_loop / CYCLES, of_watcher: of_watcher / CYCLES, lost_events })
}

impl Watcher {
    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Sockwarden => "sockwarden",
            Self::WithStacks => "sockwarden --stacks",
            Self::Rival(name) => name,
        }
    }

    /// Returns when the watcher is attached.
    pub(super) fn attach(self, setting: &Setting, pid: u32) -> Result<Option<Running>> {
        match self {
            Self::Nobody => Ok(None),
            Self::Sockwarden | Self::WithStacks => {
                let pid = pid.to_string();
                let args = ["--pid", &pid, "--layers", "ab", "--stacks"];
                let args = if self == Self::WithStacks { &args[..] } else { &args[..4] };
                watch::start(&setting.binary, args).map(Some)
            }
            Self::Rival(name) => rival::attach(name).map(Some),
        }
    }

    fn lost_events(self, running: &Running) -> u64 {
        match self {
            Self::Nobody => 0,
            Self::Sockwarden | Self::WithStacks => watch::lost_records(running),
            Self::Rival(_) => rival::lost_events(running),
        }
    }

    /// Returns when nothing of the watcher is left.
    pub(super) fn detach(self, running: Running) -> Result {
        match self {
            Self::Sockwarden | Self::WithStacks => watch::stop(running).map(drop),
            Self::Nobody | Self::Rival(_) => running.interrupt().map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_repetition_has_every_watcher_and_begins_with_another_one() {
        assert_eq!(rotated(0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(rotated(6).collect::<Vec<_>>(), [2, 3, 0, 1]);
    }
}
