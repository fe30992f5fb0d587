//! `stale-generation`: old connections are forgotten while new ones are opened.

use super::{
    Suspicion, View,
    connections::{Connection, Connections, Step},
};
use crate::{
    model::{MonoTime, ProcessKey},
    table::Table,
};

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Generations;

impl Generations {
    pub(super) fn step(&mut self, _step: Step, _connection: &Connection, _now: MonoTime) {}

    pub(super) fn handle_snapshot(
        &mut self,
        _table: &Table,
        _connections: &Connections,
        _now: MonoTime,
    ) {
    }

    pub(super) fn forget(&mut self, _process: ProcessKey) {}

    pub(super) fn suspicions(&mut self, _view: &View<'_>, _all: &mut Vec<Suspicion>) {}
}
