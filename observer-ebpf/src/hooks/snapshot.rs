//! `iter/task_file` and `iter/tcp`: the snapshot. Layer A.
//!
//! `task_file` visits every open file of every process: the descriptors of TCP sockets, those in
//! CLOSE included, which neither `ss` nor inet_diag can see. `tcp` visits the TCP sockets of the
//! reader's network namespace: those without a descriptor too (waiting for accept(2), or orphans).
//! On the way they count what watched processes have open, and local ports by destination.
//! With `bpf_sock_from_file` 5.11, with the cookie 5.12. aya has no macro for iterators.

mod open;
mod routes;

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_ktime_get_ns,
    generated::{bpf_jiffies64, bpf_seq_write, bpf_sock_from_file},
};
use observer_ebpf::{
    AF_INET, AF_INET6,
    counter::Counter,
    row::{NO_FD, Row, close_on_exec},
    tcp_state::{LISTEN, SYN_SENT},
};

use crate::{
    emit::count,
    maps::{config, offset},
    process::{self, load},
    sock::{self, bytes},
    watch,
};

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
pub struct Meta {
    seq: *mut c_void,
    session_id: u64,
    seq_num: u64,
}

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c). Each pointer fills 8 bytes.
#[repr(C)]
pub struct TaskFile {
    meta: *const Meta,
    task: *const u8,
    fd: u32,
    _padding: u32,
    file: *const u8,
}

/// `struct bpf_iter__tcp` (net/ipv4/tcp_ipv4.c).
#[repr(C)]
pub struct Tcp {
    meta: *const Meta,
    sk_common: *const u8,
    uid: u32,
}

/// Writes a row if the file is a TCP socket of a watched process, or a watched socket in any.
#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
pub extern "C" fn task_file(ctx: *const TaskFile) -> i32 {
    try_task_file(ctx);
    0
}

/// Writes a row for a watched socket, with or without a descriptor.
#[unsafe(link_section = "iter/tcp")]
#[unsafe(no_mangle)]
pub extern "C" fn tcp(ctx: *const Tcp) -> i32 {
    try_tcp(ctx);
    0
}

#[inline(always)]
fn try_task_file(ctx: *const TaskFile) -> Option<()> {
    // SAFETY: The kernel passes a context of this type; the verifier checks each load.
    let (meta, task, fd, file) = unsafe {
        (
            (&raw const (*ctx).meta).read_volatile(),
            (&raw const (*ctx).task).read_volatile(),
            (&raw const (*ctx).fd).read_volatile(),
            (&raw const (*ctx).file).read_volatile(),
        )
    };
    if task.is_null() || file.is_null() {
        open::end(meta);
        return None;
    }
    let mut file_kind = open::kind(file);
    if let Some(sk) = tcp_of(file, file_kind) {
        file_kind = open::Kind::Tcp;
        // The kernel calls again for this file, which is counted then.
        if !try_descriptor(meta, task, fd, sk).unwrap_or(true) {
            return None;
        }
    }
    open::count(meta, task, file_kind);
    Some(())
}

/// The TCP socket that an open file is.
#[inline(always)]
fn tcp_of(file: *const u8, kind: open::Kind) -> Option<*const u8> {
    if kind != open::Kind::Socket {
        return None;
    }
    // SAFETY: The verifier checks that `file` is one.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast_const().cast::<u8>();
    if socket.is_null() {
        return None;
    }
    let sk: *const u8 = load(socket, offset!(socket_sk));
    if sk.is_null() {
        return None;
    }
    let family: u16 = load(sk, offset!(skc_family));
    (family == AF_INET || family == AF_INET6).then_some(sk).filter(|sk| sock::is_tcp(*sk))
}

/// Writes the row of a descriptor that is to be reported; false if there was no room for it.
#[inline(always)]
fn try_descriptor(meta: *const Meta, task: *const u8, fd: u32, sk: *const u8) -> Option<bool> {
    let tgid = process::tgid(task);
    let cookie = sock::cookie(sk);
    let mut row = describe(sk, cookie)?;
    if !watch::is_reported(cookie) {
        if !process::is_watched(tgid) && !watch::is_on_port(row.local_port, row.remote_port) {
            return None;
        }
        // A failure was counted; the row is written all the same.
        let _ = watch::mark(cookie);
    }
    // Also heals what a listen(2) without a port, or a listener that came from elsewhere, left.
    if row.state == LISTEN && config!(watch_all) == 0 && process::is_watched(tgid) {
        watch::keep_listening(row.netns, row.local_port);
    }
    row.tgid = tgid;
    row.fd = fd as i32;
    row.start_ns = process::start_ns(task);
    row.close_on_exec = process::close_on_exec(task, fd);
    row.comm = process::comm(task);
    Some(write(meta, &row))
}

