//! PURE. The kinds of findings: one verdict a file, all words in one table.
//!
//! A verdict looks at one socket and a time, and at nothing else. It says since when something is
//! wrong; whether that is long enough is the budget's business. Listening sockets are never judged.

mod budgets;
mod close_wait;
mod dead_fd;
mod duplicate_client_id;
mod inherited;
mod kind;
mod silent_peer;
mod stuck_connect;
mod undrained;

use std::time::Duration;

pub(crate) use self::kind::inherited_remedy;
pub use self::{
    budgets::Budgets,
    close_wait::close_wait,
    dead_fd::dead_fd,
    duplicate_client_id::duplicate_client_id,
    inherited::inherited,
    kind::{Kind, Severity},
    silent_peer::silent_peer,
    stuck_connect::stuck_connect,
    undrained::undrained,
};
use crate::{model::MonoTime, table::Socket};

/// What is to be said about a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// Something is wrong, but not for long enough.
    Suspect {
        /// Since when.
        since: MonoTime,
        /// When it will have been too long.
        due: MonoTime,
    },
    /// Something has been wrong for longer than the budget.
    Leak {
        /// Since when.
        since: MonoTime,
    },
}

impl Verdict {
    /// The verdict about something that has been wrong since `since`.
    pub(crate) fn about(since: MonoTime, now: MonoTime, budget: Duration) -> Self {
        let due = since.after(budget);
        if due <= now { Self::Leak { since } } else { Self::Suspect { since, due } }
    }

    /// Since when something is wrong.
    pub fn since(self) -> Option<MonoTime> {
        match self {
            Self::Fine => None,
            Self::Suspect { since, .. } | Self::Leak { since } => Some(since),
        }
    }
}

/// The verdict of `kind` about `socket`, by itself. Kinds of the registry say nothing here: the
/// [ledger](crate::ledger) judges them. Nor do kinds about processes: [trends](crate::trends) do.
pub fn judge(kind: Kind, socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    let verdict = match kind {
        Kind::CloseWait => close_wait,
        Kind::DeadFd => dead_fd,
        Kind::DuplicateClientId => duplicate_client_id,
        Kind::Inherited => inherited,
        Kind::SilentPeer => silent_peer,
        Kind::StuckConnect => stuck_connect,
        Kind::Undrained => undrained,
        _ => return Verdict::Fine,
    };
    verdict(socket, now, budget)
}

#[cfg(test)]
mod cases;
