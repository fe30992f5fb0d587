//! `syscalls/sys_{enter,exit}_connect`: the descriptor of an outgoing connection. Layer B.
//!
//! Between the two the thread's descriptor lies in `CONNECTING`, where the change CLOSE ->
//! SYN_SENT finds it: the first record of a socket names its descriptor.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext,
};
use observer_ebpf::counter::Counter;

use super::syscall;
use crate::{emit::count, maps::CONNECTING, process::is_watched};

/// `connect(int fd, struct sockaddr *addr, int len)` begins.
#[tracepoint]
pub fn connect_enter(ctx: TracePointContext) -> u32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    if is_watched((pid_tgid >> 32) as u32) {
        let fd = syscall::argument(&ctx) as u32;
        if CONNECTING.insert(&pid_tgid, &fd, 0).is_err() {
            count(Counter::StashFull);
        }
    }
    0
}

/// It returns; EINPROGRESS included, for the change of state came before.
#[tracepoint]
pub fn connect_exit(_ctx: TracePointContext) -> u32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    if is_watched((pid_tgid >> 32) as u32) {
        let _ = CONNECTING.remove(&pid_tgid);
    }
    0
}
