//! `duplicate-client-id`: two live connections carry one MQTT client id.

use std::time::Duration;

use crate::{
    detect::Verdict,
    model::{MonoTime, TcpState},
    table::Socket,
};

/// Since the newer one was there. Only the older one is judged: it is the one that was forgotten.
pub fn duplicate_client_id(socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    match socket.succeeded {
        Some((_, since)) if socket.state == TcpState::Established && !socket.holders.is_empty() => {
            Verdict::about(since, now, budget)
        }
        _ => Verdict::Fine,
    }
}

#[cfg(test)]
mod tests {
    use TcpState::{CloseWait, Established, FinWait1, SynSent};

    use super::*;
    use crate::detect::{
        Kind,
        cases::{IDLE, Step, Step::*, check},
    };

    const FIRST: [(u64, Step); 3] =
        [(1000, Connects), (1001, Moves(SynSent, Established)), (1002, Names("dev", 60))];

    /// A second connection that says `id` at 5002 ms, and then the rest.
    fn then(id: &'static str, rest: &[(u64, Step)], expected: Option<u64>, name: &'static str) {
        let second: &[(u64, Step)] = &[
            (5000, On(2, &Connects)),
            (5001, On(2, &Moves(SynSent, Established))),
            match id {
                "dev" => (5002, On(2, &Names("dev", 60))),
                "cut" => (5002, On(2, &NamesCut("dev", 60))),
                _ => (5002, On(2, &Names("other", 60))),
            },
        ];
        let steps = [&FIRST, second, rest].concat().leak();
        check(Kind::DuplicateClientId, &[(name, steps, expected)]);
    }

    #[test]
    fn verdicts() {
        then("dev", &[], Some(5002), "a second one carries the same client id");
        then("other", &[], None, "another client id");
        then("cut", &[], None, "only its beginning is known");
        then(
            "dev",
            &[(5003, Moves(Established, CloseWait))],
            None,
            "the broker has ended the older one",
        );
        then("dev", &[(5003, Closes(1, 7))], None, "nobody holds the older one");
        then("dev", &[(5003, On(2, &Closes(1, 8)))], None, "nobody holds the newer one");
        then(
            "dev",
            &[(5003, On(2, &Moves(Established, FinWait1)))],
            None,
            "the newer one is ended",
        );
        then("dev", &[(5003, Exits(1))], None, "the process is gone");
        then(
            "dev",
            &[
                (6000, On(3, &Connects)),
                (6001, On(3, &Moves(SynSent, Established))),
                (6002, On(3, &Names("dev", 60))),
                (6003, On(2, &Closes(1, 8))),
                (6004, On(2, &Moves(Established, FinWait1))),
            ],
            Some(5002),
            "replaced again: there has been a newer one all the time",
        );
        then(
            "dev",
            &[
                (6003, On(2, &Closes(1, 8))),
                (6004, On(2, &Moves(Established, FinWait1))),
                (7000, On(3, &Connects)),
                (7001, On(3, &Moves(SynSent, Established))),
                (7002, On(3, &Names("dev", 60))),
            ],
            Some(7002),
            "replaced after a pause: since the newest is there",
        );
        then("dev", &[(5003, On(2, &Names("other", 60)))], Some(5002), "the first word counts");
        then(
            "dev",
            &[(6000, Connects), (6001, Moves(SynSent, Established))],
            None,
            "another connection on the older socket has no name yet",
        );
    }

    #[test]
    fn only_the_older_one_is_judged() {
        check(
            Kind::DuplicateClientId,
            &[
                (
                    "the newer one",
                    &[
                        (1000, On(2, &Connects)),
                        (1001, On(2, &Moves(SynSent, Established))),
                        (1002, On(2, &Names("dev", 60))),
                        (5000, Connects),
                        (5001, Moves(SynSent, Established)),
                        (5002, Names("dev", 60)),
                    ],
                    None,
                ),
                (
                    "an empty client id is made up by the broker",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (1002, Names("", 60)),
                        (5000, On(2, &Connects)),
                        (5001, On(2, &Moves(SynSent, Established))),
                        (5002, On(2, &Names("", 60))),
                    ],
                    None,
                ),
                (
                    "a name without a connection that was seen",
                    &[(1000, Found(Established, &[(1, 7)], IDLE)), (1002, Names("dev", 60))],
                    None,
                ),
            ],
        );
    }
}
