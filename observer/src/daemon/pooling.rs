//! The pool's thread: its loop, the fleet, and what devices say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use pool::{Builder, Message, Next, Pool};
use tokio::{
    runtime::{self, Runtime},
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
    time::interval,
};

use super::DaemonError;
use crate::{
    clock,
    config::Fleet,
    desk::{Desk, News},
    fleet::{FleetError, Loaded, Reloaded, Roster},
    life::watchdog::{Beats, Loop},
};

/// How often the loop says that it turns.
const BEAT: Duration = Duration::from_secs(1);

/// Where what the pool says goes; clone it freely.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    pub(super) messages: broadcast::Sender<Arc<Message>>,
    /// Messages that nobody wanted to read.
    unread: Arc<AtomicU64>,
    /// Journal entries that came nowhere.
    entries_lost: Arc<AtomicU64>,
    desk: Desk,
    beats: Beats,
}

/// What the front wants of the pool.
pub(super) enum Order {
    /// Another fleet.
    Reload(Box<Fleet>, oneshot::Sender<Result<Reloaded, FleetError>>),
    /// All sessions end in order.
    Shutdown,
}

/// A pool that has not begun: nothing connects yet.
pub(super) struct Prepared {
    runtime: Runtime,
    pub(super) pool: Pool,
}

/// A pool that runs.
pub(super) struct Pooling {
    pub(super) pool: Pool,
    /// The fleet, when it is loaded.
    pub(super) loaded: oneshot::Receiver<Result<(Roster, Loaded), FleetError>>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// Ends the thread though sessions are left.
    pub(super) abandon: oneshot::Sender<()>,
    /// Ends when the thread does.
    pub(super) over: oneshot::Receiver<()>,
}

impl Prepared {
    /// A pool without devices.
    pub(super) fn new(builder: Builder) -> Result<Self, DaemonError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DaemonError::system("starting a runtime"))?;
        let pool = {
            let _inside = runtime.enter();
            builder.build()?
        };
        Ok(Self { runtime, pool })
    }

    /// Loads the fleet and lets it connect, in a thread of its own.
    pub(super) fn start(self, fleet: Fleet, hub: Hub) -> Result<Pooling, DaemonError> {
        let Self { runtime, pool } = self;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (loading, loaded) = oneshot::channel();
        let (abandon, abandoned) = oneshot::channel();
        let (running, over) = oneshot::channel();
        let handle = pool.clone();
        let run = move || {
            super::usual_priority();
            let beats = hub.beats.clone();
            runtime.block_on(serve(pool, fleet, hub, ordered, loading, abandoned));
            beats.retire(Loop::Pool);
            drop(running);
        };
        thread::Builder::new()
            .name("pool".into())
            .spawn(run)
            .map_err(DaemonError::system("starting a thread"))?;
        Ok(Pooling { pool: handle, loaded, orders, abandon, over })
    }
}

impl Hub {
    pub(super) fn new(desk: Desk, beats: Beats, buffer: u32) -> Self {
        let messages = broadcast::channel(buffer as usize).0;
        Self { messages, unread: Arc::default(), entries_lost: Arc::default(), desk, beats }
    }

    /// Messages that came while nobody read the stream.
    pub(super) fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// Journal entries that are in no journal and on no stderr.
    pub(super) fn entries_lost(&self) -> u64 {
        self.entries_lost.load(Ordering::Relaxed)
    }

    /// Where the journal's losses are counted.
    pub(super) fn entries_lost_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.entries_lost)
    }

    fn message(&self, message: Message) {
        if self.messages.send(Arc::new(message)).is_err() {
            self.unread.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn event(&self, event: Next) {
        self.desk.tell(match event {
            Next::Event(event) => News::Pool(Arc::new(event)),
            Next::Gap(lost) => News::Loss { cause: "pool-events", lost },
        });
    }
}

async fn serve(
    pool: Pool,
    fleet: Fleet,
    hub: Hub,
    mut orders: mpsc::UnboundedReceiver<Order>,
    loading: oneshot::Sender<Result<(Roster, Loaded), FleetError>>,
    abandoned: oneshot::Receiver<()>,
) {
    // Before the first device, so that nothing is missed.
    let mut messages = pool.messages().expect("invariant: nobody else reads this pool");
    let mut events = pool.events();
    let roster = match Roster::open(&fleet, pool.clone()) {
        Ok((roster, loaded)) => {
            let _front_is_gone = loading.send(Ok((roster.clone(), loaded)));
            roster
        }
        Err(error) => {
            let _front_is_gone = loading.send(Err(error));
            return;
        }
    };
    let mut reloads = JoinSet::new();
    let mut beat = interval(BEAT);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => hub.message(message),
                None => break,
            },
            Some(event) = events.next() => hub.event(event),
            order = orders.recv() => match order {
                Some(Order::Reload(fleet, reply)) => {
                    let roster = roster.clone();
                    reloads.spawn(async move {
                        let _front_is_gone = reply.send(roster.reload(&fleet).await);
                    });
                }
                Some(Order::Shutdown) | None => break,
            },
            Some(_done) = reloads.join_next() => {}
            _ = beat.tick() => hub.beats.beat(Loop::Pool, clock::now()),
        }
    }
    let ending = async {
        let drain = async {
            while let Some(message) = messages.next().await {
                hub.message(message);
            }
        };
        tokio::join!(pool.shutdown(), drain);
    };
    tokio::select! {
        () = ending => {}
        _ = abandoned => {}
    }
}
