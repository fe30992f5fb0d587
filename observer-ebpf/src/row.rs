//! Rows of the snapshot, written by the iterators.

use crate::COMM_LEN;

/// [`Row::fd`] of a socket that was found by itself and not through a descriptor.
pub const NO_FD: i32 = -1;

/// Values of [`Row::close_on_exec`].
pub mod close_on_exec {
    /// It could not be read, or there is no descriptor.
    pub const UNKNOWN: u8 = 0;
    /// The descriptor survives an exec.
    pub const UNSET: u8 = 1;
    /// An exec closes it (`FD_CLOEXEC`).
    pub const SET: u8 = 2;
}

/// One descriptor of a TCP socket (`iter/task_file`), or one TCP socket (`iter/tcp`, where `tgid`
/// is 0 and `fd` is [`NO_FD`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The socket's cookie; never 0.
    pub cookie: u64,
    /// `CLOCK_MONOTONIC` when this row was written, nanoseconds.
    pub time_ns: u64,
    /// The kernel's tick counter at that moment (`jiffies_64`).
    pub jiffies: u64,
    /// Start of the process since boot, nanoseconds.
    pub start_ns: u64,
    /// The process that has the descriptor.
    pub tgid: u32,
    /// The descriptor.
    pub fd: i32,
    /// Network namespace, its inode number.
    pub netns: u32,
    /// TCP state.
    pub state: u8,
    /// Whether the descriptor is closed when its process executes a program: [`close_on_exec`].
    pub close_on_exec: u8,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// `tcp_sock.copied_seq`: how far the program has read.
    pub copied_seq: u32,
    /// `rcv_nxt - copied_seq`, bytes, a FIN counted as one; 0 for LISTEN and SYN_SENT.
    pub unread: u32,
    /// `write_seq - snd_una`, bytes written and not acknowledged.
    pub unacked: u32,
    /// `tcp_sock.write_seq`: how far the program has written.
    pub write_seq: u32,
    /// Ticks since the last data segment was sent (`tcp_sock.lsndtime`).
    pub sent_ago: u32,
    /// Ticks since the last data segment came (`icsk_ack.lrcvtime`).
    pub received_ago: u32,
    /// Padding.
    pub _padding: u32,
    /// Local address, network byte order; IPv4 uses the first 4 bytes.
    pub local: [u8; 16],
    /// Remote address, network byte order; IPv4 uses the first 4 bytes.
    pub remote: [u8; 16],
    /// Name of the process's leader thread.
    pub comm: [u8; COMM_LEN],
}

/// [`OpenFiles::marker`].
pub const OPEN_FILES: i32 = -2;

/// [`Route::marker`].
pub const ROUTE: i32 = -3;

/// What a watched process has open, after the last of its descriptors (`iter/task_file`). As long
/// as a [`Row`], and told from it by its cookie and its marker.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// 0: this is no socket.
    pub cookie: u64,
    /// As in [`Row`]: when the first descriptor was visited.
    pub time_ns: u64,
    /// As in [`Row`].
    pub jiffies: u64,
    /// As in [`Row`].
    pub start_ns: u64,
    /// The process.
    pub tgid: u32,
    /// [`OPEN_FILES`], where a row has its descriptor.
    pub marker: i32,
    /// Descriptors of TCP sockets.
    pub tcp: u32,
    /// Descriptors of other sockets.
    pub sockets: u32,
    /// Descriptors of pipes and FIFOs.
    pub pipes: u32,
    /// Descriptors of regular files and directories.
    pub files: u32,
    /// All other descriptors.
    pub others: u32,
    /// Padding.
    pub _reserved: u32,
    /// `RLIMIT_NOFILE`, soft and hard.
    pub limit: [u64; 2],
    /// Padding.
    pub _padding: [u64; 4],
    /// As in [`Row`].
    pub comm: [u8; COMM_LEN],
}

/// A route of which many local ports are in use (`iter/tcp`). Said once a walk, when the number
/// reaches `Config::many_ports`; the `ROUTES` map has it when the walk is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// 0: this is no socket.
    pub cookie: u64,
    /// As in [`Row`].
    pub time_ns: u64,
    /// As in [`Row`].
    pub jiffies: u64,
    /// 0.
    pub start_ns: u64,
    /// 0.
    pub tgid: u32,
    /// [`ROUTE`], where a row has its descriptor.
    pub marker: i32,
    /// Which one.
    pub key: RouteKey,
    /// Padding.
    pub _padding: [u64; 6],
}

/// Key of the `ROUTES` map: what tells connections from each other beside the local port.
///
/// In words and not in bytes: the compiler copies arrays of bytes one by one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteKey {
    /// Our address, network byte order; IPv4 as a v4-mapped IPv6 address (RFC 4291 2.5.5.2).
    pub local: [u64; 2],
    /// The destination, in the same form.
    pub remote: [u64; 2],
    /// Its port, host byte order.
    pub remote_port: u64,
}

/// Value of the `ROUTES` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteCount {
    /// The walk that counted; what an earlier one left counts for nothing.
    pub walk: u64,
    /// Sockets in any state but TIME_WAIT.
    pub sockets: u32,
    /// Sockets in TIME_WAIT.
    pub time_wait: u32,
}

const _: () = {
    assert!(size_of::<Row>() == 128);
    assert!(size_of::<OpenFiles>() == size_of::<Row>());
    assert!(size_of::<Route>() == size_of::<Row>());
    assert!(size_of::<RouteKey>() == 40);
    assert!(size_of::<RouteCount>() == 16);
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, only integers and arrays of them, no padding (size asserted above).
    unsafe impl aya::Pod for super::Row {}
    // SAFETY: As for `Row`.
    unsafe impl aya::Pod for super::RouteKey {}
    // SAFETY: As for `Row`.
    unsafe impl aya::Pod for super::RouteCount {}
}
