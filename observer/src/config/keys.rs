//! PURE. The table of all keys, a file for each section.

mod api;
mod budgets;
mod device;
mod fleet;
mod limits;
mod pool;
mod rules;
mod sinks;
mod thresholds;
mod watch;

use std::sync::LazyLock;

use super::key::{Key, Section};

/// All sections, in the order of the docs.
pub(super) fn sections() -> &'static [Section] {
    static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(|| {
        vec![
            watch::section(),
            budgets::section(),
            thresholds::section(),
            rules::section(),
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

/// Every key with its section, but for sections that repeat.
pub(super) fn keys() -> impl Iterator<Item = (&'static Section, &'static Key)> {
    let once = sections().iter().filter(|section| section.repeats.is_none());
    once.flat_map(|section| section.keys.iter().map(move |key| (section, key)))
}
