//! What is said about the kinds that the pool's registry and the kernel disagree about.

use std::time::Duration;

use super::{Description, Kind, Severity};

pub(super) const GHOST: Description = Description {
    kind: Kind::Ghost,
    code: "ghost",
    severity: Severity::Error,
    message_id: 0xd752_c040_cd82_4b0a_9262_9de8_3e5c_3c33,
    default_budget: Duration::from_secs(1),
    meaning: "The registry (the pool's, or what another process claims) says that a device is online, \
        but the kernel says that its socket is gone or not ESTABLISHED any more. The device \
        gets no messages, and nobody reconnects it.",
    how_it_comes_about: "Somebody destroyed the socket behind the registry's back (ss -K, a descriptor closed \
        by foreign code in the same process), or whoever owned the session ended without \
        saying so. A process that claims may also have missed the end of a connection: an \
        'error' or 'close' that nobody listens to.",
    what_to_do: "For a device of the pool, sockwarden reconnect DEVICE makes a new session. If it \
        comes again, look for code that closes descriptors it does not own; in a process \
        without such code it is a fault of the pool: report it with the finding's message. \
        For another process, make it take the device from its registry when its connection \
        ends, and connect it anew.",
    how_to_tune: "A broker that closes leaves the socket in CLOSE_WAIT until the pool has read the rest: \
        a budget under 100 ms reports what is normal on a busy machine. For other processes the \
        budget is also how late a claim may be: keep it longer than their event loop may stall.",
};

pub(super) const ORPHAN: Description = Description {
    kind: Kind::Orphan,
    code: "orphan",
    severity: Severity::Error,
    message_id: 0x6331_d91b_1d83_4150_ac45_84eb_a6a8_5f2e,
    default_budget: Duration::from_secs(1),
    meaning: "A process with a registry (the pool's, or another one that claims its sockets) has an \
        open connection to one of its brokers that no claim covers: it is no device's. It \
        costs a descriptor and a connection of the broker, and may keep a client id busy.",
    how_it_comes_about: "Other code in the same process opened a connection of its own, or a session was \
        given up in the registry while its socket stayed open.",
    what_to_do: "The message names the descriptor: find who opened it. Connections that are meant (a \
        second client in the same process) belong to another broker address, or into the \
        registry.",
    how_to_tune: "The pool publishes a claim before the connect, so even a budget of 0 raises nothing \
        on a healthy one; the default leaves other clients in the process time to end. For \
        other processes the budget is also how late a claim may be.",
};

pub(super) const OVERLAP: Description = Description {
    kind: Kind::Overlap,
    code: "overlap",
    severity: Severity::Critical,
    message_id: 0xe226_ac09_34ee_424b_b95b_59d2_404b_27a8,
    default_budget: Duration::ZERO,
    meaning: "Two live sockets for one device at the same time: in the pool, the new one began to \
        connect before the old one had left ESTABLISHED; in another process that claims its \
        sockets, both are claimed and ESTABLISHED. Destroy before replace was broken, and the \
        broker ends one of the two sessions in a fight over the client id.",
    how_it_comes_about: "In the pool a fault in the slot machine, or a duplicate of the old socket's descriptor \
        that kept it alive (fork, dup, SCM_RIGHTS) past the receipt timeout; elsewhere a new \
        client that was made before the old one had ended.",
    what_to_do: "In the pool look for an unreleased finding of the same device: its holder explains \
        why the old socket lived on. Without one it is a fault of the pool: report it with the \
        finding's message. Elsewhere end the old client, and wait for its end before a new one \
        is made.",
    how_to_tune: "The budget is the overlap that is allowed, by the kernel's own time stamps. There is \
        no reason to allow any.",
};

pub(super) const UNRELEASED: Description = Description {
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
};
