//! EDGE: which processes are watched, found in /proc and in cgroups.
//!
//! The program in the kernel takes up by itself what starts later: children of what is watched,
//! and processes that get one of the names. Here is what was there before, and what moves into
//! the cgroup.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use observer_ebpf::{COMM_LEN, config::watch};
use procfs::process::{Process, Stat};

use crate::probe::{Probe, ProbeError};

/// Where cgroup v2 is mounted, alone and beside v1.
const CGROUP_MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// What the operator named.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Every process of the host.
    pub all: bool,
    /// Processes by number.
    pub pids: Vec<u32>,
    /// Processes by name, present and future.
    pub comms: Vec<String>,
    /// Directories of cgroups; processes below them count too.
    pub cgroups: Vec<PathBuf>,
    /// systemd units, present and future: processes of their cgroups.
    pub units: Vec<String>,
    /// Local or remote ports: sockets with one of them, whoever has them.
    pub ports: Vec<u16>,
    /// The descendants of all these too.
    pub children: bool,
}

/// Why a selection cannot be watched. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// Nothing was named.
    #[error("say what to watch: --pid, --comm, --cgroup, --port, or --all for the whole host")]
    Empty,
    /// No such process.
    #[error("there is no process {0}: see `ps -e`")]
    NoProcess(u32),
    /// The cgroup cannot be read.
    #[error("the cgroup {path} cannot be read: {error}. Give its directory, as /proc/PID/cgroup names it", path = path.display())]
    Cgroup {
        /// The path as given.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The kernel did not take it.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl Selection {
    /// Whether everything in it exists; asked before anything is loaded.
    pub fn check(&self) -> Result<(), SelectionError> {
        let names_nothing = self.pids.is_empty()
            && self.comms.is_empty()
            && self.cgroups.is_empty()
            && self.units.is_empty()
            && self.ports.is_empty();
        if names_nothing && !self.all {
            return Err(SelectionError::Empty);
        }
        if let Some(pid) = self.pids.iter().find(|pid| stat(**pid).is_none()) {
            return Err(SelectionError::NoProcess(*pid));
        }
        self.cgroup_pids().map(drop)
    }

    /// Tells the kernel's side what to watch. Says which processes there are by now.
    pub fn apply(&self, probe: &mut Probe) -> Result<BTreeSet<u32>, SelectionError> {
        let also = if self.children { watch::CHILDREN } else { 0 };
        for port in &self.ports {
            probe.watch_port(*port)?;
        }
        for comm in &self.comms {
            probe.watch_comm(comm_key(comm), also)?;
        }
        // Names first: a process that starts meanwhile is seen by one or by the other.
        let processes = processes();
        let mut reasons: Vec<(u32, u32)> = self.pids.iter().map(|pid| (*pid, watch::PID)).collect();
        for stat in &processes {
            let comm = comm_key(&stat.comm);
            if self.comms.iter().any(|name| comm_key(name) == comm) {
                reasons.push((stat.pid as u32, watch::COMM));
            }
        }
        reasons.extend(self.cgroup_pids()?.into_iter().map(|pid| (pid, watch::CGROUP)));
        for (pid, reason) in &reasons {
            probe.watch(*pid, reason | also)?;
        }
        if self.children {
            let roots = reasons.iter().map(|(pid, _)| *pid).collect();
            for pid in descendants(&processes, roots) {
                probe.watch(pid, watch::CHILDREN)?;
                reasons.push((pid, watch::CHILDREN));
            }
        }
        Ok(reasons.into_iter().map(|(pid, _)| pid).collect())
    }

    /// Whether processes may come in by moving into a cgroup.
    pub fn has_cgroups(&self) -> bool {
        !self.cgroups.is_empty() || !self.units.is_empty()
    }

    /// Takes in what another selection names.
    pub fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.children |= other.children;
        self.pids.extend(other.pids);
        self.comms.extend(other.comms);
        self.cgroups.extend(other.cgroups);
        self.units.extend(other.units);
        self.ports.extend(other.ports);
    }

    /// Takes up processes that moved into a cgroup. A cgroup that is gone has none.
    pub fn refresh(&self, probe: &mut Probe) -> Result<Vec<u32>, ProbeError> {
        let also = if self.children { watch::CHILDREN } else { 0 };
        let pids = self.cgroup_pids().unwrap_or_default();
        for pid in &pids {
            probe.watch(*pid, watch::CGROUP | also)?;
        }
        Ok(pids)
    }

    fn cgroup_pids(&self) -> Result<Vec<u32>, SelectionError> {
        let mut pids = Vec::new();
        for path in &self.cgroups {
            let failed = |error| SelectionError::Cgroup { path: path.clone(), error };
            collect_cgroup(&cgroup_directory(path), &mut pids).map_err(failed)?;
        }
        // A unit that is not started has no cgroup, and gets one when it is.
        for directory in self.units.iter().flat_map(|unit| unit_directories(unit)) {
            let _vanished = collect_cgroup(&directory, &mut pids);
        }
        Ok(pids)
    }
}

