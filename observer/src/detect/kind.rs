//! The kinds and what is said about them. `docs/findings.md` is written from this table.

mod processes;
mod registry;
mod sockets;

use std::{fmt, time::Duration};

pub(crate) use self::sockets::inherited_remedy;

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The peer closed, the process did not.
    CloseWait,
    /// Many sockets are in CLOSE_WAIT, though perhaps not the same ones.
    CloseWaitBuildup,
    /// The connection is over, the descriptor is still held.
    DeadFd,
    /// Two live connections carry one MQTT client id.
    DuplicateClientId,
    /// The kernel refused a descriptor or a port.
    Exhausted,
    /// The limit of descriptors is small for so many connections.
    FdLimitLow,
    /// The limit of descriptors is near.
    FdPressure,
    /// The registry says online, the kernel says the socket is gone or not ESTABLISHED.
    Ghost,
    /// The owner gave it up, a process that got it by fork or exec still holds it.
    Inherited,
    /// An open socket of the pool's process, to a broker of the pool, that no claim covers.
    Orphan,
    /// More connections to a broker than there are devices, or a climb without an end.
    Overgrowth,
    /// Two live sockets for one device.
    Overlap,
    /// Local ports towards a destination run out.
    PortPressure,
    /// Very many new connections in a few seconds.
    ReconnectStorm,
    /// Nothing has moved for longer than the protocol allows.
    SilentPeer,
    /// New connections are opened while older ones are forgotten.
    StaleGeneration,
    /// connect(2) gets no answer.
    StuckConnect,
    /// Two clients fight for one session.
    TakeoverDuel,
    /// Data wait and nobody reads them.
    Undrained,
    /// The pool has destroyed a session, and its socket lives on.
    Unreleased,
}

/// How bad it is, with the numbers of syslog (RFC 5424 section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Service fails now, or a promise of ours is broken.
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
const TABLE: [&Description; 20] = [
    &sockets::CLOSE_WAIT,
    &processes::CLOSE_WAIT_BUILDUP,
    &sockets::DEAD_FD,
    &sockets::DUPLICATE_CLIENT_ID,
    &processes::EXHAUSTED,
    &processes::FD_LIMIT_LOW,
    &processes::FD_PRESSURE,
    &registry::GHOST,
    &sockets::INHERITED,
    &registry::ORPHAN,
    &processes::OVERGROWTH,
    &registry::OVERLAP,
    &processes::PORT_PRESSURE,
    &processes::RECONNECT_STORM,
    &sockets::SILENT_PEER,
    &processes::STALE_GENERATION,
    &sockets::STUCK_CONNECT,
    &processes::TAKEOVER_DUEL,
    &sockets::UNDRAINED,
    &registry::UNRELEASED,
];

impl Kind {
    /// All kinds, by name.
    pub const ALL: [Self; 20] = [
        Self::CloseWait,
        Self::CloseWaitBuildup,
        Self::DeadFd,
        Self::DuplicateClientId,
        Self::Exhausted,
        Self::FdLimitLow,
        Self::FdPressure,
        Self::Ghost,
        Self::Inherited,
        Self::Orphan,
        Self::Overgrowth,
        Self::Overlap,
        Self::PortPressure,
        Self::ReconnectStorm,
        Self::SilentPeer,
        Self::StaleGeneration,
        Self::StuckConnect,
        Self::TakeoverDuel,
        Self::Undrained,
        Self::Unreleased,
    ];

    /// Those that are about a socket of any process, by itself.
    pub const OF_SOCKETS: [Self; 7] = [
        Self::CloseWait,
        Self::DeadFd,
        Self::DuplicateClientId,
        Self::Inherited,
        Self::SilentPeer,
        Self::StuckConnect,
        Self::Undrained,
    ];

    /// Those that the pool's registry and the kernel disagree about.
    pub const OF_REGISTRY: [Self; 4] = [Self::Ghost, Self::Orphan, Self::Overlap, Self::Unreleased];

    /// Those that are about a process and where it connects to, over time.
    pub const OF_PROCESSES: [Self; 9] = [
        Self::CloseWaitBuildup,
        Self::Exhausted,
        Self::FdLimitLow,
        Self::FdPressure,
        Self::Overgrowth,
        Self::PortPressure,
        Self::ReconnectStorm,
        Self::StaleGeneration,
        Self::TakeoverDuel,
    ];

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
        TABLE[self as usize]
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
