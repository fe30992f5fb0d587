//! `reconnect-storm`: very many new connections in a few seconds.

use super::{
    Suspicion, View,
    connections::{Connection, Step},
};
use crate::model::{MonoTime, ProcessKey};

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Storms;

impl Storms {
    pub(super) fn step(&mut self, _step: Step, _connection: &Connection, _now: MonoTime) {}

    pub(super) fn forget(&mut self, _process: ProcessKey) {}

    pub(super) fn suspicions(&mut self, _view: &View<'_>, _all: &mut Vec<Suspicion>) {}
}
