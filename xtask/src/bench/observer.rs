//! `cargo xtask bench observer`: what the observer costs those it watches, and how late it is.

mod cpu;
mod idle;
mod latency;
mod programs;
mod snapshot;
mod stop;
mod watch;

use super::figure::{self, Figure};
use super::host;
use crate::failure::{Failure, Result};
use crate::paths;
use clap::ValueEnum;
use std::path::PathBuf;

/// The price of the observer: CPU, delays, and the same for tcplife and tcpstates.
#[derive(clap::Args)]
pub(super) struct Args {
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Runs of each figure; 3 to 7 without this, as the figure needs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    reps: Option<u32>,
    /// Exit with 1 when a figure is over its bar.
    #[arg(long)]
    check: bool,
    /// Only these measurements; may be given several times.
    #[arg(long, value_name = "MEASUREMENT")]
    only: Vec<Measurement>,
    /// The binary to measure, in place of the release binary in the target directory.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// What is measured together, in the order in which it runs: what needs an empty host comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// The observer's CPU on a host where nothing happens.
    Idle,
    /// From Ctrl-C to its end.
    Stop,
    /// From the end of a budget to the finding.
    Latency,
    /// The price of looking at 5,000 descriptors.
    Snapshot,
    /// What a watched loop of connections pays.
    Cpu,
    /// Nanoseconds of each program in the kernel.
    Programs,
}

/// What every measurement is told.
struct Setting {
    binary: PathBuf,
    reps: Option<u32>,
}

impl Setting {
    /// How many runs: what the caller said, or what the figure needs.
    fn reps(&self, usual: u32) -> u32 {
        self.reps.unwrap_or(usual)
    }
}

pub(super) fn run(args: &Args) -> Result {
    let setting = Setting {
        binary: args.binary.clone().unwrap_or_else(paths::release_binary),
        reps: args.reps,
    };
    if !setting.binary.exists() {
        let what = format!("there is no {}", setting.binary.display());
        return Err(Failure::new(what, "run `cargo xtask build`, or name it with --binary"));
    }
    host::warn_if_busy();

    let mut figures = Vec::new();
    let mut failed = Vec::new();
    for measurement in Measurement::value_variants() {
        if !args.only.is_empty() && !args.only.contains(measurement) {
            continue;
        }
        match measurement.take(&setting) {
            Ok(taken) => {
                if args.json {
                    taken.iter().for_each(|figure| println!("{}", figure.json()));
                }
                figures.extend(taken);
            }
            // The others are still worth having.
            Err(failure) => {
                eprintln!("{failure}");
                failed.push(measurement.name());
            }
        }
    }
    if !args.json && !figures.is_empty() {
        figure::print(&figures);
    }
    verdict(&failed, &figures, args.check)
}

/// A figure that is missing is always a failure; one over its bar only if asked for.
fn verdict(failed: &[String], figures: &[Figure], check: bool) -> Result {
    if !failed.is_empty() {
        let what = format!("could not be measured: {}", failed.join(", "));
        return Err(Failure::new(what, "look for `xtask:` above: each says what to do"));
    }
    let over: Vec<&str> =
        figures.iter().filter(|figure| figure.is_over()).map(Figure::name).collect();
    if check && !over.is_empty() {
        let what = format!("over the bar: {}", over.join(", "));
        return Err(Failure::new(what, "run it again on a quiet host, then look for what changed"));
    }
    Ok(())
}

impl Measurement {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn take(self, setting: &Setting) -> Result<Vec<Figure>> {
        match self {
            Self::Idle => idle::measure(setting),
            Self::Stop => stop::measure(setting),
            Self::Latency => latency::measure(setting),
            Self::Snapshot => snapshot::measure(setting),
            Self::Cpu => cpu::measure(setting),
            Self::Programs => programs::measure(setting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64) -> Figure {
        Figure::new("f", "x", Some(1.0), vec![value]).expect("invariant: there is a sample")
    }

    #[test]
    fn a_missing_figure_is_always_a_failure() {
        let failure = verdict(&["cpu".to_owned()], &[], false).expect_err("invariant: one failed");
        assert!(failure.to_string().contains("could not be measured: cpu"), "{failure}");
    }

    #[test]
    fn a_figure_over_its_bar_is_a_failure_only_when_checked() {
        assert!(verdict(&[], &[figure(2.0)], false).is_ok());
        assert!(verdict(&[], &[figure(2.0)], true).is_err());
        assert!(verdict(&[], &[figure(0.5)], true).is_ok());
    }
}
