//! What a process says of its sockets.

use std::{sync::Arc, time::Duration};

use crate::model::Ends;

/// That a socket is a device's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Both ends of the socket.
    pub ends: Ends,
    /// The device, at most [`LONGEST_DEVICE`](super::LONGEST_DEVICE) bytes: untrusted text.
    pub device: Arc<str>,
    /// How far its session is.
    pub stage: Stage,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is being made.
    Connecting,
    /// It is up: the socket must be ESTABLISHED.
    Online,
}

/// One thing that a process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// This is its whole registry; it is withdrawn after `lease` if nothing follows.
    All {
        /// Its claims.
        claims: Vec<Claim>,
        /// How long it holds; `None` inside a stream, which holds as long as it lives.
        lease: Option<Duration>,
    },
    /// This socket is a device's too.
    Claim(Claim),
    /// This socket is nobody's any more.
    Retract(Ends),
    /// What was said still stands.
    Confirm,
    /// A stream begins: what is said holds until it ends.
    Begin,
}

/// What became of the claims of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those whose socket is known.
    pub matched: usize,
    /// Those whose socket is not known: they wait.
    pub unmatched: usize,
}

/// Why a statement was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing is known of the sockets of this process.
    #[error("this process is not watched: name it in [watch] of the config")]
    NotWatched,
    /// The pool of the daemon keeps its own registry.
    #[error("this is the daemon itself, whose pool has a registry of its own")]
    Ourselves,
    /// There are [`MOST_PROCESSES`](super::MOST_PROCESSES) already.
    #[error("64 processes claim already: withdraw the claims of one, or let them run out")]
    TooManyProcesses,
    /// It would have more than [`MOST_CLAIMS`](super::MOST_CLAIMS), or all together more than
    /// [`MOST_CLAIMS_OF_ALL`](super::MOST_CLAIMS_OF_ALL).
    #[error("a process may have 65,536 claims, and all together 262,144")]
    TooManyClaims,
}
