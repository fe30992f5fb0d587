//! What all drivers of a pool share.

use super::resolve::Resolver;
use super::task::Online;
use super::transport::Endpoint;
use crate::budget::{Ending, PortBudget};
use crate::clock;
use crate::device::DeviceId;
#[cfg(any(test, feature = "testing"))]
use crate::device::Generation;
use crate::error::OperatorError;
use crate::event::Event;
use crate::inbox::Inbox;
use crate::metrics::{Counters, add};
use crate::policy::Timeouts;
use crate::receipt::ReceiptSource;
use crate::registry::Registry;
use crate::session::{Refusal, Settings};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, mpsc};

/// See the [module](self).
pub(crate) struct Context {
    pub(crate) endpoint: Endpoint,
    pub(crate) settings: Arc<Settings>,
    pub(crate) timeouts: Timeouts,
    /// Where connections come from; `None` lets the kernel choose.
    pub(crate) sources: Vec<Option<IpAddr>>,
    pub(crate) reset_on_destroy: bool,
    pub(crate) resolver: Resolver,
    pub(crate) registry: Arc<Registry>,
    pub(crate) receipts: Arc<dyn ReceiptSource>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) counters: Counters,
    pub(crate) events: Events,
    pub(crate) ports: Mutex<PortBudget>,
    #[cfg(any(test, feature = "testing"))]
    pub(crate) sabotage: Option<crate::testing::Sabotage>,
    /// To the loop.
    pub(crate) online: mpsc::UnboundedSender<Online>,
}

/// The senders' end of the events, made when the first reader comes.
#[derive(Debug)]
pub(crate) struct Events {
    capacity: usize,
    sender: Mutex<Option<broadcast::Sender<Event>>>,
}

impl Context {
    pub(crate) fn say_online(&self, online: Online) {
        let _loop_is_gone = self.online.send(online);
    }

    /// Chooses a source address and counts its port.
    ///
    /// # Errors
    ///
    /// When no source has a port left.
    pub(crate) fn take_port(
        &self,
        destination: SocketAddr,
    ) -> Result<Option<IpAddr>, OperatorError> {
        let now = clock::now();
        let mut ports = self.ports();
        let source = ports.choose(&self.sources, destination, now)?;
        ports.opened(source, destination, now);
        Ok(source)
    }

    /// Tells whoever listens which paths came under pressure, and which are so no longer.
    pub(crate) fn warn_of_ports(&self) {
        let now = clock::now();
        while let Some(warning) = { self.ports().next_warning(now) } {
            let pressure = warning.pressure;
            self.events.tell(|| Event::PortPressure {
                source: pressure.source,
                destination: pressure.destination,
                in_use: pressure.in_use,
                half: pressure.half_range,
                range: pressure.range,
                is_high: warning.is_raised,
            });
        }
    }

    /// A connection from `local` is closed.
    pub(crate) fn port_closed(
        &self,
        local: Option<IpAddr>,
        destination: SocketAddr,
        ending: Ending,
    ) {
        // Where the kernel chooses the address, all count as one.
        let source = if self.sources == [None] { None } else { local };
        self.ports().closed(source, destination, ending, clock::now());
    }

    /// What the pool does wrong with this session, on purpose.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn flaw(&self, generation: Generation) -> Option<crate::testing::Flaw> {
        self.sabotage.as_ref().and_then(|it| it.in_session(generation))
    }

    pub(crate) fn ports(&self) -> MutexGuard<'_, PortBudget> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscription_refused(&self, device: &DeviceId, refusal: Refusal) {
        add(&self.counters.subscriptions_refused, 1);
        let Refusal { filter, error } = refusal;
        self.events.tell(|| Event::SubscriptionRefused { device: device.clone(), filter, error });
    }
}

impl Events {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, sender: Mutex::new(None) }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.get_or_insert_with(|| broadcast::channel(self.capacity).0).subscribe()
    }

    /// Tells the readers, if there are any.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*sender
            && sender.receiver_count() > 0
        {
            let _nobody_listens = sender.send(event());
        }
    }

    /// No more will come: readers end.
    pub(crate) fn close(&self) {
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
