//! Rows of the snapshot, written by the iterators.

use crate::COMM_LEN;

/// [`Row::fd`] of a socket that was found by itself and not through a descriptor.
pub const NO_FD: i32 = -1;

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
    /// Padding.
    pub _reserved: u8,
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

const _: () = assert!(size_of::<Row>() == 128);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, only integers and arrays of them, no padding (size asserted above).
    unsafe impl aya::Pod for super::Row {}
}
