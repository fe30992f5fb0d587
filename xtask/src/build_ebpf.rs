//! `cargo xtask build-ebpf`: the eBPF object that the observer embeds.
//!
//! Two toolchains can do it. Debian's `rustc-web` brings `core` compiled for the BPF target, so it
//! needs neither nightly nor the sources of the standard library. Elsewhere rustup's nightly with
//! `rust-src` compiles `core` itself. Both link with `bpf-linker`.

use crate::failure::{Failure, OrFail as _, Result};
use crate::{paths, sh};
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target triple of the eBPF program.
const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const REMEDIES: &str = "run `cargo xtask setup` (on Debian it installs rustc-web and bpf-linker); \
    elsewhere run `rustup toolchain install nightly --component rust-src`, then `cargo xtask setup`";

/// Build the eBPF object.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// The compiler to use; without this, the first one that can do it.
    #[arg(long)]
    toolchain: Option<Toolchain>,
}

/// A compiler that can make BPF code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Toolchain {
    /// Debian's rustc-web with its prebuilt `core`.
    Debian,
    /// Rustup's nightly with rust-src.
    Nightly,
}

impl Toolchain {
    /// The first toolchain that can do it, or why none can.
    pub(crate) fn pick() -> Result<Self> {
        let missing = |toolchain: Self| toolchain.missing().err();
        let Some(debian) = missing(Self::Debian) else {
            return Ok(Self::Debian);
        };
        let Some(nightly) = missing(Self::Nightly) else {
            return Ok(Self::Nightly);
        };
        let what = format!("no compiler for {TARGET}: {debian}; {nightly}");
        Err(Failure::new(what, REMEDIES))
    }

    /// Fails with what this toolchain lacks.
    fn missing(self) -> std::result::Result<(), String> {
        match self {
            Self::Debian => {
                let mut rustc = Command::new(DEBIAN_RUSTC);
                rustc.args(["--print", "target-libdir", "--target", TARGET]);
                match sh::ask(rustc.env_remove("RUSTUP_TOOLCHAIN")) {
                    None => Err(format!("{DEBIAN_RUSTC} is absent or too old")),
                    Some(libdir) if has_core(Path::new(&libdir)) => Ok(()),
                    Some(libdir) => Err(format!("{DEBIAN_RUSTC} has no core in {libdir}")),
                }
            }
            Self::Nightly => {
                let mut rustc = Command::new("rustup");
                rustc.args(["run", "nightly", "rustc", "--print", "sysroot"]);
                let sysroot = sh::ask(&mut rustc).ok_or("rustup has no nightly toolchain")?;
                let sources = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core");
                sources.is_dir().then_some(()).ok_or_else(|| "nightly has no rust-src".to_owned())
            }
        }
    }

    /// Cargo with this compiler, and without what an outer cargo or shell says about compilers.
    fn cargo(self) -> Command {
        let mut cargo = sh::cargo();
        if self == Self::Nightly {
            let plain = std::mem::replace(&mut cargo, Command::new("rustup"));
            cargo.args(["run", "nightly", "cargo"]).current_dir(paths::root());
            for (name, value) in plain.get_envs() {
                match value {
                    Some(value) => cargo.env(name, value),
                    None => cargo.env_remove(name),
                };
            }
        }
        // Flags in the environment replace those of .cargo/config.toml, among them `--btf`.
        for name in
            ["CARGO", "RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"]
        {
            cargo.env_remove(name);
        }
        match self {
            // Stable takes the unstable features that aya-ebpf needs only with this variable.
            Self::Debian => cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", DEBIAN_RUSTC),
            Self::Nightly => cargo.env_remove("RUSTUP_TOOLCHAIN"),
        };
        cargo
    }
}

pub(crate) fn run(args: &Args) -> Result {
    let toolchain = match args.toolchain {
        None => Toolchain::pick()?,
        Some(asked) => {
            asked.missing().or_fail(format!("{asked:?} cannot build {TARGET}"), REMEDIES)?;
            asked
        }
    };
    let linker = sh::find("bpf-linker").ok_or_else(|| {
        Failure::new("bpf-linker is neither on PATH nor in cargo's bin directory", REMEDIES)
    })?;
    let linker_dir = linker.parent().unwrap_or(Path::new("/"));

    // A directory of its own, for the two compilers would throw away each other's host artifacts.
    let target_dir = paths::target().join("bpf-build");
    let mut cargo = toolchain.cargo();
    cargo
        .args(["build", "--package", "sockwarden-observer-ebpf", "--bin", "sockwarden-ebpf"])
        .args(["--features", "program", "--profile", "bpf", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("PATH", sh::path_with(linker_dir));
    if toolchain == Toolchain::Nightly {
        cargo.args(["-Z", "build-std=core"]);
    }
    let why = match toolchain {
        Toolchain::Debian => "The eBPF object, with Debian's rustc and its prebuilt core.",
        Toolchain::Nightly => "The eBPF object, with rustup's nightly and core from its sources.",
    };
    let next = "read the message above; `invalid LLVM bitcode` or the like means that bpf-linker's \
        LLVM is older than the compiler's: `cargo xtask setup` installs a pair that fits";
    sh::run(&mut cargo, why, next)?;
    publish(&target_dir.join(TARGET).join("bpf/sockwarden-ebpf"), &paths::bpf_object())
}

fn has_core(libdir: &Path) -> bool {
    let names = fs::read_dir(libdir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| name.to_string_lossy().starts_with("libcore-"))
}

/// Copies the object only if it changed, so that whatever embeds it is not compiled again.
fn publish(built: &Path, object: &Path) -> Result {
    let next = "check that the target directory can be written";
    let new = fs::read(built).or_fail(built.display(), "cargo said it built this: report a bug")?;
    if fs::read(object).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let partial: PathBuf = object.with_extension("partial");
    fs::create_dir_all(object.parent().unwrap_or(object)).or_fail(object.display(), next)?;
    fs::write(&partial, new).or_fail(partial.display(), next)?;
    fs::rename(&partial, object).or_fail(object.display(), next)?;
    eprintln!("  {}", object.display());
    Ok(())
}
