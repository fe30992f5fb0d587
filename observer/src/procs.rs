//! EDGE: what /proc says of a process. All of it stays readable after privileges are dropped, but
//! for descriptors before kernel 6.2: where a snapshot has them, they are taken from there.

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

/// Fills in the unit, and the descriptors and limits that are not known yet, if the process still
/// lives.
pub(crate) fn look(reading: &mut ProcessReading) {
    let Ok(process) = open(reading.process.pid) else { return };
    if reading.descriptors.is_none() {
        reading.descriptors = descriptors(reading.process.pid);
    }
    if reading.descriptor_limit.is_none() {
        reading.descriptor_limit = limits(&process).ok();
    }
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

/// The real and the effective user of a process; `None` if there is none of this number.
pub(crate) fn users(pid: u32) -> Option<(u32, u32)> {
    let status = open(pid).and_then(|process| process.status()).ok()?;
    Some((status.ruid, status.euid))
}

fn open(pid: u32) -> ProcResult<Process> {
    Process::new(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// How many descriptors a process has open.
///
/// The size of the directory is their number (`proc_fd_getattr`, fs/proc/fd.c, 6.2); before that it
/// is 0, and listing it takes the right to trace the process, and some milliseconds for 15,000.
pub(crate) fn descriptors(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    let size = rustix::fs::stat(&path).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
    size.filter(|size| *size > 0).or_else(|| {
        let listed = std::fs::read_dir(&path).ok()?.count() as u64;
        // Who lists its own has one more meanwhile: the directory.
        Some(listed.saturating_sub(u64::from(pid == std::process::id())))
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

    fn reading() -> ProcessReading {
        let pid = std::process::id();
        without_sockets(pid).expect("invariant: this process lives")
    }

    #[test]
    fn what_is_known_is_not_read_again() {
        let mut reading =
            ProcessReading { descriptors: Some(7), descriptor_limit: Some((8, 9)), ..reading() };
        look(&mut reading);
        assert_eq!((reading.descriptors, reading.descriptor_limit), (Some(7), Some((8, 9))));
    }

    #[test]
    fn what_is_not_known_is_read() {
        let mut reading = reading();
        look(&mut reading);
        assert!(reading.descriptors.is_some_and(|open| open > 2), "{reading:?}");
        assert!(reading.descriptor_limit.is_some_and(|(soft, hard)| soft > 2 && hard >= soft));
    }
}
