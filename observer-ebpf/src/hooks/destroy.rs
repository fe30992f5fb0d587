//! `tp_btf/tcp_destroy_sock`: the kernel gives a socket up. Layer A.
//!
//! Kernel: `void tcp_destroy_sock(struct sock *sk)`, called from `tcp_v4_destroy_sock`, which IPv6
//! shares. As a BTF tracepoint: 5.5.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use observer_ebpf::{
    counter::Counter,
    record::{SocketRef, kind},
};

use crate::{
    emit::{emit, header},
    process::current_tgid,
    sock, watch,
};

/// Reports the end of a watched socket.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn destroy(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let cookie = sock::cookie(sk);
    if watch::is_reported(cookie) {
        watch::unmark(cookie);
        emit(
            Counter::RingDestroy,
            SocketRef {
                header: header(kind::DESTROY, current_tgid()),
                cookie,
                start_ns: 0,
                fd: -1,
                references: 0,
            },
        );
    }
    0
}
