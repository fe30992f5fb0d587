//! `cargo xtask bench observer`: what the observer costs those it watches, and how late it is.

mod cpu;
mod idle;
mod latency;
mod programs;
mod snapshot;
mod stop;
mod watch;

use super::figure::Figure;
use super::host;
use super::report::Report;
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

    let mut report = Report::new(args.json);
    for measurement in Measurement::value_variants() {
        if args.only.is_empty() || args.only.contains(measurement) {
            report.add(&measurement.name(), measurement.take(&setting));
        }
    }
    report.finish(args.check)
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
