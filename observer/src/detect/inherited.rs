//! `inherited`: the owner gave it up, another process still holds it.

use std::time::Duration;

use crate::{
    detect::Verdict,
    model::{MonoTime, TcpState},
    table::Socket,
};

/// Since the owner closed it, exited or executed another program. A hand-over ends that: the table
/// moves the ownership then, and there is nothing left to judge. Sharing a listener is normal.
pub fn inherited(socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    let Some(release) = socket.released else { return Verdict::Fine };
    let is_used = socket.flow.used_after(release.time);
    if socket.state == TcpState::Listen || socket.holders.is_empty() || is_used {
        return Verdict::Fine;
    }
    Verdict::about(release.time, now, budget)
}

#[cfg(test)]
mod tests {
    use TcpState::{Established, SynRecv, SynSent};

    use super::*;
    use crate::detect::{
        Kind,
        cases::{IDLE, Seen, Step::*, check},
    };

    // Process 1 owns the socket. A process with number N was forked at N ms.
    #[test]
    fn left_behind() {
        check(
            Kind::Inherited,
            &[
                (
                    "a worker keeps a copy that the owner closed long after the fork",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Found(Established, &[(1, 7), (3000, 7)], IDLE)),
                        (6000, Closes(1, 7)),
                        (7000, Found(Established, &[(3000, 7)], IDLE)),
                    ],
                    Some(6000),
                ),
                (
                    "a helper executed another program and keeps the number, however soon it was",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (3005, Executes(3000)),
                        (3010, Closes(1, 7)),
                        (7000, Found(Established, &[(3000, 7)], IDLE)),
                    ],
                    Some(3010),
                ),
                (
                    "another worker closed its copy, this one did not",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Closes(3001, 7)),
                        (6000, Closes(1, 7)),
                        (7000, Found(Established, &[(3000, 7)], IDLE)),
                    ],
                    Some(6000),
                ),
                (
                    "the close was not seen: not before the snapshot that missed the descriptor",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Found(Established, &[(1, 7), (3000, 7)], IDLE)),
                        (9000, Found(Established, &[(3000, 7)], IDLE)),
                    ],
                    Some(9000),
                ),
                (
                    "the owner exits and leaves two workers",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (6000, Exits(1)),
                        (7000, Found(Established, &[(3000, 7), (3001, 7)], IDLE)),
                    ],
                    Some(6000),
                ),
                (
                    "the owner executes another program, which keeps the descriptor",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (6000, Executes(1)),
                        (7000, Found(Established, &[(1, 7)], IDLE)),
                    ],
                    Some(6000),
                ),
                (
                    "the kernel repeats what was written before the close",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Found(Established, &[(1, 7), (3000, 7)], IDLE)),
                        (6000, Closes(1, 7)),
                        (9000, Found(Established, &[(3000, 7)], Seen { sent: 8500, ..IDLE })),
                    ],
                    Some(6000),
                ),
            ],
        );
    }

    #[test]
    fn handed_over() {
        check(
            Kind::Inherited,
            &[
                (
                    "nobody closed it",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (7000, Found(Established, &[(1, 7), (3000, 7)], IDLE)),
                    ],
                    None,
                ),
                (
                    "the owner has another descriptor",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (6000, Closes(1, 7)),
                        (7000, Found(Established, &[(1, 8), (3000, 7)], IDLE)),
                    ],
                    None,
                ),
                (
                    "the parent closes right after the fork, one child goes on",
                    &[
                        (1000, Moves(SynRecv, Established)),
                        (1001, Accepts(1, 7)),
                        (3005, Closes(1, 7)),
                        (7000, Found(Established, &[(3000, 7)], IDLE)),
                    ],
                    None,
                ),
                (
                    "the same, though the close was not seen",
                    &[
                        (1000, Moves(SynRecv, Established)),
                        (1001, Accepts(1, 7)),
                        (7000, Found(Established, &[(3000, 7)], IDLE)),
                    ],
                    None,
                ),
                (
                    "inetd: the program of the child has it as 0, 1 and 2",
                    &[
                        (1000, Moves(SynRecv, Established)),
                        (1001, Accepts(1, 7)),
                        (3005, Executes(3000)),
                        (6000, Closes(1, 7)),
                        (7000, Found(Established, &[(3000, 0), (3000, 1), (3000, 2)], IDLE)),
                    ],
                    None,
                ),
                (
                    "received by SCM_RIGHTS under another number",
                    &[
                        (1000, Moves(SynRecv, Established)),
                        (1001, Accepts(1, 7)),
                        (6000, Closes(1, 7)),
                        (7000, Found(Established, &[(3000, 12)], IDLE)),
                    ],
                    None,
                ),
                (
                    "received by a process that was there before the socket",
                    &[
                        (1000, Moves(SynRecv, Established)),
                        (1001, Accepts(1, 7)),
                        (6000, Closes(1, 7)),
                        (7000, Found(Established, &[(500, 7)], IDLE)),
                    ],
                    None,
                ),
                (
                    "received by SCM_RIGHTS under the number of the copy that it had closed",
                    &[
                        (1000, Moves(SynRecv, Established)),
                        (1001, Accepts(1, 7)),
                        (3005, Closes(3000, 7)),
                        (3010, Executes(3000)),
                        (6000, Closes(1, 7)),
                        (7000, Found(Established, &[(3000, 7)], IDLE)),
                    ],
                    None,
                ),
                (
                    "a daemon detaches itself",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (6000, Exits(1)),
                        (7000, Found(Established, &[(3000, 7)], IDLE)),
                    ],
                    None,
                ),
                (
                    "the child sends",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (5000, Found(Established, &[(1, 7), (3000, 7)], IDLE)),
                        (6000, Closes(1, 7)),
                        (
                            9000,
                            Found(
                                Established,
                                &[(3000, 7)],
                                Seen { sent: 8500, written: 9, ..IDLE },
                            ),
                        ),
                    ],
                    None,
                ),
                (
                    "the child reads",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (6000, Closes(1, 7)),
                        (7000, Found(Established, &[(3000, 7)], IDLE)),
                        (8000, Found(Established, &[(3000, 7)], Seen { copied: 9, ..IDLE })),
                    ],
                    None,
                ),
                (
                    "a listener is shared",
                    &[
                        (1000, Listens),
                        (6000, Closes(1, 7)),
                        (7000, Found(TcpState::Listen, &[(3000, 7), (3001, 7)], IDLE)),
                    ],
                    None,
                ),
            ],
        );
    }

    #[test]
    fn the_new_owner_answers_for_it() {
        check(
            Kind::Inherited,
            &[(
                "the child that went on forks and closes in its turn",
                &[
                    (1000, Moves(SynRecv, Established)),
                    (1001, Accepts(1, 7)),
                    (3005, Closes(1, 7)),
                    (4000, Found(Established, &[(3000, 7)], IDLE)),
                    (8000, Closes(3000, 7)),
                    (9000, Found(Established, &[(5000, 7)], IDLE)),
                ],
                Some(8000),
            )],
        );
    }
}
