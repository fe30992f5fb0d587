//! PURE. Which processes have series of their own: as many as Prometheus can bear, the most
//! important first; the others are summed, so that nothing is missing from the whole.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    detect::Kind,
    escape,
    reading::{ByState, ProcessReading},
};

/// Most processes that have series of their own. Chosen: with 23 series each, some 2,300 in all,
/// as many as a node_exporter of a large host has; whoever forks more cannot fill the memory of
/// Prometheus.
pub const MOST_PROCESSES: usize = 100;

/// Most characters of a name. Chosen: longer than any name that people give.
pub const MOST_CHARACTERS: usize = 64;

/// `comm` of the series that has all the other processes together. Its pid is empty, that of a
/// process with this name is not.
pub const OTHERS: &str = "(others)";

/// The processes, bounded.
pub(super) struct Listed {
    /// At most [`MOST_PROCESSES`], and one for the others if there are any.
    pub(super) rows: Vec<Row>,
    /// How many are watched by themselves.
    pub(super) watched: usize,
    /// How many only hold a watched socket.
    pub(super) holding: usize,
    /// How many are in the row of the others.
    pub(super) others: usize,
}

/// What the series of one process, or of all others, say.
pub(super) struct Row {
    /// Values of `comm`, `pid` and `unit`.
    pub(super) labels: [String; 3],
    pub(super) sockets: ByState,
    pub(super) descriptors: Option<u64>,
    /// Soft and hard.
    pub(super) descriptor_limit: Option<(u64, u64)>,
    pub(super) findings: BTreeMap<Kind, u64>,
}

impl Listed {
    pub(super) fn new(processes: &[ProcessReading]) -> Self {
        let mut ranked: Vec<&ProcessReading> = processes.iter().collect();
        ranked.sort_by_cached_key(|process| rank(process));
        let (own, others) = ranked.split_at(ranked.len().min(MOST_PROCESSES));
        let mut rows: Vec<Row> = Vec::with_capacity(own.len() + 1);
        for process in own {
            let labels = [
                text(process.comm.as_str()),
                process.process.pid.to_string(),
                text(process.unit.as_deref().unwrap_or_default()),
            ];
            // Two lives of one number can meet in one reading; a series must not come twice.
            match rows.iter_mut().find(|row| row.labels == labels) {
                Some(row) => row.add(process),
                None => rows.push(Row::of(labels, &[*process])),
            }
        }
        if !others.is_empty() {
            let labels = [OTHERS.to_owned(), String::new(), String::new()];
            rows.push(Row::of(labels, others));
        }
        let watched = processes.iter().filter(|process| process.watched).count();
        Self { rows, watched, holding: processes.len() - watched, others: others.len() }
    }
}

impl Row {
    fn of(labels: [String; 3], processes: &[&ProcessReading]) -> Self {
        let mut row = Self {
            labels,
            sockets: ByState::default(),
            descriptors: None,
            descriptor_limit: None,
            findings: BTreeMap::new(),
        };
        for process in processes {
            row.add(process);
        }
        row
    }

    fn add(&mut self, process: &ProcessReading) {
        for (sum, value) in self.sockets.iter_mut().zip(process.sockets) {
            *sum = sum.saturating_add(value);
        }
        for (kind, value) in &process.findings_open {
            let sum = self.findings.entry(*kind).or_default();
            *sum = sum.saturating_add(*value);
        }
        if let Some(value) = process.descriptors {
            let sum = self.descriptors.get_or_insert_default();
            *sum = sum.saturating_add(value);
        }
        if let Some((soft, hard)) = process.descriptor_limit {
            let sum = self.descriptor_limit.get_or_insert_default();
            *sum = (sum.0.saturating_add(soft), sum.1.saturating_add(hard));
        }
    }
}

/// What sorts the important ones first. Among equals the older ones, so that many that come and go
/// do not push out those that stay.
fn rank(process: &ProcessReading) -> impl Ord + use<> {
    let has_findings = process.findings_open.values().any(|open| *open > 0);
    let sockets = process.sockets.iter().fold(0_u64, |sum, value| sum.saturating_add(*value));
    let age = (process.process.start_ns, process.process.pid);
    (Reverse(has_findings), Reverse(process.watched), Reverse(sockets), age)
}

/// A label's value. What is escaped is longer, so it is cut after that.
fn text(text: &str) -> String {
    escape::short(&escape::visible(text), MOST_CHARACTERS).into_owned()
}
