//! Records of the ring buffer. Each begins with a [`Header`]; its `kind` tells the rest.

use crate::COMM_LEN;

/// Kinds of [`Header::kind`].
pub mod kind {
    /// [`super::StateChange`].
    pub const STATE: u32 = 1;
    /// [`super::SocketRef`]: `tcp_destroy_sock`, the kernel gives the socket up.
    pub const DESTROY: u32 = 2;
    /// [`super::SocketRef`]: accept(2) returned a descriptor.
    pub const ACCEPT: u32 = 3;
    /// [`super::SocketRef`]: close(2) was entered for a descriptor of a TCP socket that is not its
    /// last. A last one shows in the change of state or in the end that it causes.
    pub const CLOSE: u32 = 4;
    /// [`super::SocketRef`]: a SYN had no answer and was sent again.
    pub const SYN_RETRANSMIT: u32 = 9;
    /// [`super::ProcessChange`]: a process (not a thread) was forked.
    pub const FORK: u32 = 5;
    /// [`super::ProcessChange`]: a process runs a new program.
    pub const EXEC: u32 = 6;
    /// [`super::ProcessChange`]: the last thread of a process is exiting.
    pub const EXIT: u32 = 7;
    /// [`super::BriefChange`].
    pub const BRIEF: u32 = 8;
    /// [`super::FirstPacket`]: an MQTT CONNECT went out, or the next part of one that was cut.
    pub const NAME: u32 = 10;
    /// [`super::Refusal`]: a process was refused a descriptor or a port.
    pub const EXHAUSTED: u32 = 11;
    /// [`super::StackTaken`]: where in its program a process connected or accepted a socket.
    pub const STACK: u32 = 12;
}

/// The start of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// The process in whose context the hook ran. In a softirq that is whoever was interrupted:
    /// only some records make it the owner.
    pub tgid: u32,
    /// `CLOCK_MONOTONIC` at the hook, nanoseconds (`bpf_ktime_get_ns`).
    pub time_ns: u64,
}

/// Flags of [`StateChange::flags`].
pub mod change {
    /// The current process caused it by connect(2) or listen(2): it owns the socket.
    pub const BY_OWNER: u32 = 1;
    /// The current process caused it by close(2) of `fd`, the last descriptor of the socket.
    pub const BY_CLOSE: u32 = 2;
    /// The socket is over: no destroy will be reported.
    pub const LAST: u32 = 4;
}

/// System calls of [`Refusal::call`].
pub mod call {
    /// accept(2) and accept4(2).
    pub const ACCEPT: u32 = 1;
    /// connect(2), and the sending calls that connect by `MSG_FASTOPEN`.
    pub const CONNECT: u32 = 2;
    /// socket(2).
    pub const SOCKET: u32 = 3;
}

/// Errors of [`Refusal::errno`] (include/uapi/asm-generic/errno*.h).
pub mod errno {
    /// The host has no room for another open file.
    pub const ENFILE: u32 = 23;
    /// The process has no descriptor left.
    pub const EMFILE: u32 = 24;
    /// No local port is left.
    pub const EADDRNOTAVAIL: u32 = 99;
}

/// Bytes of a packet in a [`FirstPacket`]. Chosen: a client id of 128 bytes, the 17 that stand
/// before it at the most, and 111 of properties (MQTT 5), of which the usual ones take 10 to 40.
pub const PACKET_LEN: usize = 256;

/// Return addresses in a [`StackTaken`]. Chosen: the call site is among the innermost, and who called
/// it is told by some more; a stack of an interpreter has hundreds.
pub const STACK_DEPTH: usize = 32;

/// Words of the user's stack in a [`StackTaken`]. Chosen: 256 bytes hold the frame of a system
/// call's wrapper in the C library, which keeps no frame pointer, and mostly those of some callers.
pub const STACK_WORDS: usize = 32;

/// What can go into the ring.
pub trait Record {
    /// How it begins.
    fn header(&self) -> Header;
}

/// One change of TCP state (`inet_sock_set_state`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateChange {
    /// `tgid` did it only where `flags` say so.
    pub header: Header,
    /// The socket's cookie; never 0.
    pub cookie: u64,
    /// Start of the process `header.tgid` since boot, nanoseconds; 0 unless it did it itself.
    pub start_ns: u64,
    /// Network namespace, its inode number as in `/proc/PID/ns/net`.
    pub netns: u32,
    /// The descriptor given to connect(2) or close(2); -1 where it is not known.
    pub fd: i32,
    /// What else is known, [`change`].
    pub flags: u32,
    /// Padding.
    pub _reserved: u32,
    /// TCP state before, as `tcp_state`.
    pub old: u8,
    /// TCP state after.
    pub new: u8,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// Local address, network byte order; IPv4 uses the first 4 bytes.
    pub local: [u8; 16],
    /// Remote address, network byte order; IPv4 uses the first 4 bytes.
    pub remote: [u8; 16],
    /// `tcp_sock.copied_seq`: how far the program has read, a sequence number. Read when the new
    /// state is ESTABLISHED or CLOSE_WAIT, else 0.
    pub copied_seq: u32,
    /// `rcv_nxt - copied_seq`, bytes, the FIN counted as one. Read when `copied_seq` is.
    pub unread: u32,
    /// Name of the process `header.tgid`; empty unless it connects or listens.
    pub comm: [u8; COMM_LEN],
}

