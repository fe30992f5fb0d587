//! `cargo xtask build`: the eBPF object, then the release binary that embeds it.

use crate::failure::Result;
use crate::{build_ebpf, paths, sh};

pub(crate) fn run() -> Result {
    build_ebpf::run(&build_ebpf::Args::default())?;
    release()?;
    println!("built {}", paths::release_binary().display());
    Ok(())
}

/// Builds the release binary around the eBPF object that is there.
pub(crate) fn release() -> Result {
    sh::run(
        sh::cargo().args(["build", "--release", "-p", "sockwarden-observer"]),
        "The release binary.",
        "read the compiler's message above",
    )
}
