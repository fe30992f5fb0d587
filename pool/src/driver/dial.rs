//! From nothing to CONNACK, within one time limit.

use super::connection::{Connection, Interrupt};
use super::context::Context;
use super::socket::{OpenSocket, SocketOptions};
use super::task::End;
use super::transport::{Endpoint, Transport, upgrade};
use crate::budget::Ending;
use crate::clock;
use crate::device::Generation;
use crate::error::{Cause, Phase};
use crate::line::Line;
use crate::metrics::add;
use crate::receipt::ClosedSocket;
use crate::registry::{Claim, Stage};
use crate::session::{Carried, Session};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::time::{Instant as TokioInstant, sleep, timeout_at};

/// A session that is online.
pub(crate) struct Dialled {
    /// On the heap, so that it is moved once.
    pub(crate) connection: Box<Connection>,
    /// From the dial to CONNACK.
    pub(crate) latency: Duration,
    pub(crate) session_present: bool,
}

/// Whose dial it is.
#[derive(Clone, Copy)]
struct Ticket<'a> {
    generation: Generation,
    line: &'a Line,
    server: Option<&'a str>,
}

/// A socket of ours, known from before its connect.
#[derive(Clone, Copy)]
struct Made {
    socket: ClosedSocket,
    source: Option<IpAddr>,
}

impl Made {
    /// The socket is closed. Unless it was connected, nothing of it is left.
    fn give_port_back(self, context: &Context) {
        let was_connected = self.socket.local.is_some();
        let ending = if was_connected { Ending::ByUs } else { Ending::Reset };
        context.port_closed(self.source, self.socket.remote, ending);
    }
}

/// Makes a socket, claims it, connects it, and speaks MQTT until CONNACK.
///
/// # Cancel safety
///
/// Dropping it closes the socket at once, and loses what would have been carried over.
pub(crate) async fn dial(
    context: &Context,
    generation: Generation,
    line: &Line,
    server: Option<Arc<str>>,
    carried: Carried,
) -> Result<Dialled, Box<End>> {
    let started = clock::now();
    let ticket = Ticket { generation, line, server: server.as_deref() };
    let deadline = TokioInstant::from_std(started + context.timeouts.connect);
    let mut phase = Phase::Resolve;
    let mut made = None;
    let reached = tokio::select! {
        biased;
        cause = stopped(line, generation) => Ok(Err(cause)),
        reached = timeout_at(deadline, reach(context, ticket, &mut phase, &mut made)) => reached,
    };
    let transport = match reached.unwrap_or_else(|_elapsed| Err(too_late(context, phase))) {
        Ok(transport) => transport,
        Err(cause) => {
            // The socket went with the future.
            if let Some(made) = made {
                made.give_port_back(context);
            }
            let closed = made.map(|made| made.socket);
            return Err(Box::new(End { cause, closed, carried }));
        }
    };
    let made = made.expect("invariant: a transport is over a socket that was made");
    let device = Arc::clone(&ticket.line.device);
    let session = Session::new(Arc::clone(&context.settings), device, carried, clock::now());
    let mut connection = Box::new(Connection::new(transport, session, made.socket.cookie));
    match await_connack(context, ticket, &mut connection, deadline).await {
        Ok(session_present) => {
            let latency = clock::now().saturating_duration_since(started);
            Ok(Dialled { connection, latency, session_present })
        }
        Err(cause) => {
            let (closed, carried) = connection.close(context, &cause);
            Err(Box::new(End { cause, closed: Some(closed), carried }))
        }
    }
}

async fn await_connack(
    context: &Context,
    ticket: Ticket<'_>,
    connection: &mut Connection,
    deadline: TokioInstant,
) -> Result<bool, Cause> {
    loop {
        if let Some(cause) = ticket.line.take_stop(ticket.generation) {
            return Err(cause);
        }
        let step = timeout_at(deadline, connection.step(context, ticket.line)).await;
        match step {
            Ok(Interrupt::Online { session_present }) => return Ok(session_present),
            Ok(Interrupt::Progress) => {}
            Ok(Interrupt::Ended(cause)) => return Err(cause),
            Err(_elapsed) => return Err(too_late(context, Phase::ConnAck)),
        }
    }
}

