//! `syscalls/sys_enter_close`: who closes a descriptor that is not the last of its socket. Layer B.
//!
//! close_range(2), dup2(2) over a descriptor, exec, exit and io_uring do not come by here. The
//! changes of state, the destroy hook and the snapshot cover them (docs/kernel.md).

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use observer_ebpf::{
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
    if is_watched(tgid) {
        try_close(tgid, syscall::argument(&ctx) as u32);
    }
    0
}

#[inline(always)]
fn try_close(tgid: u32, fd: u32) -> Option<()> {
    let file = sock::file_of(fd)?;
    let references = sock::references(file)?;
    // The last one: what follows of it is told by the change of state that it causes, which names
    // the descriptor, or by the end of the socket.
    if references == 1 || !sock::is_socket(file) {
        return None;
    }
    let cookie = sock::cookie_of(file)?;
    emit(
        Counter::RingDescriptor,
        SocketRef {
            header: header(kind::CLOSE, tgid),
            cookie,
            start_ns: current_start_ns(),
            fd: fd as i32,
            references,
        },
    );
    Some(())
}
