//! `close-wait`: the peer closed, the process did not.

use std::time::Duration;

use crate::{
    detect::Verdict,
    model::{MonoTime, TcpState},
    table::Socket,
};

/// Since the peer closed, or since something last moved if that is later: a stream may be sent for
/// hours after the peer's FIN, and what came before the FIN may still be read. Reading the FIN
/// itself is no movement.
pub fn close_wait(socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    if socket.state != TcpState::CloseWait || socket.holders.is_empty() {
        return Verdict::Fine;
    }
    let flow = &socket.flow;
    let moved = [
        flow.last_sent,
        flow.last_written.map(|moved| moved.by),
        flow.last_read.map(|moved| moved.by),
    ];
    let since =
        moved.into_iter().flatten().fold(socket.answerable(socket.state_since), MonoTime::max);
    Verdict::about(since, now, budget)
}

#[cfg(test)]
mod tests {
    use TcpState::{Close, CloseWait, Established, LastAck, SynRecv, SynSent};

    use super::*;
    use crate::detect::{
        Kind,
        cases::{IDLE, Seen, Step::*, check},
    };

    #[test]
    fn verdicts() {
        check(
            Kind::CloseWait,
            &[
                (
                    "the peer closed, the process did not",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Moves(Established, CloseWait)),
                    ],
                    Some(5000),
                ),
                (
                    "the process closed too",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Moves(Established, CloseWait)),
                        (5001, Closes(1, 7)),
                        (5002, Moves(CloseWait, LastAck)),
                    ],
                    None,
                ),
                (
                    "nobody holds it",
                    &[(1000, Moves(SynRecv, Established)), (5000, Moves(Established, CloseWait))],
                    None,
                ),
                (
                    "nobody could answer for it before accept(2)",
                    &[
                        (1000, Moves(SynRecv, Established)),
                        (2000, Moves(Established, CloseWait)),
                        (8000, Accepts(1, 9)),
                    ],
                    Some(8000),
                ),
                (
                    "a half-closed stream is still being sent",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Moves(Established, CloseWait)),
                        (9000, Found(CloseWait, &[(1, 7)], Seen { sent: 8990, ..IDLE })),
                    ],
                    Some(8990),
                ),
                (
                    "it is still being written, though nothing leaves",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Moves(Established, CloseWait)),
                        (7000, Found(CloseWait, &[(1, 7)], IDLE)),
                        (9000, Found(CloseWait, &[(1, 7)], Seen { written: 5, ..IDLE })),
                    ],
                    Some(9000),
                ),
                (
                    "what came before the end is still being read",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Moves(Established, CloseWait)),
                        (7000, Found(CloseWait, &[(1, 7)], Seen { copied: 1, unread: 50, ..IDLE })),
                        (
                            9000,
                            Found(CloseWait, &[(1, 7)], Seen { copied: 21, unread: 30, ..IDLE }),
                        ),
                    ],
                    Some(9000),
                ),
                (
                    "reading the end is no movement",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Moves(Established, CloseWait)),
                        (7000, Found(CloseWait, &[(1, 7)], Seen { copied: 1, unread: 1, ..IDLE })),
                        (9000, Found(CloseWait, &[(1, 7)], Seen { copied: 2, unread: 0, ..IDLE })),
                    ],
                    Some(5000),
                ),
                (
                    "what was sent before the peer closed does not matter",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Moves(Established, CloseWait)),
                        (9000, Found(CloseWait, &[(1, 7)], Seen { sent: 4000, ..IDLE })),
                    ],
                    Some(5000),
                ),
                (
                    "found in this state: no age is invented",
                    &[(9000, Found(CloseWait, &[(1, 7)], IDLE))],
                    Some(9000),
                ),
                (
                    "reset",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Moves(Established, CloseWait)),
                        (6000, Moves(CloseWait, Close)),
                    ],
                    None,
                ),
            ],
        );
    }
}