/// Tries the broker's addresses in turn. `made` is the socket of the present try.
async fn reach(
    context: &Context,
    ticket: Ticket<'_>,
    phase: &mut Phase,
    made: &mut Option<Made>,
) -> Result<Transport, Cause> {
    let redirected = match ticket.server {
        Some(server) => Some(context.endpoint.at(server)?),
        None => None,
    };
    let endpoint = redirected.as_ref().unwrap_or(&context.endpoint);
    let addresses = context.resolver.resolve(endpoint.host(), endpoint.port()).await?;
    let mut last = None;
    for address in addresses.iter().copied() {
        if let Some(before) = *made {
            retire(context, before).await;
            *made = None;
        }
        match try_address(context, ticket, endpoint, address, phase, made).await {
            Ok(transport) => return Ok(transport),
            Err(cause) => last = Some(cause),
        }
    }
    Err(last.expect("invariant: a resolved name has an address"))
}

async fn try_address(
    context: &Context,
    ticket: Ticket<'_>,
    endpoint: &Endpoint,
    address: SocketAddr,
    phase: &mut Phase,
    made: &mut Option<Made>,
) -> Result<Transport, Cause> {
    *phase = Phase::Tcp;
    let source = context.take_port(address)?;
    let options = SocketOptions { source, user_timeout: context.timeouts.tcp_user };
    let open = OpenSocket::open(address, &options).inspect_err(|_| {
        context.port_closed(source, address, Ending::Reset);
    })?;
    let cookie = open.cookie();
    // The claim comes first, so that the kernel's first event about the socket finds it.
    let socket = ClosedSocket { cookie, local: None, remote: address };
    *made = Some(Made { socket, source });
    context.registry.publish(Claim {
        cookie,
        device: ticket.line.device.id.clone(),
        generation: ticket.generation,
        stage: Stage::Connecting,
        remote: address,
    });
    let stream = open.connect().await?;
    let local = stream.local_addr().ok();
    *made = Some(Made { socket: ClosedSocket { local, ..socket }, source });
    upgrade(stream, endpoint, phase).await
}

/// A try failed and its socket is closed; the next one makes its own when the kernel has let go of
/// this one.
async fn retire(context: &Context, before: Made) {
    let deadline = clock::now() + context.timeouts.receipt;
    let mut pause = Duration::from_millis(1);
    let receipt = loop {
        let receipt = context.receipts.check(&before.socket);
        if receipt.is_some() || clock::now() >= deadline {
            break receipt;
        }
        sleep(pause).await;
        pause *= 2;
    };
    // Without another await from here on: who drops this future still finds the socket in `made`.
    before.give_port_back(context);
    match receipt {
        Some(receipt) => context.counters.receipt(receipt),
        None => add(&context.counters.unreleased, 1),
    }
    context.registry.retract(before.socket.cookie, receipt.is_some());
}

/// Ends when the device's driver has to.
pub(super) async fn stopped(line: &Line, generation: Generation) -> Cause {
    poll_fn(|waker| {
        loop {
            // In this order, for what is told in between wakes.
            let changed = line.poll_changed(waker);
            if let Some(cause) = line.take_stop(generation) {
                return Poll::Ready(cause);
            }
            ready!(changed);
        }
    })
    .await
}

fn too_late(context: &Context, phase: Phase) -> Cause {
    Cause::ConnectTimeout { after: context.timeouts.connect, phase }
}

#[cfg(test)]
mod tests {
    use super::super::resolve::Resolver;
    use super::*;
    use crate::broker::Broker;
    use crate::device::Device;
    use crate::fleet::SlotKey;
    use crate::pool::{Pool, context};
    use crate::receipt::Receipt;
    use crate::testing::TestBroker;
    use std::net::Ipv4Addr;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn the_addresses_of_a_name_are_tried_in_turn_and_leave_nothing_behind() {
        let broker = TestBroker::start().await.expect("invariant: loopback has free ports");
        let port = broker.address().port();
        let address = Broker::parse(&format!("mqtt://name:{port}")).expect("invariant: valid");
        let (online, _kept) = mpsc::unbounded_channel();
        let mut context = context(Pool::builder(address), online).expect("invariant: valid");
        // Nobody listens at the first two.
        let addresses = [2, 3, 1].map(|last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)));
        context.resolver = Resolver::with_lookup(move |_| Ok(addresses.to_vec()));
        let device = Device::new("d").expect("invariant: one letter");
        let line = Line::new(SlotKey(0), device, clock::now());
        let generation = Generation::default().next();
        let dialled = dial(&context, generation, &line, None, Carried::default()).await;
        let connection =
            dialled.map_err(|end| end.cause).expect("the third one answers").connection;
        let claims = context.registry.snapshot();
        assert_eq!(claims.len(), 1, "{claims:?}");
        assert_eq!((claims[0].cookie, claims[0].remote), (connection.cookie(), broker.address()));
        let mut metrics = crate::Metrics::default();
        context.counters.read(&mut metrics);
        assert_eq!(metrics.receipts[Receipt::Destroyed as usize], 2);
    }
}
