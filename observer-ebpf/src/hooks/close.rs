//! `syscalls/sys_enter_close`: who closes which descriptor of which socket. Layer B.
//!
//! close_range(2), dup2(2) over a descriptor, exec, exit and io_uring do not come by here. The
//! changes of state, the destroy hook and the snapshot cover them (docs/kernel.md).

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use observer_ebpf::{
    COMM_LEN,
    counter::Counter,
    record::{SocketRef, kind},
};

use super::syscall;
use crate::{
    emit::{emit, header},
    process::{current_start_ns, current_tgid, is_watched},
    sock,
};

/// `close(unsigned int fd)` begins.
#[tracepoint]
pub fn close_enter(ctx: TracePointContext) -> u32 {
    let tgid = current_tgid();
    if !is_watched(tgid) {
        return 0;
    }
    let fd = syscall::argument(&ctx) as u32;
    if let Some(found) = sock::behind_descriptor(fd) {
        emit(
            Counter::RingDescriptor,
            SocketRef {
                header: header(kind::CLOSE, tgid),
                cookie: found.cookie,
                start_ns: current_start_ns(),
                fd: fd as i32,
                references: found.references,
                comm: [0; COMM_LEN],
            },
        );
    }
    0
}
