//! The kinds that are about one socket.

use super::*;

/// Since when something is wrong with socket 1.
type Since = Option<u64>;

fn check(kind: Kind, cases: &[Case<Since>]) {
    for (name, steps, expected) in cases {
        let world = World::new().run(steps);
        let last = steps.last().map_or(0, |(time, _)| *time);
        let now = us(expected.unwrap_or(last)).after(BUDGET);
        let before = crate::model::MonoTime::from_nanos(now.nanos() - 1);
        let (early, late) = match expected.map(us) {
            Some(since) => (Verdict::Suspect { since, due: now }, Verdict::Leak { since }),
            None => (Verdict::Fine, Verdict::Fine),
        };
        assert_eq!(world.judge(kind, 1, before, BUDGET), early, "{name}: within the budget");
        assert_eq!(world.judge(kind, 1, now, BUDGET), late, "{name}: after the budget");
    }
}

#[test]
fn ghosts() {
    check(
        Kind::Ghost,
        &[
            (
                "the kernel's first record before the claim",
                &[
                    (0, Connects(1)),
                    (1, Claim(1, Connecting)),
                    (2, Moves(1, SynSent, Established)),
                    (3, Claim(1, Online)),
                    (9, Moves(1, Established, Close)),
                ],
                Some(9),
            ),
            (
                "and after it",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (2, Moves(1, SynSent, Established)),
                    (3, Claim(1, Online)),
                    (9, Moves(1, Established, Close)),
                    (10, Destroyed(1)),
                ],
                Some(9),
            ),
            (
                "online is told before the kernel's record of it is read",
                &[(0, Claim(1, Connecting)), (1, Connects(1)), (3, Claim(1, Online))],
                None,
            ),
            (
                "all is well",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (2, Moves(1, SynSent, Established)),
                    (3, Claim(1, Online)),
                    (5, Snapshot(&[(1, Established, HELD)])),
                ],
                None,
            ),
            (
                "the broker closes, and the pool does not notice",
                &[
                    (0, Connects(1)),
                    (1, Claim(1, Online)),
                    (2, Moves(1, SynSent, Established)),
                    (7, Moves(1, Established, CloseWait)),
                    (8, Moves(1, CloseWait, LastAck)),
                ],
                Some(7),
            ),
            (
                "the broker closes, and the pool does too",
                &[
                    (0, Connects(1)),
                    (1, Claim(1, Online)),
                    (2, Moves(1, SynSent, Established)),
                    (7, Moves(1, Established, CloseWait)),
                    (8, Claim(1, Closed)),
                ],
                None,
            ),
            (
                "the claim is told when all is over",
                &[
                    (0, Connects(1)),
                    (2, Moves(1, SynSent, Established)),
                    (7, Moves(1, Established, Close)),
                    (7, Destroyed(1)),
                    (9, Claim(1, Online)),
                ],
                Some(9),
            ),
            (
                "the end was lost, and a snapshot shows the rest",
                &[
                    (0, Connects(1)),
                    (1, Claim(1, Online)),
                    (2, Moves(1, SynSent, Established)),
                    (9, Uncertain(&[(1, FinWait2, &[])])),
                ],
                Some(9),
            ),
            (
                "the end was lost, and a snapshot shows nothing",
                &[
                    (0, Connects(1)),
                    (1, Claim(1, Online)),
                    (2, Moves(1, SynSent, Established)),
                    (9, Snapshot(&[])),
                ],
                Some(9),
            ),
            (
                "a snapshot that may lack something proves nothing",
                &[
                    (0, Connects(1)),
                    (1, Claim(1, Online)),
                    (2, Moves(1, SynSent, Established)),
                    (9, Uncertain(&[])),
                ],
                None,
            ),
            (
                "changes were missed, and it is online no more",
                &[
                    (0, Connects(1)),
                    (1, Claim(1, Online)),
                    (7, Moves(1, Established, Close)),
                    (8, All(&[])),
                ],
                None,
            ),
            (
                "changes were missed, and it is online still",
                &[
                    (0, Connects(1)),
                    (1, Claim(1, Online)),
                    (7, Moves(1, Established, Close)),
                    (8, All(&[(1, Online)])),
                ],
                Some(7),
            ),
            (
                "a claimed socket that is not connected yet is in CLOSE",
                &[
                    (0, Claim(1, Connecting)),
                    (5, Snapshot(&[(1, Close, HELD)])),
                    (6, Connects(1)),
                    (7, Moves(1, SynSent, Established)),
                    (8, Claim(1, Online)),
                ],
                None,
            ),
        ],
    );
}

