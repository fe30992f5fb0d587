//! Debian's kernel for clouds: small, with BTF and all of BPF, and drivers built in for QEMU.

use crate::failure::{Failure, OrFail as _, Result};
use crate::sh;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const NEXT: &str = "run `apt-get update` as root and try again; this verb needs Debian's package \
    sources on amd64";

/// The kernel image of this version; downloaded once and kept in `cache`, never installed.
pub(super) fn fetch(cache: &Path, version: &str) -> Result<PathBuf> {
    // The lists may be older than the package that they name.
    if let Ok(image) = fetch_as_listed(cache, version) {
        return Ok(image);
    }
    let mut update = sh::as_root("apt-get", &["-q", "-o", "DPkg::Lock::Timeout=300", "update"])?;
    sh::run(&mut update, "Fresh package lists.", NEXT)?;
    fetch_as_listed(cache, version)
}

fn fetch_as_listed(cache: &Path, version: &str) -> Result<PathBuf> {
    let package = resolve(version)?;
    let dir = cache.join(&package);
    if let Some(image) = image_in(&dir) {
        return Ok(image);
    }
    // Unpacked beside its place and moved when complete, so that what is there is whole.
    let partial = cache.join("partial");
    super::remove(&partial)?;
    fs::create_dir_all(&partial).or_fail(partial.display(), NEXT)?;
    let mut download = Command::new("apt-get");
    download.args(["-q", "download", &package]).current_dir(&partial);
    sh::run(&mut download, "The kernel to boot; it is not installed.", NEXT)?;
    let deb = find(&partial, "linux-image-").ok_or_else(|| {
        Failure::new(format!("apt-get left no package in {}", partial.display()), NEXT)
    })?;
    let unpacked = partial.join("unpacked");
    sh::output(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&unpacked), NEXT)?;
    super::remove(&dir)?;
    fs::rename(&unpacked, &dir).or_fail(dir.display(), NEXT)?;
    super::remove(&partial)?;
    image_in(&dir).ok_or_else(|| Failure::new(format!("{package} holds no boot/vmlinuz-*"), NEXT))
}

/// The package with the newest kernel of this version.
fn resolve(version: &str) -> Result<String> {
    let mut depends = Command::new("apt-cache");
    depends.args(["depends", "linux-image-cloud-amd64"]).env("LC_ALL", "C");
    let stable = sh::ask(&mut depends).unwrap_or_default();
    let mut search = Command::new("apt-cache");
    search.args(["search", "--names-only", "^linux-image-.*-cloud-amd64$"]);
    let all = sh::ask(&mut search).unwrap_or_default();
    choose(version, &stable, &all).ok_or_else(|| {
        Failure::new(format!("the package sources offer no cloud kernel {version}"), NEXT)
    })
}

/// What the meta-package names if it fits, else the newest that does.
fn choose(version: &str, depends: &str, search: &str) -> Option<String> {
    let stable = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let all = search.lines().filter_map(|line| line.split(' ').next());
    let fits = |package: &&str| {
        let kernel = package.strip_prefix("linux-image-").unwrap_or_default();
        // The dot keeps 6.1 from meaning 6.12, and leaves out meta-packages.
        kernel.strip_prefix(version).is_some_and(|rest| rest.starts_with('.'))
    };
    let newest = || all.filter(fits).max_by_key(|package| numbers(package));
    stable.into_iter().find(fits).or_else(newest).map(str::to_owned)
}

/// The numbers in a name, for comparing versions: 47 comes before 101.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn image_in(dir: &Path) -> Option<PathBuf> {
    find(&dir.join("boot"), "vmlinuz-")
}

fn find(dir: &Path, prefix: &str) -> Option<PathBuf> {
    let mut entries = fs::read_dir(dir).ok()?.flatten();
    entries
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::choose;

    const DEPENDS: &str = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
    const SEARCH: &str = "\
linux-image-6.1.0-9-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.1.0-50-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.12-cloud-amd64 - Linux for x86-64 cloud (meta-package)
linux-image-6.12.100+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
linux-image-6.12.99+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
";

    #[track_caller]
    fn check(version: &str, depends: &str, expected: Option<&str>) {
        assert_eq!(choose(version, depends, SEARCH).as_deref(), expected);
    }

    #[test]
    fn the_meta_package_wins_when_it_fits() {
        check("6.1", DEPENDS, Some("linux-image-6.1.0-56-cloud-amd64"));
        check("6.12", DEPENDS, Some("linux-image-6.12.100+deb12-cloud-amd64"));
    }

    #[test]
    fn without_it_the_newest_wins() {
        check("6.1", "", Some("linux-image-6.1.0-50-cloud-amd64"));
        check("5.10", DEPENDS, None);
    }
}
