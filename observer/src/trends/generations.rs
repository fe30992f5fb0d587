//! `stale-generation`: old connections are forgotten while new ones are opened.
//!
//! Silence alone is never a leak, nor is a new connection. The proof is that a process opens one
//! more although it has silent ones to the same place, that it never comes back to those, and that
//! there are more and more of them: a pool uses what is idle before it opens, or replaces one by
//! one; a quiet fleet stops to open.

mod history;
mod scan;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use self::{
    history::History,
    scan::{Found, Member, judge},
};
use super::{Suspicion, View, growth::is_mqtt_port};
use crate::{
    detect::Kind,
    incident::{Detail, Evidence, Subject},
    model::{Cookie, MonoTime, ProcessKey},
};

/// Least time between two scans: each looks at every socket.
const PACE: Duration = Duration::from_secs(1);

type Key = (ProcessKey, SocketAddr);

/// Destinations with several connections, and the connections that have been silent. Bounded by
/// the table: after each scan they are those that it has.
#[derive(Debug, Default)]
pub(super) struct Generations {
    /// A snapshot that was not looked at, and its time.
    snapshot: Option<MonoTime>,
    scanned: MonoTime,
    places: HashMap<Key, Place>,
    silent: HashMap<Cookie, Silent>,
}

/// What is known of a destination.
#[derive(Debug, Default)]
struct Place {
    history: History,
    /// What is wrong there, and since when.
    found: Option<(MonoTime, Found)>,
}

/// A connection that was once silent for the whole budget.
#[derive(Clone, Copy, Debug)]
struct Silent {
    moved: Option<MonoTime>,
    /// It was used again after that: it is not forgotten.
    is_used: bool,
}

impl Generations {
    pub(super) fn handle_snapshot(&mut self, now: MonoTime) {
        if self.scanned == MonoTime::from_nanos(0) || now.since(self.scanned) >= PACE {
            self.snapshot = Some(now);
        }
    }

    pub(super) fn suspicions(&mut self, view: &View<'_>, all: &mut Vec<Suspicion>) {
        if let Some(at) = self.snapshot.take() {
            self.scan(view, at);
        }
        let known = all.len();
        for ((process, remote), place) in &self.places {
            let Some((since, found)) = place.found else { continue };
            if view.table.process(*process).is_none() {
                // It has exited since the scan.
                continue;
            }
            all.push(Suspicion {
                kind: Kind::StaleGeneration,
                subject: Subject::Destination(*process, *remote),
                process: *process,
                since,
                due: since,
                evidence: Evidence::Complete,
                detail: Detail::Generations {
                    generations: found.generations,
                    stale: found.stale,
                    live: found.live,
                },
            });
        }
        all[known..].sort_unstable_by_key(|suspicion| suspicion.subject);
    }

    /// Looks at all sockets as they were at the snapshot's time.
    fn scan(&mut self, view: &View<'_>, at: MonoTime) {
        self.scanned = at;
        let budget = view.budgets.get(Kind::StaleGeneration);
        let mut silent = HashMap::new();
        let mut places = HashMap::new();
        for (key, mut members) in scan::groups(view.table, is_mqtt_port) {
            for member in &mut members {
                let before = self.silent.get(&member.cookie);
                if let Some(now) = again(before, member, at, budget) {
                    member.is_used = now.is_used;
                    silent.insert(member.cookie, now);
                }
            }
            let mut place = self.places.remove(&key).unwrap_or_default();
            place.history.note(at, scan::settled(&members, at));
            let least = view.thresholds.generations;
            let found = judge(&members, &place.history, at, budget, least);
            place.found = found.map(|found| {
                let since = place.found.map_or(found.since, |(since, _)| since);
                (since, found)
            });
            places.insert(key, place);
        }
        self.silent = silent;
        self.places = places;
    }
}

/// What is known of a connection's silence after it was seen once more.
fn again(
    before: Option<&Silent>,
    member: &Member,
    at: MonoTime,
    budget: Duration,
) -> Option<Silent> {
    match before {
        Some(before) => {
            // The kernel's ticks make the same moment differ a little from snapshot to snapshot.
            let awake =
                before.moved.map(|moved| moved.after(budget)).max(Some(MonoTime::from_nanos(1)));
            let is_used = before.is_used || member.moved >= awake;
            Some(Silent { is_used, ..*before })
        }
        None if at.since(member.quiet) >= budget => {
            Some(Silent { moved: member.moved, is_used: false })
        }
        None => None,
    }
}

#[cfg(test)]
mod tests;
