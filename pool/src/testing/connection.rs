//! The task of one connection: reads packets for the hub, writes what the hub wants, and keeps
//! the times.

mod reader;
mod timing;

pub(super) use reader::Reader;

use super::broker::Shared;
use super::line::{End, Flushed, Line};
use super::lock;
use socket2::SockRef;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio::io::Interest;

/// Read at once, in bytes; on the stack of a poll, so that an idle connection has no buffer.
const CHUNK: usize = 8 << 10;

/// Chunks read before others get their turn.
const CHUNKS: usize = 16;

/// Serves a connection to its end. Dropping it closes the socket too.
pub(super) async fn serve(shared: Arc<Shared>, line: Arc<Line>) {
    let served = Served { shared, line };
    loop {
        let now = tokio::time::Instant::now().into_std();
        let ControlFlow::Continue(wait) = served.step(now) else { return };
        let Served { line, .. } = &served;
        tokio::select! {
            // An error of it is found again by the next read or write.
            _ = line.stream.ready(wait.interest.unwrap_or(Interest::READABLE)),
                if wait.interest.is_some() => {}
            () = line.notify.notified() => {}
            () = tokio::time::sleep_until(wait.until.unwrap_or(now).into()),
                if wait.until.is_some() => {}
        }
    }
}

/// Reads what the kernel already has of another task's socket, so that what the client did there
/// before is known before what it does here. Says whether the client still had it open.
pub(super) fn catch_up(shared: &Shared, line: &Line, now: Instant) -> bool {
    let mut reader = lock(&line.reader);
    // tokio would only ask the kernel after its own poll told it to, which may not have run yet.
    let read = |chunk: &mut [u8]| (&*SockRef::from(&line.stream)).read(chunk);
    for _ in 0..CHUNKS * CHUNKS {
        if reader.is_closed() {
            break;
        }
        if !read_chunk(shared, line, &mut reader, now, &read) {
            break;
        }
    }
    !reader.is_closed() && line.ordered_end().is_none()
}

/// What a task waits for, besides being woken.
struct Wait {
    interest: Option<Interest>,
    until: Option<Instant>,
}

/// A connection that its task serves: the end of this is the end of the connection for the hub.
struct Served {
    shared: Arc<Shared>,
    line: Arc<Line>,
}

impl Served {
    /// Does all that can be done now.
    fn step(&self, now: Instant) -> ControlFlow<(), Wait> {
        let Self { shared, line } = self;
        let mut reader = lock(&line.reader);
        if shared.is_frozen() {
            reader.freeze();
            return match line.ordered_end() {
                Some(end) => self.finish(end),
                None => ControlFlow::Continue(Wait { interest: None, until: None }),
            };
        }
        reader.thaw(now);
        let mut reads = reader.reads();
        for _ in 0..CHUNKS {
            let read = |chunk: &mut [u8]| line.stream.try_read(chunk);
            if !reads || !read_chunk(shared, line, &mut reader, now, &read) {
                break;
            }
            reads = reader.reads();
        }
        reader.handle_timeout(shared, line, now);
        let (flushed, written) = line.flush(now, reader.drip());
        shared.bytes_sent.fetch_add(written, Relaxed);
        if let Some(end) = line.ordered_end() {
            // A slow drip is let run out, as a shut door would not be the fault that was asked for.
            if end == End::Reset || !matches!(flushed, Flushed::Until(_)) {
                return self.finish(end);
            }
        }
        if reader.is_closed() || flushed == Flushed::Failed {
            return ControlFlow::Break(());
        }
        let (write, drip) = match flushed {
            Flushed::Blocked => (Some(Interest::WRITABLE), None),
            Flushed::Until(at) => (None, Some(at)),
            Flushed::All | Flushed::Failed => (None, None),
        };
        let read = reader.reads().then_some(Interest::READABLE);
        let interest = match (read, write) {
            (Some(read), Some(write)) => Some(read | write),
            (read, write) => read.or(write),
        };
        let until = reader.poll_timeout().into_iter().chain(drip).min();
        ControlFlow::Continue(Wait { interest, until })
    }

    fn finish(&self, end: End) -> ControlFlow<(), Wait> {
        let stream = &self.line.stream;
        match end {
            End::Close => {
                // What is not read would turn the FIN into a reset.
                let mut chunk = [0; CHUNK];
                for _ in 0..CHUNKS {
                    match (&*SockRef::from(stream)).read(&mut chunk) {
                        Ok(count) if count > 0 => {}
                        _ => break,
                    }
                }
            }
            End::Reset => {
                // An error means that the peer was faster.
                let _gone = stream.set_zero_linger();
            }
        }
        ControlFlow::Break(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let now = tokio::time::Instant::now().into_std();
        let client = lock(&self.line.reader).take_client();
        self.shared.leave(self.line.id, client.as_deref(), now);
    }
}

/// Reads once and handles it; false when nothing was there.
fn read_chunk(
    shared: &Shared,
    line: &Line,
    reader: &mut Reader,
    now: Instant,
    read: &impl Fn(&mut [u8]) -> io::Result<usize>,
) -> bool {
    let mut chunk = [0; CHUNK];
    match read(&mut chunk) {
        Ok(0) => reader.close(shared, line),
        Ok(count) => {
            shared.bytes_received.fetch_add(count as u64, Relaxed);
            reader.feed(shared, line, now, &chunk[..count]);
            return true;
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
        Err(_) => reader.close(shared, line),
    }
    false
}
