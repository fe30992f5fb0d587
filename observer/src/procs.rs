//! EDGE: what /proc says of a process. All of it stays readable after privileges are dropped, but
//! for descriptors before kernel 6.2.

use std::io::Read;

use procfs::{
    ProcResult,
    process::{LimitValue, Process},
};

use crate::{
    cgroup::Place,
    model::{Comm, ProcessKey},
    reading::ProcessReading,
};

/// Bytes of the control groups of a process. Chosen: sixteen hierarchies with paths of 4 KiB.
const MOST_GROUPS: u64 = 64 << 10;

/// Fills in descriptors, limits and unit, if the process still lives.
pub(crate) fn look(reading: &mut ProcessReading) {
    let Ok(process) = open(reading.process.pid) else { return };
    reading.descriptors = descriptors(reading.process.pid);
    reading.descriptor_limit = limits(&process).ok();
    reading.unit =
        groups(&process).and_then(|text| Place::unit_or_last_part(&text).map(str::to_owned));
}

/// Where this life of a process runs; `None` if it is over, or where /proc does not tell.
pub(crate) fn place(key: ProcessKey) -> Option<Place> {
    let process = open(key.pid).ok()?;
    // To a tick of /proc, which cuts the start off.
    let start = start_ns(process.stat().ok()?.starttime);
    let is_same = key.start_ns == 0 || start.abs_diff(key.start_ns) <= start_ns(1);
    is_same.then(|| groups(&process)).flatten().map(|text| Place::parse(&text))
}

/// A watched process that has no socket.
pub(crate) fn without_sockets(pid: u32) -> Option<ProcessReading> {
    let stat = open(pid).and_then(|process| process.stat()).ok()?;
    Some(ProcessReading {
        // To a tick of /proc: the kernel's own records are exact, and there is none.
        process: ProcessKey { pid, start_ns: start_ns(stat.starttime) },
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

/// The control groups of a process, as /proc has them. Read by the handle, which stays with one
/// life of the process.
fn groups(process: &Process) -> Option<String> {
    let mut bytes = Vec::new();
    process.open_relative("cgroup").ok()?.take(MOST_GROUPS).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn start_ns(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_life_of_a_process_has_a_place() {
        let pid = std::process::id();
        let stat = open(pid).and_then(|it| it.stat()).expect("we live");
        let start = start_ns(stat.starttime);
        let expected = open(pid).ok().and_then(|it| groups(&it)).map(|it| Place::parse(&it));
        assert!(expected.is_some());
        for start_ns in [0, start, start + 9_999_999] {
            assert_eq!(place(ProcessKey { pid, start_ns }), expected);
        }
        for start_ns in [1, start - 1_000_000_000, start + 1_000_000_000] {
            assert_eq!(place(ProcessKey { pid, start_ns }), None);
        }
        assert_eq!(place(ProcessKey { pid: u32::MAX, start_ns: 0 }), None);
    }
}
