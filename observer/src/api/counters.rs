//! What the API counts of itself.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Counters since the start; they only grow, but for those that are called `open`.
#[derive(Debug, Default)]
pub struct Counters {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    pub(super) connections_open: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) readers_dropped: AtomicU64,
    pub(super) streams_open: AtomicU64,
    pub(super) entries_lost: AtomicU64,
}

/// A reading of [`Counters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that were answered.
    pub requests: Vec<RequestCount>,
    /// Connections at this moment.
    pub connections_open: u64,
    /// Connections that were over `max_connections`.
    pub connections_refused: u64,
    /// Connections that ended because the client took nothing for too long.
    pub readers_dropped: u64,
    /// Streams at this moment.
    pub streams_open: u64,
    /// Entries that readers of streams missed because they were too slow, gaps told.
    pub entries_lost: u64,
}

/// Requests of one kind. The number of kinds is bounded by the table of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// The method, or `other`.
    pub method: &'static str,
    /// The route with `{id}` as it is, or `(none)`.
    pub route: String,
    /// Status of the answer.
    pub status: u16,
    /// How many.
    pub count: u64,
}

impl Counters {
    /// All of them now.
    pub fn read(&self) -> Usage {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        Usage {
            requests: requests
                .iter()
                .map(|((method, route, status), count)| RequestCount {
                    method,
                    route: route.clone(),
                    status: *status,
                    count: *count,
                })
                .collect(),
            connections_open: self.connections_open.load(Relaxed),
            connections_refused: self.connections_refused.load(Relaxed),
            readers_dropped: self.readers_dropped.load(Relaxed),
            streams_open: self.streams_open.load(Relaxed),
            entries_lost: self.entries_lost.load(Relaxed),
        }
    }

    pub(super) fn answered(&self, method: &str, route: Option<&str>, status: u16) {
        // Whatever a client invents is one series.
        let method = ["DELETE", "GET", "HEAD", "POST"]
            .into_iter()
            .find(|known| *known == method)
            .unwrap_or("other");
        let key = (method, route.unwrap_or("(none)").to_owned(), status);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(key).or_default() += 1;
    }
}

/// Counts up while it lives.
pub(super) struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    pub(super) fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Relaxed);
        Self(counter)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_invent_is_one_series() {
        let counters = Counters::default();
        for method in ["GET", "BREW", "PATCH", "get"] {
            counters.answered(method, None, 404);
        }
        let count =
            |method, count| RequestCount { method, route: "(none)".to_owned(), status: 404, count };
        assert_eq!(counters.read().requests, [count("GET", 1), count("other", 3)]);
    }

    #[test]
    fn what_is_open_is_counted_while_it_is() {
        let counters = Counters::default();
        let open = Open::new(&counters.connections_open);
        assert_eq!(counters.read().connections_open, 1);
        drop(open);
        assert_eq!(counters.read().connections_open, 0);
    }
}
