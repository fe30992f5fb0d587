//! One socket of the broker, and what waits to be written to it.

use super::connection::Reader;
use super::lock;
use super::wire::Outgoing;
use crate::packet::Version;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Which of the broker's connections, in the order of accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ConnectionId(pub(super) u64);

/// More than this in the queue of one connection, and messages with QoS 0 are dropped, in bytes.
/// Chosen: ten times what Linux buffers in a fresh socket.
const MAX_OUTGOING: usize = 1 << 20;

/// A socket with its two directions. Its task alone waits on it; others may read what is there
/// and queue what is to be written. It is closed when the last of them lets go.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: ConnectionId,
    pub(super) stream: TcpStream,
    /// Wakes the task.
    pub(super) notify: Notify,
    pub(super) reader: Mutex<Reader>,
    writer: Mutex<Writer>,
}

/// How the broker ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By FIN, after what is queued.
    Close,
    /// By RST.
    Reset,
}

#[derive(Debug, Default)]
struct Writer {
    /// Empty and without memory while nothing waits.
    outgoing: Vec<u8>,
    end: Option<End>,
    /// Nothing is written any more.
    silent: bool,
    /// One byte at a time: when the next.
    next_drip: Option<Instant>,
}

/// What became of something to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    /// It is in the queue, or the connection is ending and nobody wants it.
    Yes,
    /// The broker plays silent: so many bytes were thrown away.
    Silent(u64),
    /// The client reads too slowly for it.
    Full,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing is left.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// The next byte is not due before.
    Until(Instant),
    /// The peer is gone.
    Failed,
}

impl Line {
    pub(super) fn new(id: ConnectionId, stream: TcpStream, now: Instant) -> Self {
        Self {
            id,
            stream,
            notify: Notify::new(),
            reader: Mutex::new(Reader::new(now)),
            writer: Mutex::default(),
        }
    }

    /// Queues a packet, and wakes the task.
    pub(super) fn send(&self, version: Version, packet: &Outgoing) -> Queued {
        let droppable = matches!(packet, Outgoing::Publish(delivery) if delivery.id == 0);
        self.queue(droppable, |out| packet.write(version, out))
    }

    /// Queues bytes as they are, and wakes the task.
    pub(super) fn send_bytes(&self, bytes: &[u8]) -> Queued {
        self.queue(false, |out| out.extend_from_slice(bytes))
    }

    /// Ends the connection, unless an end was ordered before.
    pub(super) fn end(&self, end: End) {
        lock(&self.writer).end.get_or_insert(end);
        self.notify.notify_one();
    }

    /// The end that was ordered.
    pub(super) fn ordered_end(&self) -> Option<End> {
        lock(&self.writer).end
    }

    /// Writes nothing any more but what is queued already.
    pub(super) fn silence(&self) {
        lock(&self.writer).silent = true;
    }

    /// Writes what the socket takes: all, or with `drip` one byte each such interval. Returns how
    /// many bytes too. Only for the task of this connection.
    pub(super) fn flush(&self, now: Instant, drip: Option<Duration>) -> (Flushed, u64) {
        let mut writer = lock(&self.writer);
        let mut written = 0;
        while !writer.outgoing.is_empty() {
            if let Some(at) = writer.next_drip.filter(|at| drip.is_some() && now < *at) {
                return (Flushed::Until(at), written);
            }
            let most = if drip.is_some() { 1 } else { writer.outgoing.len() };
            match self.stream.try_write(&writer.outgoing[..most]) {
                Ok(count) => {
                    written += count as u64;
                    writer.outgoing.drain(..count);
                    writer.next_drip = drip.map(|interval| now + interval);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return (Flushed::Blocked, written);
                }
                Err(_) => return (Flushed::Failed, written),
            }
        }
        writer.outgoing = Vec::new();
        (Flushed::All, written)
    }

    fn queue(&self, droppable: bool, write: impl FnOnce(&mut Vec<u8>)) -> Queued {
        let mut writer = lock(&self.writer);
        if writer.end.is_some() {
            return Queued::Yes;
        }
        if writer.silent {
            let mut unsaid = Vec::new();
            write(&mut unsaid);
            return Queued::Silent(unsaid.len() as u64);
        }
        if droppable && writer.outgoing.len() > MAX_OUTGOING {
            return Queued::Full;
        }
        write(&mut writer.outgoing);
        drop(writer);
        self.notify.notify_one();
        Queued::Yes
    }
}
