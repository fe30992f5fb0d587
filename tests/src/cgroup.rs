//! Control groups of a test's own.

use crate::{require_root, unique_name, wait};
use std::fs;
use std::path::{Path, PathBuf};

/// A group in the version 2 hierarchy, removed when dropped.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// A new one.
    pub fn new() -> Self {
        Self::named(&unique_name())
    }

    /// One with this name, as a container's runtime would make it.
    pub fn named(name: &str) -> Self {
        require_root();
        let path = hierarchy().join(name);
        fs::create_dir(&path).expect("root may make a control group");
        Self(path)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The words before a command that is to run inside from its first instruction.
    pub fn wrapper(&self) -> [String; 4] {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.0.display());
        ["sh".to_owned(), "-c".to_owned(), enter, "sh".to_owned()]
    }
}

impl Default for Cgroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last process may be a moment in leaving.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(wait::PATIENCE / 1000);
        }
    }
}

/// Where the version 2 hierarchy is mounted; on a hybrid host that is not `/sys/fs/cgroup`.
fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let mount = mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(words[1]))
    });
    mount.expect("a cgroup2 hierarchy is mounted: these tests need one")
}
