//! The ABI: what the eBPF program and userspace say to each other.
//!
//! Every type here is `repr(C)` with its padding written out, its size asserted at compile time,
//! and no implicit byte order: integers are in the host's order unless a field says otherwise.
//! The eBPF program writes these bytes; `observer::decode` reads them and trusts none of them.
//!
//! - [`record`]: what the ring buffer carries.
//! - [`row`]: what the snapshot iterators write.
//! - [`offsets`]: where the running kernel keeps the fields we read.
//! - [`config`]: what userspace tells the program before it is loaded, and the watch flags.
//! - [`connect`]: what the beginning of an MQTT CONNECT looks like.
//! - [`counter`]: how the program accounts for what it could not deliver.

#![no_std]
#![warn(missing_docs)]

pub mod config;
pub mod connect;
pub mod counter;
pub mod offsets;
pub mod record;
pub mod row;

/// Length of a task's `comm`, with its terminating zero (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// `AF_INET`, as `sock_common.skc_family` has it.
pub const AF_INET: u16 = 2;

/// `AF_INET6`, as `sock_common.skc_family` has it.
pub const AF_INET6: u16 = 10;

/// TCP states as the kernel numbers them (include/net/tcp_states.h; part of the kernel's ABI).
pub mod tcp_state {
    /// Data flows both ways.
    pub const ESTABLISHED: u8 = 1;
    /// connect(2) has sent its SYN and waits.
    pub const SYN_SENT: u8 = 2;
    /// A peer's SYN was answered.
    pub const SYN_RECV: u8 = 3;
    /// This side closed first and waits for the acknowledgement.
    pub const FIN_WAIT1: u8 = 4;
    /// No connection: never connected, or over.
    pub const CLOSE: u8 = 7;
    /// The peer has closed, this side has not.
    pub const CLOSE_WAIT: u8 = 8;
    /// This side closed first; the connection is over, its port is kept.
    pub const TIME_WAIT: u8 = 6;
    /// The peer closed first, then this side; the last acknowledgement is missing.
    pub const LAST_ACK: u8 = 9;
    /// listen(2) was called.
    pub const LISTEN: u8 = 10;
    /// A request that is no full socket yet.
    pub const NEW_SYN_RECV: u8 = 12;
}
