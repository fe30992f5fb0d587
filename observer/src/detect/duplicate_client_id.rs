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
