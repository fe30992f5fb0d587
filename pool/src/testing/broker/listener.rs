//! Accepts connections and owns their tasks.

use super::Shared;
use crate::testing::connection;
use crate::testing::line::{ConnectionId, Line};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// After an accept(2) that failed: the causes, as a lack of descriptors, do not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Until the broker stops. Dropping it drops all connections too.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    let mut next_id = 0;
    let mut pause_until: Option<Instant> = None;
    loop {
        if shared.is_stopped() {
            break;
        }
        let now = Instant::now();
        let frozen = shared.is_frozen();
        let paused = pause_until.is_some_and(|until| now < until);
        let timeout = shared.poll_timeout().filter(|_| !frozen).map(Instant::from_std);
        let wake = timeout.into_iter().chain(pause_until.filter(|_| paused)).min();
        tokio::select! {
            () = shared.changed.notified() => {}
            accepted = listener.accept(), if !frozen && !paused => {
                let stream = accepted.map(|(stream, _)| stream);
                if !admit(&shared, &mut connections, &mut next_id, stream) {
                    pause_until = Some(now + ACCEPT_PAUSE);
                }
            }
            Some(ended) = connections.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    shared.with_hub(|hub| hub.counters.panics += 1);
                }
            }
            () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() => {
                shared.with_hub(|hub| hub.handle_timeout(Instant::now().into_std()));
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// False when there was nothing to accept.
fn admit(
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
    next_id: &mut u64,
    accepted: io::Result<TcpStream>,
) -> bool {
    let Ok(stream) = accepted else {
        shared.with_hub(|hub| hub.counters.accept_errors += 1);
        return false;
    };
    let open = connections.len();
    if shared.count_accept(open) {
        // Without it answers to small packets would wait for each other. Not vital if it fails.
        let _best_effort = stream.set_nodelay(true);
        let id = ConnectionId(*next_id);
        *next_id += 1;
        let line = Arc::new(Line::new(id, stream, Instant::now().into_std()));
        shared.enter(line.clone());
        connections.spawn(connection::serve(shared.clone(), line));
    }
    true
}
