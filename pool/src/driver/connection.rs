//! A socket and its session: bytes go in, bytes come out.

use super::cause_of;
use super::context::Context;
use super::timer::Timer;
use super::transport::Transport;
use crate::budget::Ending;
use crate::clock;
use crate::error::Cause;
use crate::inbox::Handed;
use crate::line::Line;
use crate::metrics::add;
use crate::receipt::ClosedSocket;
use crate::session::{Acknowledge, Carried, Session, Step};
use bytes::{Buf as _, BytesMut};
use socket2::SockRef;
use std::cell::RefCell;
use std::future::poll_fn;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Waker, Poll, ready};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

/// Read at most so much at once. Chosen: the receive window of a quick sender, and small beside
/// everything else, for there is one buffer a thread and not one a session.
const BUFFER_BYTES: usize = 64 << 10;

thread_local! {
    /// What is read goes here first; a session without half a packet has no buffer of its own.
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// See the [module](self).
pub(crate) struct Connection {
    transport: Transport,
    pub(super) session: Session,
    cookie: u64,
    /// The beginning of a packet whose rest is not there yet, or what came behind a message that
    /// has no space. Empty and without memory most of the time.
    rest: BytesMut,
    /// There may be whole packets in `rest`: what came with CONNACK.
    unhandled: bool,
    /// A message that waits for space in the inbox; nothing is read meanwhile.
    blocked: Option<Box<Blocked>>,
    timer: Timer,
    /// The peer closed first, so that TIME_WAIT and its port are the peer's.
    peer_closed: bool,
}

struct Blocked {
    handed: Pin<Box<dyn Future<Output = ()> + Send>>,
    acknowledge: Acknowledge,
}

/// Why [`Connection::step`] ended.
pub(crate) enum Interrupt {
    /// There may be something to do.
    Progress,
    /// CONNACK came.
    Online {
        session_present: bool,
    },
    Ended(Cause),
}

impl Connection {
    pub(crate) fn new(transport: Transport, session: Session, cookie: u64) -> Self {
        Self {
            transport,
            session,
            cookie,
            rest: BytesMut::new(),
            unhandled: false,
            blocked: None,
            timer: Timer::default(),
            peer_closed: false,
        }
    }

    pub(crate) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Waits until something happens, and does what it can about it.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was read is handled, and what was written is taken off the output.
    pub(crate) async fn step(&mut self, context: &Context, line: &Line) -> Interrupt {
        poll_fn(|waker| match self.poll_step(waker, context) {
            Poll::Pending => line.poll_changed(waker).map(|()| Interrupt::Progress),
            interrupt => interrupt,
        })
        .await
    }

    /// Writes what there is, and waits for the peer to close.
    pub(crate) async fn drain(&mut self) {
        poll_fn(|waker| {
            // Whether all is written or the socket is full: the answer is to read.
            let _written = self.poll_write(waker)?;
            loop {
                let mut ignored = [0; 512];
                let mut read = pin!(self.transport.read(&mut ignored));
                if ready!(read.as_mut().poll(waker))? == 0 {
                    self.peer_closed = true;
                    return Poll::Ready(std::io::Result::Ok(()));
                }
            }
        })
        .await
        // The connection is over either way.
        .unwrap_or_default();
    }

    /// Closes the socket. When it returns, close(2) has.
    pub(crate) fn close(self, context: &Context, cause: &Cause) -> (ClosedSocket, Carried) {
        let socket = self.identity(context);
        #[cfg(any(test, feature = "testing"))]
        if let Some(sabotage) = &context.sabotage
            && let Some(claim) = context.registry.claim_of(self.cookie)
            && context.flaw(claim.generation).is_some_and(crate::testing::Flaw::keeps_open)
        {
            sabotage.keep(self.transport);
            return (socket, self.session.into_carried(cause));
        }
        // Whoever answers no more, or breaks the protocol, gets no farewell: a reset leaves
        // neither a FIN_WAIT that nobody acknowledges nor a port in TIME_WAIT.
        let reset = context.reset_on_destroy
            && matches!(cause, Cause::KeepAlive(_) | Cause::TcpTimeout | Cause::Protocol(_));
        if reset {
            self.transport.set_reset_on_close();
        } else {
            // Ends the connection even where somebody got a copy of the descriptor.
            let _not_connected = SockRef::from(self.transport.socket()).shutdown(Shutdown::Both);
        }
        let ending = match (reset || *cause == Cause::Reset, self.peer_closed) {
            (true, _) => Ending::Reset,
            (false, true) => Ending::ByPeer,
            (false, false) => Ending::ByUs,
        };
        drop(self.transport);
        context.port_closed(socket.local.map(|it| it.ip()), socket.remote, ending);
        if self.blocked.is_some() {
            context.counters.sessions_paused.fetch_sub(1, Ordering::Relaxed);
        }
        (socket, self.session.into_carried(cause))
    }

    /// What the kernel knows the socket by. The registry has what a socket that was reset does
    /// not tell any more.
    fn identity(&self, context: &Context) -> ClosedSocket {
        let remote = context.registry.claim_of(self.cookie).map(|claim| claim.remote);
        let remote = remote.expect("invariant: a socket is claimed until it is closed");
        ClosedSocket {
            cookie: self.cookie,
            local: self.transport.socket().local_addr().ok(),
            remote,
        }
    }

    fn poll_step(&mut self, waker: &mut Waker<'_>, context: &Context) -> Poll<Interrupt> {
        let written = match self.poll_write(waker) {
            Ok(written) => written,
            Err(error) => return Poll::Ready(Interrupt::Ended(cause_of(&error))),
        };
        add(&context.counters.sent_bytes, written as u64);
        if std::mem::take(&mut self.unhandled) {
            return Poll::Ready(self.handle_rest(context));
        }
        if let Some(blocked) = &mut self.blocked {
            if blocked.handed.as_mut().poll(waker).is_ready() {
                return Poll::Ready(self.unblock(context));
            }
        } else if self.session.can_receive()
            && let Poll::Ready(interrupt) = self.poll_read(waker, context)
        {
            return Poll::Ready(interrupt);
        }
        if self.timer.poll(waker, self.session.poll_timeout()).is_ready() {
            return Poll::Ready(match self.session.handle_timeout(clock::now()) {
                Ok(()) => Interrupt::Progress,
                Err(cause) => Interrupt::Ended(cause),
            });
        }
        // What was written may have made room for requests.
        if written > 0 { Poll::Ready(Interrupt::Progress) } else { Poll::Pending }
    }

    /// Writes as much as the system takes, and says how much that was.
    fn poll_write(&mut self, waker: &mut Waker<'_>) -> std::io::Result<usize> {
        let mut written = 0;
        while !self.session.output().is_empty() {
            let output = self.session.output();
            match Pin::new(&mut self.transport).poll_write(waker, output) {
                Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    output.advance(count);
                    written += count;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(written),
            }
        }
        // TLS and WebSocket keep what they wrote until they are told.
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.transport).poll_flush(waker) {
            return Err(error);
        }
        if written > 0 {
            self.session.output_written(clock::now());
        }
        Ok(written)
    }

    fn poll_read(&mut self, waker: &mut Waker<'_>, context: &Context) -> Poll<Interrupt> {
        let mut buffer =
            if self.rest.is_empty() { BUFFER.take() } else { std::mem::take(&mut self.rest) };
        buffer.reserve(BUFFER_BYTES);
        let read = pin!(self.transport.read_buf(&mut buffer)).poll(waker);
        let interrupt = match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.peer_closed = true;
                Poll::Ready(Interrupt::Ended(Cause::PeerClosed))
            }
            Poll::Ready(Ok(count)) => {
                add(&context.counters.received_bytes, count as u64);
                Poll::Ready(self.handle(context, &mut buffer))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Interrupt::Ended(cause_of(&error))),
        };
        self.keep(buffer);
        interrupt
    }

    /// Hands packets to the session until there is no whole one, or one of them changes the course.
    fn handle(&mut self, context: &Context, buffer: &mut BytesMut) -> Interrupt {
        let now = clock::now();
        loop {
            match self.session.receive(now, buffer) {
                Step::NeedMore => return Interrupt::Progress,
                Step::Handled => {}
                Step::Online { session_present, .. } => {
                    self.unhandled = true;
                    return Interrupt::Online { session_present };
                }
                Step::Message(message, acknowledge) => match context.inbox.hand(message) {
                    Handed::Queued => {
                        add(&context.counters.messages_received, 1);
                        self.session.accept(now, acknowledge);
                    }
                    Handed::Dropped => self.session.accept(now, acknowledge),
                    Handed::Full(message) => {
                        self.session.set_reading(now, false);
                        context.counters.sessions_paused.fetch_add(1, Ordering::Relaxed);
                        let handed = Box::pin(Arc::clone(&context.inbox).wait(message));
                        self.blocked = Some(Box::new(Blocked { handed, acknowledge }));
                        return Interrupt::Progress;
                    }
                },
                Step::Ended(cause) => return Interrupt::Ended(cause),
            }
        }
    }

    /// The message has its place: on with what came behind it.
    fn unblock(&mut self, context: &Context) -> Interrupt {
        let Some(blocked) = self.blocked.take() else { return Interrupt::Progress };
        let now = clock::now();
        context.counters.sessions_paused.fetch_sub(1, Ordering::Relaxed);
        self.session.set_reading(now, true);
        add(&context.counters.messages_received, 1);
        self.session.accept(now, blocked.acknowledge);
        self.handle_rest(context)
    }

    fn handle_rest(&mut self, context: &Context) -> Interrupt {
        let mut rest = std::mem::take(&mut self.rest);
        let interrupt = self.handle(context, &mut rest);
        self.keep(rest);
        interrupt
    }

    /// Puts the thread's buffer back, and keeps of it what is half a packet.
    fn keep(&mut self, mut buffer: BytesMut) {
        if !buffer.is_empty() {
            // Small, so that a slow sender does not hold a large buffer.
            self.rest = BytesMut::from(&buffer[..]);
            buffer.clear();
        }
        BUFFER.set(buffer);
    }
}
