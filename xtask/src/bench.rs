//! `cargo xtask bench`: what our programs cost, measured here and now.

mod bpf;
mod child;
pub(crate) mod cycles;
mod figure;
pub(crate) mod hold;
mod host;
mod observer;
mod pool;
mod report;
mod rival;
mod run_stats;
mod schedstat;

use crate::failure::{OrFail as _, Result};
use crate::{setup, sh};
use std::env;
use std::os::unix::process::CommandExt as _;

/// Measure what our programs cost, beside their rivals.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    Observer(observer::Args),
    Pool(pool::Args),
}

pub(crate) fn run(args: &Args) -> Result {
    setup::ensure(&[setup::Extra::Bench])?;
    match &args.bench {
        Bench::Observer(_) if !sh::is_root() => as_root(),
        Bench::Observer(args) => observer::run(args),
        Bench::Pool(args) => pool::run(args),
    }
}

/// Starts the same command again as root, in the place of this process.
fn as_root() -> Result {
    let next = "run this verb as root";
    let program = env::current_exe().or_fail("xtask's own path", next)?;
    let told: Vec<String> = ["PATH", "CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR"]
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", env::var(name).ok()?)))
        .collect();
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let mut again = sh::as_root("env", &told)?;
    again.arg(program).args(env::args_os().skip(1));
    eprintln!("» The benchmarks load eBPF programs.\n  $ {}", sh::show(&again));
    Err(again.exec()).or_fail("the benchmarks did not start", next)
}
