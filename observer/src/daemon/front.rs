//! The front's thread: HTTP, signals and the service manager, and who tells the others to end.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    DaemonError,
    pooling::{self, Hub, Pooling},
    roster::Door,
    scrape::Scrape,
    watching::Order,
};
use crate::{
    api::{Backend, Counters, Health, Listeners, Server},
    clock,
    config::Config,
    desk::Desk,
    escape::{short, visible},
    fleet::{Loaded, Roster},
    kernel,
    life::{
        drain::{Drain, Left, Phase},
        notify::{self, Notifier},
        watchdog::{Beats, Loop, Watchdog},
    },
    sinks::journal::Life,
};

/// How long the sessions have to say goodbye. Chosen: 12,000 take two seconds, and the unit's
/// TimeoutStopSec= is longer.
const DRAIN: Duration = Duration::from_secs(20);

/// How often the end is looked at, and the status line.
const LOOK: Duration = Duration::from_millis(50);

/// How often what large work has left in the heap is given back.
const TRIM: Duration = Duration::from_secs(10);

/// How often the status line says how it is.
const STATUS: Duration = Duration::from_secs(2);

/// What the front has and knows.
pub(super) struct Front {
    pub(super) path: PathBuf,
    pub(super) config: Config,
    pub(super) desk: Desk,
    pub(super) health: Health,
    pub(super) beats: Beats,
    pub(super) notifier: Notifier,
    pub(super) listeners: Option<Listeners>,
    pub(super) to_observer: mpsc::UnboundedSender<Order>,
    pub(super) hub: Hub,
    pub(super) pooling: Option<Pooling>,
}

/// The signals that mean something to the daemon.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// What wakes the loop.
enum Event {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// Time for the service manager.
    Due,
    /// A thread ended that should go on.
    Broken(&'static str),
}

impl Front {
    /// Runs until a signal ends it; then ends the others.
    pub(super) fn run(mut self) -> Result<(), DaemonError> {
        super::usual_priority();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DaemonError::system("starting a runtime"))?;
        let result = runtime.block_on(self.serve());
        if let Err(error) = &result {
            self.tell(Life::Stopped, error.to_string());
        }
        self.order(Order::Finish);
        result
    }

    async fn serve(&mut self) -> Result<(), DaemonError> {
        let mut signals = Signals::catch().map_err(DaemonError::system("catching signals"))?;
        let roster = self.roster().await?;
        let (stop, stopped) = oneshot::channel::<()>();
        // The pool's loop may not have counted them yet.
        let status = match roster.as_ref().map(|roster| roster.list().len()) {
            Some(devices) => format!("watching; {devices} devices begin to connect"),
            None => self.status(),
        };
        let backend = self.backend(roster);
        let listeners = self.listeners.take().expect("invariant: served once");
        let doors = doors(&listeners, &self.config);
        let mut serving = JoinSet::new();
        let server = Server::new(listeners, backend);
        serving.spawn(server.serve(stopped.map(drop)));
        self.notifier.ready(&status, clock::now());
        self.tell(Life::Ready, format!("sockwarden is ready: {status}; the API is at {doors}"));
        let ended = self.conduct(&mut signals, &mut serving).await;
        self.health.ending();
        self.drain(&mut signals).await;
        drop(stop);
        // Answers under way are finished, streams are not waited for: the server bounds it.
        serving.join_next().await;
        ended
    }

    /// Waits for the fleet: a daemon without it must not look ready.
    async fn roster(&mut self) -> Result<Option<Roster>, DaemonError> {
        let Some(pooling) = &mut self.pooling else { return Ok(None) };
        let loaded = (&mut pooling.loaded).await.map_err(|_| DaemonError::Part("pool"))?;
        let (roster, Loaded { file, api, left_out }) = loaded?;
        log::info!("the fleet has {file} devices of its file and {api} of the API");
        for device in &left_out {
            log::warn!("device {}: {}", short(&device.id, 64), visible(&device.reason));
        }
        Ok(Some(roster))
    }

    fn backend(&self, roster: Option<Roster>) -> Backend {
        let counters = Arc::new(Counters::default());
        let pool = self.pooling.as_ref().map(|pooling| pooling.pool.clone());
        let scrape = Scrape {
            desk: self.desk.clone(),
            pool: pool.clone(),
            hub: self.hub.clone(),
            counters: Arc::clone(&counters),
            started: clock::now(),
        };
        Backend {
            desk: self.desk.clone(),
            pool,
            roster: roster.map(|roster| Arc::new(Door(roster)) as Arc<dyn crate::api::Roster>),
            health: self.health.clone(),
            counters,
            metrics: Arc::new(move || scrape.clone().text().boxed()),
            messages: self.hub.messages.clone(),
            limits: self.config.api.clone(),
        }
    }

