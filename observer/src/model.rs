//! The words of the domain: what the kernel tells, in our own types.
//!
//! PURE. Nothing here knows where a value comes from or how it is shown.

mod mono;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

pub use self::mono::MonoTime;

/// The kernel's number for a socket. It is never used again while the kernel runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie({:x})", self.0)
    }
}

/// One life of a process: pids are used again, the pair with the start is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// Process number as the host sees it.
    pub pid: u32,
    /// Start since boot (`CLOCK_BOOTTIME`), nanoseconds.
    pub start_ns: u64,
}

/// The name of a process's leader thread: at most 15 bytes, made printable. Copies share the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comm(Arc<str>);

impl Comm {
    /// From the kernel's bytes: ends at the first zero; control characters and broken UTF-8 are
    /// replaced, for the name goes to terminals and logs and any process may choose its own.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let name = String::from_utf8_lossy(&bytes[..end]);
        let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        Self(name.chars().map(shown).collect::<String>().into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// State of a TCP socket, with the kernel's numbers (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// Data flows both ways.
    Established = 1,
    /// connect(2) waits for an answer to its SYN.
    SynSent = 2,
    /// The peer's SYN was answered.
    SynRecv = 3,
    /// This side closed first and waits for the acknowledgement.
    FinWait1 = 4,
    /// This side closed first; the peer has not closed.
    FinWait2 = 5,
    /// This side closed first; the connection is over, its port is kept.
    TimeWait = 6,
    /// No connection: never connected, or over.
    Close = 7,
    /// The peer closed, this side has not.
    CloseWait = 8,
    /// The peer closed first, then this side; the last acknowledgement is missing.
    LastAck = 9,
    /// listen(2) was called.
    Listen = 10,
    /// Both sides closed at once.
    Closing = 11,
    /// A request that is no full socket yet.
    NewSynRecv = 12,
}

impl TcpState {
    /// All states, in the kernel's order.
    pub const ALL: [Self; 12] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
    ];

