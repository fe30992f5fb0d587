//! PURE. The table of all keys, a file for each section.

mod api;
mod budgets;
mod device;
mod fleet;
mod limits;
mod pool;
mod sinks;
mod watch;

use std::sync::LazyLock;

use super::key::{Key, Section};

/// All sections, in the order of the docs.
pub(super) fn sections() -> &'static [Section] {
    static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(|| {
        vec![
            watch::section(),
            budgets::section(),
            pool::section(),
            pool::tls(),
            limits::limits(),
            limits::timeouts(),
            limits::buffers(),
            fleet::section(),
            fleet::template(),
            sinks::section(),
            api::section(),
            api::privileges(),
        ]
    });
    &SECTIONS
}

/// The section of this name.
pub(super) fn section(name: &str) -> Option<&'static Section> {
    sections().iter().find(|section| section.name == name)
}

/// Every key with its section.
pub(super) fn keys() -> impl Iterator<Item = (&'static Section, &'static Key)> {
    sections().iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)))
}
