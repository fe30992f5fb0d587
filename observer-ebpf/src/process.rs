//! Which processes are watched, and who a task is.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_probe_read_kernel,
        generated::bpf_task_pt_regs,
    },
};
use observer_ebpf::{
    COMM_LEN,
    config::watch,
    counter::Counter,
    record::{Refusal, kind},
    row::close_on_exec,
};

use crate::{
    emit::{emit, header},
    maps::{WATCHED, config, offset},
    sock::bytes,
};

/// `RLIMIT_NOFILE` (include/uapi/asm-generic/resource.h).
const RLIMIT_NOFILE: usize = 7;

/// The process this code runs in; in a softirq, whoever was interrupted.
#[inline(always)]
pub(crate) fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Whether everything of this process is reported.
#[inline(always)]
pub(crate) fn is_watched(tgid: u32) -> bool {
    is_watched_for(watch_flags(tgid))
}

/// Whether everything of a process with these flags is reported.
#[inline(always)]
pub(crate) fn is_watched_for(flags: u32) -> bool {
    config!(watch_all) != 0 || flags & watch::REASONS != 0
}

/// Why the process is watched, `config::watch`; 0 if it is not.
#[inline(always)]
pub(crate) fn watch_flags(tgid: u32) -> u32 {
    // SAFETY: The value is copied at once; userspace and the hooks only ever replace it whole.
    unsafe { WATCHED.get(&tgid) }.map_or(0, |flags| *flags)
}

/// Whether call stacks are taken of a watched process with these flags.
#[inline(always)]
pub(crate) fn gives_stacks(flags: u32) -> bool {
    config!(stacks) != 0 || flags & watch::STACKS != 0
}

/// Where the running thread's stack ends in user space.
#[inline(always)]
pub(crate) fn user_stack_pointer() -> u64 {
    // SAFETY: As for `system_call`.
    let regs = unsafe {
        let task: *mut task_struct = bpf_get_current_task_btf();
        bpf_task_pt_regs(task) as *const u8
    };
    load(regs, offset!(regs_stack))
}