/// The processes of `pids` that are gone.
pub fn ended(pids: &[u32]) -> Vec<u32> {
    pids.iter().copied().filter(|pid| stat(*pid).is_none()).collect()
}

/// The name as the kernel keeps it: at most 15 bytes and a zero.
fn comm_key(name: &str) -> [u8; COMM_LEN] {
    let mut key = [0; COMM_LEN];
    let len = name.len().min(COMM_LEN - 1);
    key[..len].copy_from_slice(&name.as_bytes()[..len]);
    key
}

fn stat(pid: u32) -> Option<Stat> {
    Process::new(i32::try_from(pid).ok()?).and_then(|process| process.stat()).ok()
}

fn processes() -> Vec<Stat> {
    let all = procfs::process::all_processes();
    all.into_iter().flatten().flatten().filter_map(|process| process.stat().ok()).collect()
}

/// Everything below `roots` in the tree of processes.
fn descendants(processes: &[Stat], roots: BTreeSet<u32>) -> BTreeSet<u32> {
    let mut known = roots.clone();
    loop {
        let before = known.len();
        known.extend(
            processes
                .iter()
                .filter(|stat| known.contains(&(stat.ppid as u32)))
                .map(|stat| stat.pid as u32)
                .collect::<Vec<_>>(),
        );
        if known.len() == before {
            return known.difference(&roots).copied().collect();
        }
    }
}

/// A path as given, or below the place where cgroups are mounted, as /proc/PID/cgroup writes it.
fn cgroup_directory(path: &Path) -> PathBuf {
    let relative = path.strip_prefix("/").unwrap_or(path);
    CGROUP_MOUNTS
        .iter()
        .map(|mount| Path::new(mount).join(relative))
        .find(|directory| {
            !path.join("cgroup.procs").exists() && directory.join("cgroup.procs").exists()
        })
        .unwrap_or_else(|| path.to_owned())
}

/// The cgroups of a systemd unit: directories of its name, in slices at most so deep.
fn unit_directories(unit: &str) -> Vec<PathBuf> {
    const DEEPEST: u32 = 6;
    fn search(directory: &Path, unit: &str, depth: u32, found: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = entry.file_name();
            if name == unit {
                found.push(entry.path());
            } else if depth > 0 && name.to_string_lossy().ends_with(".slice") {
                search(&entry.path(), unit, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    for mount in CGROUP_MOUNTS {
        search(Path::new(mount), unit, DEEPEST, &mut found);
    }
    found
}

fn collect_cgroup(directory: &Path, pids: &mut Vec<u32>) -> io::Result<()> {
    let members = fs::read_to_string(directory.join("cgroup.procs"))?;
    pids.extend(members.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(directory)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // A child may vanish while we look.
            let _ = collect_cgroup(&entry.path(), pids);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_as_the_kernel_cuts_them() {
        assert_eq!(comm_key("node"), *b"node\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(comm_key("a-very-long-process-name"), *b"a-very-long-pro\0");
    }

    #[test]
    fn a_selection_of_nothing_is_refused() {
        let cases = [
            (Selection::default(), false),
            (Selection { all: true, ..Selection::default() }, true),
            (Selection { pids: vec![std::process::id()], ..Selection::default() }, true),
            (Selection { pids: vec![u32::MAX], ..Selection::default() }, false),
            (Selection { comms: vec!["not-yet".into()], ..Selection::default() }, true),
            (Selection { cgroups: vec!["/nowhere".into()], ..Selection::default() }, false),
            (Selection { units: vec!["not-yet.service".into()], ..Selection::default() }, true),
        ];
        for (selection, fine) in cases {
            assert_eq!(selection.check().is_ok(), fine, "{selection:?}");
        }
    }
}
