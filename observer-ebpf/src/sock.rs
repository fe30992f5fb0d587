//! Reading kernel sockets. With `process`, the only code that follows kernel pointers.

use aya_ebpf::helpers::{
    bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_kernel_buf,
    generated::{bpf_get_socket_cookie, bpf_sk_storage_get, bpf_skc_to_tcp_sock},
};
use observer_ebpf::{AF_INET, AF_INET6, counter::Counter};

use crate::{
    emit::count,
    maps::{MARKS, config, offset},
    process::load,
};

/// `IPPROTO_TCP`.
const TCP: u16 = 6;

/// `S_IFMT` and `S_IFSOCK` (include/uapi/linux/stat.h).
const FILE_KIND: u16 = 0xf000;
const SOCKET_FILE: u16 = 0xc000;

/// `BPF_SK_STORAGE_GET_F_CREATE`.
const CREATE: u64 = 1;

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

/// Whether `sk` was marked as a watched process's socket.
#[inline(always)]
pub(crate) fn is_marked(sk: *const u8) -> bool {
    // SAFETY: The verifier checks both pointers; a null result is no mark.
    !unsafe {
        bpf_sk_storage_get(
            (&raw const MARKS).cast_mut().cast(),
            sk.cast_mut().cast(),
            core::ptr::null_mut(),
            0,
        )
    }
    .is_null()
}

/// Marks `sk`. A failure is counted: userspace then looks for the socket by snapshot.
#[inline(always)]
pub(crate) fn mark(sk: *const u8) -> bool {
    let mut value = 1u32;
    // SAFETY: The verifier checks the pointers; the value is copied.
    let slot = unsafe {
        bpf_sk_storage_get(
            (&raw const MARKS).cast_mut().cast(),
            sk.cast_mut().cast(),
            (&raw mut value).cast(),
            CREATE,
        )
    };
    if slot.is_null() {
        count(Counter::MarkFailed);
    }
    !slot.is_null()
}

/// Whether events of `sk` are reported.
#[inline(always)]
pub(crate) fn is_reported(sk: *const u8) -> bool {
    config!(watch_all) != 0 || is_marked(sk)
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

/// The ends of `sk`; `None` for a family that is not IP.
#[inline(always)]
pub(crate) fn ends(sk: *const u8) -> Option<Ends> {
    let family: u16 = load(sk, offset!(skc_family));
    let (mut local, mut remote) = ([0u8; 16], [0u8; 16]);
    if family == AF_INET {
        let (here, there): (u32, u32) =
            (load(sk, offset!(skc_rcv_saddr)), load(sk, offset!(skc_daddr)));
        local[..4].copy_from_slice(&here.to_ne_bytes());
        remote[..4].copy_from_slice(&there.to_ne_bytes());
    } else if family == AF_INET6 {
        // A typed load of a union of arrays is more than old verifiers follow.
        let here = sk.wrapping_add(offset!(skc_v6_rcv_saddr));
        let there = sk.wrapping_add(offset!(skc_v6_daddr));
        // SAFETY: The helper checks the addresses; on failure they stay zero.
        let _ = unsafe { bpf_probe_read_kernel_buf(here, &mut local) };
        // SAFETY: As above.
        let _ = unsafe { bpf_probe_read_kernel_buf(there, &mut remote) };
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
        local,
        remote,
    })
}

/// `sk` as a full TCP socket that the verifier knows by type; null for TIME_WAIT and requests.
#[inline(always)]
pub(crate) fn tcp_sock(sk: *const u8) -> *const u8 {
    // SAFETY: The verifier checks that `sk` is a socket.
    unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) }.cast_const().cast()
}

/// How far the program has read, and how many bytes it has not.
#[inline(always)]
pub(crate) fn read_position(tcp: *const u8) -> (u32, u32) {
    let copied: u32 = load(tcp, offset!(copied_seq));
    let next: u32 = load(tcp, offset!(rcv_nxt));
    (copied, next.wrapping_sub(copied))
}

/// A TCP socket found behind a descriptor.
pub(crate) struct Found {
    /// 0 if nobody asked for its cookie yet.
    pub(crate) cookie: u64,
    /// References to the open file.
    pub(crate) references: u32,
}

/// The TCP socket behind descriptor `fd` of the running process.
///
/// Follows `current->files->fdt->fd[fd]->private_data->sk`. The chain is made of plain numbers,
/// so the cookie is read and not made: `None` covers "no TCP socket" as well as "not readable",
/// the latter counted.
#[inline(always)]
pub(crate) fn behind_descriptor(fd: u32) -> Option<Found> {
    // SAFETY: The helper returns the running task's address.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read(task, offset!(task_files))?;
    let table: u64 = read(files, offset!(files_fdt))?;
    let capacity: u32 = read(table, offset!(fdt_max))?;
    if fd >= capacity {
        return None;
    }
    let array: u64 = read(table, offset!(fdt_fd))?;
    let file: u64 = read(array, fd as usize * 8)?;
    if file == 0 {
        return None;
    }
    let inode: u64 = read(file, offset!(file_inode))?;
    let mode: u16 = read(inode, offset!(inode_mode))?;
    if mode & FILE_KIND != SOCKET_FILE {
        return None;
    }
    let socket: u64 = read(file, offset!(file_private))?;
    let sk: u64 = read(socket, offset!(socket_sk))?;
    if sk == 0 {
        return None;
    }
    let family: u16 = read(sk, offset!(skc_family))?;
    if family != AF_INET && family != AF_INET6 {
        return None;
    }
    let protocol: u16 = read(sk, offset!(sk_protocol))?;
    if protocol != TCP {
        return None;
    }
    let references: u32 = read(file, offset!(file_refs))?;
    Some(Found {
        cookie: read(sk, offset!(skc_cookie))?,
        references: references.wrapping_add(config!(refs_bias)),
    })
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
