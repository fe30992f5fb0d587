//! EDGE: what /proc says of a process. All of it stays readable after privileges are dropped, but
//! for descriptors before kernel 6.2.

use procfs::{
    ProcResult,
    process::{LimitValue, Process},
};

use crate::{
    model::{Comm, ProcessKey},
    reading::ProcessReading,
};

/// Fills in descriptors, limits and unit, if the process still lives.
pub(crate) fn look(reading: &mut ProcessReading) {
    let Ok(process) = open(reading.process.pid) else { return };
    reading.descriptors = descriptors(reading.process.pid);
    reading.descriptor_limit = limits(&process).ok();
    reading.unit = unit(&process).ok().flatten();
}

/// A watched process that has no socket.
pub(crate) fn without_sockets(pid: u32) -> Option<ProcessReading> {
    let stat = open(pid).and_then(|process| process.stat()).ok()?;
    let ticks = procfs::ticks_per_second().max(1);
    Some(ProcessReading {
        // To a tick of /proc: the kernel's own records are exact, and there is none.
        process: ProcessKey { pid, start_ns: stat.starttime.saturating_mul(1_000_000_000 / ticks) },
        comm: Comm::from_bytes(stat.comm.as_bytes()),
        unit: None,
        watched: true,
        sockets: Default::default(),
        descriptors: None,
        descriptor_limit: None,
        findings_open: Default::default(),
    })
}

fn open(pid: u32) -> ProcResult<Process> {
    Process::new(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// The size of the directory is the number of descriptors (`proc_fd_getattr`, fs/proc/fd.c, 6.2);
/// before that it is 0, and reading it takes the right to trace the process.
fn descriptors(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    let size = rustix::fs::stat(&path).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
    size.filter(|size| *size > 0).or_else(|| {
        let entries = std::fs::read_dir(&path).ok()?;
        Some(entries.count() as u64)
    })
}

fn limits(process: &Process) -> ProcResult<(u64, u64)> {
    let limit = process.limits()?.max_open_files;
    let number = |value: LimitValue| match value {
        LimitValue::Unlimited => u64::MAX,
        LimitValue::Value(value) => value,
    };
    Ok((number(limit.soft_limit), number(limit.hard_limit)))
}

/// The unit in the path of its cgroup (`/system.slice/NAME.service/...`), or the last part of it.
fn unit(process: &Process) -> ProcResult<Option<String>> {
    let groups = process.cgroups()?;
    // Version 2, or the hierarchy of systemd beside version 1.
    let of_systemd = |name: &[String]| name.is_empty() || name.iter().any(|c| c == "name=systemd");
    let group = groups.into_iter().find(|group| of_systemd(&group.controllers));
    Ok(group.and_then(|group| {
        let parts = || group.pathname.split('/').filter(|part| !part.is_empty());
        let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
        parts().find(is_unit).or_else(|| parts().next_back()).map(str::to_owned)
    }))
}
