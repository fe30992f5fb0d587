//! PURE. The kinds of findings: one verdict a file, all words in one table.
//!
//! A verdict looks at one socket and a time, and at nothing else. It says since when something is
//! wrong; whether that is long enough is the budget's business. Listening sockets are never judged.

mod budgets;
mod close_wait;
mod dead_fd;
mod inherited;
mod kind;
mod stuck_connect;
mod undrained;

use std::time::Duration;

pub use self::{
    budgets::Budgets,
    close_wait::close_wait,
    dead_fd::dead_fd,
    inherited::inherited,
    kind::{Kind, Severity},
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
/// [ledger](crate::ledger) judges them.
pub fn judge(kind: Kind, socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    let verdict = match kind {
        Kind::CloseWait => close_wait,
        Kind::DeadFd => dead_fd,
        Kind::Inherited => inherited,
        Kind::StuckConnect => stuck_connect,
        Kind::Undrained => undrained,
        Kind::Ghost | Kind::Orphan | Kind::Overlap | Kind::Unreleased => return Verdict::Fine,
    };
    verdict(socket, now, budget)
}

#[cfg(test)]
mod cases;
