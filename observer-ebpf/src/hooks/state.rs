//! `tp_btf/inet_sock_set_state`: every change of TCP state. Layer A.
//!
//! Kernel: `void inet_sock_set_state(const struct sock *sk, const int oldstate, const int
//! newstate)`, called from `tcp_set_state` and `inet_sk_state_store` (net/ipv4). With
//! `bpf_get_socket_cookie` in tracing programs: 5.12.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use observer_ebpf::{
    COMM_LEN,
    counter::Counter,
    record::{StateChange, kind},
    tcp_state::{CLOSE, CLOSE_WAIT, ESTABLISHED, LISTEN, SYN_RECV, SYN_SENT},
};

use crate::{
    emit::{emit, header},
    maps::{CONNECTING, config},
    process::{current_comm, current_start_ns, is_watched},
    sock,
};

/// Reports a change of state of a watched socket.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn state(ctx: BtfTracePointContext) -> i32 {
    try_state(&ctx);
    0
}

#[inline(always)]
fn try_state(ctx: &BtfTracePointContext) -> Option<()> {
    let sk: *const u8 = ctx.arg(0);
    let (old, new): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    let (old, new) = (old as u8, new as u8);
    // Before 6.18 this one carries the listener's cookie and no peer. The first true word about
    // an accepted socket is SYN_RECV -> ESTABLISHED.
    if old == LISTEN && new == SYN_RECV || !sock::is_tcp(sk) {
        return None;
    }
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    // connect(2) and listen(2) run in the process that owns the socket: here a socket is taken
    // under watch. Everywhere else the mark decides, for the current process may be anybody.
    let by_owner = old == CLOSE && (new == SYN_SENT || new == LISTEN);
    if config!(watch_all) == 0 && !sock::is_marked(sk) {
        if !by_owner || !is_watched(tgid) {
            return None;
        }
        if !sock::mark(sk) {
            // Rare, and the operator can act: net.core.optmem_max bounds what a socket may carry.
            warn!(ctx, "no memory to mark a socket of process {} as watched", tgid);
        }
    }
    let ends = sock::ends(sk)?;
    let fd = if new == SYN_SENT {
        // SAFETY: The value is copied at once and only this thread writes this key.
        unsafe { CONNECTING.get(&pid_tgid) }.map_or(-1, |fd| *fd as i32)
    } else {
        -1
    };
    let (copied_seq, unread) = if new == ESTABLISHED || new == CLOSE_WAIT {
        let tcp = sock::tcp_sock(sk);
        if tcp.is_null() { (0, 0) } else { sock::read_position(tcp) }
    } else {
        (0, 0)
    };
    emit(
        Counter::RingState,
        StateChange {
            header: header(kind::STATE, tgid),
            cookie: sock::cookie(sk),
            start_ns: if by_owner { current_start_ns() } else { 0 },
            netns: ends.netns,
            fd,
            old,
            new,
            family: ends.family,
            local_port: ends.local_port,
            remote_port: ends.remote_port,
            local: ends.local,
            remote: ends.remote,
            copied_seq,
            unread,
            comm: if by_owner { current_comm() } else { [0; COMM_LEN] },
        },
    );
    Some(())
}