/// A [`StateChange`] over IPv4 that names no process: almost all are. Half as long, it takes half
/// as many cache lines of the ring, and waiting for those is a good part of what a record costs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BriefChange {
    /// As in [`StateChange`].
    pub header: Header,
    /// As in [`StateChange`].
    pub cookie: u64,
    /// As in [`StateChange`].
    pub start_ns: u64,
    /// As in [`StateChange`].
    pub netns: u32,
    /// As in [`StateChange`].
    pub fd: i32,
    /// As in [`StateChange`].
    pub copied_seq: u32,
    /// As in [`StateChange`].
    pub unread: u32,
    /// Local IPv4 address, network byte order.
    pub local: [u8; 4],
    /// Remote IPv4 address, network byte order.
    pub remote: [u8; 4],
    /// As in [`StateChange`].
    pub local_port: u16,
    /// As in [`StateChange`].
    pub remote_port: u16,
    /// As in [`StateChange`].
    pub old: u8,
    /// As in [`StateChange`].
    pub new: u8,
    /// As in [`StateChange`].
    pub flags: u8,
    /// Padding.
    pub _reserved: u8,
}

/// Something happened to a descriptor or to a socket as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketRef {
    /// For accept and close `tgid` is the caller.
    pub header: Header,
    /// The socket's cookie; 0 where the kernel has not made one yet.
    pub cookie: u64,
    /// Start of the calling process since boot, nanoseconds; 0 for destroy.
    pub start_ns: u64,
    /// The descriptor; -1 for destroy.
    pub fd: i32,
    /// close: references to the open file, the one that close(2) will drop included. A hint: a
    /// thread inside a syscall, io_uring or a message in flight raise it. Otherwise 0.
    pub references: u32,
}

/// A process was forked, runs a new program or exits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessChange {
    /// `tgid` is the process that changed (fork: the child).
    pub header: Header,
    /// Its start since boot, nanoseconds.
    pub start_ns: u64,
    /// fork: the parent's tgid. Otherwise 0.
    pub parent: u32,
    /// The watch flags (`config::watch`) that the process has now.
    pub watch: u32,
    /// Name of its leader thread, zero-terminated.
    pub comm: [u8; COMM_LEN],
}

/// Bytes of a CONNECT that came in several segments: later ones are not reported. Chosen: four times
/// what one segment may have, for what is cut by its sender is small.
pub const JOINED_LEN: usize = 1_024;

/// The beginning of a segment in which a watched socket sent an MQTT CONNECT, or a part of one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstPacket {
    /// `tgid` is 0: it may run in a softirq.
    pub header: Header,
    /// The socket's cookie; never 0.
    pub cookie: u64,
    /// How many bytes of `data` are from the segment; the others mean nothing.
    pub len: u32,
    /// TCP sequence number of the first byte of `data`.
    pub seq: u32,
    /// The segment without its headers.
    pub data: [u8; PACKET_LEN],
}

/// A process was refused a descriptor or a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// `tgid` is the process.
    pub header: Header,
    /// Its start since boot, nanoseconds.
    pub start_ns: u64,
    /// What it asked for, [`call`].
    pub call: u32,
    /// What it was told, [`errno`].
    pub errno: u32,
    /// Name of its leader thread, zero-terminated.
    pub comm: [u8; COMM_LEN],
}

/// The call stack of a thread that connects or has accepted a socket.
///
/// The kernel follows frame pointers (`perf_callchain_user`, arch/x86/events/core.c), and so misses
/// the caller of a function that keeps none: the wrapper of the system call, to begin with. The top
/// words of the stack are there to find it, by what the program's file says of its frames.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackTaken {
    /// `tgid` is the process.
    pub header: Header,
    /// The socket's cookie; never 0.
    pub cookie: u64,
    /// Start of the process since boot, nanoseconds.
    pub start_ns: u64,
    /// The user's stack pointer: where `words` are from.
    pub stack_pointer: u64,
    /// How many of `frames` there are.
    pub depth: u32,
    /// How many of `words` could be read: all or none.
    pub word_count: u32,
    /// The instruction that follows the system call, then return addresses, the innermost first.
    pub frames: [u64; STACK_DEPTH],
    /// The innermost words of the stack.
    pub words: [u64; STACK_WORDS],
}

macro_rules! records {
    ($($record:ty),*) => {
        $(impl Record for $record {
            fn header(&self) -> Header {
                self.header
            }
        })*
    };
}
records!(StateChange, BriefChange, SocketRef, ProcessChange, Refusal);

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<StateChange>() == 112);
    assert!(size_of::<BriefChange>() == 64);
    assert!(size_of::<SocketRef>() == 40);
    assert!(size_of::<ProcessChange>() == 48);
    assert!(size_of::<FirstPacket>() == 32 + PACKET_LEN);
    assert!(size_of::<Refusal>() == 48);
    assert!(size_of::<StackTaken>() == 48 + 8 * (STACK_DEPTH + STACK_WORDS));
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, only integers and arrays of them, no padding (sizes asserted above).
    unsafe impl aya::Pod for super::Header {}
    // SAFETY: As for `Header`.
    unsafe impl aya::Pod for super::StateChange {}
    // SAFETY: As for `Header`.
    unsafe impl aya::Pod for super::BriefChange {}
    // SAFETY: As for `Header`.
    unsafe impl aya::Pod for super::SocketRef {}
    // SAFETY: As for `Header`.
    unsafe impl aya::Pod for super::ProcessChange {}
    // SAFETY: As for `Header`.
    unsafe impl aya::Pod for super::FirstPacket {}
    // SAFETY: As for `Header`.
    unsafe impl aya::Pod for super::Refusal {}
    // SAFETY: As for `Header`.
    unsafe impl aya::Pod for super::StackTaken {}
}
