//! `syscalls/sys_exit_accept` and `sys_exit_accept4`: the descriptor and the owner of an incoming
//! connection, or that there was no descriptor for it. Layer B.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use observer_ebpf::{
    counter::Counter,
    record::{SocketRef, call, errno, kind},
};

use super::{stacks, syscall};
use crate::{
    emit::{emit, header},
    process::{
        current_start_ns, current_tgid, gives_stacks, is_watched_for, report_refusal, watch_flags,
    },
    sock,
};

/// `accept` or `accept4` returns.
#[tracepoint]
pub fn accept(ctx: TracePointContext) -> u32 {
    let fd = syscall::result(&ctx);
    let tgid = current_tgid();
    let is_refused = fd == -i64::from(errno::EMFILE) || fd == -i64::from(errno::ENFILE);
    if fd < 0 && !is_refused {
        return 0;
    }
    let flags = watch_flags(tgid);
    if !is_watched_for(flags) {
        return 0;
    }
    if is_refused {
        report_refusal(tgid, call::ACCEPT, -fd as u32);
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
        if cookie != 0 && gives_stacks(flags) {
            stacks::take(&ctx, tgid, cookie);
        }
    }
    0
}
