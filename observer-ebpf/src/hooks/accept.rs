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
    process::{current_start_ns, current_tgid, is_watched},
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
    // What accept(2) returns is a socket.
    if let Some(cookie) = sock::file_of(fd as u32).and_then(sock::cookie_of) {
        emit(
            Counter::RingDescriptor,
            SocketRef {
                header: header(kind::ACCEPT, tgid),
                cookie,
                start_ns: current_start_ns(),
                fd: fd as i32,
                references: 0,
            },
        );
    }
    0
}
