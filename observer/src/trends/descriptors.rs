//! `fd-pressure` and `fd-limit-low`: the limit of descriptors.

use super::{Suspicion, View, connections::Connections};
use crate::model::{MonoTime, ProcessKey, Snapshot};

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Descriptors;

impl Descriptors {
    pub(super) fn handle_snapshot(
        &mut self,
        _snapshot: &Snapshot,
        _connections: &Connections,
        _now: MonoTime,
    ) {
    }

    pub(super) fn forget(&mut self, _process: ProcessKey) {}

    pub(super) fn suspicions(&mut self, _view: &View<'_>, _all: &mut Vec<Suspicion>) {}
}
