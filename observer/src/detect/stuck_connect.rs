//! `stuck-connect`: connect(2) gets no answer.

use std::time::Duration;

use crate::{
    detect::Verdict,
    model::{MonoTime, TcpState},
    table::Socket,
};

/// Since the first SYN.
pub fn stuck_connect(socket: &Socket, now: MonoTime, budget: Duration) -> Verdict {
    if socket.state != TcpState::SynSent || socket.holders.is_empty() {
        return Verdict::Fine;
    }
    Verdict::about(socket.state_since, now, budget)
}

#[cfg(test)]
mod tests {
    use TcpState::{Established, SynSent};

    use super::*;
    use crate::detect::{
        Kind,
        cases::{IDLE, Step::*, check},
    };

    #[test]
    fn verdicts() {
        check(
            Kind::StuckConnect,
            &[
                ("no answer", &[(1000, Connects)], Some(1000)),
                ("answered", &[(1000, Connects), (1001, Moves(SynSent, Established))], None),
                ("given up", &[(1000, Connects), (4000, Closes(1, 7))], None),
                (
                    "found connecting: no age is invented",
                    &[(9000, Found(SynSent, &[(1, 7)], IDLE))],
                    Some(9000),
                ),
            ],
        );
    }
}
