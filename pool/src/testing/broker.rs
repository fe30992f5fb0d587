//! The handle of a running broker.

mod listener;
mod shared;

pub(super) use shared::Shared;

use super::behaviour::Behaviour;
use super::counters::{Counters, Received, SessionInfo};
use super::hub::HubLimits;
use super::line::End;
use super::wire::Message;
use crate::error::CallerError;
use crate::message::{Publish, QoS};
use bytes::Bytes;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

/// An MQTT broker in this process. Dropping it ends its tasks and closes its sockets soon;
/// [`TestBroker::shutdown`] waits for that.
#[derive(Debug)]
pub struct TestBroker {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

/// How a broker begins.
#[derive(Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    address: SocketAddr,
    backlog: u32,
    behaviour: Behaviour,
    limits: HubLimits,
}

impl Builder {
    /// Where to listen. Port 0 takes a free one. Default 127.0.0.1:0.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// How many connections may wait for accept(2); the kernel caps it at net.core.somaxconn.
    /// Mosquitto has 100. Default 1,024.
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// For everybody who has none of their own. Default: a correct broker.
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// Messages that wait for one session at most, connected or not; further ones are dropped and
    /// counted. Default 1,000, as Mosquitto.
    pub fn queue(mut self, messages: usize) -> Self {
        self.limits.queue = messages;
        self
    }

    /// Keeps so many publishes of clients for [`TestBroker::take_received`]; further ones are only
    /// counted. Default 0.
    pub fn record(mut self, publishes: usize) -> Self {
        self.limits.record = publishes;
        self
    }

    /// Listens and serves.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with IO and time enabled, as all of tokio's sockets.
    ///
    /// # Cancel safety
    ///
    /// It never waits: dropped before its first poll, nothing was begun.
    pub async fn start(self) -> io::Result<TestBroker> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A test that stops and starts a broker on one port must not wait for TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        let listener = socket.listen(self.backlog)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(self.behaviour, self.limits));
        let mut tasks = JoinSet::new();
        tasks.spawn(listener::listen(shared.clone(), listener));
        Ok(TestBroker { shared, address, tasks })
    }
}

impl TestBroker {
    /// A correct broker on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// For a broker that is not the default one.
    pub fn builder() -> Builder {
        Builder {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            backlog: 1_024,
            behaviour: Behaviour::default(),
            limits: HubLimits { queue: 1_000, record: 0 },
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `mqtt://` and the address.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// For all CONNECTs from now on, of clients that have no behaviour of their own.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.with(|inner| inner.behaviours.set_default(behaviour));
    }

    /// For the CONNECTs of one client from now on.
    pub fn set_behaviour_of(&self, client_id: &str, behaviour: Behaviour) {
        self.shared.with(|inner| inner.behaviours.set_of(client_id, behaviour));
    }

    /// All sessions, by client id, with and without a connection.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.with(|inner| inner.hub.sessions())
    }

    /// What was counted up to now.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// The publishes that were recorded since the last call, in order.
    pub fn take_received(&self) -> Vec<Received> {
        self.shared.with_hub(|hub| hub.take_record())
    }

    /// Closes the connections of a client by FIN, without a word; says how many there were.
    pub fn kick(&self, client_id: &str) -> usize {
        self.shared.end_of(client_id, End::Close)
    }

    /// Closes all connections by FIN, without a word; says how many there were.
    pub fn kick_all(&self) -> usize {
        self.shared.end_all(End::Close)
    }

    /// Resets the connections of a client; says how many there were.
    pub fn reset(&self, client_id: &str) -> usize {
        self.shared.end_of(client_id, End::Reset)
    }

    /// Resets all connections; says how many there were.
    pub fn reset_all(&self) -> usize {
        self.shared.end_all(End::Reset)
    }

    /// Sends DISCONNECT with this code to a client of MQTT 5 and closes its connection; one of
    /// 3.1.1, which has no such packet, is only closed. False when it has no session with a
    /// connection.
    pub fn disconnect(&self, client_id: &str, code: u8) -> bool {
        self.shared.with_hub(|hub| hub.disconnect(client_id, code))
    }

    /// Stops accepting, reading, writing and counting time, as if the process were stopped: the
    /// kernel goes on acknowledging, and completes connects up to the backlog.
    pub fn freeze(&self) {
        self.shared.set_frozen(true);
    }

    /// Goes on.
    pub fn thaw(&self) {
        self.shared.set_frozen(false);
    }

    /// Publishes a message of the broker's own.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`] when the topic is none.
    pub fn publish(
        &self,
        topic: &str,
        qos: QoS,
        payload: impl Into<Bytes>,
    ) -> Result<(), CallerError> {
        let publish = Publish::new(topic, qos, payload)?;
        let message = Message {
            topic: publish.topic,
            payload: publish.payload,
            qos,
            retain: false,
            properties: Bytes::new(),
            expiry: None,
            expires: None,
        };
        let now = tokio::time::Instant::now().into_std();
        self.shared.with_hub(|hub| hub.publish(now, message));
        Ok(())
    }

    /// Closes all sockets and ends all tasks. No will is published.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end it is the same as dropping the broker: all is closed, a bit later.
    pub async fn shutdown(mut self) {
        self.shared.stop();
        while self.tasks.join_next().await.is_some() {}
    }
}
