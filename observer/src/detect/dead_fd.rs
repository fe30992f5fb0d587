//! `dead-fd`: the connection is over, the descriptor is still held.

use std::time::Duration;

use crate::{
    detect::Verdict,
    model::{MonoTime, TcpState},
    table::Socket,
};

/// Since the state became CLOSE. A fresh socket(2) is in CLOSE too: only one that was connected or
/// connecting once is dead, and its remote port tells that even if it was not watched then
/// (`tcp_done` leaves `inet_dport` in place).
pub fn dead_fd(socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    let was_connected = socket.was_connected || socket.ends.remote.port() != 0;
    if socket.state != TcpState::Close || socket.holders.is_empty() || !was_connected {
        return Verdict::Fine;
    }
    Verdict::about(socket.answerable(socket.state_since), now, budget)
}

#[cfg(test)]
mod tests {
    use TcpState::{Close, Established, Listen, SynRecv, SynSent};

    use super::*;
    use crate::detect::{
        Kind,
        cases::{IDLE, Step::*, check},
    };

    #[test]
    fn verdicts() {
        check(
            Kind::DeadFd,
            &[
                (
                    "reset and not closed",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Moves(Established, Close)),
                    ],
                    Some(5000),
                ),
                (
                    "refused and not closed",
                    &[(1000, Connects), (1002, Moves(SynSent, Close))],
                    Some(1002),
                ),
                (
                    "reset and closed",
                    &[(1000, Connects), (1002, Moves(SynSent, Close)), (1003, Closes(1, 7))],
                    None,
                ),
                (
                    "a fresh socket(2) is not dead",
                    &[(1000, FoundFresh(&[(1, 7)])), (9000, FoundFresh(&[(1, 7)]))],
                    None,
                ),
                (
                    "found dead: its remote port tells that it was connected",
                    &[(9000, Found(Close, &[(1, 7)], IDLE))],
                    Some(9000),
                ),
                (
                    "a listener that was shut down was never connected",
                    &[(1000, Listens), (2000, Found(Listen, &[(1, 7)], IDLE))],
                    None,
                ),
                (
                    "dead before it was accepted",
                    &[
                        (1000, Moves(SynRecv, Established)),
                        (2000, Moves(Established, Close)),
                        (6000, Accepts(1, 9)),
                    ],
                    Some(6000),
                ),
            ],
        );
    }
}
