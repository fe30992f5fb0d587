//! `close-wait-buildup`: many sockets of one process are in CLOSE_WAIT.

use super::{Suspicion, View};
use crate::{model::MonoTime, table::Table};

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Buildup;

impl Buildup {
    pub(super) fn handle_snapshot(&mut self, _table: &Table, _now: MonoTime) {}

    pub(super) fn suspicions(&mut self, _view: &View<'_>, _all: &mut Vec<Suspicion>) {}
}
