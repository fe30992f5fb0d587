//! EDGE: the privileged host daemon: joins the observer, the pool and the surfaces.
//!
//! ```text
//! open (root) ─▶ drop privileges ─▶ three threads, each with one loop:
//!
//!   observer   ring, snapshots, findings ─▶ journal          answers the desk
//!      ▲ claims │ receipts
//!   pool       sessions, fleet, messages
//!      ▲ orders
//!   front      HTTP, metrics, signals, service manager        orders the other two
//! ```
//!
//! The order at the start is the point: everything that needs a privilege is open before the first
//! thread, and the privileges are gone before the first byte of a broker or client is read. At the
//! end the front ends the pool first, while the observer still gives it its receipts.

mod front;
mod losses;
mod open;
mod pooling;
mod reload;
mod roster;
mod scrape;
mod selection;
mod sink;
mod watching;

use std::{io, path::Path, sync::Arc, thread};

use tokio::sync::mpsc;

use self::{
    front::Front,
    open::Opened,
    pooling::{Hub, Prepared},
    sink::Alarm,
    watching::Watching,
};
use crate::{
    api::Health,
    config::{self, LoadError},
    desk::Desk,
    fleet::FleetError,
    join::{Join, KernelReceipts},
    kernel,
    life::{
        instance::ClaimError, notify::NotifyError, privileges::PrivilegeError, watchdog::Beats,
    },
    observer::ObserverError,
};

/// News that a reader of events may fall behind before it gets a gap, whatever the API's own bound
/// is.
const NEWS_BACKLOG: usize = 4_096;

/// Why the daemon ends, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The operator: the config.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The operator: another one runs.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The kernel, or the permission to watch it.
    #[error(transparent)]
    Observer(#[from] ObserverError),
    /// The operator: who the daemon shall be.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The operator: how it was started.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The operator: an address or a path of the API.
    #[error(transparent)]
    Listen(#[from] crate::api::ListenError),
    /// The operator: a password file.
    #[error(transparent)]
    Password(#[from] config::PasswordError),
    /// The pool's settings.
    #[error("the pool cannot start: {0}")]
    Pool(#[from] pool::Error),
    /// The fleet.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// A thread, a runtime or a signal handler.
    #[error("{doing} failed: {error}. The host is short of memory, threads or descriptors")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// A thread ended that should not have: the service manager starts us again.
    #[error("the daemon's {0} ended unexpectedly; the log before this line may say why")]
    Part(&'static str),
}

impl DaemonError {
    /// Whether a permission is what is missing.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Observer(ObserverError::Probe(error)) => error.is_permission(),
            Self::Privileges(_) => true,
            _ => false,
        }
    }

    /// Whether the operator has to change the config.
    pub fn is_config(&self) -> bool {
        matches!(
            self,
            Self::Config(_) | Self::Password(_) | Self::Observer(ObserverError::Selection(_))
        )
    }

    fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { doing, error }
    }
}

/// Runs the daemon by the config at `path` until it is told to end.
///
/// # Errors
///
/// [`DaemonError`]. Whatever was opened is closed then.
pub fn run(path: &Path) -> Result<(), DaemonError> {
    // Before the first thread has an arena.
    kernel::keep_heap_small();
    let opened = Opened::open(path)?;
    let Opened { config, instance, mut observer, listeners, notifier, password, remaining } =
        opened;
    log::info!("everything is open; the daemon {remaining}");

    let (desk, questions) = Desk::new(NEWS_BACKLOG);
    let (to_observer, orders) = mpsc::unbounded_channel();
    let beats = Beats::default();
    let health = Health::new(beats.clone());
    health.privileges(remaining.to_string());
    health.attached(observer.layers());

    let prepared = match &config.pool {
        None => None,
        Some(pool) => {
            let receipts = Arc::new(KernelReceipts::default());
            let builder = config::pool_builder(pool, password)?.receipts(receipts.clone());
            let prepared = Prepared::new(builder)?;
            observer.join(Join::new(prepared.pool.clone(), receipts));
            Some(prepared)
        }
    };
    let hub = Hub::new(desk.clone(), beats.clone(), config.api.stream_buffer);
    let alarm = Alarm::open(&config.sinks, desk.clone(), hub.entries_lost_counter())
        .map_err(DaemonError::system("starting the journal's thread"))?;
    let mut watching = Watching::new(observer, alarm, questions, orders, beats.clone())?;
    // The first snapshot, before the first device connects.
    watching.begin()?;
    health.snapshot_taken();

    let start = |prepared: Prepared| prepared.start(config.fleet.clone(), hub.clone());
    let pooling = prepared.map(start).transpose()?;
    let front = Front {
        path: path.to_owned(),
        config,
        desk,
        health,
        beats,
        notifier,
        listeners: Some(listeners),
        to_observer,
        hub,
        pooling,
    };
    let conducting = thread::Builder::new()
        .name("front".into())
        .spawn(move || front.run())
        .map_err(DaemonError::system("starting a thread"))?;
    let watched = watching.run();
    let conducted = conducting.join().unwrap_or(Err(DaemonError::Part("front")));
    drop(instance);
    watched.and(conducted)
}

/// The threads that are not the observer's run at the usual priority.
fn usual_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, 0) {
        log::debug!("the priority stays as it is: {error}");
    }
}
