//! `reconnect-storm`: very many new connections in a few seconds.

mod heavy;
mod openings;

use std::collections::HashMap;

use self::openings::{Openings, WINDOW};
use super::{
    Suspicion, View,
    connections::{Connection, Step},
};
use crate::{
    detect::Kind,
    incident::{Detail, Evidence, Subject},
    model::{MonoTime, ProcessKey},
};

/// How fast each process opens connections. Those that have opened none for a while are not kept.
#[derive(Debug, Default)]
pub(super) struct Storms {
    processes: HashMap<ProcessKey, Openings>,
}

impl Storms {
    /// More than `most` within the window are a storm.
    pub(super) fn step(&mut self, step: Step, connection: &Connection, most: u64, now: MonoTime) {
        let process = connection.process;
        if step == Step::Opened {
            self.processes.entry(process).or_default().opened(connection.remote, most, now);
        }
    }

    pub(super) fn forget(&mut self, process: ProcessKey) {
        self.processes.remove(&process);
    }

    pub(super) fn suspicions(&mut self, view: &View<'_>, all: &mut Vec<Suspicion>) {
        let (now, most) = (view.now, view.thresholds.storm_connections);
        let budget = view.budgets.get(Kind::ReconnectStorm);
        let known = all.len();
        self.processes.retain(|process, openings| {
            openings.pass(most, now);
            if let Some(storm) = openings.storm() {
                all.push(Suspicion {
                    kind: Kind::ReconnectStorm,
                    subject: Subject::Process(*process),
                    process: *process,
                    since: storm.since,
                    due: storm.known.after(budget),
                    evidence: Evidence::Complete,
                    detail: Detail::Storm {
                        connections: storm.connections,
                        window: WINDOW,
                        destination: openings.destination(),
                    },
                });
            }
            openings.is_busy()
        });
        all[known..].sort_unstable_by_key(|suspicion| suspicion.subject);
    }
}

#[cfg(test)]
mod tests;
