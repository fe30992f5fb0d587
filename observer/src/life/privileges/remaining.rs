//! EDGE: what a process may still do, by the kernel's word.

use std::{fmt, fs, io, os::unix::fs::MetadataExt as _};

use procfs::process::Process;
use rustix::{process::DumpableBehavior, thread::CapabilitySet};
use serde::{Serialize, Serializer};

/// What is left to a process. The one line of `Display` is for `/readyz`, the JSON form for
/// programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remaining {
    /// Name of the user; its number again where the user database does not know it.
    pub user: String,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Other groups.
    pub groups: Vec<u32>,
    /// Names (`CAP_BPF`) of all capabilities that a thread has or could take: effective, permitted,
    /// inheritable and ambient ones together.
    #[serde(rename = "capabilities", serialize_with = "as_names")]
    pub(super) set: CapabilitySet,
    /// Whether no program that it starts can have more.
    pub no_new_privs: bool,
    /// Whether its memory may be dumped or traced by its own user; `None` where that cannot be told
    /// (another process of root).
    pub dumpable: Option<bool>,
}

impl Remaining {
    /// Of this process, over all of its threads.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub fn of_this_process() -> io::Result<Self> {
        let remaining = Self::read(std::process::id())?;
        let dumpable = rustix::process::dumpable_behavior()? != DumpableBehavior::NotDumpable;
        Ok(Self { dumpable: Some(dumpable), ..remaining })
    }

    /// Of another one. Needs no privilege.
    ///
    /// # Errors
    ///
    /// When it has ended, or `/proc` hides it (`hidepid`).
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::read(pid)
    }

    /// Names of the capabilities that are left, over all threads.
    pub fn capabilities(&self) -> Vec<String> {
        names(self.set)
    }

    /// How many threads this process has.
    pub(super) fn threads() -> io::Result<usize> {
        Ok(fs::read_dir("/proc/self/task")?.count())
    }

    fn read(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).map_err(io::Error::other)?;
        let process = Process::new(number).map_err(from_proc)?;
        let status = process.status().map_err(from_proc)?;
        // The files of a process that is not dumpable belong to root in /proc, though not their
        // directory (`task_dump_owner`, fs/proc/base.c); those of root's own tell nothing.
        let owner = fs::metadata(format!("/proc/{pid}/status"))?.uid();
        let dumpable = (status.euid != 0).then_some(owner != 0);
        let mut remaining = Self {
            user: user_name(status.euid),
            uid: status.euid,
            gid: status.egid,
            groups: status.groups.clone(),
            set: CapabilitySet::empty(),
            no_new_privs: true,
            dumpable,
        };
        for task in process.tasks().map_err(from_proc)? {
            // A thread may end while we look; the others count.
            let Ok(status) = task.and_then(|task| task.status()) else { continue };
            let all = status.capeff | status.capprm | status.capinh | status.capamb.unwrap_or(0);
            remaining.set |= CapabilitySet::from_bits_retain(all);
            remaining.no_new_privs &= status.nonewprivs == Some(1);
        }
        Ok(remaining)
    }
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runs as {} (uid {}), ", crate::escape::short(&self.user, 64), self.uid)?;
        match self.set.bits().count_ones() {
            0 => f.write_str("no capabilities")?,
            // Root has them all; nobody reads the list.
            many @ 8.. => write!(f, "{many} capabilities")?,
            _ => f.write_str(&names(self.set).join(" and "))?,
        }
        f.write_str(if self.no_new_privs { ", no new privileges" } else { "" })?;
        f.write_str(match self.dumpable {
            Some(false) => ", not dumpable",
            Some(true) => ", dumpable",
            None => "",
        })
    }
}

fn names(set: CapabilitySet) -> Vec<String> {
    let mut known = set.iter_names();
    let mut names: Vec<String> = known.by_ref().map(|(name, _)| format!("CAP_{name}")).collect();
    // Of kernels that are newer than rustix.
    let unknown = known.remaining().bits();
    let bits = (0..u64::BITS).filter(|bit| unknown >> bit & 1 == 1);
    names.extend(bits.map(|bit| format!("CAP_{bit}")));
    names
}

fn as_names<S: Serializer>(set: &CapabilitySet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names(*set))
}

fn user_name(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn from_proc(error: procfs::ProcError) -> io::Error {
    match error {
        procfs::ProcError::NotFound(_) => io::Error::from(io::ErrorKind::NotFound),
        procfs::ProcError::PermissionDenied(_) => io::Error::from(io::ErrorKind::PermissionDenied),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remaining(set: CapabilitySet) -> Remaining {
        Remaining {
            user: "sockwarden".to_owned(),
            uid: 998,
            gid: 997,
            groups: vec![997],
            set,
            no_new_privs: true,
            dumpable: Some(false),
        }
    }

    #[test]
    fn one_line_says_all() {
        assert_eq!(
            remaining(CapabilitySet::empty()).to_string(),
            "runs as sockwarden (uid 998), no capabilities, no new privileges, not dumpable"
        );
        let some = Remaining {
            no_new_privs: false,
            dumpable: None,
            ..remaining(CapabilitySet::BPF | CapabilitySet::PERFMON)
        };
        assert_eq!(some.to_string(), "runs as sockwarden (uid 998), CAP_PERFMON and CAP_BPF");
        let all = remaining(CapabilitySet::from_bits_retain((1 << 41) - 1)).to_string();
        assert!(all.contains("41 capabilities"), "{all}");
    }

    #[test]
    fn a_capability_that_we_do_not_know_is_not_left_out() {
        let set = CapabilitySet::from_bits_retain(1 << 62) | CapabilitySet::BPF;
        assert_eq!(names(set), ["CAP_BPF", "CAP_62"]);
    }

    #[test]
    fn the_json_form_has_names() {
        let json = serde_json::to_value(remaining(CapabilitySet::BPF)).expect("plain data");
        let expected = serde_json::json!({
            "user": "sockwarden", "uid": 998, "gid": 997, "groups": [997],
            "capabilities": ["CAP_BPF"], "no_new_privs": true, "dumpable": false,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn this_process_is_seen_by_both_ways_alike() {
        let own = Remaining::of_this_process().expect("/proc is there");
        let other = Remaining::of_process(std::process::id()).expect("/proc is there");
        assert_eq!(own, Remaining { dumpable: own.dumpable, ..other });
        assert_eq!(own.uid, nix::unistd::geteuid().as_raw());
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let error = Remaining::of_process(u32::MAX >> 2).expect_err("no such number");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
