//! One session's life on a socket, from the dial to the close: the task that owns the socket.
//!
//! It decides nothing about MQTT; the [`Session`] does. It moves bytes between the two, and when
//! it ends, the socket is closed.

use super::connection::{Connection, Interrupt};
use super::context::Context;
use super::dial::{self, Dialled};
use crate::clock;
use crate::device::Generation;
use crate::error::Cause;
use crate::fleet::SlotKey;
use crate::line::Line;
use crate::metrics::add;
use crate::receipt::ClosedSocket;
use crate::registry::Stage;
use crate::session::Carried;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// What a driver is told.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) key: SlotKey,
    pub(crate) generation: Generation,
    pub(crate) line: Arc<Line>,
    /// What the device's last session left.
    pub(crate) carried: Carried,
    /// In place of the configured broker.
    pub(crate) server: Option<Arc<str>>,
}

/// What a driver says at its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) key: SlotKey,
    pub(crate) generation: Generation,
    pub(crate) end: End,
}

/// How a session ended, or a dial failed. Its socket, if there was one, is closed.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) cause: Cause,
    /// `None` when it never got one.
    pub(crate) closed: Option<ClosedSocket>,
    pub(crate) carried: Carried,
}

/// What a driver says on its way.
#[derive(Debug)]
pub(crate) struct Online {
    pub(crate) key: SlotKey,
    pub(crate) generation: Generation,
    pub(crate) latency: Duration,
    pub(crate) session_present: bool,
}

/// Runs one session.
///
/// # Cancel safety
///
/// Dropping it closes the socket at once, without DISCONNECT, and loses what would have been
/// carried over.
pub(crate) async fn run(context: Arc<Context>, order: Order) -> Finished {
    let Order { key, generation, line, carried, server } = order;
    // Boxed, for it is large and gone by the time the session is idle.
    let dialled = Box::pin(dial::dial(&context, generation, &line, server, carried)).await;
    let end = match dialled {
        Err(failed) => *failed,
        Ok(Dialled { connection, latency, session_present }) => {
            context.registry.set_stage(connection.cookie(), Stage::Online);
            context.say_online(Online { key, generation, latency, session_present });
            serve(&context, &line, generation, connection).await
        }
    };
    // Said here and not by the loop: when thousands of sessions end at once, the loop hears of the
    // last one late, and until then the registry would call a closed socket online.
    if let Some(socket) = &end.closed {
        context.registry.set_stage(socket.cookie, Stage::Closed);
    }
    Finished { key, generation, end }
}

/// Moves bytes until the session ends, and closes the socket.
async fn serve(
    context: &Context,
    line: &Line,
    generation: Generation,
    mut connection: Box<Connection>,
) -> End {
    #[cfg(any(test, feature = "testing"))]
    if context.flaw(generation) == Some(crate::testing::Flaw::DieSilently) {
        let (closed, carried) = connection.close(context, &Cause::PeerClosed);
        let cause = dial::stopped(line, generation).await;
        return End { cause, closed: Some(closed), carried };
    }
    let cause = loop {
        if let Some(cause) = line.take_stop(generation) {
            // Boxed, for few sessions at once say goodbye, and all would have the place for it.
            Box::pin(say_goodbye(context, &mut connection)).await;
            break cause;
        }
        while let Some(refusal) = connection.session.poll_refusal() {
            context.subscription_refused(&line.device.id, refusal);
        }
        while connection.session.can_take() {
            let Some(request) = line.pop() else { break };
            connection.session.request(clock::now(), request);
            add(&context.counters.messages_sent, 1);
        }
        match connection.step(context, line).await {
            Interrupt::Progress | Interrupt::Online { .. } => {}
            Interrupt::Ended(cause) => break cause,
        }
    };
    let (closed, carried) = connection.close(context, &cause);
    End { cause, closed: Some(closed), carried }
}

/// DISCONNECT, and then the broker's close, so that TIME_WAIT and its port are the broker's.
async fn say_goodbye(context: &Context, connection: &mut Connection) {
    connection.session.stop(clock::now());
    let _patience_is_over = timeout(context.timeouts.close, connection.drain()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 12,000 of each are alive at once.
    #[test]
    fn what_an_idle_session_needs_is_small() {
        fn size_of_output<A, B, F>(_: fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        let task = size_of_output(run);
        assert!(task <= 320, "{task}");
        let connection = size_of::<Connection>();
        assert!(connection <= 272, "{connection}");
        let line = size_of::<Line>();
        assert!(line <= 144, "{line}");
    }
}
