//! How the daemon is: told by its parts, asked by service managers and load balancers.
//!
//! PURE: who asks brings the time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{life::watchdog::Beats, model::MonoTime, probe::Layers};

/// How long a loop may be silent. Chosen: far longer than the longest thing that any of them does.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the parts of the daemon say of themselves; clone it freely.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    layers: Option<Layers>,
    has_snapshot: bool,
    is_ending: bool,
    privileges: Option<String>,
    beats: Beats,
    faults: BTreeMap<&'static str, String>,
}

/// The answer to `/healthz` and `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Health)]
pub struct Report {
    /// Whether every loop goes round: if not, only a restart helps.
    pub alive: bool,
    /// Whether the daemon does what it is for.
    pub ready: bool,
    /// Why not, for people; empty if it is.
    pub reasons: Vec<String>,
    /// What is attached in the kernel: `a` or `ab`.
    pub layers: Option<String>,
    /// What the daemon may still do, for people.
    pub privileges: Option<String>,
}

impl Health {
    /// Nothing has been said yet: alive, and not ready. `beats` tells which loops turn.
    pub fn new(beats: Beats) -> Self {
        Self(Arc::new(Mutex::new(State { beats, ..State::default() })))
    }

    /// These programs are attached.
    pub fn attached(&self, layers: Layers) {
        self.state().layers = Some(layers);
    }

    /// The first snapshot is in: findings can be trusted.
    pub fn snapshot_taken(&self) {
        self.state().has_snapshot = true;
    }

    /// What the daemon may still do after it gave its privileges away: one line for people.
    pub fn privileges(&self, text: impl Into<String>) {
        self.state().privileges = Some(text.into());
    }

    /// The daemon is not ready for this reason; `None` takes it back. One reason for each `part`.
    pub fn fault(&self, part: &'static str, reason: Option<String>) {
        let mut state = self.state();
        match reason {
            Some(reason) => state.faults.insert(part, reason),
            None => state.faults.remove(part),
        };
    }

    /// The daemon is on its way out, and not ready any more.
    pub fn ending(&self) {
        self.state().is_ending = true;
    }

    /// How it is at `now`.
    pub fn report(&self, now: MonoTime) -> Report {
        let state = self.state();
        let mut reasons = Vec::new();
        reasons.extend(state.beats.stuck(now, PATIENCE).iter().map(ToString::to_string));
        let alive = reasons.is_empty();
        if state.layers.is_none() {
            reasons.push("the programs are not attached to the kernel yet".to_owned());
        }
        if !state.has_snapshot {
            reasons.push("the first snapshot of the kernel's table is not in yet".to_owned());
        }
        if state.is_ending {
            reasons.push("the daemon is ending".to_owned());
        }
        reasons.extend(state.faults.iter().map(|(part, reason)| format!("{part}: {reason}")));
        Report {
            alive,
            ready: reasons.is_empty(),
            reasons,
            layers: state.layers.map(|layers| layers.name().to_owned()),
            privileges: state.privileges.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::watchdog::Loop;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_daemon_is_ready_when_all_parts_have_said_so() {
        let health = Health::new(Beats::default());
        let layers = Layers::Ab;
        assert!(health.report(at(0)).alive && !health.report(at(0)).ready);
        health.attached(layers);
        assert_eq!(health.report(at(0)).reasons.len(), 1);
        health.snapshot_taken();
        assert!(health.report(at(0)).ready);
        assert_eq!(health.report(at(0)).layers.as_deref(), Some(layers.name()));
        health.fault("store", Some("the disk is full".to_owned()));
        assert_eq!(health.report(at(0)).reasons, ["store: the disk is full"]);
        health.fault("store", None);
        assert!(health.report(at(0)).ready);
        health.ending();
        let report = health.report(at(0));
        assert!(report.alive && !report.ready);
    }

    #[test]
    fn a_loop_that_stands_still_is_dead_until_it_moves() {
        let beats = Beats::default();
        let health = Health::new(beats.clone());
        beats.beat(Loop::Observer, at(10));
        assert!(health.report(at(20)).alive);
        let report = health.report(at(21));
        assert!(!report.alive && !report.ready);
        assert!(report.reasons[0].contains("`observer` has not turned for 11 s"), "{report:?}");
        beats.beat(Loop::Observer, at(21));
        assert!(health.report(at(22)).alive);
    }
}
