//! Reading kernel sockets. With `process`, the only code that follows kernel pointers.

use aya_ebpf::helpers::{
    bpf_get_current_task_btf, bpf_probe_read_kernel,
    generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
};
use observer_ebpf::{AF_INET, AF_INET6, counter::Counter};

use crate::{
    emit::count,
    maps::{Listener, config, offset},
    process::load,
};

/// `IPPROTO_TCP`.
const TCP: u16 = 6;

/// `S_IFMT` and `S_IFSOCK` (include/uapi/linux/stat.h).
const FILE_KIND: u16 = 0xf000;
const SOCKET_FILE: u16 = 0xc000;

/// Whether `sk` is a TCP socket.
#[inline(always)]
pub(crate) fn is_tcp(sk: *const u8) -> bool {
    load::<u16>(sk, offset!(sk_protocol)) == TCP
}

/// The cookie of `sk`, made now if it has none. `sk` has to be known to the verifier by type.
#[inline(always)]
pub(crate) fn cookie(sk: *const u8) -> u64 {
    // SAFETY: The verifier checks that `sk` is a socket.
    unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) }
}

/// Whether the kernel has given `sk` up for its program: no file refers to it and none will.
///
/// `SOCK_DEAD`, the first of `enum sock_flags` (include/net/sock.h). A socket that waits for
/// accept(2) has no file either, but is not dead.
#[inline(always)]
pub(crate) fn is_dead(sk: *const u8) -> bool {
    load::<u64>(sk, offset!(sk_flags)) & 1 != 0
}

/// The ends of a connection, in the form of the ABI.
pub(crate) struct Ends {
    pub(crate) netns: u32,
    pub(crate) family: u16,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) local: [u8; 16],
    pub(crate) remote: [u8; 16],
}

impl Ends {
    /// Where a listener has to be to have accepted this.
    pub(crate) fn place(&self) -> Listener {
        Listener { netns: self.netns, port: u32::from(self.local_port) }
    }
}

/// The ends of `sk`; `None` for a family that is not IP.
#[inline(always)]
pub(crate) fn ends(sk: *const u8) -> Option<Ends> {
    let family: u16 = load(sk, offset!(skc_family));
    // In words: the compiler zeroes arrays of bytes in a loop, byte by byte.
    let (mut local, mut remote) = ([0u64; 2], [0u64; 2]);
    if family == AF_INET {
        local[0] = u64::from(load::<u32>(sk, offset!(skc_rcv_saddr)));
        remote[0] = u64::from(load::<u32>(sk, offset!(skc_daddr)));
    } else if family == AF_INET6 {
        // A typed load of a union of arrays is more than old verifiers follow.
        let here = sk.wrapping_add(offset!(skc_v6_rcv_saddr));
        let there = sk.wrapping_add(offset!(skc_v6_daddr));
        // SAFETY: The helper checks the addresses; on failure they stay zero.
        local = unsafe { bpf_probe_read_kernel(here.cast()) }.unwrap_or_default();
        // SAFETY: As above.
        remote = unsafe { bpf_probe_read_kernel(there.cast()) }.unwrap_or_default();
    } else {
        return None;
    }
    let net: *const u8 = load(sk, offset!(skc_net));
    let remote_port: u16 = load(sk, offset!(skc_dport));
    Some(Ends {
        netns: load(net, offset!(net_inum)),
        family,
        local_port: load(sk, offset!(skc_num)),
        remote_port: u16::from_be(remote_port),
        local: bytes(local),
        remote: bytes(remote),
    })
}

/// Two words as the 16 bytes that they are in memory.
#[inline(always)]
pub(crate) fn bytes(words: [u64; 2]) -> [u8; 16] {
    // SAFETY: Both have the same size, and any bytes are a value of either.
    unsafe { core::mem::transmute(words) }
}

/// `sk` as a full TCP socket that the verifier knows by type; null for TIME_WAIT and requests.
#[inline(always)]
pub(crate) fn tcp_sock(sk: *const u8) -> *const u8 {
    // SAFETY: The verifier checks that `sk` is a socket.
    unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) }.cast_const().cast()
}

/// The local port, also after it was given back, when `skc_num` is 0.
#[inline(always)]
pub(crate) fn lasting_port(tcp: *const u8) -> u16 {
    u16::from_be(load(tcp, offset!(inet_sport)))
}

/// How far the program has read, and how many bytes it has not.
#[inline(always)]
pub(crate) fn read_position(tcp: *const u8) -> (u32, u32) {
    let copied: u32 = load(tcp, offset!(copied_seq));
    let next: u32 = load(tcp, offset!(rcv_nxt));
    (copied, next.wrapping_sub(copied))
}

/// The open file behind descriptor `fd` of the running process: its address.
///
/// Follows `current->files->fdt->fd[fd]`. From the array on the verifier knows no types, so the
/// address is a plain number. `None` if there is none, or, counted, if it cannot be read.
#[inline(always)]
pub(crate) fn file_of(fd: u32) -> Option<u64> {
    // SAFETY: The helper returns the running task, which the verifier knows by type.
    let task: *const u8 = unsafe { bpf_get_current_task_btf() }.cast_const().cast();
    let files: *const u8 = load(task, offset!(task_files));
    let table: *const u8 = load(files, offset!(files_fdt));
    if fd >= load(table, offset!(fdt_max)) {
        return None;
    }
    let array: u64 = load(table, offset!(fdt_fd));
    read(array, fd as usize * 8).filter(|file| *file != 0)
}

/// References to an open file. A hint: threads inside a system call on it, io_uring and messages
/// in flight count too.
#[inline(always)]
pub(crate) fn references(file: u64) -> Option<u32> {
    read::<u32>(file, offset!(file_refs)).map(|count| count.wrapping_add(config!(refs_bias)))
}

/// Whether an open file is a socket.
#[inline(always)]
pub(crate) fn is_socket(file: u64) -> bool {
    read::<u64>(file, offset!(file_inode))
        .and_then(|inode| read::<u16>(inode, offset!(inode_mode)))
        .is_some_and(|mode| mode & FILE_KIND == SOCKET_FILE)
}

/// The cookie of the TCP socket of a socket's file; 0 if nobody asked for it yet. `None` for
/// sockets of other protocols.
#[inline(always)]
pub(crate) fn cookie_of(file: u64) -> Option<u64> {
    let socket: u64 = read(file, offset!(file_private))?;
    let sk: u64 = read(socket, offset!(socket_sk))?;
    if sk == 0 {
        return None;
    }
    let cookie: u64 = read(sk, offset!(skc_cookie))?;
    // Userspace knows the cookies of TCP sockets and ignores others; only a socket that nobody
    // asked for its cookie has to be told from those of other protocols here.
    if cookie == 0 {
        let family: u16 = read(sk, offset!(skc_family))?;
        let protocol: u16 = read(sk, offset!(sk_protocol))?;
        if family != AF_INET && family != AF_INET6 || protocol != TCP {
            return None;
        }
    }
    Some(cookie)
}

#[inline(always)]
fn read<T>(object: u64, offset: usize) -> Option<T> {
    // SAFETY: The helper checks the address and fails instead of faulting.
    let value = unsafe { bpf_probe_read_kernel((object + offset as u64) as *const T) };
    if value.is_err() {
        count(Counter::Unreadable);
    }
    value.ok()
}
