//! `tp_btf/inet_sock_set_state`: every change of TCP state. Layer A.
//!
//! Kernel: `void inet_sock_set_state(const struct sock *sk, const int oldstate, const int
//! newstate)`, called from `tcp_set_state` and `inet_sk_state_store` (net/ipv4). With
//! `bpf_get_socket_cookie` in tracing programs 5.12, with `bpf_task_pt_regs` 5.15.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::warn;
use observer_ebpf::{
    AF_INET,
    counter::Counter,
    record::{BriefChange, StateChange, call, change, errno, kind},
    tcp_state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT},
};

use super::stacks;
use crate::{
    emit::{emit, header},
    hooks::names,
    maps::{Listener, config},
    process::{
        closing_descriptor, connecting_descriptor, current_comm, current_start_ns, current_tgid,
        gives_stacks, is_watched_for, report_refusal, watch_flags,
    },
    sock::{self, bytes},
    watch,
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
    let is_quiet = config!(quiet) != 0;
    let is_dead = sock::is_dead(sk);
    if is_quiet && is_dead && new != CLOSE {
        return None;
    }
    // connect(2) and listen(2) run in the process that owns the socket. Everywhere else the
    // current process may be anybody.
    let by_owner = old == CLOSE && (new == SYN_SENT || new == LISTEN);
    let is_accepted = old == SYN_RECV && new == ESTABLISHED;
    let cookie = sock::cookie(sk);
    let is_known = watch::is_reported(cookie);
    if !is_known && !by_owner && !is_accepted {
        return None;
    }
    let tgid = current_tgid();
    let watch_flags = if by_owner { watch_flags(tgid) } else { 0 };
    let ends = sock::ends(sk)?;
    if !is_known {
        let is_wanted = by_owner && is_watched_for(watch_flags)
            || is_accepted && watch::is_listening(ends.place());
        if !is_wanted && !watch::is_on_port(ends.local_port, ends.remote_port) {
            return None;
        }
        if !watch::mark(cookie) {
            warn!(ctx, "no room to watch a socket of process {}", tgid);
        }
    }
    // Again when it is answered, which may take minutes.
    if new == SYN_SENT || old == SYN_SENT {
        names::expect();
    }
    if config!(watch_all) == 0 {
        if new == LISTEN {
            watch::listen(ends.place());
        } else if old == LISTEN {
            let tcp = sock::tcp_sock(sk);
            if !tcp.is_null() {
                let port = u32::from(sock::lasting_port(tcp));
                watch::unlisten(Listener { netns: ends.netns, port });
            }
        }
    }
    // connect(2) itself gives up before it has a local port: all of them are taken
    // (`inet_hash_connect` in `tcp_v4_connect`). Refused, timed out and unreachable ones had one.
    if old == SYN_SENT && new == CLOSE {
        let tcp = sock::tcp_sock(sk);
        if !tcp.is_null() && sock::lasting_port(tcp) == 0 {
            report_refusal(tgid, call::CONNECT, errno::EADDRNOTAVAIL);
        }
    }
    let mut flags = if by_owner { change::BY_OWNER } else { 0 };
    let mut fd = if new == SYN_SENT { connecting_descriptor() } else { -1 };
    // Only the program itself takes a socket there, by shutdown(2) or a close; no softirq does.
    if new == FIN_WAIT1 || new == LAST_ACK {
        fd = closing_descriptor();
        if fd >= 0 {
            flags |= change::BY_CLOSE;
        }
    }
    // Nothing comes after this one but the destruction of the socket, which is then no news.
    if is_dead && new == CLOSE || is_quiet && flags & change::BY_CLOSE != 0 {
        flags |= change::LAST;
        if config!(watch_all) == 0 {
            watch::unmark(cookie);
        }
    }
    let (copied_seq, unread) = if new == ESTABLISHED || new == CLOSE_WAIT {
        let tcp = sock::tcp_sock(sk);
        if tcp.is_null() { (0, 0) } else { sock::read_position(tcp) }
    } else {
        (0, 0)
    };
    let by_process = flags & (change::BY_OWNER | change::BY_CLOSE) != 0;
    let start_ns = if by_process { current_start_ns() } else { 0 };
    if ends.family == AF_INET && !by_owner {
        let ([l0, l1, l2, l3, ..], [r0, r1, r2, r3, ..]) = (ends.local, ends.remote);
        let brief = BriefChange {
            header: header(kind::BRIEF, tgid),
            cookie,
            start_ns,
            netns: ends.netns,
            fd,
            copied_seq,
            unread,
            local: [l0, l1, l2, l3],
            remote: [r0, r1, r2, r3],
            local_port: ends.local_port,
            remote_port: ends.remote_port,
            old,
            new,
            flags: flags as u8,
            _reserved: 0,
        };
        emit(Counter::RingState, brief);
        return Some(());
    }
    if new == SYN_SENT && gives_stacks(watch_flags) {
        stacks::take(ctx, tgid, cookie);
    }
    emit(
        Counter::RingState,
        StateChange {
            header: header(kind::STATE, tgid),
            cookie,
            start_ns,
            netns: ends.netns,
            fd,
            flags,
            _reserved: 0,
            old,
            new,
            family: ends.family,
            local_port: ends.local_port,
            remote_port: ends.remote_port,
            local: ends.local,
            remote: ends.remote,
            copied_seq,
            unread,
            comm: if by_owner { current_comm() } else { bytes([0; 2]) },
        },
    );
    Some(())
}