    /// The state with the kernel's number `number`.
    pub fn from_kernel(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == number)
    }

    /// The kernel's name without `TCP_`, as netstat and RFC 9293 (with `-`) write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::NewSynRecv => "NEW_SYN_RECV",
        }
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` and not `write_str`: tables align states.
        f.pad(self.name())
    }
}

/// Both ends of a connection. IPv4 addresses inside IPv6 sockets are written as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// This end.
    pub local: SocketAddr,
    /// The other end; port 0 for a socket that is not connected.
    pub remote: SocketAddr,
}

impl Ends {
    /// The ends with v4-mapped addresses written as IPv4.
    pub fn new(local: (IpAddr, u16), remote: (IpAddr, u16)) -> Self {
        Self {
            local: SocketAddr::new(local.0.to_canonical(), local.1),
            remote: SocketAddr::new(remote.0.to_canonical(), remote.1),
        }
    }

    /// Whether one end is on one of `ports`; every socket is if there are none.
    pub fn are_on(&self, ports: &[u16]) -> bool {
        ports.is_empty()
            || ports.contains(&self.local.port())
            || ports.contains(&self.remote.port())
    }
}

/// How far the program has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPosition {
    /// Sequence number up to which the program has read (`tcp_sock.copied_seq`).
    pub copied_seq: u32,
    /// Bytes that have come and were not read, the peer's FIN counted as one.
    pub unread: u32,
}

/// What the kernel says, one record at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum KernelEvent {
    /// A socket changed its state.
    Transition(Transition),
    /// The kernel gave a socket up: nothing refers to it any more.
    Destroyed {
        /// When.
        time: MonoTime,
        /// The socket.
        cookie: Cookie,
    },
    /// A SYN had no answer and was sent again.
    SynRetransmitted {
        /// When.
        time: MonoTime,
        /// The socket.
        cookie: Cookie,
    },
    /// accept(2) gave a process a descriptor.
    Accepted {
        /// When.
        time: MonoTime,
        /// The socket; `None` if the kernel had no cookie for it yet.
        cookie: Option<Cookie>,
        /// The caller.
        process: ProcessKey,
        /// Its new descriptor.
        fd: i32,
    },
    /// close(2) was entered. The descriptor is gone whatever close(2) returns.
    Closed {
        /// When.
        time: MonoTime,
        /// The socket; `None` if the kernel had no cookie for it yet.
        cookie: Option<Cookie>,
        /// The caller.
        process: ProcessKey,
        /// The descriptor.
        fd: i32,
        /// References to the open file, this one included. A hint: threads inside a syscall on
        /// it and messages in flight count too.
        references: u32,
    },
    /// The first packet of an MQTT connection went by: it says who connects.
    Named {
        /// When.
        time: MonoTime,
        /// The socket.
        cookie: Cookie,
        /// What it said.
        name: ClientName,
    },
    /// A process was refused a descriptor or a port.
    Exhausted {
        /// When.
        time: MonoTime,
        /// Who.
        process: ProcessKey,
        /// What it asked for.
        call: Call,
        /// What there was none of.
        lacks: Lack,
    },
    /// A process was forked.
    Forked {
        /// When.
        time: MonoTime,
        /// Process number of the parent.
        parent: u32,
        /// The new process.
        child: ProcessKey,
        /// Its name.
        comm: Comm,
        /// Whether it is watched by itself (and not only for a socket it may hold).
        watched: bool,
    },
    /// A process runs a new program.
    Executed {
        /// When.
        time: MonoTime,
        /// The process.
        process: ProcessKey,
        /// Its new name.
        comm: Comm,
        /// Whether it is watched now.
        watched: bool,
    },
    /// The last thread of a process is exiting; its descriptors are closed right after.
    Exited {
        /// When.
        time: MonoTime,
        /// The process.
        process: ProcessKey,
    },
}

impl KernelEvent {
    /// When it happened.
    pub fn time(&self) -> MonoTime {
        match self {
            Self::Transition(transition) => transition.time,
            Self::Destroyed { time, .. }
            | Self::SynRetransmitted { time, .. }
            | Self::Accepted { time, .. }
            | Self::Closed { time, .. }
            | Self::Named { time, .. }
            | Self::Exhausted { time, .. }
            | Self::Forked { time, .. }
            | Self::Executed { time, .. }
            | Self::Exited { time, .. } => *time,
        }
    }
}

/// What an MQTT CONNECT packet says of its sender (MQTT 3.1.1 and 5, section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName {
    /// The client id, at most 65,535 bytes: untrusted text. Cut where the packet was longer than
    /// what was looked at, see `is_cut`.
    pub client_id: Arc<str>,
    /// Whether only the beginning of the client id is known.
    pub is_cut: bool,
    /// Keep-alive, seconds; 0 for none.
    pub keep_alive: u16,
    /// Protocol level: 4 for 3.1.1, 5 for 5, 3 for 3.1.
    pub level: u8,
}

impl ClientName {
    /// The client id, if it tells one client from another. One that was cut does not, for others
    /// may begin like it; nor does an empty one, for which the broker makes one up.
    pub fn identity(&self) -> Option<&Arc<str>> {
        (!self.is_cut && !self.client_id.is_empty()).then_some(&self.client_id)
    }
}

/// A system call that needs a descriptor or a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// accept(2) and accept4(2).
    Accept,
    /// connect(2).
    Connect,
    /// socket(2).
    Socket,
}

impl Call {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Connect => "connect",
            Self::Socket => "socket",
        }
    }
}

/// What there is none of any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lack {
    /// Descriptors of the process (EMFILE), or of the host where that is not told apart.
    Descriptors,
    /// Descriptors of the host (ENFILE, `fs.file-max`).
    HostDescriptors,
    /// Local ports towards one destination (EADDRNOTAVAIL).
    Ports,
}

impl Lack {
    /// The error that the program gets.
    pub fn error(self) -> &'static str {
        match self {
            Self::Descriptors => "EMFILE",
            Self::HostDescriptors => "ENFILE",
            Self::Ports => "EADDRNOTAVAIL",
        }
    }
}

/// One change of TCP state.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// When.
    pub time: MonoTime,
    /// The socket.
    pub cookie: Cookie,
    /// State before.
    pub old: TcpState,
    /// State after.
    pub new: TcpState,
    /// Both ends. The local port is 0 in the first record of a connect(2), and in CLOSE.
    pub ends: Ends,
    /// Network namespace.
    pub netns: u32,
    /// The process that caused it, where it was the owner itself: connect(2) and listen(2).
    pub owner: Option<ProcessKey>,
    /// The descriptor that `owner` gave to connect(2), where known.
    pub fd: Option<i32>,
    /// The process in whose context it ran: the owner when a program closes, otherwise whoever
    /// the network interrupted.
    pub context_pid: u32,
    /// How far the program had read, on entering ESTABLISHED and CLOSE_WAIT.
    pub read: Option<ReadPosition>,
}

/// Everything that the kernel has, at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// When the walk began: what happened before is in it.
    pub began: MonoTime,
    /// When the walk ended: nothing that happened later is in it.
    pub ended: MonoTime,
    /// One row for each descriptor, and one for each socket without any.
    pub rows: Vec<SnapshotRow>,
    /// Whether sockets without a descriptor were listed too (they are, in the observer's own
    /// network namespace).
    pub lists_unheld: bool,
    /// Network namespace in which sockets without a descriptor were listed.
    pub unheld_netns: u32,
    /// What the watched processes have open in all.
    pub processes: Vec<ProcessRow>,
    /// How many local ports are in use between an address of ours and a destination, in the
    /// observer's own network namespace, whoever has them.
    pub ports: Vec<PortRow>,
}

/// What a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRow {
    /// The process.
    pub process: ProcessKey,
    /// Its name.
    pub comm: Comm,
    /// Its descriptors by kind.
    pub open: OpenFiles,
    /// How many it may have (`RLIMIT_NOFILE`), soft and hard.
    pub limit: (u64, u64),
}

/// Descriptors by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct OpenFiles {
    /// TCP sockets.
    pub tcp: u32,
    /// Other sockets.
    pub sockets: u32,
    /// Pipes and FIFOs.
    pub pipes: u32,
    /// Regular files and directories.
    pub files: u32,
    /// Everything else: epoll, eventfd, timerfd, devices.
    pub others: u32,
}

impl OpenFiles {
    /// All of them.
    pub fn sum(self) -> u64 {
        let Self { tcp, sockets, pipes, files, others } = self;
        [tcp, sockets, pipes, files, others].into_iter().map(u64::from).sum()
    }
}

/// Local ports in use between one address of ours and one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRow {
    /// Our address.
    pub local: IpAddr,
    /// The destination.
    pub remote: SocketAddr,
    /// Sockets in any state but TIME_WAIT.
    pub sockets: u32,
    /// Sockets in TIME_WAIT: they have no descriptor and no process, and keep the port for 60 s.
    pub time_wait: u32,
}

/// One descriptor of a socket, or a socket without any.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRow {
    /// When this row was taken.
    pub time: MonoTime,
    /// The socket.
    pub cookie: Cookie,
    /// Its state.
    pub state: TcpState,
    /// Both ends.
    pub ends: Ends,
    /// Network namespace.
    pub netns: u32,
    /// Who holds it; `None` for a row that was found by the socket and not by a descriptor.
    pub holder: Option<Holder>,
    /// How far the program has read.
    pub read: ReadPosition,
    /// Bytes written and not yet acknowledged by the peer.
    pub unacked: u32,
    /// Sequence number up to which the program has written.
    pub write_seq: u32,
    /// When the last data segment was sent, to a tick of the kernel (1 to 10 ms).
    pub last_sent: MonoTime,
    /// When the last data segment came, to a tick of the kernel.
    pub last_received: MonoTime,
}

/// A descriptor that refers to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: ProcessKey,
    /// Name of the process.
    pub comm: Comm,
    /// The descriptor.
    pub fd: i32,
    /// Whether an exec of the process closes it (`FD_CLOEXEC`); `None` if that is not known.
    pub close_on_exec: Option<bool>,
}
