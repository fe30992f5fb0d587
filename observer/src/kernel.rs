//! The only unsafe code of this crate: calls that no crate we use makes safe.

#![expect(
    unsafe_code,
    reason = "no crate we use wraps perf_event_open(2) or mallopt(3), and tokio trusts us with descriptors"
)]

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use tokio::io::unix::AsyncFd;

/// `struct perf_event_attr` in its first version (include/uapi/linux/perf_event.h), which every
/// kernel accepts: `PERF_ATTR_SIZE_VER0`, 64 bytes.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_kind: u32,
    config1: u64,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 64);

/// `PERF_TYPE_TRACEPOINT`.
const TRACEPOINT: u32 = 2;

/// The bit `disabled` of `flags`: the event counts nothing and costs nothing.
const DISABLED: u64 = 1;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;

/// Opens tracepoint `id` without using it: the kernel keeps it registered while this is open.
///
/// # Errors
///
/// Those of perf_event_open(2): EPERM without CAP_PERFMON, ENOENT for an unknown number.
pub(crate) fn open_tracepoint(id: u64) -> io::Result<OwnedFd> {
    let attr = PerfEventAttr {
        kind: TRACEPOINT,
        size: size_of::<PerfEventAttr>() as u32,
        config: id,
        flags: DISABLED,
        ..PerfEventAttr::default()
    };
    let (every_process, first_cpu, no_group): (libc::pid_t, libc::c_int, libc::c_int) = (-1, 0, -1);
    // SAFETY: The kernel reads `attr.size` bytes from a pointer that is valid for this call, and
    // keeps nothing of it. The other arguments are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            every_process,
            first_cpu,
            no_group,
            CLOSE_ON_EXEC,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: The call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets the runtime wait for `fd`. It has to be called inside a tokio runtime.
///
/// # Errors
///
/// Those of epoll_ctl(2): EPERM for a file that cannot be waited for.
pub(crate) fn wait_on(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: An `OwnedFd` is open and stays the same descriptor for as long as it lives, and the
    // `AsyncFd` owns it from here on.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

/// Makes the allocator give back what is not in use. To be called once, before the first thread.
///
/// glibc makes an arena for each thread, and raises the size from which a block is the system's own
/// with each such block that is freed (mallopt(3)): with three threads and a snapshot every ten
/// seconds, 15 MB stay unused in the daemon. What this costs is a lock that three threads share.
pub(crate) fn keep_heap_small() {
    /// From this size on a block goes back to the system when it is freed; glibc's own beginning.
    const LARGE: libc::c_int = 128 << 10;
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
    {
        // SAFETY: Takes two numbers; a wrong one is refused and changes nothing.
        let _refused_is_harmless = unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives back what large work has left in the heap.
pub(crate) fn trim_heap() {
    // SAFETY: Takes the allocator's own lock and releases pages that no block is in (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    let _nothing_to_give = unsafe { libc::malloc_trim(0) };
}
