//! The kinds and what is said about them. `docs/findings.md` is written from this table.

use std::{fmt, time::Duration};

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The peer closed, the process did not.
    CloseWait,
    /// The connection is over, the descriptor is still held.
    DeadFd,
    /// The registry says online, the kernel says the socket is gone or not ESTABLISHED.
    Ghost,
    /// The owner gave it up, a process that got it by fork or exec still holds it.
    Inherited,
    /// An open socket of the pool's process, to a broker of the pool, that no claim covers.
    Orphan,
    /// Two live sockets for one device.
    Overlap,
    /// connect(2) gets no answer.
    StuckConnect,
    /// Data wait and nobody reads them.
    Undrained,
    /// The pool has destroyed a session, and its socket lives on.
    Unreleased,
}

/// How bad it is, with the numbers of syslog (RFC 5424 section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A promise of ours is broken.
    Critical = 2,
    /// Descriptors are lost until somebody acts.
    Error = 3,
    /// It may pass by itself.
    Warning = 4,
}

impl Severity {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A row of the table.
struct Description {
    kind: Kind,
    code: &'static str,
    severity: Severity,
    message_id: u128,
    default_budget: Duration,
    meaning: &'static str,
    how_it_comes_about: &'static str,
    what_to_do: &'static str,
    how_to_tune: &'static str,
}

/// In the order of [`Kind`].
const TABLE: [Description; 9] = [
    Description {
        kind: Kind::CloseWait,
        code: "close-wait",
        severity: Severity::Error,
        message_id: 0x47b8_48a0_c434_41a1_82df_4e77_82d7_e9e1,
        default_budget: Duration::from_secs(10),
        meaning: "The peer has closed the connection, the process has not: the socket is in \
            CLOSE_WAIT, a descriptor refers to it, and nothing moves in the other direction \
            either. A half-closed stream that is still being sent or read is no leak.",
        how_it_comes_about: "The program does not handle the end of the stream (in Node.js an \
            'end' or 'close' listener that never calls destroy(), in C a read() of 0 that is not \
            followed by close()), or it replaces a client object and drops the old one without \
            ending it. The kernel never closes such a socket by itself: it stays until the process \
            exits.",
        what_to_do: "Destroy the old connection before a new one is opened, and on every end, error \
            and close. Until the program is mended, restarting the process frees the descriptors. \
            The descriptor and the peer's address in the message say which connection it is.",
        how_to_tune: "Thousands in CLOSE_WAIT for less than a second are normal when a peer \
            restarts, so the age counts and never the number. Raise the budget for programs that \
            finish long work before they close; lower it where the process closes at once.",
    },
    Description {
        kind: Kind::DeadFd,
        code: "dead-fd",
        severity: Severity::Error,
        message_id: 0xcd20_37a3_b42a_4f58_866e_d271_6caf_41c7,
        default_budget: Duration::from_secs(10),
        meaning: "The connection is over (TCP state CLOSE: reset, refused, timed out or fully \
            closed), and a descriptor still refers to it. Tools that list TCP sockets by address, \
            ss among them, do not show it.",
        how_it_comes_about: "The peer reset the connection or connect(2) failed, and the program \
            forgot the descriptor: an error path without close(), a socket that is in no poll set \
            any more, or a reconnect that made a new socket and left the old one.",
        what_to_do: "Close the descriptor in every error path, that of a failed connect included. \
            ls -l /proc/PID/fd counts it as a socket; it cannot be used any more, so closing it is \
            always safe.",
        how_to_tune: "A program that notices a reset only at its next write keeps the descriptor \
            until then: make the budget longer than the keep-alive of its protocol if that is \
            meant.",
    },
    Description {
        kind: Kind::Ghost,
        code: "ghost",
        severity: Severity::Error,
        message_id: 0xd752_c040_cd82_4b0a_9262_9de8_3e5c_3c33,
        default_budget: Duration::from_secs(1),
        meaning: "The pool's registry says that a device is online, but the kernel says that its socket \
            is gone or not ESTABLISHED any more. The device gets no messages, and nobody \
            reconnects it.",
        how_it_comes_about: "Somebody destroyed the socket behind the pool's back (ss -K, a descriptor closed by \
            foreign code in the same process), or the task that owned the session ended without \
            saying so.",
        what_to_do: "sockwarden reconnect DEVICE makes a new session. If it comes again, look for code that \
            closes descriptors it does not own; in a process without such code it is a fault of \
            the pool: report it with the finding's message.",
        how_to_tune: "A broker that closes leaves the socket in CLOSE_WAIT until the pool has read the rest: \
            a budget under 100 ms reports what is normal on a busy machine.",
    },
    Description {
        kind: Kind::Inherited,
        code: "inherited",
        severity: Severity::Error,
        message_id: 0xa553_f1d7_a9dc_4fd2_8ce6_b045_25f2_8980,
        default_budget: Duration::from_secs(10),
        meaning: "The owner has closed the connection, exited or executed another program, but a \
            descriptor of it lives on in a process that got it by fork or exec, and nothing moves. \
            To the peer the connection looks open. A hand-over on purpose is no leak: the receiver \
            uses it, got it under another number (dup2 or SCM_RIGHTS), was there before the \
            socket, or is the one child for which the owner closed it right after the fork.",
        how_it_comes_about: "The socket was made without SOCK_CLOEXEC, or the program forks workers \
            or helpers (os.fork, multiprocessing, system, popen) while connections are open. Each \
            child keeps a copy of every descriptor, and close(2) in the parent ends nothing.",
        what_to_do: "Open sockets with SOCK_CLOEXEC and accept them with accept4; close foreign \
            descriptors in the child after a fork, or fork before connecting; call shutdown(2) \
            before close(2) where a connection must end at once. Restarting the process that still \
            holds it frees it now.",
        how_to_tune: "A server that hands connections over without using them for a while, and \
            long after the fork, needs a longer budget.",
    },
    Description {
        kind: Kind::Orphan,
        code: "orphan",
        severity: Severity::Error,
        message_id: 0x6331_d91b_1d83_4150_ac45_84eb_a6a8_5f2e,
        default_budget: Duration::from_secs(1),
        meaning: "A socket of the pool's own process to one of the pool's brokers is open, and no claim \
            of the registry covers it: it is no device's. It costs a descriptor and a connection \
            of the broker, and may keep a client id busy.",
        how_it_comes_about: "Foreign code in the same process opened a connection of its own, or a session was \
            given up in the registry while its socket stayed open.",
        what_to_do: "The message names the descriptor: find who opened it. Connections that are meant (a \
            second client in the same process) belong to another broker address, or into the pool.",
        how_to_tune: "The claim is published before the connect, so even a budget of 0 raises nothing on a \
            healthy pool; the default leaves other clients in the process time to end.",
    },
    Description {
        kind: Kind::Overlap,
        code: "overlap",
        severity: Severity::Critical,
        message_id: 0xe226_ac09_34ee_424b_b95b_59d2_404b_27a8,
        default_budget: Duration::ZERO,
        meaning: "Two live sockets for one device at the same time: the new one began to connect before \
            the old one had left ESTABLISHED. Destroy before replace was broken, and the broker \
            ends one of the two sessions in a fight over the client id.",
        how_it_comes_about: "A fault in the slot machine, or a duplicate of the old socket's descriptor that kept \
            it alive (fork, dup, SCM_RIGHTS) past the receipt timeout.",
        what_to_do: "Look for an unreleased finding of the same device: its holder explains why the old \
            socket lived on. Without one it is a fault of the pool: report it with the finding's \
            message.",
        how_to_tune: "The budget is the overlap that is allowed, by the kernel's own time stamps. There is \
            no reason to allow any.",
    },
    Description {
        kind: Kind::StuckConnect,
        code: "stuck-connect",
        severity: Severity::Warning,
        message_id: 0x97a9_bfe1_8596_44ed_8642_b5f5_5527_c141,
        default_budget: Duration::from_secs(30),
        meaning: "connect(2) has had no answer to its SYN: the socket is in SYN_SENT, and a \
            descriptor refers to it.",
        how_it_comes_about: "The address does not answer: a firewall drops the packets, the host is \
            down, or the listen queue of the peer overflows. Linux gives up only after about two \
            minutes (net.ipv4.tcp_syn_retries); a program without a timeout of its own waits as \
            long, and a reconnect loop piles such sockets up.",
        what_to_do: "Look at the route, the firewall and the listen queue of the peer (nstat \
            TcpExtListenOverflows there). Give the program a connect timeout and make it close the \
            socket when that is over.",
        how_to_tune: "The SYN is repeated after 1, 3, 7, 15 and 31 seconds: a budget under 8 s \
            reports what a single lost packet can cause.",
    },
    Description {
        kind: Kind::Undrained,
        code: "undrained",
        severity: Severity::Warning,
        message_id: 0x5703_346c_1afa_488e_98fe_c5e2_f8c3_8335,
        default_budget: Duration::from_secs(10),
        meaning: "Data have come and the process does not read them. If the peer closes now, even \
            its end waits behind the data. The connection looks healthy in every list of states.",
        how_it_comes_about: "The connection was dropped from the event loop (paused, removed from \
            the poll set, its object replaced) without being closed, or the reader is blocked or \
            much slower than the sender.",
        what_to_do: "If the process reads its other connections, this one is forgotten: find where \
            it was paused or replaced, and close it there. If it reads none, the event loop is \
            blocked: take a stack trace of it.",
        how_to_tune: "Raise the budget for programs that stop reading on purpose for longer \
            (backpressure). It also bounds the time between two snapshots, for only those show what \
            has been read.",
    },
    Description {
        kind: Kind::Unreleased,
        code: "unreleased",
        severity: Severity::Error,
        message_id: 0x14fc_d059_150f_4ae1_b322_2eb9_24fe_2e44,
        default_budget: Duration::from_secs(1),
        meaning: "The pool has destroyed a session, but the kernel has not let go of its socket: \
            something still holds a descriptor of it. The broker still has the old connection.",
        how_it_comes_about: "A child that was forked without close-on-exec, a duplicate of the descriptor (dup, \
            SCM_RIGHTS), or foreign code in the same process holds it.",
        what_to_do: "The message names who holds it, with process and descriptor: end that process, or make \
            it close what it inherited. The pool dials again when its receipt timeout is over and \
            counts the case.",
        how_to_tune: "Receipts take microseconds on a healthy host. The budget should not be longer than the \
            receipt timeout of the pool, after which the next dial goes ahead.",
    },
];

impl Kind {
    /// All kinds, by name.
    pub const ALL: [Self; 9] = [
        Self::CloseWait,
        Self::DeadFd,
        Self::Ghost,
        Self::Inherited,
        Self::Orphan,
        Self::Overlap,
        Self::StuckConnect,
        Self::Undrained,
        Self::Unreleased,
    ];

