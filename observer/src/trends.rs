//! PURE. What processes do over time and with their destinations: verdicts that no single socket
//! shows.
//!
//! ```text
//! events, snapshots ─▶ connections ─▶ one part a kind ─▶ suspicions ─▶ incidents
//! ```
//!
//! Parts are told what becomes of connections and what a snapshot found, and say what is wrong now.
//! Whoever is not suspected any more is cleared.

mod buildup;
mod connections;
mod descriptors;
mod duels;
mod exhaustion;
mod generations;
mod growth;
mod latch;
mod ports;
mod storms;
mod thresholds;

#[cfg(test)]
mod host;

use std::time::Duration;

pub use self::thresholds::{Fleet, Thresholds};
use self::{
    buildup::Buildup, connections::Connections, descriptors::Descriptors, duels::Duels,
    exhaustion::Exhaustion, generations::Generations, growth::Growth, ports::Ports, storms::Storms,
};
use crate::{
    detect::{Budgets, Kind},
    incident::{Detail, Evidence, Subject},
    model::{KernelEvent, MonoTime, ProcessKey, ProcessRow, Snapshot},
    table::Table,
};

/// Shortest time between two judgements while things happen. Chosen: half of the 100 ms within
/// which a finding has to open.
const PACE: Duration = Duration::from_millis(50);

/// Time between two judgements while something is suspected and nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a loss of records makes doubtful what is counted.
const DOUBT: Duration = Duration::from_secs(60);

/// Something that is wrong, or will be at `due`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Suspicion {
    pub(crate) kind: Kind,
    pub(crate) subject: Subject,
    /// The process that has to act.
    pub(crate) process: ProcessKey,
    /// Since when.
    pub(crate) since: MonoTime,
    /// When it is a finding.
    pub(crate) due: MonoTime,
    /// Parts leave it complete: what was lost is known here.
    pub(crate) evidence: Evidence,
    pub(crate) detail: Detail,
}

/// What the parts may look at.
pub(crate) struct View<'a> {
    pub(crate) now: MonoTime,
    pub(crate) table: &'a Table,
    pub(crate) connections: &'a Connections,
    pub(crate) thresholds: &'a Thresholds,
    pub(crate) budgets: &'a Budgets,
}

/// All that is followed over time.
#[derive(Debug)]
pub(crate) struct Trends {
    thresholds: Thresholds,
    connections: Connections,
    buildup: Buildup,
    descriptors: Descriptors,
    duels: Duels,
    exhaustion: Exhaustion,
    generations: Generations,
    growth: Growth,
    ports: Ports,
    storms: Storms,
    /// Something happened since the last judgement.
    is_dirty: bool,
    judged: MonoTime,
    /// When the first suspicion becomes a finding, if that is to come.
    due: Option<MonoTime>,
    suspects: bool,
    lost_at: Option<MonoTime>,
}

impl Trends {
    pub(crate) fn new(thresholds: Thresholds, now: MonoTime) -> Self {
        Self {
            thresholds,
            connections: Connections::default(),
            buildup: Buildup::default(),
            descriptors: Descriptors::default(),
            duels: Duels::default(),
            exhaustion: Exhaustion::default(),
            generations: Generations::default(),
            growth: Growth::default(),
            ports: Ports::default(),
            storms: Storms::default(),
            is_dirty: false,
            judged: now,
            due: None,
            suspects: false,
            lost_at: None,
        }
    }

    /// The range of ports stays: the kernel says it.
    pub(crate) fn set_thresholds(&mut self, thresholds: Thresholds) {
        let port_range = self.thresholds.port_range;
        self.thresholds = Thresholds { port_range, ..thresholds };
        self.is_dirty = true;
    }

    /// What is allowed has changed.
    pub(crate) fn judge_again(&mut self) {
        self.is_dirty = true;
    }

    /// Something is to be judged at `due` too.
    pub(crate) fn judge_at(&mut self, due: MonoTime) {
        self.due = Some(self.due.map_or(due, |first| first.min(due)));
    }

