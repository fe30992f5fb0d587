//! The text of `/metrics`: everybody's numbers at one time.

use std::{collections::BTreeMap, sync::Arc};

use pool::Pool;

use super::pooling::Hub;
use crate::{
    api::Counters,
    clock::{self, WallClock},
    desk::{Desk, Gone},
    model::MonoTime,
    sinks::metrics::{self, Footprint, Own, PoolReading},
};

/// Who is asked.
#[derive(Clone)]
pub(super) struct Scrape {
    pub(super) desk: Desk,
    pub(super) pool: Option<Pool>,
    pub(super) hub: Hub,
    pub(super) counters: Arc<Counters>,
    pub(super) started: MonoTime,
}

impl Scrape {
    /// Asks everybody. The observer answers between two looks at the kernel; the pool's numbers are
    /// read without its loop.
    pub(super) async fn text(self) -> Result<String, Gone> {
        let reading = self.desk.reading().await?;
        let pool = self
            .pool
            .as_ref()
            .map(|pool| PoolReading { metrics: pool.metrics(), status: pool.status() });
        let now = clock::now();
        let usage = self.counters.read();
        let mut requests = BTreeMap::new();
        for request in usage.requests {
            *requests.entry((request.route, request.status)).or_default() += request.count;
        }
        let own = Own {
            version: env!("CARGO_PKG_VERSION"),
            start_time: WallClock::read().wall(self.started),
            uptime: now.since(self.started),
            footprint: Footprint::read(),
            journal_entries_lost: self.hub.entries_lost(),
            messages_unread: self.hub.unread(),
            events_dropped: usage.entries_lost,
            requests,
        };
        Ok(metrics::render(&reading, pool.as_ref(), &own))
    }
}
