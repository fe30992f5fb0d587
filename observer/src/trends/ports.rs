//! `port-pressure`: local ports towards a destination run out.

use super::{Suspicion, View};
use crate::{
    model::{MonoTime, Snapshot},
    table::Table,
};

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Ports;

impl Ports {
    pub(super) fn handle_snapshot(&mut self, _snapshot: &Snapshot, _table: &Table, _now: MonoTime) {
    }

    pub(super) fn suspicions(&mut self, _view: &View<'_>, _all: &mut Vec<Suspicion>) {}
}
