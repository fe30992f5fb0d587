//! Where processes run, in the correlator: asked only of those about which a rule decides by it.
//!
//! Who takes the snapshots says it right before handing one over, so that what is judged by it is
//! judged by a place of the same moment. Until somebody has said it nothing opens that hangs on it.

use std::collections::BTreeSet;

use super::Correlator;
use crate::{cgroup::Place, model::ProcessKey};

/// Where a process runs that the table does not know.
static NOWHERE: Place = Place { unit: None, container: None };

impl Correlator {
    /// The processes of which somebody should say where they run, before the next snapshot is handed
    /// over: a rule decides by that about something that is due.
    pub fn take_places_wanted(&mut self) -> BTreeSet<ProcessKey> {
        std::mem::take(&mut self.places_wanted)
    }

    /// Where a process runs. A place that cannot be told is one without unit and container: what
    /// silences needs to be known, and nothing waits for ever.
    pub fn handle_place(&mut self, process: ProcessKey, place: Place) {
        self.table.locate(process, place);
    }

    /// Where a process runs; `None` if nobody has looked yet. One that the table does not know runs
    /// nowhere: nobody would be asked.
    pub(super) fn place(&self, process: Option<ProcessKey>) -> Option<&Place> {
        let known = process.and_then(|process| self.table.process(process));
        known.map_or(Some(&NOWHERE), |process| process.place.as_ref())
    }
}
