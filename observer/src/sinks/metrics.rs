//! PURE. `/metrics`: what is known, as the text that Prometheus reads.
//!
//! ```text
//! Reading ─┐          ┌─ processes: the hundred that matter, the others as one
//! Pool ────┼─ render ─┤
//! Own ─────┘          └─ families: one table ─▶ text, docs/metrics.md
//! ```
//!
//! Who asks for it gathers the numbers first ([`crate::desk::Desk::reading`], [`pool::Pool::metrics`],
//! [`Footprint::read`]); rendering them needs no lock and no syscall.

mod families;
mod footprint;
mod page;
mod processes;
mod series;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use prometheus::TextEncoder;

use self::{families::Sources, processes::Listed};
pub use self::{
    families::{Family, Type, all},
    footprint::Footprint,
    page::page,
    processes::{MOST_CHARACTERS, MOST_PROCESSES, OTHERS},
};
use crate::reading::Reading;

/// The `Content-Type` of [`render`]'s text: version 0.0.4 of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the pool counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolReading {
    /// [`pool::Pool::metrics`].
    pub metrics: pool::Metrics,
    /// [`pool::Pool::status`].
    pub status: pool::Status,
}

/// What the daemon counts about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Own {
    /// Version of the program.
    pub version: &'static str,
    /// When it was started, by the wall clock.
    pub start_time: Timestamp,
    /// For how long it has run, by a clock that nobody sets.
    pub uptime: Duration,
    /// What it takes of the host.
    pub footprint: Footprint,
    /// Entries that the journal did not take.
    pub journal_entries_lost: u64,
    /// Messages of devices that came while nobody read them.
    pub messages_unread: u64,
    /// Events and messages that readers of streams missed because they were too slow.
    pub events_dropped: u64,
    /// Answered requests of the API, by route (the pattern and never the path that was asked for)
    /// and HTTP status.
    pub requests: BTreeMap<(String, u16), u64>,
}

/// Everything in the text format. Families without a source (no pool, a kernel that does not count)
/// are left out.
pub fn render(reading: &Reading, pool: Option<&PoolReading>, own: &Own) -> String {
    let processes = Listed::new(&reading.processes);
    let sources = Sources { reading, processes: &processes, pool, own };
    let families: Vec<_> = all().filter_map(|family| family.collect(&sources)).collect();
    TextEncoder::new()
        .encode_to_string(&families)
        .expect("invariant: no family is without a name or a value, and a string takes everything")
}

#[cfg(test)]
mod tests;
