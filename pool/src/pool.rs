//! The pool as its users see it.

mod directory;
mod releases;
mod run;

use crate::broker::Broker;
use crate::budget::{DescriptorBudget, PortBudget, default_headroom};
use crate::builder::Builder;
use crate::clock;
use crate::device::{Device, DeviceId, Generation, Priority};
use crate::driver::context::{Context, Events as EventSource};
use crate::driver::descriptors;
use crate::driver::ports::LocalPorts;
use crate::driver::resolve::Resolver;
use crate::driver::transport::Endpoint;
use crate::error::{CallerError, Error};
use crate::event::{DeviceStatus, Events, Status};
use crate::fleet::{AllowList, Fleet, Rules, State};
use crate::inbox::{Inbox, Messages};
use crate::line::Line;
use crate::message::{Publish, Subscription};
use crate::metrics::{Counters, Metrics};
use crate::policy::Limits;
use crate::receipt::Receipt;
use crate::registry::Registry;
use crate::request::{Delivery, Request, Ticket};
use crate::session::Settings;
use directory::Directory;
use run::{Control, Numbers, Runner};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A handle to a pool; clone it freely. See the [crate](crate) for an example.
///
/// When the last handle is dropped, all sockets are closed at once and without DISCONNECT;
/// [`Pool::shutdown`] ends the sessions properly.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    control: mpsc::UnboundedSender<Control>,
}

/// What the handles and the loop share.
struct Shared {
    context: Arc<Context>,
    directory: Mutex<Directory>,
    numbers: Mutex<Numbers>,
    outbox: usize,
    max_packet: usize,
    descriptor_limit: u64,
    running: Mutex<Option<JoinHandle<()>>>,
}

/// How a request to reconnect is served.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReconnectOptions {
    /// In place of the device's own.
    pub priority: Option<Priority>,
    /// The request is given up when its turn has not come by then. A device without a session
    /// comes back nevertheless.
    pub deadline: Option<Instant>,
}

impl Pool {
    /// A pool for one broker, with everything at its default.
    pub fn builder(broker: Broker) -> Builder {
        Builder::new(broker)
    }

    /// Puts a device into the pool. It connects when it is its turn.
    ///
    /// # Errors
    ///
    /// [`CallerError::DuplicateDevice`], [`CallerError::DuplicateClientId`],
    /// [`CallerError::Closed`]; [`DescriptorBudget`](crate::OperatorError::DescriptorBudget)
    /// when one more socket would leave too few descriptors. The other devices are untouched.
    pub fn add(&self, device: Device) -> Result<(), Error> {
        let priority = device.priority;
        let mut directory = self.shared.directory();
        let line = directory.add(device)?;
        // Under the lock, so that the loop hears of a device before anything is asked of it.
        self.tell(Control::Add { line, priority })?;
        Ok(())
    }

    /// Whether so many more devices can be added, as far as descriptors go. With 0: whether one
    /// can be taken out and put in again.
    ///
    /// # Errors
    ///
    /// [`DescriptorBudget`](crate::OperatorError::DescriptorBudget), [`CallerError::Closed`].
    pub fn check_room(&self, devices: usize) -> Result<(), Error> {
        let mut directory = self.shared.directory();
        if directory.closed {
            return Err(CallerError::Closed.into());
        }
        // A promise to nobody, taken back before the lock is.
        directory.descriptors().promise(devices as u64)?;
        directory.descriptors().give_back(devices as u64);
        Ok(())
    }

    /// Ends a device's session and takes it out of the pool. Returns when its socket is gone.
    ///
    /// # Errors
    ///
    /// [`CallerError::UnknownDevice`], [`CallerError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// From its first poll on, dropping it takes nothing back.
    pub async fn remove(&self, device: &str) -> Result<(), Error> {
        let line = self.shared.directory().find(device)?;
        let (done, gone) = oneshot::channel();
        self.tell(Control::Remove { key: line.key, done })?;
        gone.await.map_err(|_| Error::Caller(CallerError::Closed))
    }

