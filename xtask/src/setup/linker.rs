//! bpf-linker, the linker of eBPF objects, from the crate registry.

use crate::failure::Result;
use crate::sh;
use std::path::Path;
use std::process::Command;

pub(super) const NAME: &str = "bpf-linker";
const VERSION: &str = "0.13.0";
/// Where Debian puts the LLVM of rustc-web's version.
const LLVM: &str = "/usr/lib/llvm-22";

/// Whether a bpf-linker of our version is there and starts; it does not start without its LLVM.
pub(super) fn runs() -> bool {
    sh::find(NAME)
        .and_then(|linker| sh::ask(Command::new(linker).arg("--version")))
        .is_some_and(|answer| is_ours(&answer))
}

pub(super) fn install() -> Result {
    let mut cargo = sh::cargo();
    cargo
        .args(["install", NAME, "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM)
        .env("PATH", sh::path_with(&Path::new(LLVM).join("bin")))
        // Whatever the shell says about compilers is meant for this workspace.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    sh::run(
        &mut cargo,
        "bpf-linker links the eBPF object; its LLVM must not be older than the compiler's. \
         About a minute on 2 cores.",
        "read the message above; it needs the crate registry, and LLVM 22 with its headers in \
         /usr/lib/llvm-22",
    )
}

/// Patches of the same minor version read the same objects.
fn is_ours(answer: &str) -> bool {
    let ours = VERSION.rsplit_once('.').map_or(VERSION, |(minor, _)| minor);
    let version = answer.rsplit(' ').next().unwrap_or_default();
    version.strip_prefix(ours).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn the_minor_version_decides() {
        assert!(is_ours("bpf-linker 0.13.0"));
        assert!(is_ours("bpf-linker 0.13.2"));
        assert!(!is_ours("bpf-linker 0.9.13"));
        assert!(!is_ours("bpf-linker 0.130.0"));
        assert!(!is_ours(""));
    }
}
