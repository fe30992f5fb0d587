//! Two sockets of one device.

use super::*;

/// Since when socket 2 overlapped socket 1, and for how long, in microseconds.
type Length = Option<(u64, u64)>;

#[test]
fn overlaps() {
    let cases: &[Case<Length>] = &[
        (
            "the old socket ends a microsecond before the new one connects",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (10, Moves(1, Established, FinWait1)),
                (11, Connects(2)),
                (12, Claim(2, Connecting)),
            ],
            None,
        ),
        (
            "at the same time",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (10, Moves(1, Established, FinWait1)),
                (10, Connects(2)),
                (12, Claim(2, Connecting)),
            ],
            None,
        ),
        (
            "a microsecond after",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (10, Connects(2)),
                (11, Moves(1, Established, FinWait1)),
                (12, Claim(2, Connecting)),
            ],
            Some((10, 1)),
        ),
        (
            "the claims come before the records",
            &[
                (0, Claim(1, Online)),
                (1, Claim(2, Connecting)),
                (2, Connects(1)),
                (10, Connects(2)),
                (11, Moves(1, Established, FinWait1)),
            ],
            Some((10, 1)),
        ),
        (
            "the broker closes first: CLOSE_WAIT is alive",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (5, Moves(1, Established, CloseWait)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
                (14, Moves(1, CloseWait, LastAck)),
            ],
            Some((10, 4)),
        ),
        (
            "the broker closes first, and then the pool",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (5, Moves(1, Established, CloseWait)),
                (8, Moves(1, CloseWait, LastAck)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
            ],
            None,
        ),
        (
            "a reset",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (8, Moves(1, Established, Close)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
                (12, Destroyed(1)),
            ],
            None,
        ),
        (
            "refused, and the next address",
            &[
                (0, Claim(1, Connecting)),
                (1, Connects(1)),
                (2, Moves(1, SynSent, Close)),
                (2, Destroyed(1)),
                (3, Retract(1, true)),
                (4, Claim(2, Connecting)),
                (5, Connects(2)),
                (6, Moves(2, SynSent, Established)),
            ],
            None,
        ),
        (
            "two addresses at once",
            &[
                (0, Claim(1, Connecting)),
                (1, Connects(1)),
                (4, Claim(2, Connecting)),
                (5, Connects(2)),
                (7, Moves(1, SynSent, Close)),
            ],
            Some((5, 2)),
        ),
        (
            "the new one ends before the old one does",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
                (13, Moves(2, SynSent, Close)),
                (19, Moves(1, Established, FinWait1)),
            ],
            Some((10, 3)),
        ),
        (
            "retracted by a false receipt, and alive",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (5, Claim(1, Closed)),
                (6, Retract(1, true)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
                (19, Snapshot(&[(1, Established, HELD), (2, SynSent, &[(POOL, 8)])])),
            ],
            Some((10, 9)),
        ),
        (
            "the end was lost: only the later ones of it are seen",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (2, Moves(1, SynSent, Established)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
                (12, Moves(1, FinWait1, FinWait2)),
                (13, Moves(1, FinWait2, TimeWait)),
                (14, Destroyed(1)),
            ],
            None,
        ),
        (
            "the end was lost: only that it was destroyed is seen",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
                (14, Destroyed(1)),
            ],
            None,
        ),
        (
            "the end was lost: a snapshot does not show it any more",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
                (14, Snapshot(&[(2, Established, HELD)])),
            ],
            None,
        ),
        (
            "the end was lost: a snapshot shows it ended",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
                (14, Uncertain(&[(1, FinWait2, &[]), (2, Established, HELD)])),
            ],
            None,
        ),
        (
            "both connects were lost, and a snapshot shows both",
            &[
                (0, Claim(1, Online)),
                (1, Claim(2, Online)),
                (14, Snapshot(&[(1, Established, HELD), (2, Established, &[(POOL, 8)])])),
                (20, Snapshot(&[(1, Established, HELD), (2, Established, &[(POOL, 8)])])),
            ],
            Some((14, 6)),
        ),
        (
            "the connect of the new one was lost",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (8, Claim(2, Online)),
                (10, Moves(2, SynSent, Established)),
                (12, Moves(1, Established, FinWait1)),
            ],
            Some((10, 2)),
        ),
        (
            "the connect of the old one was lost",
            &[
                (0, Claim(1, Online)),
                (1, Claim(2, Connecting)),
                (2, Connects(2)),
                (5, Moves(1, Established, CloseWait)),
                (9, Moves(1, CloseWait, LastAck)),
            ],
            Some((5, 4)),
        ),
        (
            "the end of the new one was lost: what was not seen does not count",
            &[
                (0, Connects(1)),
                (1, Claim(1, Online)),
                (10, Connects(2)),
                (11, Claim(2, Connecting)),
                (15, Moves(2, FinWait1, FinWait2)),
                (20, Moves(1, Established, FinWait1)),
            ],
            None,
        ),
    ];
    for (name, steps, expected) in cases {
        let world = World::new().run(steps);
        let since = expected.map(|(since, _)| us(since));
        let verdict = world.judge(Kind::Overlap, 2, us(SECOND), Duration::ZERO);
        let leak = since.map_or(Verdict::Fine, |since| Verdict::Leak { since });
        assert_eq!(verdict, leak, "{name}");
        let of_older = world.judge(Kind::Overlap, 1, us(SECOND), Duration::ZERO);
        assert_eq!(of_older, Verdict::Fine, "{name}: it is the younger one's");
        let facts = world.ledger.facts(Kind::Overlap, Cookie(2));
        let length = facts.and_then(|facts| Some((facts.overlap?, facts.other?)));
        let expected = expected.map(|(_, length)| (Duration::from_micros(length), Cookie(1)));
        assert_eq!(length, expected, "{name}");
        if let Some((length, _)) = expected {
            let allowed = world.judge(Kind::Overlap, 2, us(SECOND), length);
            let is_leak = matches!(allowed, Verdict::Leak { .. });
            assert!(!is_leak, "{name}: the budget is for the length");
        }
    }
}

#[test]
fn an_older_socket_that_may_be_alive_is_suspected_and_no_more() {
    let steps =
        [(0, Connects(1)), (1, Claim(1, Online)), (10, Connects(2)), (11, Claim(2, Connecting))];
    let world = World::new().run(&steps);
    let verdict = world.judge(Kind::Overlap, 2, us(SECOND), Duration::ZERO);
    assert_eq!(verdict, Verdict::Suspect { since: us(10), due: us(10) });
}

#[test]
fn an_overlap_is_told_once() {
    let steps = [
        (0, Connects(1)),
        (1, Claim(1, Online)),
        (10, Connects(2)),
        (11, Claim(2, Connecting)),
        (12, Snapshot(&[(1, Established, HELD), (2, SynSent, &[(POOL, 8)])])),
    ];
    let mut world = World::new().run(&steps);
    world.ledger.told_overlap(Cookie(2));
    let verdict = |world: &World| world.judge(Kind::Overlap, 2, us(SECOND), Duration::ZERO);
    assert_eq!(verdict(&world), Verdict::Leak { since: us(10) }, "it lasts");
    let world = world.run(&[(13, Moves(1, Established, FinWait1))]);
    assert_eq!(verdict(&world), Verdict::Fine, "it is over");
}