    /// The pool is in process `pid`: what it connects the ledger judges, and its limiter paces.
    pub(crate) fn set_own_pool(&mut self, pid: u32) {
        self.connections.set_own_pool(pid);
    }

    /// Takes in an event that the table has taken in.
    pub(crate) fn handle_event(&mut self, event: &KernelEvent, table: &Table) {
        let now = event.time();
        if let Some((step, connection)) = self.connections.handle_event(event) {
            self.duels.step(step, &connection, &self.connections, now);
            self.growth.step(step, &connection, &self.connections, now);
            self.storms.step(step, &connection, self.thresholds.storm_connections, now);
            self.is_dirty = true;
        }
        let most = self.thresholds.close_wait_sockets;
        self.is_dirty |= self.buildup.handle_event(event, table, most);
        match event {
            KernelEvent::Exhausted { process, call, lacks, .. } => {
                let row = self.descriptors.row(*process);
                self.exhaustion.refused(*process, *call, *lacks, now, row);
                self.is_dirty = true;
            }
            KernelEvent::Exited { process, .. } => {
                self.forget(*process);
                self.is_dirty = true;
            }
            _ => {}
        }
    }

    /// Takes in a snapshot that the table has taken in.
    pub(crate) fn handle_snapshot(&mut self, snapshot: &Snapshot, table: &Table) {
        let now = snapshot.ended.max(snapshot.began);
        self.connections.handle_snapshot(table, now);
        self.buildup.handle_snapshot(table, self.thresholds.close_wait_sockets, now);
        self.descriptors.handle_snapshot(snapshot, &self.connections, now);
        self.exhaustion.handle_snapshot(snapshot);
        self.generations.handle_snapshot(now);
        self.growth.handle_snapshot(&self.connections, now);
        self.ports.handle_snapshot(snapshot, now);
        self.is_dirty = true;
    }

    /// What a process had open when a snapshot last showed it, half a minute ago at the most.
    pub(crate) fn process_row(&self, process: ProcessKey) -> Option<&ProcessRow> {
        self.descriptors.row(process)
    }

    /// Records are missing.
    pub(crate) fn lose(&mut self, now: MonoTime) {
        self.lost_at = Some(now);
        self.buildup.lose();
        self.growth.lose();
    }

    /// All that is wrong, or will be if it goes on.
    pub(crate) fn suspicions(
        &mut self,
        now: MonoTime,
        table: &Table,
        budgets: &Budgets,
    ) -> Vec<Suspicion> {
        let view = View {
            now,
            table,
            connections: &self.connections,
            thresholds: &self.thresholds,
            budgets,
        };
        let mut all = Vec::new();
        self.buildup.suspicions(&view, &mut all);
        self.descriptors.suspicions(&view, &mut all);
        self.duels.suspicions(&view, &mut all);
        self.exhaustion.suspicions(&view, &mut all);
        self.generations.suspicions(&view, &mut all);
        self.growth.suspicions(&view, &mut all);
        self.ports.suspicions(&view, &mut all);
        self.storms.suspicions(&view, &mut all);
        if self.lost_at.is_some_and(|lost| now.since(lost) < DOUBT) {
            for suspicion in &mut all {
                suspicion.evidence = Evidence::Reconstructed;
            }
        }
        self.is_dirty = false;
        self.judged = now;
        self.due = all.iter().map(|it| it.due).filter(|due| *due > now).min();
        self.suspects = !all.is_empty();
        all
    }

    /// When the next judgement is due.
    pub(crate) fn next(&self) -> Option<MonoTime> {
        let pace = self.is_dirty.then(|| self.judged.after(PACE));
        let heartbeat = self.suspects.then(|| self.judged.after(HEARTBEAT));
        [pace, heartbeat, self.due].into_iter().flatten().min()
    }

    fn forget(&mut self, process: ProcessKey) {
        self.descriptors.forget(process);
        self.duels.forget(process);
        self.exhaustion.forget(process);
        self.growth.forget(process);
        self.storms.forget(process);
    }
}

#[cfg(test)]
mod world;
