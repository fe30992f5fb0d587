//! PURE. The keys of `[thresholds]`.

use super::super::{
    form::{Form, number, parsed},
    key::{Key, Place, Reload, Section, place},
};
use crate::trends::Fleet;

/// `[thresholds]`: a key for each number by which trends are judged.
pub(super) fn section() -> Section {
    Section {
        name: "thresholds",
        meaning: "How much is too much, for the kinds that judge what a process does over time; \
            docs/findings.md describes them.",
        repeats: None,
        keys: vec![
            key(
                "close_wait_sockets",
                place(number(1..=1_000_000), |it| &mut it.thresholds.close_wait_sockets),
                "100",
                "1 to 1,000,000",
                "close-wait-buildup: more sockets of one process in CLOSE_WAIT than this.",
                "No healthy program keeps so many for the whole budget.",
            ),
            key(
                "fleets",
                place(fleets(), |it| &mut it.thresholds.fleets),
                "[]",
                "a list of \"ADDRESS:PORT=DEVICES\", each broker once, 1 to 10,000,000 devices",
                "overgrowth: how many devices there are at a broker. A process that has more \
                    connections to it than that is reported. The pool's own fleet needs no entry.",
                "Only you know your fleets. Without an entry, only a climb without an end is \
                    reported.",
            ),
            key(
                "generations",
                place(number(2..=100), |it| &mut it.thresholds.generations),
                "3",
                "2 to 100",
                "stale-generation: so many generations of connections that were left behind.",
                "One old generation is a rolling restart, two may be an accident.",
            ),
            key(
                "low_limit",
                place(number(0..=1 << 30), |it| &mut it.thresholds.low_limit),
                "8192",
                "0 (off) to 1,073,741,824",
                "fd-limit-low: limits of descriptors up to this are low.",
                "A storm that doubles a few thousand connections reaches it.",
            ),
            key(
                "many_connections",
                place(number(1..=10_000_000), |it| &mut it.thresholds.many_connections),
                "1000",
                "1 to 10,000,000",
                "fd-limit-low: for a process with at least so many connections.",
                "Few programs with less ever come near their limit.",
            ),
            key(
                "percent_in_use",
                place(number(1..=100), |it| &mut it.thresholds.percent_in_use),
                "80",
                "1 to 100",
                "fd-pressure and port-pressure: so many percent in use.",
                "Time to act, and rare where nothing leaks.",
            ),
            key(
                "storm_connections",
                place(number(1..=1_000_000), |it| &mut it.thresholds.storm_connections),
                "500",
                "1 to 1,000,000",
                "reconnect-storm: more new connections of one process within 5 s than this.",
                "Above what a paced fleet or a busy client does.",
            ),
            key(
                "takeovers",
                place(number(2..=10_000), |it| &mut it.thresholds.takeovers),
                "5",
                "2 to 10,000",
                "takeover-duel: so many sessions taken over within 30 s.",
                "One or two are a client that came back before its old connection was gone.",
            ),
        ],
    }
}

fn key(
    name: &'static str,
    place: Box<dyn Place>,
    default: &'static str,
    allowed: &'static str,
    meaning: &'static str,
    reason: &'static str,
) -> Key {
    Key { name, place, default: default.into(), allowed, meaning, reason, reload: Reload::Applies }
}

fn fleets() -> Form<Vec<Fleet>> {
    let what = "a broker and its devices in quotes such as \"10.0.0.1:1883=12000\"";
    parsed("fleet", what).list("a list of fleets").checked(|fleets: &Vec<Fleet>| {
        let is_first = |(index, fleet): (usize, &Fleet)| {
            !fleets[..index].iter().any(|earlier| earlier.broker == fleet.broker)
        };
        fleets.iter().enumerate().all(is_first)
    })
}
