//! `cargo xtask demo`: from a clean clone to the incident replayed, in one command.

use crate::failure::{Failure, OrFail as _, Result};
use crate::{build, paths, setup, sh};
use std::os::unix::process::CommandExt as _;

/// Set up, build, and run the demo; what follows goes to `sockwarden demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of `sockwarden demo`; see `cargo xtask demo -- --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result {
    setup::ensure(&[setup::Extra::Demo])?;
    build::run()?;
    let binary = paths::release_binary();
    let mut demo = sh::as_root(&binary, &["demo"])?;
    demo.args(&args.args);
    eprintln!("» The demo; loading eBPF programs needs root.\n  $ {}", sh::show(&demo));
    // The demo takes this process over, so its exit code and its signals are the verb's own.
    let error = demo.exec();
    Err(error)
        .or_fail(binary.display(), "run `cargo xtask build` and look at the binary")
        .map_err(|failure: Failure| failure.with_code(127))
}
