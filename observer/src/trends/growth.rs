//! `overgrowth`: more connections than devices, or a climb without an end.
//!
//! One connection is one device where MQTT is spoken, so their number is known by itself: it
//! reaches a level and stays there. Broker restarts, storms and outages make it fall and return;
//! only a leak makes it leave the level upwards while next to nothing is closed.

mod course;
mod level;
mod twins;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use self::{course::Course, twins::twins};
use super::{
    Suspicion, View,
    connections::{Connection, Connections, End, Step},
};
use crate::{
    detect::Kind,
    incident::{Detail, Evidence, Subject},
    model::{MonoTime, ProcessKey},
};

/// The ports of MQTT, in the clear and with TLS (IANA Service Name and Port Number Registry).
const MQTT_PORTS: [u16; 2] = [1883, 8883];

/// Destinations without a connection whose level is kept. One that is forgotten begins anew, as
/// if the process had just started: it says nothing until it has reached a level again.
const MOST_IDLE: usize = 1024;

/// Whether MQTT is spoken at a destination, by its port.
pub(super) fn is_mqtt_port(remote: SocketAddr) -> bool {
    MQTT_PORTS.contains(&remote.port())
}

/// The numbers of live connections of all processes. As many as there are destinations with a live
/// connection, and [`MOST_IDLE`].
#[derive(Debug, Default)]
pub(super) struct Growth {
    processes: HashMap<ProcessKey, HashMap<SocketAddr, Course>>,
    /// Destinations that lost their last connection, the oldest first; some have one again.
    idle: VecDeque<(ProcessKey, SocketAddr)>,
}

impl Growth {
    pub(super) fn step(
        &mut self,
        step: Step,
        connection: &Connection,
        connections: &Connections,
        now: MonoTime,
    ) {
        let (process, remote) = (connection.process, connection.remote);
        let live = connections.at(process, remote).live;
        match step {
            Step::Opened => {
                self.with(process, remote, |course| course.attempt(now));
            }
            Step::Established => self.take(process, remote, live, (1, 0), now),
            Step::Named => {
                self.with(process, remote, |course| course.is_mqtt = true);
            }
            Step::Ended(End::Failed) => {}
            Step::Ended(_) => self.take(process, remote, live, (0, 1), now),
        }
    }

    pub(super) fn handle_snapshot(&mut self, connections: &Connections, now: MonoTime) {
        let known = self.processes.iter().flat_map(|(process, courses)| {
            courses.iter().filter(|(_, it)| it.live > 0).map(|(remote, _)| (*process, *remote))
        });
        let found = connections.destinations().map(|(process, remote, _)| (process, remote));
        let all: Vec<_> = known.chain(found).collect();
        for (process, remote) in all {
            let live = connections.at(process, remote).live;
            let before = self.with(process, remote, |course| course.live).unwrap_or_default();
            if before != live {
                let counts = (live.saturating_sub(before), before.saturating_sub(live));
                self.take(process, remote, live, counts, now);
                // What became of them in between was not told.
                self.with(process, remote, Course::lose);
            }
        }
        for connection in connections.unordered().filter(|it| it.client.is_some()) {
            self.with(connection.process, connection.remote, |course| course.is_mqtt = true);
        }
    }

    /// Records are missing.
    pub(super) fn lose(&mut self) {
        self.processes.values_mut().flat_map(HashMap::values_mut).for_each(Course::lose);
    }

    pub(super) fn forget(&mut self, process: ProcessKey) {
        self.processes.remove(&process);
    }

    pub(super) fn suspicions(&mut self, view: &View<'_>, all: &mut Vec<Suspicion>) {
        let budget = view.budgets.get(Kind::Overgrowth);
        let known = all.len();
        for (process, courses) in &mut self.processes {
            for (remote, course) in courses {
                let fleet = view.thresholds.fleets.iter().find(|fleet| fleet.broker == *remote);
                course.declare(fleet.map(|fleet| fleet.devices), view.now);
                let live = course.live;
                let Some(excess) = course.judge(view.now, budget) else { continue };
                if excess.is_new {
                    excess.climb.twins = twins(*process, *remote, excess.climb.began, view);
                }
                let climb = excess.climb;
                all.push(Suspicion {
                    kind: Kind::Overgrowth,
                    subject: Subject::Destination(*process, *remote),
                    process: *process,
                    since: excess.since,
                    due: excess.due,
                    evidence: match climb.is_doubtful {
                        true => Evidence::Reconstructed,
                        false => Evidence::Complete,
                    },
                    detail: Detail::Overgrowth {
                        sockets: live,
                        expected: excess.expected,
                        declared: excess.declared,
                        opened: climb.opened,
                        closed: climb.closed,
                        twins: climb.twins.clone(),
                    },
                });
            }
        }
        all[known..].sort_unstable_by_key(|suspicion| suspicion.subject);
    }

    fn with<T>(
        &mut self,
        process: ProcessKey,
        remote: SocketAddr,
        action: impl FnOnce(&mut Course) -> T,
    ) -> Option<T> {
        Some(action(self.processes.get_mut(&process)?.get_mut(&remote)?))
    }

    /// So many are live, after so many were opened and closed.
    fn take(
        &mut self,
        process: ProcessKey,
        remote: SocketAddr,
        live: u64,
        (opened, closed): (u64, u64),
        now: MonoTime,
    ) {
        if live > 0 {
            let courses = self.processes.entry(process).or_default();
            let new = || Course::new(is_mqtt_port(remote), now);
            courses.entry(remote).or_insert_with(new).take(live, opened, closed, now);
            return;
        }
        self.with(process, remote, |course| course.take(0, opened, closed, now));
        match self.with(process, remote, |course| course.is_worth_keeping()) {
            Some(true) => self.idle.push_back((process, remote)),
            _ => self.drop_idle(process, remote),
        }
        if self.idle.len() > MOST_IDLE
            && let Some((process, remote)) = self.idle.pop_front()
        {
            self.drop_idle(process, remote);
        }
    }

    fn drop_idle(&mut self, process: ProcessKey, remote: SocketAddr) {
        let Some(courses) = self.processes.get_mut(&process) else { return };
        if courses.get(&remote).is_some_and(|course| course.live == 0) {
            courses.remove(&remote);
        }
        if courses.is_empty() {
            self.processes.remove(&process);
        }
    }
}

#[cfg(test)]
mod tests;
