//! `exhausted`: the kernel refused a descriptor or a port.

use super::{Suspicion, View};
use crate::model::{Call, Lack, MonoTime, ProcessKey};

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Exhaustion;

impl Exhaustion {
    pub(super) fn refused(
        &mut self,
        _process: ProcessKey,
        _call: Call,
        _lacks: Lack,
        _now: MonoTime,
    ) {
    }

    pub(super) fn forget(&mut self, _process: ProcessKey) {}

    pub(super) fn suspicions(&mut self, _view: &View<'_>, _all: &mut Vec<Suspicion>) {}
}
