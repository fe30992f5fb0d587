//! What is said about the kinds that are about one socket of any process.

use std::time::Duration;

use super::{Description, Kind, Severity};

pub(super) const CLOSE_WAIT: Description = Description {
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
};

pub(super) const DEAD_FD: Description = Description {
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
};

pub(super) const DUPLICATE_CLIENT_ID: Description = Description {
    kind: Kind::DuplicateClientId,
    code: "duplicate-client-id",
    severity: Severity::Error,
    message_id: 0xf6fa_dfa7_e5c1_4b62_a362_da5c_c13d_a58a,
    default_budget: Duration::from_secs(5),
    meaning: "Two live connections from one network namespace to one MQTT broker carry the same \
        client id. The older one is the leak: it belongs to a client object that was replaced \
        and never ended. It is named by its client id, read from the CONNECT packet.",
    how_it_comes_about: "The program makes a new client for a device and forgets the old one. A broker that \
        follows the standard ends the older session at once (MQTT 3.1.1 section 3.1.4), so \
        both live on only where it has not noticed: the old connection hangs, the two went \
        to different nodes of a cluster, or the broker allows duplicates.",
    what_to_do: "End and destroy the old client before a new one is made for the same device. The \
        message names the client id, and both descriptors. Where there are more than two, each \
        but the newest is named with the next newer one.",
    how_to_tune: "A take-over takes milliseconds. Raise the budget for brokers that end the older \
        session late.",
};

pub(super) const INHERITED: Description = Description {
    kind: Kind::Inherited,
    code: "inherited",
    severity: Severity::Error,
    message_id: 0xa553_f1d7_a9dc_4fd2_8ce6_b045_25f2_8980,
    default_budget: Duration::from_secs(10),
    meaning: "The owner has closed the connection, exited or executed another program, but a \
        descriptor of it lives on in a process that got it by fork or exec, and nothing moves. \
        To the peer the connection looks open. A hand-over on purpose is no leak: the receiver \
        uses it, got it under another number (dup2 or SCM_RIGHTS), was there before the \
        socket, is the one child for which the owner closed it right after the fork, or is a \
        program that has a descriptor from which close-on-exec was taken on purpose.",
    how_it_comes_about: "The socket was made without SOCK_CLOEXEC and another program was run, or \
        the program forks workers (os.fork, multiprocessing) while connections are open: they run \
        no other program, so close-on-exec ends nothing there. Each child keeps a copy of every \
        descriptor, and close(2) in the parent ends nothing.",
    what_to_do: "Where the message says that the descriptor is not close-on-exec, open sockets with \
        SOCK_CLOEXEC and accept them with accept4. In workers that run no other program, close \
        foreign descriptors after the fork, or fork before connecting; call shutdown(2) before \
        close(2) where a connection must end at once. Restarting the process that still holds it \
        frees it now.",
    how_to_tune: "A server that hands connections over without using them for a while, and \
        long after the fork, needs a longer budget. A child whose copies are all close-on-exec may \
        be about to run a program that ends them: it is not named before three budgets have passed \
        since its fork.",
};

/// The first thing to do about an inherited descriptor, by its close-on-exec bit.
pub(crate) fn inherited_remedy(close_on_exec: Option<bool>) -> &'static str {
    match close_on_exec {
        Some(false) => "Open sockets with SOCK_CLOEXEC and accept them with accept4",
        Some(true) => {
            "Close foreign descriptors in the child after a fork, or fork before connecting"
        }
        None => "Open sockets with SOCK_CLOEXEC; close foreign descriptors in a forked child",
    }
}

pub(super) const SILENT_PEER: Description = Description {
    kind: Kind::SilentPeer,
    code: "silent-peer",
    severity: Severity::Warning,
    message_id: 0x2c63_888f_28f0_4481_ae6d_dce7_a7ac_e732,
    default_budget: Duration::ZERO,
    meaning: "The connection is ESTABLISHED, but for longer than one and a half times its MQTT \
        keep-alive no byte has moved in either direction. By the standard the broker \
        should have ended it (MQTT 3.1.1 section 3.1.2.10), and the client should have \
        sent a PINGREQ.",
    how_it_comes_about: "The client's timer does not run any more (its event loop is blocked or not \
        polled), and the broker is gone without a word: a host that lost its power, a \
        firewall or a NAT that forgot the connection.",
    what_to_do: "If the process still pings on its other connections, this one is forgotten: find \
        its client object and end it. Otherwise look for what blocks the event loop. TCP \
        keep-alive and TCP_USER_TIMEOUT make the kernel notice a dead peer.",
    how_to_tune: "It is judged where the keep-alive is known from the CONNECT packet, and the budget \
        comes on top of one and a half times that. A broker that asks for a longer keep-alive \
        in its answer (Server Keep Alive, MQTT 5 section 3.2.2.3.14) is not heard: give the \
        difference as budget, or make the clients ask for as much.",
};

pub(super) const STUCK_CONNECT: Description = Description {
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
};

pub(super) const UNDRAINED: Description = Description {
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
};