    /// Replaces a device's session by a new one: when its turn has come, the old socket is
    /// destroyed, and when the kernel has let go of it, the new one is made. Returns when the new
    /// session is online. A device without a session connects as soon as it is its turn, and its
    /// backoff or quarantine ends.
    ///
    /// # Errors
    ///
    /// [`CallerError::UnknownDevice`], [`CallerError::Closed`]; why the connect failed. After a
    /// failure the device goes on trying.
    ///
    /// # Cancel safety
    ///
    /// From its first poll on, dropping it takes nothing back.
    pub async fn reconnect(&self, device: &str) -> Result<Generation, Error> {
        self.reconnect_with(device, ReconnectOptions::default()).await
    }

    /// As [`Pool::reconnect`], with a priority and a deadline.
    ///
    /// # Errors
    ///
    /// As [`Pool::reconnect`], and [`Cause::Deadline`](crate::Cause::Deadline).
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::reconnect`].
    pub async fn reconnect_with(
        &self,
        device: &str,
        options: ReconnectOptions,
    ) -> Result<Generation, Error> {
        let line = self.shared.directory().find(device)?;
        let (done, outcome) = oneshot::channel();
        self.tell(Control::Reconnect { key: line.key, options, done: Some(done) })?;
        outcome.await.unwrap_or(Err(Error::Caller(CallerError::Closed)))
    }

    /// As [`Pool::reconnect_with`], without waiting for the outcome.
    ///
    /// # Errors
    ///
    /// [`CallerError::UnknownDevice`], [`CallerError::Closed`].
    pub fn request_reconnect(&self, device: &str, options: ReconnectOptions) -> Result<(), Error> {
        let line = self.shared.directory().find(device)?;
        if line.begin_reconnect() {
            self.tell(Control::Reconnect { key: line.key, options, done: None })?;
        }
        Ok(())
    }

    /// Asks for a new session of every device, and says how many there are. Each keeps its old
    /// one until it is its turn.
    ///
    /// # Errors
    ///
    /// [`CallerError::Closed`].
    pub fn reconnect_all(&self, options: ReconnectOptions) -> Result<usize, Error> {
        let directory = self.shared.directory();
        if directory.closed {
            return Err(CallerError::Closed.into());
        }
        for line in directory.lines().filter(|line| line.begin_reconnect()) {
            self.tell(Control::Reconnect { key: line.key, options, done: None })?;
        }
        Ok(directory.len())
    }

    /// Publishes on a device's session, or on its next one when there is none at the moment.
    ///
    /// # Errors
    ///
    /// [`CallerError::UnknownDevice`], [`CallerError::OutboxFull`],
    /// [`CallerError::PacketTooLarge`], [`CallerError::Closed`]. What the broker says comes from
    /// the [`Delivery`].
    pub fn publish(&self, device: &str, publish: Publish) -> Result<Delivery, Error> {
        let size = publish.payload.len() + publish.topic.len();
        // A generous bound for headers and properties; the session knows the broker's own limit.
        if size > self.shared.max_packet {
            let limit = self.shared.max_packet;
            return Err(CallerError::PacketTooLarge { size, limit, by: "the pool" }.into());
        }
        self.request(device, |ticket| Request::Publish(publish, ticket))
    }

    /// Subscribes a device's session, and each later one that finds the broker without it.
    ///
    /// # Errors
    ///
    /// [`CallerError::UnknownDevice`], [`CallerError::OutboxFull`], [`CallerError::Closed`]. What
    /// the broker says comes from the [`Delivery`].
    pub fn subscribe(&self, device: &str, subscription: Subscription) -> Result<Delivery, Error> {
        self.request(device, |ticket| Request::Subscribe(subscription, ticket))
    }

    /// Ends a subscription that [`Pool::subscribe`] or [`Device::subscribe`] made.
    ///
    /// # Errors
    ///
    /// As [`Pool::subscribe`]; [`CallerError::InvalidField`] for what is no topic filter.
    pub fn unsubscribe(&self, device: &str, filter: &str) -> Result<Delivery, Error> {
        let subscription = Subscription::new(filter, crate::QoS::AtMostOnce)?;
        self.request(device, |ticket| Request::Unsubscribe(subscription.filter, ticket))
    }

    /// The received messages of all devices. There is one reader at a time.
    ///
    /// # Errors
    ///
    /// [`CallerError::MessagesTaken`] while somebody has it.
    pub fn messages(&self) -> Result<Messages, Error> {
        Ok(self.shared.context.inbox.take_reader().ok_or(CallerError::MessagesTaken)?)
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events(self.shared.context.events.subscribe())
    }

    /// The pool at this moment.
    pub fn status(&self) -> Status {
        let numbers = self.shared.numbers();
        let count = |state: State| numbers.census[state as usize];
        Status {
            devices: numbers.census.iter().sum(),
            online: count(State::Online),
            connecting: count(State::Connecting),
            waiting: count(State::Waiting),
            quarantined: count(State::Quarantined),
            replacing: count(State::Stopping) + count(State::Releasing),
            window: numbers.window,
        }
    }

    /// One device at this moment.
    ///
    /// # Errors
    ///
    /// [`CallerError::UnknownDevice`], [`CallerError::Closed`].
    pub fn device(&self, device: &str) -> Result<DeviceStatus, Error> {
        let line = self.shared.directory().find(device)?;
        let status = line.status();
        Ok(DeviceStatus {
            state: status.state,
            generation: status.generation,
            since: clock::now().saturating_duration_since(status.since),
            last_end: status.last_end,
            waiting_requests: line.waiting(),
        })
    }

    /// The names of all devices, in no order.
    pub fn devices(&self) -> Vec<DeviceId> {
        self.shared.directory().lines().map(|line| line.device.id.clone()).collect()
    }

    /// Everything that is counted.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        let context = &self.shared.context;
        context.counters.read(&mut metrics);
        let numbers = *self.shared.numbers();
        metrics.devices = numbers.census;
        metrics.queued = numbers.queued;
        metrics.in_flight = numbers.in_flight;
        metrics.window = numbers.window;
        metrics.late_events = numbers.late_events;
        metrics.reservoir = numbers.reservoir;
        metrics.requests_merged = numbers.counts.merged;
        metrics.requests_expired = numbers.counts.expired;
        metrics.window_halvings = numbers.counts.halved;
        metrics.sockets = context.registry.len();
        metrics.messages_dropped = context.inbox.dropped();
        metrics.messages_waiting_bytes = context.inbox.waiting_bytes();
        metrics.descriptor_limit = self.shared.descriptor_limit;
        metrics.descriptors_promised = self.shared.directory().descriptors().promised();
        if let Some(pressure) = context.ports().pressure(clock::now()) {
            metrics.ports_in_use = pressure.in_use;
            metrics.ports_half = pressure.half_range;
        }
        metrics
    }

    /// Which socket is whose.
    pub fn registry(&self) -> &Registry {
        &self.shared.context.registry
    }

    /// Changes how fast connects may begin, from now on.
    ///
    /// # Errors
    ///
    /// [`CallerError::InvalidField`], [`CallerError::Closed`].
    pub fn set_limits(&self, limits: Limits) -> Result<(), Error> {
        limits.check()?;
        self.tell(Control::SetLimits(limits))?;
        Ok(())
    }

    /// Tells the pool that the way to the broker is congested, as somebody saw who looks at the
    /// kernel: a SYN was sent again. With [`Limits::adaptive`] fewer connects begin.
    pub fn congestion_hint(&self) {
        // A pool that is gone connects nothing.
        let _gone = self.tell(Control::Congestion);
    }

    /// Hands in a receipt for a closed socket that the pool's own source has not given yet.
    pub fn deliver_receipt(&self, cookie: u64, receipt: Receipt) {
        // A pool that is gone waits for none.
        let _gone = self.tell(Control::Receipt { cookie, receipt });
    }

    /// Ends all sessions with a DISCONNECT, waits for their sockets to close and for the tasks to
    /// end. From now on every call fails with [`CallerError::Closed`]; messages that were received
    /// can still be read. Calling it again does nothing.
    ///
    /// # Cancel safety
    ///
    /// From its first poll on, dropping it takes nothing back.
    pub async fn shutdown(&self) {
        self.shared.directory().closed = true;
        // When the loop is gone already, there is nothing left to end.
        let _gone = self.control.send(Control::Shutdown);
        let running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running
            && let Err(error) = running.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    pub(crate) fn start(builder: Builder) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| CallerError::NoRuntime)?;
        let limit = descriptors::raise_limit().soft;
        let headroom = builder.headroom.unwrap_or_else(|| default_headroom(limit));
        let others = descriptors::count_open().unwrap_or(0);
        let budget = DescriptorBudget::new(limit, headroom, others);
        let (online, came_online) = mpsc::unbounded_channel();
        let (control, controls) = mpsc::unbounded_channel();
        let now = clock::now();
        let seed = builder.seed.unwrap_or_else(|| fastrand::u64(..));
        let rules = Rules {
            backoff: builder.backoff,
            takeover: builder.takeover,
            receipt_timeout: builder.timeouts.receipt,
            redirects: AllowList::new(builder.redirects.clone()),
        };
        let fleet = Fleet::new(rules, builder.limits.clone(), budget.clone(), seed, now);
        let (outbox, max_packet) = (builder.buffers.outbox, 268_435_455 - 65_536);
        let shared = Arc::new(Shared {
            context: Arc::new(context(builder, online)?),
            directory: Mutex::new(Directory::new(budget)),
            numbers: Mutex::new(Numbers::default()),
            outbox,
            max_packet,
            descriptor_limit: limit,
            running: Mutex::new(None),
        });
        let runner = Runner::new(fleet, Arc::clone(&shared), controls, came_online);
        let running = runtime.spawn(runner.run());
        *shared.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(Self { shared, control })
    }

    fn request(
        &self,
        device: &str,
        request: impl FnOnce(Ticket) -> Request,
    ) -> Result<Delivery, Error> {
        let line = self.shared.directory().find(device)?;
        let (ticket, delivery) = Ticket::new();
        line.push(request(ticket), self.shared.outbox)?;
        Ok(delivery)
    }

    fn tell(&self, control: Control) -> Result<(), CallerError> {
        self.control.send(control).map_err(|_| CallerError::Closed)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Shared {
    fn directory(&self) -> MutexGuard<'_, Directory> {
        // Nothing in there can panic half way, so what is there is whole.
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device is out of the pool: whatever waited for it is told so.
    fn forget(&self, line: &Line) {
        self.directory().forget(&line.device);
        while let Some(request) = line.pop() {
            request.settle(Err(CallerError::UnknownDevice(line.device.id.clone()).into()));
        }
    }
}

/// What the drivers of a pool share, as the builder wants it.
pub(crate) fn context(
    builder: Builder,
    online: mpsc::UnboundedSender<crate::driver::task::Online>,
) -> Result<Context, Error> {
    let whole_seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let settings = Settings {
        version: builder.version,
        clean_start: builder.clean_start,
        session_expiry: Some(whole_seconds(builder.session_expiry)).filter(|it| *it > 0),
        keep_alive: builder.keep_alive,
        credentials: builder.credentials,
        max_packet: builder.buffers.max_packet,
        inflight: builder.buffers.inflight,
        packet_timeout: builder.timeouts.packet,
    };
    let max_packet = usize::try_from(builder.buffers.max_packet).unwrap_or(usize::MAX);
    let sources: Vec<_> = match builder.sources.as_slice() {
        [] => vec![None],
        sources => sources.iter().copied().map(Some).collect(),
    };
    let ports = LocalPorts::read();
    Ok(Context {
        endpoint: Endpoint::prepare(&builder.broker, max_packet)?,
        settings: Arc::new(settings),
        timeouts: builder.timeouts,
        sources,
        reset_on_destroy: builder.reset_on_destroy,
        resolver: Resolver::new(),
        registry: Arc::new(Registry::default()),
        receipts: builder.receipts,
        inbox: Arc::new(Inbox::new(builder.buffers.messages, builder.buffers.overflow)),
        counters: Counters::default(),
        events: EventSource::new(builder.buffers.events),
        ports: Mutex::new(PortBudget::new(ports.available(), ports.reuse)),
        #[cfg(any(test, feature = "testing"))]
        sabotage: builder.sabotage,
        online,
    })
}
