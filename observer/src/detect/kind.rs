//! The kinds and what is said about them. `docs/findings.md` is written from this table.

use std::{fmt, time::Duration};

/// What may be wrong with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The peer closed, the process did not.
    CloseWait,
    /// The connection is over, the descriptor is still held.
    DeadFd,
    /// The owner gave it up, a process that got it by fork or exec still holds it.
    Inherited,
    /// connect(2) gets no answer.
    StuckConnect,
    /// Data wait and nobody reads them.
    Undrained,
}

/// A row of the table.
struct Description {
    kind: Kind,
    code: &'static str,
    default_budget: Duration,
    meaning: &'static str,
    how_it_comes_about: &'static str,
    what_to_do: &'static str,
    how_to_tune: &'static str,
}

/// In the order of [`Kind`].
const TABLE: [Description; 5] = [
    Description {
        kind: Kind::CloseWait,
        code: "close-wait",
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
        kind: Kind::Inherited,
        code: "inherited",
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
        kind: Kind::StuckConnect,
        code: "stuck-connect",
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
];

impl Kind {
    /// All kinds, by name.
    pub const ALL: [Self; 5] =
        [Self::CloseWait, Self::DeadFd, Self::Inherited, Self::StuckConnect, Self::Undrained];

    /// The kind with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.code == code).map(|row| row.kind)
    }

    /// Its name in output, config and docs.
    pub fn code(self) -> &'static str {
        self.row().code
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
        assert_eq!(Kind::from_code("orphan"), None);
    }
}
