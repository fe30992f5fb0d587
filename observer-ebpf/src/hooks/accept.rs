//! `syscalls/sys_exit_accept` and `sys_exit_accept4`: the descriptor and the owner of an incoming
//! connection. Layer B.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use observer_ebpf::{
    counter::Counter,
    record::{SocketRef, kind},
};

use super::syscall;
use crate::{
    emit::{emit, header},
    process::{current_comm, current_start_ns, current_tgid, is_watched},
    sock,
};

/// `accept` or `accept4` returns.
#[tracepoint]
pub fn accept(ctx: TracePointContext) -> u32 {
    let fd = syscall::result(&ctx);
    let tgid = current_tgid();
    if fd < 0 || !is_watched(tgid) {
        return 0;
    }
    if let Some(found) = sock::behind_descriptor(fd as u32) {
        emit(
            Counter::RingDescriptor,
            SocketRef {
                header: header(kind::ACCEPT, tgid),
                cookie: found.cookie,
                start_ns: current_start_ns(),
                fd: fd as i32,
                references: 0,
                comm: current_comm(),
            },
        );
    }
    0
}
