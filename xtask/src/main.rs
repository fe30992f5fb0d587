//! `cargo xtask`: the one door for developers. This file is the list of verbs, one file each.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "xtask talks to the person who called it"
)]

mod bench;
mod build;
mod build_ebpf;
mod ci;
mod demo;
mod setup;
mod test;
mod tidy;
mod vm;

mod clock;
mod failure;
mod paths;
mod sh;
mod table;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Everything a developer does with this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Setup(setup::Args),
    BuildEbpf(build_ebpf::Args),
    /// Build the eBPF object, then the release binary.
    Build,
    Demo(demo::Args),
    Test(test::Args),
    Ci(ci::Args),
    Tidy(tidy::Args),
    Vm(vm::Args),
    Bench(bench::Args),
    /// Open and close connections: the workload of the benchmarks.
    #[command(name = bench::cycles::VERB, hide = true)]
    BenchLoop,
    #[command(name = bench::hold::VERB, hide = true)]
    BenchHold(bench::hold::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::BuildEbpf(args) => build_ebpf::run(&args),
        Verb::Build => build::run(),
        Verb::Demo(args) => demo::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Ci(args) => ci::run(&args),
        Verb::Tidy(args) => tidy::run(&args),
        Verb::Vm(args) => vm::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::BenchLoop => bench::cycles::serve(),
        Verb::BenchHold(args) => bench::hold::serve(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
