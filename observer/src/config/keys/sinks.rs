//! PURE. The keys of `[sinks]`.

use std::{path::PathBuf, time::Duration};

use super::super::{
    form::{Form, path, span},
    key::{Key, Reload, Section, place},
};

/// `[sinks]`.
pub(super) fn section() -> Section {
    let day = Duration::from_secs(24 * 3_600);
    Section {
        name: "sinks",
        meaning: "Where findings go, beside the API.",
        repeats: None,
        keys: vec![
            Key {
                name: "journal_socket",
                place: place(unix_socket(), |it| &mut it.sinks.journal_socket),
                default: r#""/run/systemd/journal/socket""#.into(),
                allowed: "a path of at most 107 bytes that begins with /",
                meaning: "The socket of the journal. Where nobody listens, findings go to stderr, \
                    with `<N>` for their priority.",
                reason: "It is where journald listens.",
                reload: Reload::Restart,
            },
            Key {
                name: "update_interval",
                place: place(span(Duration::ZERO..=day), |it| &mut it.sinks.update_interval),
                default: r#""1m""#.into(),
                allowed: "0s (each update) to 24h",
                meaning: "Least time between two entries about one incident that is only updated.",
                reason: "Thousands of updates in a storm would hide what has opened.",
                reload: Reload::Applies,
            },
        ],
    }
}

/// A path that fits into `sun_path` with its zero (unix(7)).
pub(super) fn unix_socket() -> Form<PathBuf> {
    path().checked(|it| it.as_os_str().len() <= 107)
}
