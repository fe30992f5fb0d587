//! `inherited`: the owner gave it up, another process still holds it.

use std::time::Duration;

use crate::{
    detect::Verdict,
    model::{MonoTime, TcpState},
    table::Socket,
};

/// A child that holds copies which are close-on-exec may be between fork(2) and exec(2), where they
/// end. So many budgets after its fork it is judged like any other. Chosen: programs take milliseconds
/// for it, and where one does take longer than usual, its budget is the measure of that.
const BEFORE_EXEC: u32 = 3;

/// Since the owner closed it, exited or executed another program. A hand-over ends that: the table
/// moves the ownership then, and there is nothing left to judge. Sharing a listener is normal.
pub fn inherited(socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    let Some(release) = socket.released else { return Verdict::Fine };
    let is_used = socket.flow.used_after(release.time);
    if socket.state == TcpState::Listen || socket.holders.is_empty() || is_used {
        return Verdict::Fine;
    }
    let spared = socket.spared_since().map(|forked| forked.after(budget * BEFORE_EXEC));
    let (since, due) = (release.time, spared.max(Some(release.time.after(budget))));
    match due.filter(|due| now < *due) {
        Some(due) => Verdict::Suspect { since, due },
        None => Verdict::Leak { since },
    }
}

#[cfg(test)]
mod tests {
    use TcpState::{Established, SynRecv, SynSent};

