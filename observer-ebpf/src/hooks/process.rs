//! `tp_btf/sched_process_{fork,exec,exit}`: processes come, change and go. Layer A.
//!
//! A process that is to be watched is put into the map here, before it runs its first
//! instruction: userspace would be some milliseconds late. As BTF tracepoints: 5.5.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use observer_ebpf::{
    config::watch,
    counter::Counter,
    record::{ProcessChange, kind},
};

use crate::{
    emit::{count, emit, header},
    maps::{COMMS, WATCHED, config},
    process::{comm, live_threads, pid, start_ns, tgid, watch_flags},
};

/// `void sched_process_fork(struct task_struct *parent, struct task_struct *child)`, called from
/// `kernel_clone` before the child runs.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    let child_tgid = tgid(child);
    // A new thread is no new process.
    if pid(child) != child_tgid {
        return 0;
    }
    let parent_tgid = tgid(parent);
    let parent_flags = watch_flags(parent_tgid);
    let mut flags = 0;
    if parent_flags != 0 {
        flags = parent_flags & watch::INHERITED | watch::KIN;
        watch(child_tgid, flags);
    }
    if flags != 0 || config!(watch_all) != 0 {
        report(kind::FORK, child, parent_tgid, flags);
    }
    0
}

/// `void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`,
/// called from `exec_binprm` when the new program has its name.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec(ctx: BtfTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    let process = tgid(task);
    // SAFETY: The value is copied at once.
    let named = unsafe { COMMS.get(&comm(task)) }.map(|also| watch::COMM | *also);
    let known = watch_flags(process);
    // A process that was watched for its name and has another now is so no more.
    let flags = known & !watch::COMM | named.unwrap_or(0);
    // Stacks alone make nobody watched, but where all are.
    let flags = if flags == watch::STACKS && config!(watch_all) == 0 { 0 } else { flags };
    if flags != 0 {
        watch(process, flags);
    } else if known != 0 {
        let _ = WATCHED.remove(&process);
    }
    if flags | known != 0 || config!(watch_all) != 0 {
        report(kind::EXEC, task, 0, flags);
    }
    0
}

/// `void sched_process_exit(struct task_struct *p)` (6.16 adds `bool group_dead`), called from
/// `do_exit` for every thread, before its files are closed.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit(ctx: BtfTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    // `signal->live` was counted down before: 0 means that no thread is left.
    if live_threads(task) != 0 {
        return 0;
    }
    let process = tgid(task);
    let flags = watch_flags(process);
    if flags != 0 {
        let _ = WATCHED.remove(&process);
    }
    if flags != 0 || config!(watch_all) != 0 {
        report(kind::EXIT, task, 0, flags);
    }
    0
}

#[inline(always)]
fn watch(tgid: u32, flags: u32) {
    if WATCHED.insert(&tgid, &flags, 0).is_err() {
        count(Counter::WatchFull);
    }
}

#[inline(always)]
fn report(kind: u32, task: *const u8, parent: u32, watch: u32) {
    emit(
        Counter::RingProcess,
        ProcessChange {
            header: header(kind, tgid(task)),
            start_ns: start_ns(task),
            parent,
            watch,
            comm: comm(task),
        },
    );
}
