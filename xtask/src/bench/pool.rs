//! `cargo xtask bench pool`: what a fleet of 12,000 costs, how it comes back, and what is lost.

mod authority;
mod broker;
mod connect;
mod fanout;
mod fleet;
mod idle;
mod kernel;
mod ledger;
mod messages;
mod overlap;
mod programs;
mod replacements;
mod said;
mod storm;
mod tls;

use super::figure::Figure;
use super::host;
use super::report::Report;
use crate::failure::Result;
use clap::ValueEnum;
use ledger::Ledger;
use programs::Programs;
use std::path::PathBuf;

/// The pool's fleets: memory, CPU, connects, storms, messages; beside a floor and two rivals.
#[derive(clap::Args)]
pub(super) struct Args {
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Runs of each figure; 1 to 5 without this, as the figure needs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    reps: Option<u32>,
    /// Exit with 1 when a figure is on the wrong side of its bar.
    #[arg(long)]
    check: bool,
    /// Only these measurements; may be given several times.
    #[arg(long, value_name = "MEASUREMENT")]
    only: Vec<Measurement>,
    /// The fleet to measure, in place of the pool's example of that name.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// What is measured together, in the order in which it runs: what takes minutes comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Memory and CPU of 12,000 sessions that do nothing.
    Idle,
    /// Memory of 2,000 sessions over TLS.
    Tls,
    /// 12,000 connects.
    Connect,
    /// The throughput of one connection.
    Messages,
    /// 20,000 messages a second to 12,000 sessions.
    Fanout,
    /// Messages across replacements of the connection.
    Replacements,
    /// 4,000 kicked devices come back as fast as the broker takes them.
    StormAdaptive,
    /// The same, one every 10 ms.
    StormPaced,
    /// The same under the limits of the article: more than three minutes.
    StormArticle,
}

/// What every measurement is told.
struct Setting {
    programs: Programs,
    ledger: Ledger,
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
        programs: Programs::build(args.binary.clone())?,
        ledger: Ledger::default(),
        reps: args.reps,
    };
    kernel::require_descriptors()?;
    host::warn_if_busy();

    let mut report = Report::new(args.json);
    for measurement in Measurement::value_variants() {
        if args.only.is_empty() || args.only.contains(measurement) {
            report.add(&measurement.name(), measurement.take(&setting));
        }
    }
    report.add("ledger", setting.ledger.figures());
    report.finish(args.check)
}

impl Measurement {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn take(self, setting: &Setting) -> Result<Vec<Figure>> {
        match self {
            Self::Idle => idle::measure(setting),
            Self::Tls => tls::measure(setting),
            Self::Connect => connect::measure(setting),
            Self::Messages => messages::measure(setting),
            Self::Fanout => fanout::measure(setting),
            Self::Replacements => replacements::measure(setting),
            Self::StormAdaptive => storm::adaptive(setting),
            Self::StormPaced => storm::paced(setting),
            Self::StormArticle => storm::article(setting),
        }
    }
}
