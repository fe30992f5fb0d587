//! Layer C: the program that sees MQTT client ids, at the root of cgroup v2.
//!
//! It is optional: whatever is in its way is told, and everything else works without it.

use std::{fs::File, path::PathBuf};

use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType},
};
use procfs::process::MountInfo;

use super::{error::ProbeError, privileges};

/// Name of the program in the object.
pub(super) const PROGRAM: &str = "names";

/// Loads and attaches it. It is detached with all others.
///
/// # Errors
///
/// Why that cannot be, and what to do, in words.
pub(super) fn attach(ebpf: &mut Ebpf) -> Result<(), String> {
    privileges::check_names().map_err(|error| error.to_string())?;
    let root = root()?;
    let group = File::open(&root)
        .map_err(|error| format!("{} cannot be opened: {error}", root.display()))?;
    let failed = |error: &(dyn std::error::Error + 'static)| {
        ProbeError::using("attached to the root of cgroup v2", error).to_string()
    };
    let program = ebpf.program_mut(PROGRAM).ok_or("the object is older than this binary")?;
    let program: &mut CgroupSkb =
        program.try_into().map_err(|error: aya::programs::ProgramError| failed(&error))?;
    program.load().map_err(|error| failed(&error))?;
    // Links leave room for others whatever the mode; with another one aya passes a flag that
    // `bpf_link_create` refuses (aya 0.14).
    let mode = CgroupAttachMode::Single;
    program.attach(group, CgroupSkbAttachType::Egress, mode).map_err(|error| failed(&error))?;
    Ok(())
}

/// Where the root of the version 2 hierarchy is mounted.
fn root() -> Result<PathBuf, String> {
    let mounts = procfs::process::Process::myself()
        .and_then(|process| process.mountinfo())
        .map_err(|error| format!("the mounts of this process cannot be read: {error}"))?;
    choose(mounts.into_iter().collect()).map_err(str::to_owned)
}

fn choose(mounts: Vec<MountInfo>) -> Result<PathBuf, &'static str> {
    let mut groups = mounts.into_iter().filter(|mount| mount.fs_type == "cgroup2").peekable();
    if groups.peek().is_none() {
        return Err(
            "no cgroup v2 is mounted; `mount -t cgroup2 none /sys/fs/cgroup/unified` does \
             so on a host with version 1",
        );
    }
    // Every group but the root has this file (Documentation/admin-guide/cgroup-v2.rst).
    let is_root =
        |mount: &MountInfo| mount.root == "/" && !mount.mount_point.join("cgroup.events").exists();
    groups.find(is_root).map(|mount| mount.mount_point).ok_or(
        "only a part of cgroup v2 is mounted here; run sockwarden on the host itself, or the \
         container with `--cgroupns=host`",
    )
}