    async fn conduct(
        &mut self,
        signals: &mut Signals,
        serving: &mut JoinSet<io::Result<()>>,
    ) -> Result<(), DaemonError> {
        let mut watchdog =
            Watchdog::new(self.beats.clone(), notify::watchdog_timeout(), clock::now());
        let mut status_due = Instant::now() + STATUS;
        let mut trim_due = Instant::now() + STATUS;
        loop {
            let wait = STATUS.min(watchdog.longest_sleep());
            let due = status_due.min(Instant::now() + wait);
            let event = tokio::select! {
                _ = signals.interrupt.recv() => Event::Stop,
                _ = signals.terminate.recv() => Event::Stop,
                _ = signals.hangup.recv() => Event::Reload,
                Some(_ended) = serving.join_next() => Event::Broken("API"),
                () = over(self.pooling.as_mut()) => Event::Broken("pool"),
                () = self.to_observer.closed() => Event::Broken("observer"),
                () = sleep_until(due) => Event::Due,
            };
            match event {
                Event::Stop => return Ok(()),
                Event::Broken(part) => return Err(DaemonError::Part(part)),
                Event::Reload => {
                    self.notifier.reloading(clock::now());
                    self.reload().await;
                    let status = self.status();
                    self.notifier.ready(&status, clock::now());
                }
                Event::Due => {}
            }
            let now = clock::now();
            self.beats.beat(Loop::Front, now);
            let verdict = watchdog.handle_timeout(now);
            if verdict.ping {
                self.notifier.ping();
            }
            let stuck = verdict.stuck.first().map(ToString::to_string);
            if verdict.changed
                && let Some(stuck) = &stuck
            {
                log::error!("{stuck}");
            }
            if Instant::now() >= status_due || stuck.is_some() {
                status_due = Instant::now() + STATUS;
                let status = stuck.unwrap_or_else(|| self.status());
                self.notifier.status(&status, now);
            }
            self.notifier.handle_timeout(now);
            if Instant::now() >= trim_due {
                trim_due = Instant::now() + TRIM;
                kernel::trim_heap();
            }
        }
    }

    /// Ends the sessions: each says goodbye, and the kernel confirms each socket.
    async fn drain(&mut self, signals: &mut Signals) {
        let now = clock::now();
        self.notifier.stopping("ending its sessions", now);
        let Some(mut pooling) = self.pooling.take() else { return };
        self.tell(Life::Draining, format!("ending {} sessions", pooling.pool.status().online));
        let _ended_already = pooling.orders.send(pooling::Order::Shutdown);
        let mut drain = Drain::begin(now, DRAIN, left(&pooling));
        let (end, is_over) = loop {
            let is_over = tokio::select! {
                _ = signals.interrupt.recv() => { drain.handle_signal(); false }
                _ = signals.terminate.recv() => { drain.handle_signal(); false }
                _ = &mut pooling.over => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let left = if is_over { Left::default() } else { left(&pooling) };
            let now = clock::now();
            self.beats.beat(Loop::Front, now);
            // The thread's end, and not an empty pool, says that all is done.
            let left = if !is_over && left == Left::default() {
                Left { receipts: 1, ..left }
            } else {
                left
            };
            if let Phase::Over(end) = drain.handle_left(now, left) {
                break (end, is_over);
            }
        };
        self.tell(Life::Draining, end.to_string());
        if !is_over {
            let _ended_already = pooling.abandon.send(());
            let _its_last_words = (&mut pooling.over).await;
        }
    }

    pub(super) fn order(&self, order: Order) {
        // An observer that is gone needs none.
        let _gone = self.to_observer.send(order);
    }

    pub(super) fn tell(&self, life: Life, text: String) {
        self.order(Order::Tell(life, text));
    }

    /// One line for people.
    fn status(&self) -> String {
        match &self.pooling {
            None => "watching".to_owned(),
            Some(pooling) => {
                let status = pooling.pool.status();
                format!("watching; {} of {} devices online", status.online, status.devices)
            }
        }
    }
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Where the API can be reached.
fn doors(listeners: &Listeners, config: &Config) -> String {
    let unix = config.api.socket.display();
    match listeners.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()) {
        Some(address) => format!("http://{address} and {unix}"),
        None => unix.to_string(),
    }
}

/// What the pool still has to end.
fn left(pooling: &Pooling) -> Left {
    let status = pooling.pool.status();
    Left { sessions: status.online + status.connecting, receipts: pooling.pool.registry().len() }
}

/// Returns when the pool's thread has ended; never without a pool.
async fn over(pooling: Option<&mut Pooling>) {
    match pooling {
        Some(pooling) => drop((&mut pooling.over).await),
        None => std::future::pending().await,
    }
}
