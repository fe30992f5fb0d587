//! `silent-peer`: nothing has moved for longer than the protocol allows.

use std::time::Duration;

use crate::{
    detect::Verdict,
    model::{MonoTime, TcpState},
    table::Socket,
};

/// Keep-alives under this, seconds, are followed closely: a quarter of a longer one is at least the
/// 10 s between two snapshots.
const SHORT: u16 = 40;

/// Since one and a half times the keep-alive after the last byte in either direction, where the
/// keep-alive is known: until then the broker may wait (MQTT 3.1.1 section 3.1.2.10). It is only
/// suspected when the PINGREQ is a quarter of the keep-alive late (chosen: half of what is allowed),
/// so that connections that do ping are not on anybody's agenda. With a [short](SHORT) keep-alive
/// it always is: the next look might come after that quarter.
pub fn silent_peer(socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    let seconds = socket.client.as_ref().map_or(0, |client| client.keep_alive);
    if seconds == 0 || socket.state != TcpState::Established || socket.holders.is_empty() {
        return Verdict::Fine;
    }
    let keep_alive = Duration::from_secs(seconds.into());
    let named = socket.carries_name_since();
    let moved = socket.flow.last_moved().map_or(named, |moved| moved.max(named));
    if seconds >= SHORT && now < moved.after(keep_alive * 5 / 4) {
        return Verdict::Fine;
    }
    Verdict::about(moved.after(keep_alive * 3 / 2), now, budget)
}

#[cfg(test)]
mod tests {
    use TcpState::{CloseWait, Established, SynSent};

    use super::*;
    use crate::detect::{
        Kind,
        cases::{IDLE, Seen, Step, Step::*, check},
    };

    /// With a keep-alive of 40 s, a minute may pass. Kernel ticks are worth 20 ms.
    const FIRST: [(u64, Step); 3] =
        [(1000, Connects), (1001, Moves(SynSent, Established)), (1002, Names("dev", 40))];

    fn then(name: &'static str, rest: &[(u64, Step)], expected: Option<u64>) {
        let steps = [&FIRST, rest].concat().leak();
        check(Kind::SilentPeer, &[(name, steps, expected)]);
    }

    fn found(sent: u64, received: u64, written: u32, unacked: u32) -> Step {
        Found(Established, &[(1, 7)], Seen { sent, received, written, unacked, ..IDLE })
    }

    #[test]
    fn verdicts() {
        then("nothing since the CONNECT", &[], Some(61_002));
        then("found so", &[(9000, found(1010, 1020, 1, 0))], Some(61_040));
        then("not before it was named", &[(9000, found(5, 6, 1, 0))], Some(61_002));
        then("it was sent to", &[(9000, found(1010, 8000, 1, 0))], Some(68_020));
        then("it has sent", &[(9000, found(8000, 1010, 1, 0))], Some(68_020));
        then(
            "it writes, though nobody acknowledges: its timer runs",
            &[(9000, found(1010, 1010, 1, 0)), (30_000, found(29_000, 1010, 3, 2))],
            Some(89_020),
        );
        then(
            "the kernel repeats what was written before",
            &[
                (9000, found(8000, 1010, 3, 2)),
                (30_000, found(29_000, 1010, 3, 2)),
                (60_000, found(59_000, 1010, 3, 2)),
            ],
            // Not later than the first row that knew it.
            Some(69_020),
        );
        then(
            "what waited in the buffer has gone out at last",
            &[(9000, found(8000, 1010, 3, 2)), (30_000, found(29_000, 1010, 3, 0))],
            Some(89_020),
        );
        then("the peer has closed", &[(9000, Moves(Established, CloseWait))], None);
        then("nobody holds it", &[(9000, Closes(1, 7))], None);
        then(
            "another connection on the same socket",
            &[(9000, Connects), (9001, Moves(SynSent, Established))],
            None,
        );
        check(
            Kind::SilentPeer,
            &[
                (
                    "no keep-alive",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (1002, Names("dev", 0)),
                    ],
                    None,
                ),
                (
                    "no CONNECT was seen",
                    &[(1000, Connects), (1001, Moves(SynSent, Established))],
                    None,
                ),
                (
                    "only the beginning of its client id is known",
                    &[
                        (1000, Connects),
                        (1001, Moves(SynSent, Established)),
                        (1002, NamesCut("dev", 40)),
                    ],
                    Some(61_002),
                ),
            ],
        );
    }

    #[test]
    fn a_connection_that_pings_is_not_even_suspected() {
        use crate::table::{Limits, Table};
        let limits = Limits { sockets: 4, processes: 4, boot_offset: Duration::ZERO };
        let mut table = Table::new(limits);
        for (time, step) in FIRST {
            crate::detect::cases::apply_first(&mut table, time, step);
        }
        let socket = table.unordered().next().expect("it connected");
        let at = |seconds: u64| MonoTime::from_nanos((1002 + seconds * 1000) * 1_000_000);
        assert_eq!(silent_peer(socket, at(50 - 1), Duration::ZERO), Verdict::Fine);
        let suspect = Verdict::Suspect { since: at(60), due: at(60) };
        assert_eq!(silent_peer(socket, at(50), Duration::ZERO), suspect);
        assert_eq!(silent_peer(socket, at(60), Duration::ZERO), Verdict::Leak { since: at(60) });
    }
}