#[test]
fn orphans() {
    check(
        Kind::Orphan,
        &[
            (
                "foreign code, and no broker is known",
                &[(0, Connects(1)), (2, Moves(1, SynSent, Established))],
                None,
            ),
            (
                "foreign code, before any claim made the broker known",
                &[(0, Connects(1)), (2, Moves(1, SynSent, Established)), (5, Claim(2, Connecting))],
                Some(0),
            ),
            ("foreign code, afterwards", &[(0, Claim(2, Connecting)), (5, Connects(1))], Some(5)),
            (
                "foreign code to elsewhere",
                &[(0, Claim(2, Connecting)), (5, ConnectsTo(1, 80))],
                None,
            ),
            (
                "foreign code that closes",
                &[
                    (0, Claim(2, Connecting)),
                    (5, Connects(1)),
                    (6, Closes(1, POOL, 7)),
                    (6, Moves(1, SynSent, Close)),
                    (6, Destroyed(1)),
                ],
                None,
            ),
            (
                "foreign code's is older than the watch",
                &[(0, Claim(2, Connecting)), (5, Snapshot(&[(1, Established, HELD)]))],
                Some(5),
            ),
            (
                "of which a copy may live on, as far as is known",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (5, Moves(1, Established, FinWait1)),
                    (5, Closes(1, POOL, 7)),
                    (7, Retract(1, true)),
                    (8, Snapshot(&[(1, FinWait2, &[])])),
                ],
                None,
            ),
            (
                "of another process",
                &[(0, Claim(2, Connecting)), (5, Snapshot(&[(1, Established, &[(CHILD, 7)])]))],
                None,
            ),
            (
                "the claim comes late",
                &[(0, Claim(2, Connecting)), (5, Connects(1)), (9, Claim(1, Connecting))],
                None,
            ),
            (
                "retracted, and a copy of the descriptor lives on",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (2, Moves(1, SynSent, Established)),
                    (3, Claim(1, Online)),
                    (4, Snapshot(&[(1, Established, &[(POOL, 7), (POOL, 9)])])),
                    (5, Moves(1, Established, FinWait1)),
                    (5, Closes(1, POOL, 7)),
                    (6, Claim(1, Closed)),
                    (7, Retract(1, true)),
                ],
                Some(7),
            ),
            (
                "retracted, and a child has the only copy",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (4, Snapshot(&[(1, Established, &[(POOL, 7), (CHILD, 7)])])),
                    (5, Moves(1, Established, FinWait1)),
                    (5, Closes(1, POOL, 7)),
                    (7, Retract(1, true)),
                    (8, Snapshot(&[(1, FinWait2, &[(CHILD, 7)])])),
                ],
                None,
            ),
            (
                "closed and waiting for its receipt",
                &[(0, Claim(1, Connecting)), (1, Connects(1)), (6, Claim(1, Closed))],
                None,
            ),
            (
                "given up is not unclaimed",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (6, Claim(1, Closed)),
                    (7, Retract(1, false)),
                ],
                None,
            ),
            (
                "given up and ended since, and a copy of the descriptor lives on",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (4, Snapshot(&[(1, Established, &[(POOL, 7), (POOL, 9)])])),
                    (5, Closes(1, POOL, 7)),
                    (6, Claim(1, Closed)),
                    (7, Retract(1, false)),
                    (8, Moves(1, Established, Close)),
                ],
                Some(6),
            ),
            (
                "gone before the retraction",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (5, Moves(1, SynSent, Close)),
                    (6, Destroyed(1)),
                    (7, Retract(1, true)),
                ],
                None,
            ),
        ],
    );
}

