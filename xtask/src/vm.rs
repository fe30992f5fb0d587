//! `cargo xtask vm`: the release binary on another kernel, in QEMU.
//!
//! Programs pass the verifier of one kernel and fail that of another, so this loads all of them on
//! Debian's stable one. QEMU emulates the processor: no KVM is used, so it runs wherever CI does,
//! and its timings mean nothing.

mod console;
mod guest;
mod initramfs;
mod kernel;

use crate::failure::{Failure, OrFail as _, Result};
use crate::{paths, sh, table};
use console::Ended;
use std::fs;
use std::path::Path;

const NEXT: &str = "read the guest's output above; `cargo xtask vm --keep` keeps the guest's files \
    and prints the command that boots them";

/// Boot another kernel and run the release binary on it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel's version, as far as it matters: 6.1, or 6.12.
    #[arg(long, default_value = "6.1")]
    kernel: String,
    /// Keep the guest's files.
    #[arg(long)]
    keep: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self { kernel: "6.1".to_owned(), keep: false }
    }
}

pub(crate) fn run(args: &Args) -> Result {
    let binary = paths::release_binary();
    if !binary.exists() {
        let what = format!("there is no {}", binary.display());
        return Err(Failure::new(what, "run `cargo xtask build`"));
    }
    for program in ["qemu-system-x86_64", "busybox", "cpio", "strip"] {
        if sh::find(program).is_none() {
            let what = format!("{program} is missing");
            return Err(Failure::new(what, "run `cargo xtask setup --with vm`"));
        }
    }
    let cache = paths::target().join("vm");
    let kernel = kernel::fetch(&cache, &args.kernel)?;
    let guest = cache.join("guest");
    let initrd = initramfs::pack(&guest, &binary)?;
    let ended = guest::boot(&kernel, &initrd, args.keep);
    if !args.keep {
        remove(&guest)?;
    }
    verdict(&ended?)
}

/// Prints the steps and fails if one of them did, or did not end.
fn verdict(ended: &[(&'static str, Option<Ended>)]) -> Result {
    let ok = |it: &Option<Ended>| it.as_ref().is_some_and(|it| it.exit_code == 0);
    let rows: Vec<[String; 4]> = ended
        .iter()
        .map(|(name, step)| {
            let (seconds, code) = match step {
                Some(it) => {
                    (format!("{:6.1} s", it.seconds), format!("exit code {}", it.exit_code))
                }
                None => (String::new(), "did not end".to_owned()),
            };
            let mark = if ok(step) { "ok" } else { "FAILED" };
            [(*name).to_owned(), seconds, code, mark.to_owned()]
        })
        .collect();
    table::print(&rows);
    let failed: Vec<&str> =
        ended.iter().filter(|(_, step)| !ok(step)).map(|(name, _)| *name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("in the guest, {} failed", failed.join(" and ")), NEXT))
}

fn remove(dir: &Path) -> Result {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).or_fail(dir.display(), "remove this directory by hand")
        }
        _ => Ok(()),
    }
}
