//! `overgrowth`: more connections than devices, or a climb without an end.

use super::{
    Suspicion, View,
    connections::{Connection, Connections, Step},
};
use crate::model::{MonoTime, ProcessKey};

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Growth;

impl Growth {
    pub(super) fn step(
        &mut self,
        _step: Step,
        _connection: &Connection,
        _connections: &Connections,
        _now: MonoTime,
    ) {
    }

    pub(super) fn handle_snapshot(&mut self, _connections: &Connections, _now: MonoTime) {}

    pub(super) fn forget(&mut self, _process: ProcessKey) {}

    pub(super) fn suspicions(&mut self, _view: &View<'_>, _all: &mut Vec<Suspicion>) {}
}
