//! `tp_btf/tcp_destroy_sock`: the kernel gives a socket up, or had no descriptor for it. Layer A.
//!
//! Kernel: `void tcp_destroy_sock(struct sock *sk)`, called from `tcp_v4_destroy_sock`, which IPv6
//! shares. As a BTF tracepoint: 5.5.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use observer_ebpf::{
    counter::Counter,
    record::{SocketRef, call, errno, kind},
};

use crate::{
    emit::{emit, header},
    maps::offset,
    process::{current_tgid, is_making_a_socket, is_watched, load, report_refusal},
    sock, watch,
};

/// Reports the end of a watched socket.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn destroy(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    if is_refused(sk) {
        let tgid = current_tgid();
        if is_watched(tgid) {
            report_refusal(tgid, call::SOCKET, errno::EMFILE);
        }
    }
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

/// Whether socket(2) destroys what it has just made, because there is no descriptor for it
/// (`sock_map_fd`, net/socket.c: EMFILE, or ENFILE).
///
/// A softirq may interrupt socket(2) and destroy sockets of anybody here: those were connected, and
/// keep the port of their peer. Where a program attached to a control group refuses the socket,
/// the kernel destroys one that nobody has closed (`sk_common_release`).
#[inline(always)]
fn is_refused(sk: *const u8) -> bool {
    let (remote_port, local_port): (u16, u16) =
        (load(sk, offset!(skc_dport)), load(sk, offset!(skc_num)));
    remote_port == 0 && local_port == 0 && sock::is_dead(sk) && is_making_a_socket()
}
