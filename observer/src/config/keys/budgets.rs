//! PURE. The keys of `[budgets]`.

use std::time::Duration;

use super::super::{
    form::span,
    key::{Key, Reload, Section, place},
    source::quoted,
};
use crate::{config::duration, detect::Kind};

/// Longest budget. Chosen: what lasts for a day is known by then.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// `[budgets]`: one key for each kind of finding, from the table of kinds.
pub(super) fn section() -> Section {
    Section {
        name: "budgets",
        meaning: "How long each kind may last before it is a finding; docs/findings.md describes \
            them.",
        repeats: None,
        keys: Kind::ALL.into_iter().map(key).collect(),
    }
}

fn key(kind: Kind) -> Key {
    Key {
        name: kind.code(),
        place: place(span(Duration::ZERO..=LONGEST), move |it| &mut it.budgets[kind as usize]),
        default: quoted(&duration::show(kind.default_budget())).into(),
        allowed: "0s to 24h",
        meaning: kind.meaning(),
        reason: kind.how_to_tune(),
        reload: Reload::Applies,
    }
}
