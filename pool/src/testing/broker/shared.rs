//! What all tasks of a broker share: the hub, the lines, and who behaves how.

use crate::testing::behaviour::Behaviour;
use crate::testing::connection;
use crate::testing::counters::Counters;
use crate::testing::hub::{Hub, HubLimits, Output};
use crate::testing::line::{ConnectionId, End, Line, Queued};
use crate::testing::lock;
use crate::testing::presence::Presence;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::Notify;

/// The order of locks: the reader of a line, that of an older line of the same client, the inner
/// one, the writer of a line. Never held over an await.
#[derive(Debug)]
pub(in crate::testing) struct Shared {
    inner: Mutex<Inner>,
    /// Wakes the listener.
    pub(super) changed: Notify,
    pub(in crate::testing) bytes_received: AtomicU64,
    pub(in crate::testing) bytes_sent: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) hub: Hub,
    pub(super) behaviours: Behaviours,
    lines: HashMap<ConnectionId, Arc<Line>>,
    presence: Presence,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    frozen: bool,
    stopped: bool,
}

#[derive(Debug)]
pub(super) struct Behaviours {
    default: Arc<Behaviour>,
    by_client: HashMap<Box<str>, Arc<Behaviour>>,
}

impl Behaviours {
    pub(super) fn set_default(&mut self, behaviour: Behaviour) {
        self.default = Arc::new(behaviour);
    }

    pub(super) fn set_of(&mut self, client: &str, behaviour: Behaviour) {
        self.by_client.insert(client.into(), Arc::new(behaviour));
    }

    fn of(&self, client: &str) -> Arc<Behaviour> {
        self.by_client.get(client).unwrap_or(&self.default).clone()
    }
}

impl Shared {
    pub(super) fn new(behaviour: Behaviour, limits: HubLimits) -> Self {
        Self {
            inner: Mutex::new(Inner {
                hub: Hub::new(limits),
                behaviours: Behaviours { default: Arc::new(behaviour), by_client: HashMap::new() },
                lines: HashMap::new(),
                presence: Presence::default(),
            }),
            changed: Notify::new(),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Tells the hub something, and hands on what it says.
    pub(in crate::testing) fn with_hub<R>(&self, run: impl FnOnce(&mut Hub) -> R) -> R {
        self.with(|inner| run(&mut inner.hub))
    }

    pub(super) fn with<R>(&self, run: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = lock(&self.inner);
        let before = inner.hub.poll_timeout();
        let outcome = run(&mut inner);
        inner.dispatch();
        let after = inner.hub.poll_timeout();
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.changed.notify_one();
        }
        outcome
    }

    /// A CONNECT of this client came: finds how to treat it, and looks for older sockets of it.
    pub(in crate::testing) fn arrive(
        &self,
        client: &Arc<str>,
        id: ConnectionId,
        now: Instant,
    ) -> Arc<Behaviour> {
        let (behaviour, older) = self.with(|inner| {
            inner.hub.counters.connects += 1;
            let behaviour = inner.behaviours.of(client);
            if client.is_empty() {
                return (behaviour, Vec::new());
            }
            let older = inner.presence.arrive(client, id);
            let lines = older.iter().filter_map(|id| inner.lines.get(id).cloned());
            (behaviour, lines.collect())
        });
        let mut open = 0_u32;
        for line in &older {
            if connection::catch_up(self, line, now) {
                open += 1;
            } else {
                // Its end was seen just now and its task has not run yet: no take-over.
                self.with_hub(|hub| hub.handle_end(now, line.id));
            }
            line.notify.notify_one();
        }
        self.with(|inner| {
            let counters = &mut inner.hub.counters;
            counters.most_at_once = counters.most_at_once.max(open + 1);
            if open > 0 {
                counters.overlaps += 1;
                if counters.overlapping.len() < 100 {
                    counters.overlapping.push(client.clone());
                }
            }
        });
        behaviour
    }

    /// Counts an accepted connection; false when it is one too many.
    pub(super) fn count_accept(&self, open: usize) -> bool {
        self.with(|inner| {
            inner.hub.counters.accepted += 1;
            let fits = inner.behaviours.default.max_connections.is_none_or(|most| open < most);
            inner.hub.counters.over_limit += u64::from(!fits);
            fits
        })
    }

    pub(super) fn enter(&self, line: Arc<Line>) {
        self.with(|inner| inner.lines.insert(line.id, line));
    }

    /// The connection is over.
    pub(in crate::testing) fn leave(&self, id: ConnectionId, client: Option<&str>, now: Instant) {
        // At once for all, or a CONNECT in between would take over what the witness does not know.
        // The line outlives the lock: the last one to let go of it closes the socket.
        let _line = self.with(|inner| {
            if let Some(client) = client {
                inner.presence.leave(client, id);
            }
            inner.hub.handle_end(now, id);
            inner.lines.remove(&id)
        });
    }

    pub(super) fn counters(&self) -> Counters {
        let mut counters = self.with(|inner| {
            let open = inner.lines.len();
            Counters { open, ..inner.hub.counters.clone() }
        });
        counters.bytes_received = self.bytes_received.load(Relaxed);
        counters.bytes_sent = self.bytes_sent.load(Relaxed);
        counters
    }

    pub(super) fn end_of(&self, client: &str, end: End) -> usize {
        self.with(|inner| {
            let mut ids = inner.presence.of(client).to_vec();
            // A client that was given its name is not known to the witness.
            ids.extend(inner.hub.connection_of(client).filter(|id| !ids.contains(id)));
            let lines = ids.iter().filter_map(|id| inner.lines.get(id));
            lines.map(|line| line.end(end)).count()
        })
    }

    pub(super) fn end_all(&self, end: End) -> usize {
        self.with(|inner| inner.lines.values().map(|line| line.end(end)).count())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.with(|inner| inner.hub.poll_timeout())
    }

    pub(in crate::testing) fn is_frozen(&self) -> bool {
        lock(&self.state).frozen
    }

    pub(super) fn set_frozen(&self, frozen: bool) {
        lock(&self.state).frozen = frozen;
        self.changed.notify_one();
        self.with(|inner| inner.lines.values().for_each(|line| line.notify.notify_one()));
    }

    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    pub(super) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_one();
    }
}

impl Inner {
    fn dispatch(&mut self) {
        while let Some(output) = self.hub.poll_output() {
            // A line that is gone needs nothing any more.
            let (Output::Packet(id, ..) | Output::Bytes(id, _) | Output::Close(id)) = &output;
            let Some(line) = self.lines.get(id) else { continue };
            let queued = match &output {
                Output::Packet(_, version, packet) => line.send(*version, packet),
                Output::Bytes(_, bytes) => line.send_bytes(bytes),
                Output::Close(_) => {
                    line.end(End::Close);
                    continue;
                }
            };
            match queued {
                Queued::Yes => {}
                Queued::Silent(bytes) => self.hub.counters.bytes_withheld += bytes,
                Queued::Full => self.hub.counters.dropped_slow += 1,
            }
        }
    }
}
