//! PURE. The table of metric families. The exporter and `docs/metrics.md` are made from it.

mod observer;
mod own;
mod pool;
mod process;

use ::prometheus::proto::{MetricFamily, MetricType};

use super::{
    Own, PoolReading,
    processes::{Listed, Row},
    series::Series,
};
use crate::reading::{Reading, RegistryReading};

/// What a family measures, and how.
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// How its values move.
    pub kind: Type,
    /// Of what a value is a number; seconds and bytes are in the name too.
    pub unit: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
    /// What to do with it.
    pub advice: &'static str,
    /// An example in PromQL.
    pub query: &'static str,
    fill: Fill,
}

/// How values move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only up, from 0 at the start.
    Counter,
    /// Up and down.
    Gauge,
    /// Counters by upper bounds, with count and sum.
    Histogram,
}

/// A part of the table.
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) families: &'static [Family],
}

/// Where values come from, and how.
enum Fill {
    Observer(fn(&Reading, &mut Series<'_>)),
    /// Nothing without a pool.
    Registry(fn(&RegistryReading, &mut Series<'_>)),
    Processes(fn(&Listed, &mut Series<'_>)),
    /// For each process that is listed; its labels stand first.
    Process(fn(&Row, &mut Series<'_>)),
    /// Nothing without a pool.
    Pool(fn(&PoolReading, &mut Series<'_>)),
    Own(fn(&Own, &mut Series<'_>)),
}

/// All that there is to fill in.
pub(super) struct Sources<'a> {
    pub(super) reading: &'a Reading,
    pub(super) processes: &'a Listed,
    pub(super) pool: Option<&'a PoolReading>,
    pub(super) own: &'a Own,
}

pub(super) const GROUPS: [Group; 4] = [
    Group { title: "The observer", families: observer::FAMILIES },
    Group { title: "Processes", families: process::FAMILIES },
    Group { title: "The pool", families: pool::FAMILIES },
    Group { title: "The daemon itself", families: own::FAMILIES },
];

/// The whole table.
pub fn all() -> impl Iterator<Item = &'static Family> {
    GROUPS.iter().flat_map(|group| group.families)
}

impl Family {
    /// The family with its values; `None` if there are none.
    pub(super) fn collect(&self, from: &Sources<'_>) -> Option<MetricFamily> {
        let mut series = Series::new(self.labels);
        match self.fill {
            Fill::Observer(fill) => fill(from.reading, &mut series),
            Fill::Registry(fill) => {
                if let Some(registry) = &from.reading.registry {
                    fill(registry, &mut series);
                }
            }
            Fill::Processes(fill) => fill(from.processes, &mut series),
            Fill::Process(fill) => {
                for row in &from.processes.rows {
                    series.within(&row.labels);
                    fill(row, &mut series);
                }
            }
            Fill::Pool(fill) => {
                if let Some(pool) = from.pool {
                    fill(pool, &mut series);
                }
            }
            Fill::Own(fill) => fill(from.own, &mut series),
        }
        let metrics = series.finish();
        if metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind.into());
        family.set_metric(metrics);
        Some(family)
    }
}

impl Type {
    /// Its name in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl From<Type> for MetricType {
    fn from(kind: Type) -> Self {
        match kind {
            Type::Counter => Self::COUNTER,
            Type::Gauge => Self::GAUGE,
            Type::Histogram => Self::HISTOGRAM,
        }
    }
}
