//! EDGE: renderings of what the core found. A sink shows; it decides nothing and cannot call back.

use std::{collections::BTreeMap, io};

use serde::Serialize;

use crate::{
    clock::WallClock, correlate::SeenTransition, incident::Finding, probe::Layers, stacks::Group,
    table::Table,
};

pub mod human;
pub mod journal;
pub mod json;
pub mod metrics;
pub mod output;
mod style;

pub(crate) use style::{Palette, is_screen};

/// One thing to show.
pub enum Report<'a> {
    /// The programs are attached and the first snapshot is in.
    Ready {
        /// What is attached.
        layers: Layers,
        /// Whether MQTT client ids are seen (layer C).
        names: bool,
        /// Sockets known.
        sockets: usize,
    },
    /// A socket changed its state.
    Transition(&'a SeenTransition),
    /// An incident opened, changed or cleared.
    Finding(&'a Finding),
    /// Something is missing from the stream.
    Loss {
        /// Why, a stable name.
        cause: &'static str,
        /// How many records since the last report of this cause.
        lost: u64,
    },
    /// The whole table, just confirmed by a snapshot.
    Sockets {
        /// The table.
        table: &'a Table,
        /// Local or remote port that a socket must have; empty for all.
        ports: &'a [u16],
    },
    /// The end.
    Summary(&'a Summary),
}

/// What a watch came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Changes of state seen.
    pub transitions: u64,
    /// Records lost, of whatever cause.
    pub lost: u64,
    /// Sockets in the table at the end.
    pub sockets: usize,
    /// Findings open at the end, by kind.
    pub open: BTreeMap<&'static str, u64>,
    /// Findings that were opened, by kind.
    pub opened: BTreeMap<&'static str, u64>,
    /// Findings that rules have ignored, by kind.
    pub ignored: BTreeMap<&'static str, u64>,
    /// The same by the rules that ignored any, in their order.
    pub ignored_by_rule: Vec<IgnoredByRule>,
    /// Where the sockets of the open findings were opened, as far as that is known.
    pub sites: Vec<Group>,
}

/// What a rule has ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IgnoredByRule {
    /// Why it ignores.
    pub reason: String,
    /// How many findings.
    pub findings: u64,
}

/// Where reports go.
pub trait Sink {
    /// Shows one report. `clock` turns moments into wall-clock time.
    ///
    /// # Errors
    ///
    /// Those of the stream; `BrokenPipe` means that nobody reads any more.
    fn report(&mut self, report: Report<'_>, clock: WallClock) -> io::Result<()>;

    /// Hands over what was buffered.
    ///
    /// # Errors
    ///
    /// As for [`Sink::report`].
    fn flush(&mut self) -> io::Result<()>;
}
