//! `tp_btf/tcp_retransmit_skb`: a SYN had no answer and is sent again. Layer A.
//!
//! Kernel: `void tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb)`, called from
//! `__tcp_retransmit_skb` (net/ipv4/tcp_output.c); later kernels pass more after these. 4.16.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use observer_ebpf::{
    counter::Counter,
    record::{SocketRef, kind},
    tcp_state::SYN_SENT,
};

use crate::{
    emit::{emit, header},
    maps::offset,
    process::load,
    sock, watch,
};

/// Reports that a watched socket, still connecting, repeats its SYN. Other retransmissions say
/// nothing about who holds what.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn retransmit(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    if load::<u8>(sk, offset!(skc_state)) != SYN_SENT {
        return 0;
    }
    let cookie = sock::cookie(sk);
    if watch::is_reported(cookie) {
        let record = SocketRef {
            // It runs in a timer: whoever it interrupted has nothing to do with it.
            header: header(kind::SYN_RETRANSMIT, 0),
            cookie,
            start_ns: 0,
            fd: -1,
            references: 0,
        };
        emit(Counter::RingState, record);
    }
    0
}
