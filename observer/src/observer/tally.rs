//! PURE: what the observer counts of its own work.

use std::collections::BTreeMap;

use crate::{
    correlate::SeenTransition,
    detect::Kind,
    incident::{Finding, FindingEvent},
    model::TcpState,
    reading::{ByState, Histogram},
};

/// Losses that are no counter of the kernel's side. They are told from the start as 0, so that the
/// first one is seen as a growth.
const OWN_LOSSES: [&str; 2] = ["record-not-understood", "table-full"];

/// Counters from the start of the observer.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) transitions: ByState,
    pub(super) findings_opened: BTreeMap<Kind, u64>,
    pub(super) losses: BTreeMap<&'static str, u64>,
    pub(super) snapshot_time: Histogram,
    pub(super) detection_time: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            transitions: ByState::default(),
            findings_opened: BTreeMap::new(),
            losses: OWN_LOSSES.into_iter().map(|cause| (cause, 0)).collect(),
            snapshot_time: Histogram::default(),
            detection_time: Histogram::default(),
        }
    }
}

impl Tally {
    pub(super) fn transition(&mut self, seen: &SeenTransition) {
        self.transitions[index(seen.transition.new)] += 1;
    }

    pub(super) fn finding(&mut self, finding: &Finding) {
        if finding.event == FindingEvent::Opened {
            *self.findings_opened.entry(finding.kind).or_default() += 1;
            // A kind whose budget is a length has no moment at which it ran out.
            if finding.kind != Kind::Overlap {
                let due = finding.since.after(finding.budget);
                self.detection_time.observe(finding.time.since(due));
            }
        }
    }

    pub(super) fn lost(&mut self, cause: &'static str, lost: u64) {
        *self.losses.entry(cause).or_default() += lost;
    }
}

/// Where a state is in [`TcpState::ALL`].
pub(super) fn index(state: TcpState) -> usize {
    // The kernel numbers them from 1, in this order.
    state as usize - 1
}
