//! What happens in the pool, for whoever wants to follow it.

use crate::device::{DeviceId, Generation};
use crate::error::{Cause, Error};
use crate::fleet::State;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A session is up.
    Online {
        /// Whose.
        device: DeviceId,
        /// Which of its sessions.
        generation: Generation,
        /// The broker still had the session's state.
        session_present: bool,
        /// From the dial to CONNACK.
        latency: Duration,
    },
    /// A session is over, or did not come up.
    Ended {
        /// Whose.
        device: DeviceId,
        /// Which of its sessions.
        generation: Generation,
        /// Why.
        cause: Cause,
        /// Since its CONNACK; `None` when there was none.
        lived: Option<Duration>,
    },
    /// The kernel gave no receipt for a closed socket in time: something else may hold it.
    Unreleased {
        /// Whose.
        device: DeviceId,
        /// Of which session.
        generation: Generation,
        /// The socket.
        cookie: u64,
    },
    /// Another client uses the device's client id; it stays away for a while.
    Quarantined {
        /// Which device.
        device: DeviceId,
        /// For how long.
        period: Duration,
    },
    /// The broker sent the device to another server.
    Redirected {
        /// Which device.
        device: DeviceId,
        /// Where to.
        server: Arc<str>,
    },
    /// The broker sent the device to a server that is not on the allow-list.
    RedirectRefused {
        /// Which device.
        device: DeviceId,
        /// Where to.
        server: String,
    },
    /// The broker refused a subscription of the device.
    SubscriptionRefused {
        /// Which device.
        device: DeviceId,
        /// The topic filter.
        filter: Arc<str>,
        /// Why.
        error: Error,
    },
    /// The local ports from one source address to one destination near the half of the range, from
    /// which on each connect costs 25 times more, or do so no longer.
    PortPressure {
        /// The source address, when the pool chose one.
        source: Option<IpAddr>,
        /// The broker's address.
        destination: SocketAddr,
        /// Live and in TIME_WAIT.
        in_use: u32,
        /// From here on connects are dear.
        half: u32,
        /// From here on there are none.
        range: u32,
        /// False takes back an earlier one.
        is_high: bool,
    },
    /// The device left the pool, and its socket is gone.
    Removed {
        /// Which device.
        device: DeviceId,
    },
}

/// A device's slot at this moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeviceStatus {
    /// Where it is in its life.
    pub state: State,
    /// Its present or last session.
    pub generation: Generation,
    /// For how long it has been in this state.
    pub since: Duration,
    /// Why its last session ended.
    pub last_end: Option<Arc<Cause>>,
    /// Requests of the application that wait for a session.
    pub waiting_requests: usize,
}

/// The pool at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// In the pool.
    pub devices: usize,
    /// With a session.
    pub online: usize,
    /// From dial to CONNACK.
    pub connecting: usize,
    /// Without a socket, until they are due and it is their turn.
    pub waiting: usize,
    /// Without a socket because another client uses their client id.
    pub quarantined: usize,
    /// On their way from an old socket to a new one.
    pub replacing: usize,
    /// How many connects may be under way at the moment.
    pub window: usize,
}

/// The events of a pool from now on.
#[derive(Debug)]
pub struct Events(pub(crate) broadcast::Receiver<Event>);

/// What a reader of events gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The next event.
    Event(Event),
    /// The reader was too slow, and so many events are lost to it.
    Gap(u64),
}

impl Events {
    /// The next event, or how many were lost; `None` when the pool is gone.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Next> {
        match self.0.recv().await {
            Ok(event) => Some(Next::Event(event)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Next::Gap(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