#[test]
fn unreleased() {
    check(
        Kind::Unreleased,
        &[
            (
                "a child has a copy",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (4, Snapshot(&[(1, Established, &[(POOL, 7), (CHILD, 7)])])),
                    (5, Closes(1, POOL, 7)),
                    (6, Claim(1, Closed)),
                ],
                Some(6),
            ),
            (
                "the pool's process has another",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (4, Snapshot(&[(1, Established, &[(POOL, 7), (POOL, 9)])])),
                    (5, Closes(1, POOL, 7)),
                    (6, Claim(1, Closed)),
                ],
                Some(6),
            ),
            (
                "it is wrong since the close, also when it is given up",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (6, Claim(1, Closed)),
                    (9, Retract(1, false)),
                ],
                Some(6),
            ),
            (
                "changes were missed, and with them the retraction",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (6, Claim(1, Closed)),
                    (9, All(&[])),
                ],
                Some(6),
            ),
            (
                "a copy of what was shut down holds nothing back",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (4, Snapshot(&[(1, Established, &[(POOL, 7), (CHILD, 7)])])),
                    (5, Moves(1, Established, FinWait1)),
                    (5, Closes(1, POOL, 7)),
                    (6, Claim(1, Closed)),
                ],
                None,
            ),
            (
                "nobody holds it",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (5, Closes(1, POOL, 7)),
                    (6, Claim(1, Closed)),
                    (7, Snapshot(&[(1, Established, &[])])),
                ],
                None,
            ),
            (
                "the broker closed first, and CLOSE_WAIT lives on in a child",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (2, Moves(1, SynSent, Established)),
                    (3, Moves(1, Established, CloseWait)),
                    (4, Snapshot(&[(1, CloseWait, &[(POOL, 7), (CHILD, 7)])])),
                    (5, Closes(1, POOL, 7)),
                    (6, Claim(1, Closed)),
                ],
                Some(6),
            ),
            (
                "a reset ends it whoever holds it",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (4, Snapshot(&[(1, Established, &[(POOL, 7), (CHILD, 7)])])),
                    (6, Claim(1, Closed)),
                    (7, Moves(1, Established, Close)),
                ],
                None,
            ),
            (
                "it has its receipt",
                &[
                    (0, Claim(1, Connecting)),
                    (1, Connects(1)),
                    (6, Claim(1, Closed)),
                    (7, Retract(1, true)),
                ],
                None,
            ),
        ],
    );
}

#[test]
fn a_copy_that_nobody_saw_is_looked_for() {
    let orphan = [
        (0, Claim(1, Connecting)),
        (1, Connects(1)),
        (4, Snapshot(&[(1, Established, HELD)])),
        (5, Moves(1, Established, FinWait1)),
        (5, Closes(1, POOL, 7)),
        (6, Retract(1, true)),
    ];
    let unreleased = [
        (0, Claim(1, Connecting)),
        (1, Connects(1)),
        (4, Snapshot(&[(1, Established, HELD)])),
        (5, Closes(1, POOL, 7)),
        (6, Claim(1, Closed)),
    ];
    for (kind, steps) in [(Kind::Orphan, &orphan[..]), (Kind::Unreleased, &unreleased[..])] {
        let verdict = World::new().run(steps).judge(kind, 1, us(9 * SECOND), BUDGET);
        let suspect = Verdict::Suspect { since: us(6), due: us(6).after(BUDGET) };
        assert_eq!(verdict, suspect, "{kind}");
    }
}
