//! Debian's packages: which are there, and how the others get there.

use super::items::Item;
use crate::failure::{Failure, Result};
use crate::sh;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::process::Command;

/// Long enough for another installation to finish first.
const LOCK: &str = "DPkg::Lock::Timeout=300";
const BY_HAND: &str = "install the items marked `missing` by hand, then run `cargo xtask setup` \
    again. In place of rustc-web: `rustup toolchain install nightly --component rust-src`. For \
    bpf-linker: `LLVM_PREFIX=<where LLVM 22 is> cargo install bpf-linker --version 0.13.0 \
    --no-default-features --features llvm-22`";

/// The packages among the items that are installed; none where dpkg is absent.
pub(super) fn installed(items: &[Item]) -> HashSet<String> {
    let mut dpkg = Command::new("dpkg-query");
    dpkg.args(["--show", "--showformat", "${Package} ${db:Status-Status}\\n"]);
    dpkg.args(items.iter().map(|item| item.name));
    // It exits with 1 when it knows nothing about one of them, so only its output counts.
    let output = dpkg.output().map(|done| done.stdout).unwrap_or_default();
    parse_installed(&String::from_utf8_lossy(&output))
}

/// Installs the packages of the items, all at once.
pub(super) fn install(items: &[&Item]) -> Result {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian_like(&release) || sh::find("apt-get").is_none() {
        let what = format!("{} is no Debian, and setup knows only apt-get", pretty_name(&release));
        return Err(Failure::new(what, BY_HAND));
    }
    // Names repeat where one package brings several commands.
    let packages: BTreeSet<&str> = items.iter().map(|item| item.name).collect();
    let mut args = vec!["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", LOCK, "install"];
    args.extend(["-y", "--no-install-recommends"]);
    args.extend(&packages);
    // Before the lists are fetched, so that whoever lacks root is told the command that counts.
    let mut install = sh::as_root("env", &args)?;

    let mut update = sh::as_root("apt-get", &["-q", "-o", LOCK, "update"])?;
    let updated = sh::status(&mut update, "Fresh package lists.", BY_HAND)?;
    if !updated.success() {
        // One broken third-party source must not stop us; the lists we have may do.
        eprintln!("  apt-get update {}; going on with the old lists.", sh::outcome(updated));
    }
    let unknown: Vec<&str> =
        packages.iter().copied().filter(|package| !has_candidate(package)).collect();
    if !unknown.is_empty() {
        let release = pretty_name(&release);
        let what = format!("the package sources of {release} do not offer {}", unknown.join(" "));
        return Err(Failure::new(what, BY_HAND));
    }

    sh::run(
        &mut install,
        "The packages that are missing.",
        "read apt-get's message above; when a download failed, run this again",
    )
}

fn parse_installed(output: &str) -> HashSet<String> {
    let lines = output.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter(|(_, status)| *status == "installed")
        .map(|(package, _)| package.to_owned())
        .collect()
}

fn has_candidate(package: &str) -> bool {
    let policy = sh::ask(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"));
    policy.is_some_and(|it| it.contains("Candidate:") && !it.contains("Candidate: (none)"))
}

fn is_debian_like(os_release: &str) -> bool {
    let ids = ["ID", "ID_LIKE"].into_iter().filter_map(|key| field(os_release, key));
    ids.flat_map(str::split_whitespace).any(|id| id == "debian" || id == "ubuntu")
}

fn pretty_name(os_release: &str) -> &str {
    field(os_release, "PRETTY_NAME").unwrap_or("this system")
}

fn field<'a>(os_release: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = os_release.lines().filter_map(|line| line.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_package_with_its_configuration_left_is_not_installed() {
        let output = "gcc installed\ncpio not-installed\nbusybox config-files\n";
        assert_eq!(parse_installed(output), HashSet::from(["gcc".to_owned()]));
    }

    #[test]
    fn derivatives_of_debian_are_recognised() {
        assert!(is_debian_like("ID=debian\n"));
        assert!(is_debian_like("NAME=\"Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian_like("ID=fedora\nPRETTY_NAME=\"Fedora Linux 43\"\n"));
        assert!(!is_debian_like(""));
        assert_eq!(pretty_name("ID=fedora\nPRETTY_NAME=\"Fedora Linux 43\"\n"), "Fedora Linux 43");
    }
}