    /// Those that are about a socket of any process, by itself.
    pub const OF_SOCKETS: [Self; 5] =
        [Self::CloseWait, Self::DeadFd, Self::Inherited, Self::StuckConnect, Self::Undrained];

    /// Those that the pool's registry and the kernel disagree about.
    pub const OF_REGISTRY: [Self; 4] = [Self::Ghost, Self::Orphan, Self::Overlap, Self::Unreleased];

    /// The kind with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.code == code).map(|row| row.kind)
    }

    /// Its name in output, config and docs.
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        self.row().severity
    }

    /// `MESSAGE_ID` of its entries in the journal: fixed for ever.
    pub fn message_id(self) -> u128 {
        self.row().message_id
    }

    /// How long it may last unless the config says otherwise.
    pub fn default_budget(self) -> Duration {
        self.row().default_budget
    }

    /// What it says.
    pub fn meaning(self) -> &'static str {
        self.row().meaning
    }

    /// What usually causes it.
    pub fn how_it_comes_about(self) -> &'static str {
        self.row().how_it_comes_about
    }

    /// How to get rid of it.
    pub fn what_to_do(self) -> &'static str {
        self.row().what_to_do
    }

    /// What to consider before changing its budget.
    pub fn how_to_tune(self) -> &'static str {
        self.row().how_to_tune
    }

    fn row(self) -> &'static Description {
        &TABLE[self as usize]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for kind in Kind::ALL {
            assert_eq!(kind.row().kind, kind);
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code("zombie"), None);
    }
}
