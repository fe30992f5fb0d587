//! Observers that may do less than root, or see less of the system.

use crate::TempDir;
use crate::watch::{Builder, binary};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the observer that every user may run, wherever the build directory is.
#[derive(Debug)]
pub struct PublicCopy(TempDir);

impl PublicCopy {
    /// Copies it.
    pub fn new() -> Self {
        Self::of(&binary())
    }

    /// Copies another program; it is called `sockwarden` then.
    pub fn of(program: &Path) -> Self {
        let directory = TempDir::new();
        // Not by ourselves: a process that another test forks meanwhile would inherit the
        // descriptor that writes, and the copy could not be executed (ETXTBSY).
        let copied = Command::new("cp").arg(program).arg(directory.join("sockwarden")).status();
        assert!(copied.is_ok_and(|status| status.success()), "the observer can be copied");
        Self(directory)
    }

    /// The copy.
    pub fn path(&self) -> PathBuf {
        self.0.join("sockwarden")
    }

    /// Runs `observer` as the user nobody, with these capabilities (`bpf`, `perfmon`) and no
    /// others.
    pub fn as_nobody(&self, observer: Builder, capabilities: &[&str]) -> Builder {
        let list: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
        let wrapper = [
            "setpriv".to_owned(),
            "--reuid=65534".to_owned(),
            "--regid=65534".to_owned(),
            "--clear-groups".to_owned(),
            format!("--inh-caps=-all{list}"),
            format!("--ambient-caps=-all{list}"),
        ];
        observer.through(&wrapper).binary(self.path())
    }
}

impl Default for PublicCopy {
    fn default() -> Self {
        Self::new()
    }
}

/// The words before a program that is the user nobody with these capabilities (`bpf`, `perfmon`),
/// can never have others, and gets no new privileges: what the systemd unit does.
pub fn as_by_the_unit(capabilities: &[&str]) -> Vec<String> {
    let list: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    vec![
        "setpriv".to_owned(),
        "--reuid=65534".to_owned(),
        "--regid=65534".to_owned(),
        "--clear-groups".to_owned(),
        "--no-new-privs".to_owned(),
        format!("--bounding-set=-all{list}"),
        format!("--inh-caps=-all{list}"),
        format!("--ambient-caps=-all{list}"),
    ]
}

/// The words before an observer in a mount namespace of its own, in which `script` has run.
pub fn with_mounts(script: &str) -> Vec<String> {
    let script = format!("set -e; {script}; exec \"$@\"");
    ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

/// The words before an observer that is root, but without these capabilities (`sys_admin`).
pub fn without(capabilities: &[&str]) -> Vec<String> {
    let list: Vec<String> = capabilities.iter().map(|name| format!("-{name}")).collect();
    vec!["setpriv".to_owned(), format!("--bounding-set={}", list.join(","))]
}
