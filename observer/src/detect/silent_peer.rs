//! `silent-peer`: nothing has moved for longer than the protocol allows.

use std::time::Duration;

use crate::{detect::Verdict, model::MonoTime, table::Socket};

/// Since the last byte in either direction, where the keep-alive is known.
pub fn silent_peer(_socket: &Socket, _now: MonoTime, _budget: Duration) -> Verdict {
    Verdict::Fine
}