#[inline(always)]
fn try_tcp(ctx: *const Tcp) -> Option<()> {
    // SAFETY: As above.
    let (meta, sk) = unsafe {
        ((&raw const (*ctx).meta).read_volatile(), (&raw const (*ctx).sk_common).read_volatile())
    };
    if sk.is_null() {
        return None;
    }
    if !try_socket(meta, sk).unwrap_or(true) {
        return None;
    }
    routes::count(meta, sk);
    Some(())
}

/// Writes the row of a socket that is to be reported; false if there was no room for it.
#[inline(always)]
fn try_socket(meta: *const Meta, sk: *const u8) -> Option<bool> {
    // Null for TIME_WAIT and for requests: they are no full sockets and hold no descriptor.
    let tcp = sock::tcp_sock(sk);
    if tcp.is_null() {
        return None;
    }
    let cookie = sock::cookie(tcp);
    if !watch::is_reported(cookie) {
        return None;
    }
    let row = describe(tcp, cookie)?;
    Some(write(meta, &row))
}

/// All that a row says of a socket by itself.
#[inline(always)]
fn describe(sk: *const u8, cookie: u64) -> Option<Row> {
    let tcp = sock::tcp_sock(sk);
    if tcp.is_null() {
        return None;
    }
    let ends = sock::ends(tcp)?;
    let state: u8 = load(tcp, offset!(skc_state));
    let (copied_seq, unread) = sock::read_position(tcp);
    let (write_seq, acked): (u32, u32) =
        (load(tcp, offset!(write_seq)), load(tcp, offset!(snd_una)));
    let (sent, received): (u32, u32) = (load(tcp, offset!(lsndtime)), load(tcp, offset!(lrcvtime)));
    let (time_ns, jiffies) = now();
    let quiet = state == LISTEN || state == SYN_SENT;
    Some(Row {
        cookie,
        time_ns,
        jiffies,
        start_ns: 0,
        tgid: 0,
        fd: NO_FD,
        netns: ends.netns,
        state,
        close_on_exec: close_on_exec::UNKNOWN,
        family: ends.family,
        local_port: sock::lasting_port(tcp),
        remote_port: ends.remote_port,
        copied_seq,
        unread: if quiet { 0 } else { unread },
        unacked: if quiet { 0 } else { write_seq.wrapping_sub(acked) },
        write_seq,
        sent_ago: (jiffies as u32).wrapping_sub(sent),
        received_ago: (jiffies as u32).wrapping_sub(received),
        _padding: 0,
        local: ends.local,
        remote: ends.remote,
        comm: bytes([0; 2]),
    })
}

/// Writes a row; false if there was no room for it, so that the kernel will call again.
#[inline(always)]
fn write<T>(meta: *const Meta, row: &T) -> bool {
    // SAFETY: The verifier checks the sequence file and that the row is initialised memory.
    let refused = unsafe {
        let seq = (&raw const (*meta).seq).read_volatile();
        bpf_seq_write(seq.cast(), core::ptr::from_ref(row).cast(), size_of::<T>() as u32)
    };
    // -EOVERFLOW: the kernel hands out what it has and calls again for this file. Anything else
    // is a row that nobody will see.
    if refused != 0 && refused != -75 {
        count(Counter::RowTooLarge);
    }
    refused == 0
}

/// The kernel's number for the walk that calls.
#[inline(always)]
fn walk(meta: *const Meta) -> u64 {
    // SAFETY: The kernel passes it; the verifier checks the load.
    unsafe { (&raw const (*meta).session_id).read_volatile() }
}

/// The clock and the kernel's tick counter.
#[inline(always)]
fn now() -> (u64, u64) {
    // SAFETY: Helpers without arguments.
    unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) }
}
