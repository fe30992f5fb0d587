//! `takeover-duel`: two clients fight for one session.

use super::{
    Suspicion, View,
    connections::{Connection, Connections, Step},
};
use crate::model::{MonoTime, ProcessKey};

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Duels;

impl Duels {
    pub(super) fn step(
        &mut self,
        _step: Step,
        _connection: &Connection,
        _connections: &Connections,
        _now: MonoTime,
    ) {
    }

    pub(super) fn forget(&mut self, _process: ProcessKey) {}

    pub(super) fn suspicions(&mut self, _view: &View<'_>, _all: &mut Vec<Suspicion>) {}
}