/// Start of the current process since boot, nanoseconds.
#[inline(always)]
pub(crate) fn current_start_ns() -> u64 {
    // SAFETY: The helper returns the running task, which the verifier knows by type; the loads
    // in `Task` are checked against that type.
    start_ns(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
}

/// Name of the current process.
#[inline(always)]
pub(crate) fn current_comm() -> [u8; COMM_LEN] {
    // SAFETY: As for `current_start_ns`.
    comm(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
}

/// The descriptor that the running thread gave to the system call that is connecting a socket;
/// -1 outside such a call (io_uring, a 32-bit process).
#[inline(always)]
pub(crate) fn connecting_descriptor() -> i32 {
    let (number, first) = system_call();
    let connecting = config!(connecting);
    let is_connecting =
        number == connecting[0] || number == connecting[1] || number == connecting[2];
    if is_connecting { first } else { -1 }
}

/// The descriptor that the running thread is giving to close(2); -1 outside of it.
#[inline(always)]
pub(crate) fn closing_descriptor() -> i32 {
    let (number, first) = system_call();
    if number == config!(closing) { first } else { -1 }
}

/// Whether the running thread is in socket(2).
#[inline(always)]
pub(crate) fn is_making_a_socket() -> bool {
    system_call().0 == config!(making)
}

/// Soft and hard limit of descriptors of the process that `task` belongs to.
#[inline(always)]
pub(crate) fn descriptor_limit(task: *const u8) -> [u64; 2] {
    let signal: *const u8 = load(task, offset!(task_signal));
    let limit = signal.wrapping_add(offset!(signal_rlim) + RLIMIT_NOFILE * size_of::<[u64; 2]>());
    // SAFETY: The helper checks the address; on failure the limits are 0, which says nothing.
    unsafe { bpf_probe_read_kernel(limit.cast()) }.unwrap_or_default()
}

/// Whether an exec of the process that `task` belongs to closes its descriptor `fd`, as
/// `row::close_on_exec` says it.
///
/// The bit of `fd` in `task->files->fdt->close_on_exec` (`close_on_exec`, include/linux/fdtable.h).
/// A table that is being replaced may show the former bit: the next walk shows the new one.
#[inline(always)]
pub(crate) fn close_on_exec(task: *const u8, fd: u32) -> u8 {
    let files: *const u8 = load(task, offset!(task_files));
    let table: *const u8 = load(files, offset!(files_fdt));
    // A process that is exiting has no table: all of it reads as 0.
    if fd >= load(table, offset!(fdt_max)) {
        return close_on_exec::UNKNOWN;
    }
    let bits: u64 = load(table, offset!(fdt_close_on_exec));
    let word = (bits + u64::from(fd / u64::BITS) * size_of::<u64>() as u64) as *const u64;
    // SAFETY: The helper checks the address and fails instead of faulting.
    match unsafe { bpf_probe_read_kernel(word) } {
        Ok(word) if word >> (fd % u64::BITS) & 1 == 0 => close_on_exec::UNSET,
        Ok(_) => close_on_exec::SET,
        Err(_) => close_on_exec::UNKNOWN,
    }
}

/// Number and first argument of the system call that the running thread is in.
///
/// The registers with which it entered the kernel still hold both, so that no hook on the call is
/// needed. `bpf_task_pt_regs`: 5.15.
#[inline(always)]
fn system_call() -> (u32, i32) {
    // SAFETY: The helpers return the running task and its registers, which the verifier knows by
    // type; the loads are checked against that type.
    let regs = unsafe {
        let task: *mut task_struct = bpf_get_current_task_btf();
        bpf_task_pt_regs(task) as *const u8
    };
    (load(regs, offset!(regs_syscall)), load(regs, offset!(regs_first)))
}

/// Start of the process that `task` belongs to.
#[inline(always)]
pub(crate) fn start_ns(task: *const u8) -> u64 {
    let leader: *const u8 = load(task, offset!(task_leader));
    load(leader, offset!(task_start))
}

/// Process number of `task`.
#[inline(always)]
pub(crate) fn tgid(task: *const u8) -> u32 {
    load(task, offset!(task_tgid))
}

/// Thread number of `task`.
#[inline(always)]
pub(crate) fn pid(task: *const u8) -> u32 {
    load(task, offset!(task_pid))
}

/// Threads of the process that have not begun to exit.
#[inline(always)]
pub(crate) fn live_threads(task: *const u8) -> u32 {
    let signal: *const u8 = load(task, offset!(task_signal));
    load(signal, offset!(signal_live))
}

/// Reports that the running process was refused something.
#[inline(always)]
pub(crate) fn report_refusal(tgid: u32, call: u32, errno: u32) {
    emit(
        Counter::RingDescriptor,
        Refusal {
            header: header(kind::EXHAUSTED, tgid),
            start_ns: current_start_ns(),
            call,
            errno,
            comm: current_comm(),
        },
    );
}

/// Name of the process: its leader thread's, not the thread's that happens to run.
#[inline(always)]
pub(crate) fn comm(task: *const u8) -> [u8; COMM_LEN] {
    let leader: *const u8 = load(task, offset!(task_leader));
    let name = leader.wrapping_add(offset!(task_comm));
    // SAFETY: The helper checks the address; on failure the name stays empty.
    bytes(unsafe { bpf_probe_read_kernel(name.cast()) }.unwrap_or_default())
}

/// A direct load from a kernel object that the verifier knows by type.
///
/// The verifier checks the offset against the kernel's BTF and turns a bad pointer into a zero.
#[inline(always)]
pub(crate) fn load<T: Copy>(object: *const u8, offset: usize) -> T {
    // SAFETY: See above: the verifier proves it or refuses the program.
    unsafe { core::ptr::read_volatile(object.add(offset).cast::<T>()) }
}
