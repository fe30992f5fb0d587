//! PURE. The end in order: DISCONNECT to every broker, a receipt for every socket, and a deadline
//! for both.

use std::{fmt, time::Duration};

use crate::model::MonoTime;

/// What is still open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Sessions that have not sent their DISCONNECT.
    pub sessions: usize,
    /// Closed sockets whose end the kernel has not confirmed.
    pub receipts: usize,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = |count: usize, one, many| if count == 1 { one } else { many };
        write!(
            f,
            "{} {} without a DISCONNECT, {} {} without a receipt",
            self.sessions,
            noun(self.sessions, "session", "sessions"),
            self.receipts,
            noun(self.receipts, "socket", "sockets"),
        )
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sessions say goodbye.
    Disconnecting,
    /// The kernel has to confirm the last sockets.
    AwaitingReceipts,
    /// There is nothing to wait for any more.
    Over(End),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was left.
    Clean,
    /// The time ran out.
    Deadline(Left),
    /// Somebody asked a second time.
    Impatience(Left),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("every session said goodbye, every socket has its receipt"),
            Self::Deadline(left) => write!(f, "the time to drain ran out with {left}"),
            Self::Impatience(left) => write!(f, "asked a second time to end, with {left}"),
        }
    }
}

/// An end that has begun. It only goes forward.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: Phase,
    deadline: MonoTime,
    left: Left,
}

impl Drain {
    /// The first SIGTERM came `now`; in `patience` it must be over.
    pub fn begin(now: MonoTime, patience: Duration, left: Left) -> Self {
        let deadline = now.after(patience);
        let mut drain = Self { phase: Phase::Disconnecting, deadline, left };
        drain.handle_left(now, left);
        drain
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When [`Drain::handle_left`] has to be called at the latest; `None` when it is over.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        (!matches!(self.phase, Phase::Over(_))).then_some(self.deadline)
    }

    /// `now`, so much is left.
    pub fn handle_left(&mut self, now: MonoTime, left: Left) -> Phase {
        self.left = left;
        self.phase = match self.phase {
            Phase::Over(end) => Phase::Over(end),
            _ if left == Left::default() => Phase::Over(End::Clean),
            _ if now >= self.deadline => Phase::Over(End::Deadline(left)),
            Phase::Disconnecting if left.sessions > 0 => Phase::Disconnecting,
            Phase::Disconnecting | Phase::AwaitingReceipts => Phase::AwaitingReceipts,
        };
        self.phase
    }

    /// Another SIGTERM or SIGINT: whoever sends it does not want to wait.
    pub fn handle_signal(&mut self) -> Phase {
        if !matches!(self.phase, Phase::Over(_)) {
            self.phase = Phase::Over(End::Impatience(self.left));
        }
        self.phase
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(1_000_000_000).after(Duration::from_secs(seconds))
    }

    fn left(sessions: usize, receipts: usize) -> Left {
        Left { sessions, receipts }
    }

    #[test]
    fn sessions_go_first_then_receipts_come() {
        let mut drain = Drain::begin(at(0), PATIENCE, left(2, 0));
        assert_eq!(drain.phase(), Phase::Disconnecting);
        assert_eq!(drain.handle_left(at(1), left(1, 1)), Phase::Disconnecting);
        assert_eq!(drain.handle_left(at(2), left(0, 2)), Phase::AwaitingReceipts);
        assert_eq!(drain.poll_timeout(), Some(at(20)));
        assert_eq!(drain.handle_left(at(3), left(0, 0)), Phase::Over(End::Clean));
        assert_eq!(drain.poll_timeout(), None);
    }

    #[test]
    fn nothing_to_drain_is_over_at_once() {
        assert_eq!(Drain::begin(at(0), PATIENCE, left(0, 0)).phase(), Phase::Over(End::Clean));
    }

    #[test]
    fn no_patience_is_over_at_once() {
        let drain = Drain::begin(at(0), Duration::ZERO, left(1, 2));
        assert_eq!(drain.phase(), Phase::Over(End::Deadline(left(1, 2))));
    }

    #[test]
    fn the_deadline_says_what_was_left() {
        let mut drain = Drain::begin(at(0), PATIENCE, left(1, 0));
        assert_eq!(drain.handle_left(at(19), left(1, 2)), Phase::Disconnecting);
        let end = drain.handle_left(at(20), left(1, 2));
        assert_eq!(end, Phase::Over(End::Deadline(left(1, 2))));
        let Phase::Over(end) = end else { panic!("{end:?}") };
        assert_eq!(
            end.to_string(),
            "the time to drain ran out with 1 session without a DISCONNECT, 2 sockets without a \
             receipt"
        );
    }

    #[test]
    fn a_second_signal_ends_it_and_nothing_takes_that_back() {
        let mut drain = Drain::begin(at(0), PATIENCE, left(5, 0));
        drain.handle_left(at(1), left(3, 2));
        let end = Phase::Over(End::Impatience(left(3, 2)));
        assert_eq!(drain.handle_signal(), end);
        assert_eq!(drain.handle_left(at(2), left(0, 0)), end);
        assert_eq!(drain.handle_signal(), end);
    }

    proptest! {
        #[test]
        fn it_goes_forward_only_and_never_past_its_deadline(
            steps in prop::collection::vec((0u64..3, 0usize..3, 0usize..3), 1..60),
        ) {
            let rank = |phase| match phase {
                Phase::Disconnecting => 0,
                Phase::AwaitingReceipts => 1,
                Phase::Over(_) => 2,
            };
            let mut drain = Drain::begin(at(0), PATIENCE, left(3, 3));
            let (mut now, mut last) = (0, 0);
            for (step, sessions, receipts) in steps {
                now += step;
                let phase = drain.handle_left(at(now), left(sessions, receipts));
                prop_assert!(rank(phase) >= last);
                last = rank(phase);
                prop_assert!(now < 20 || last == 2);
                prop_assert!(sessions == 0 || last != 1 || now < 20);
            }
        }
    }
}
