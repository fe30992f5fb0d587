//! `undrained`: data wait and nobody reads them.

use std::time::Duration;

use crate::{
    detect::Verdict,
    model::{MonoTime, TcpState},
    table::Socket,
};

/// Since data have waited with nothing read, as far as two observations prove it; not since before
/// there was anybody who could read them.
pub fn undrained(socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    let reads = matches!(socket.state, TcpState::Established | TcpState::CloseWait);
    match socket.flow.not_read_since {
        Some(since) if reads && !socket.holders.is_empty() => {
            Verdict::about(socket.answerable(since), now, budget)
        }
        _ => Verdict::Fine,
    }
}

#[cfg(test)]
mod tests {
    use TcpState::{CloseWait, Established, FinWait2, SynRecv, SynSent};

    use super::*;
    use crate::detect::{
        Kind,
        cases::{IDLE, Seen, Step::*, check},
    };

    const WAITING: Seen = Seen { unread: 9, received: 6000, ..IDLE };

    #[test]
    fn verdicts() {
        check(
            Kind::Undrained,
            &[
                (
                    "nothing waits",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (8000, Found(Established, &[(1, 7)], IDLE)),
                    ],
                    None,
                ),
                (
                    "data wait: since they came, if nothing waited before",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Found(Established, &[(1, 7)], IDLE)),
                        (8000, Found(Established, &[(1, 7)], WAITING)),
                    ],
                    Some(6000),
                ),
                (
                    "data wait: since they were seen, if nothing was known before",
                    &[(8000, Found(Established, &[(1, 7)], WAITING))],
                    Some(8000),
                ),
                (
                    "a slow reader reads",
                    &[
                        (8000, Found(Established, &[(1, 7)], WAITING)),
                        (
                            9000,
                            Found(Established, &[(1, 7)], Seen { copied: 2, unread: 8, ..WAITING }),
                        ),
                    ],
                    Some(9000),
                ),
                (
                    "the end waits behind the data",
                    &[
                        (8000, Found(Established, &[(1, 7)], WAITING)),
                        (9000, Moves(Established, CloseWait)),
                        (9500, Found(CloseWait, &[(1, 7)], Seen { unread: 10, ..WAITING })),
                    ],
                    Some(8000),
                ),
                (
                    "only the end waits",
                    &[(9500, Found(CloseWait, &[(1, 7)], Seen { unread: 1, ..WAITING }))],
                    None,
                ),
                (
                    "nobody could read before accept(2)",
                    &[
                        (1000, Moves(SynRecv, Established)),
                        (5000, FoundWaiting(WAITING)),
                        (8000, Accepts(1, 7)),
                    ],
                    Some(8000),
                ),
                ("this side has closed", &[(9500, Found(FinWait2, &[(1, 7)], WAITING))], None),
                (
                    "nobody holds it",
                    &[(8000, Found(Established, &[(1, 7)], WAITING)), (8500, Closes(1, 7))],
                    None,
                ),
            ],
        );
    }
}
