//! What the config names, as the observer takes it.

use crate::{config::Watch, selection::Selection};

/// The processes of `watch`, and this one.
pub(super) fn of(watch: &Watch) -> Selection {
    Selection { pids: vec![std::process::id()], ..named(watch) }
}

/// The processes of `watch`.
pub(super) fn named(watch: &Watch) -> Selection {
    Selection {
        all: watch.all,
        pids: Vec::new(),
        comms: watch.comm.clone(),
        cgroups: watch.cgroup.clone(),
        units: watch.unit.clone(),
        ports: watch.port.clone(),
        children: watch.children,
    }
}