    use super::*;
    use crate::detect::{
        Kind,
        cases::{IDLE, Seen, Step, Step::*, apply_first, check, first, ms, table},
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
    fn a_new_program_was_given_what_an_exec_would_have_closed() {
        check(
            Kind::Inherited,
            &[
                (
                    "the bit was cleared in the child, between fork and exec",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, true)])),
                        (3005, Executes(3000)),
                        (3010, Closes(1, 7)),
                        (7000, FoundWith(&[(3000, 7, false)])),
                    ],
                    None,
                ),
                (
                    "the bit was cleared in the child, and a snapshot saw it before",
                    &[
                        (1000, Connects),
                        (3001, FoundWith(&[(1, 7, true), (3000, 7, true)])),
                        (3005, Executes(3000)),
                        (6000, Closes(1, 7)),
                        (7000, FoundWith(&[(3000, 7, false)])),
                    ],
                    None,
                ),
                (
                    "the bit was cleared in the owner, for the one program that it runs",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, true)])),
                        (2600, FoundWith(&[(1, 7, false)])),
                        (3005, Executes(3000)),
                        (6000, Closes(1, 7)),
                        (7000, FoundWith(&[(3000, 7, false)])),
                    ],
                    None,
                ),
                (
                    "cleared in the owner, and two programs have it: one does not know of it",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, true)])),
                        (2600, FoundWith(&[(1, 7, false)])),
                        (3005, Executes(3000)),
                        (3015, Executes(3010)),
                        (6000, Closes(1, 7)),
                        (7000, FoundWith(&[(3000, 7, false), (3010, 7, false)])),
                    ],
                    Some(6000),
                ),
                (
                    "it never had the bit",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, false)])),
                        (3005, Executes(3000)),
                        (3010, Closes(1, 7)),
                        (7000, FoundWith(&[(3000, 7, false)])),
                    ],
                    Some(3010),
                ),
                (
                    "forked between accept(2) and fcntl(2), which set the bit too late",
                    &[
                        (2998, Moves(SynRecv, Established)),
                        (2999, Accepts(1, 7)),
                        (3005, Executes(3000)),
                        (4500, FoundWith(&[(1, 7, true), (3000, 7, false)])),
                        (6000, Closes(1, 7)),
                        (7000, FoundWith(&[(3000, 7, false)])),
                    ],
                    Some(6000),
                ),
                (
                    "a copy of the owner's under another number, made without the bit",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, true), (1, 8, false)])),
                        (3005, Executes(3000)),
                        (5000, Closes(1, 7)),
                        (6000, Closes(1, 8)),
                        (7000, FoundWith(&[(3000, 8, false)])),
                    ],
                    Some(6000),
                ),
                (
                    "a worker that executes nothing and has no bit is given nothing by that",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, true)])),
                        (6000, Closes(1, 7)),
                        (7000, FoundWith(&[(3000, 7, false)])),
                    ],
                    Some(6000),
                ),
                (
                    "the bit of a former owner says nothing of the new one's",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, true)])),
                        (3005, Closes(1, 7)),
                        (4000, FoundWith(&[(3000, 7, false)])),
                        (6005, Executes(6000)),
                        (6010, Closes(3000, 7)),
                        (7000, FoundWith(&[(6000, 7, false)])),
                    ],
                    Some(6010),
                ),
                (
                    "the same, where another process has accepted it",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, true)])),
                        (2600, Accepts(2, 7)),
                        (2700, Closes(1, 7)),
                        (4005, Executes(4000)),
                        (4010, Closes(2, 7)),
                        (7000, FoundWith(&[(4000, 7, false)])),
                    ],
                    Some(4010),
                ),
                (
                    "the owner clears the bit and executes its new version",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, true)])),
                        (6000, Executes(1)),
                        (7000, FoundWith(&[(1, 7, false)])),
                        (8000, FoundWith(&[(1, 7, false)])),
                    ],
                    None,
                ),
                (
                    "the new version executes another program, which knows nothing of it",
                    &[
                        (1000, Connects),
                        (2500, FoundWith(&[(1, 7, true)])),
                        (6000, Executes(1)),
                        (7000, FoundWith(&[(1, 7, false)])),
                        (8000, Closes(1, 7)),
                        (9000, FoundWith(&[(5000, 7, false)])),
                    ],
                    Some(8000),
                ),
            ],
        );
    }

    #[test]
    fn a_child_before_its_exec_gets_three_budgets_since_the_fork() {
        let budget = Duration::from_secs(10);
        let verdict = |steps: &[(u64, Step)], now: u64| {
            let mut table = table();
            for (time, step) in steps {
                apply_first(&mut table, *time, *step);
            }
            inherited(first(&table), ms(now), budget)
        };
        let begin = [(1000, Connects), (1001, Moves(SynSent, Established)), (5000, Closes(1, 7))];
        let with =
            |held: &'static [(u32, i32, bool)]| [&begin[..], &[(6000, FoundWith(held))]].concat();
        let (since, leak) = (ms(5000), Verdict::Leak { since: ms(5000) });
        let due = |due| Verdict::Suspect { since, due: ms(due) };

        // Two, for a single one would be the new owner.
        let both = with(&[(3000, 7, true), (3500, 7, true)]);
        assert_eq!(verdict(&both, 32_999), due(33_000));
        assert_eq!(verdict(&both, 33_000), leak);
        // It is not excused for ever: long after the fork the usual budget counts.
        let workers = FoundWith(&[(3000, 7, true), (3500, 7, true)]);
        let late = [&begin[..2], &[(40_000, Closes(1, 7)), (41_000, workers)]].concat();
        let since = ms(40_000);
        let soon = Verdict::Suspect { since, due: ms(50_000) };
        assert_eq!(verdict(&late, 49_999), soon);
        assert_eq!(verdict(&late, 50_000), Verdict::Leak { since });
        // One without the bit, or after its exec, will not lose it.
        let mixed = with(&[(3000, 7, true), (3500, 7, false)]);
        assert_eq!(verdict(&mixed, 14_999), due(15_000));
        assert_eq!(verdict(&mixed, 15_000), leak);
        let executed = [&[(4000, Executes(3000)), (4000, Executes(3500))], &both[..]].concat();
        assert_eq!(verdict(&executed, 15_000), leak);
        // Not known is not set.
        let found = (6000, Found(Established, &[(3000, 7), (3500, 7)], IDLE));
        assert_eq!(verdict(&[&begin[..], &[found]].concat(), 15_000), leak);
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
