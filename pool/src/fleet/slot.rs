use super::takeover::Takeovers;
use crate::backoff::Backoff;
use crate::device::{Generation, Priority};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a device's slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No socket. Waits until it is due and for its turn.
    ///
    /// - (Its turn) becomes `Connecting`.
    Waiting,
    /// No socket, and none for a while: another client fights for the client id.
    ///
    /// - (The time is over, and its turn) becomes `Connecting`.
    /// - (A call of reconnect) becomes `Waiting`.
    Quarantined,
    /// From the dial to CONNACK.
    ///
    /// - (CONNACK) becomes `Online`.
    /// - (It failed) becomes `Releasing`.
    /// - (Removed) becomes `Stopping`.
    Connecting,
    /// A session is up. It may wait for its turn to be replaced.
    ///
    /// - (It ended) becomes `Releasing`.
    /// - (Its turn, or removed) becomes `Stopping`.
    Online,
    /// The session was told to end, and its socket is not closed yet.
    ///
    /// - (It ended) becomes `Releasing`.
    Stopping,
    /// The socket is closed; the kernel's receipt is awaited.
    ///
    /// - (Receipt, or no patience left) becomes `Connecting` when it has its turn already,
    ///   else `Quarantined` or `Waiting`.
    Releasing,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Quarantined,
        Self::Connecting,
        Self::Online,
        Self::Stopping,
        Self::Releasing,
    ];

    /// Its name for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Quarantined => "quarantined",
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::Stopping => "stopping",
            Self::Releasing => "releasing",
        }
    }
}

/// The place of one device.
#[derive(Debug)]
pub(super) struct Slot {
    state: State,
    pub(super) priority: Priority,
    /// Admission has granted, and was not told of the outcome yet.
    pub(super) permit: bool,
    pub(super) removing: bool,
    /// Redirects followed in a row.
    pub(super) redirects: u8,
    pub(super) generation: Generation,
    pub(super) backoff: Backoff,
    /// When the next dial is due; what was planned while there is a session.
    pub(super) due: Instant,
    pub(super) online_at: Option<Instant>,
    pub(super) last_connect: Option<Instant>,
    /// The next wait is a quarantine of so long.
    pub(super) quarantine: Option<Duration>,
    pub(super) takeovers: Takeovers,
    /// In place of the configured broker.
    pub(super) server: Option<Arc<str>>,
}

impl Slot {
    pub(super) fn new(priority: Priority, now: Instant) -> Self {
        Self {
            state: State::Waiting,
            priority,
            permit: false,
            removing: false,
            redirects: 0,
            generation: Generation::default(),
            backoff: Backoff::default(),
            due: now,
            online_at: None,
            last_connect: None,
            quarantine: None,
            takeovers: Takeovers::default(),
            server: None,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Panics on a transition that is not in the table: it would be a second socket.
    pub(super) fn enter(&mut self, state: State) {
        assert!(allowed(self.state, state), "invariant: no way from {:?} to {state:?}", self.state);
        self.state = state;
    }
}

/// The table of transitions.
fn allowed(from: State, to: State) -> bool {
    use State::{Connecting, Online, Quarantined, Releasing, Stopping, Waiting};
    matches!(
        (from, to),
        (Waiting, Connecting | Waiting)
            | (Quarantined, Connecting | Waiting)
            | (Connecting, Online | Releasing | Stopping)
            | (Online, Releasing | Stopping)
            | (Stopping, Releasing)
            | (Releasing, Connecting | Waiting | Quarantined)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_state_leads_to_a_new_socket_after_an_old_one() {
        let with_socket = [State::Connecting, State::Online, State::Stopping];
        for from in with_socket {
            assert!(!allowed(from, State::Waiting), "{from:?}");
            for to in with_socket.into_iter().filter(|to| *to == State::Connecting) {
                assert!(!allowed(from, to), "{from:?} to {to:?} is a second socket");
            }
        }
    }

    #[test]
    fn an_idle_slot_is_small() {
        assert!(size_of::<Slot>() <= 144, "{}", size_of::<Slot>());
    }
}
