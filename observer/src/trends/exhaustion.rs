//! PURE. `exhausted`: the kernel refused a descriptor or a port.

use std::{collections::BTreeMap, time::Duration};

use super::{Suspicion, View, descriptors::reaches};
use crate::{
    detect::Kind,
    incident::{Detail, Evidence, Subject},
    model::{Call, Lack, MonoTime, ProcessKey, ProcessRow, Snapshot},
};

/// It is over when nothing was refused for so long. Chosen: sockets in TIME_WAIT give their ports
/// back within this time, and a client that waits longer between two attempts is rare.
const QUIET: Duration = Duration::from_secs(60);

/// Processes that are followed. Chosen: where as many are refused something at once, one more says
/// nothing new, so what comes then is not followed.
const PROCESSES: usize = 4_096;

/// A process with less than this part of its limit, in percent, has not reached it a moment before
/// nor after. Chosen: reconnects double the sockets of a process at the most, for each old one has
/// one new.
const FAR_BELOW: u64 = 50;

/// How near to a snapshot a refusal must be for it to say why. Chosen: short against the cycle of a
/// reconnect storm.
const NEAR: Duration = Duration::from_secs(1);

/// Refusals nearer to each other count as one moment. Chosen: longer than a snapshot takes, so that
/// of two moments one is before it, however many refusals there are.
const MOMENT: Duration = Duration::from_millis(100);

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Exhaustion {
    processes: BTreeMap<ProcessKey, Refusals>,
}

/// What one process was refused since the first refusal after a quiet time.
#[derive(Debug)]
struct Refusals {
    since: MonoTime,
    last: MonoTime,
    descriptors: Tally,
    ports: Tally,
    /// The last two moments at which descriptors were refused, the older first.
    moments: [MonoTime; 2],
    /// What the process had open and might have, when last seen.
    open: Option<(u64, u64)>,
    /// A snapshot right after a refusal found the process far below its limit.
    far_below_at: Option<MonoTime>,
    /// It was so right before another refusal too: the host's limit is what was reached.
    is_host: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    refused: u64,
    call: Option<Call>,
}

impl Exhaustion {
    /// A process was refused something. `row` is what it was last seen to have.
    pub(super) fn refused(
        &mut self,
        process: ProcessKey,
        call: Call,
        lacks: Lack,
        now: MonoTime,
        row: Option<&ProcessRow>,
    ) {
        let is_known = self.processes.contains_key(&process);
        if !is_known && self.processes.len() >= PROCESSES {
            return;
        }
        let refusals = self.processes.entry(process).or_insert_with(|| Refusals::new(now, row));
        if now.since(refusals.last) >= QUIET {
            *refusals = Refusals::new(now, row);
        }
        refusals.add(call, lacks, now);
    }

    pub(super) fn handle_snapshot(&mut self, snapshot: &Snapshot) {
        if self.processes.is_empty() {
            return;
        }
        for row in &snapshot.processes {
            if let Some(refusals) = self.processes.get_mut(&row.process) {
                refusals.see(row, snapshot.began);
            }
        }
    }

    pub(super) fn forget(&mut self, process: ProcessKey) {
        self.processes.remove(&process);
    }

    pub(super) fn suspicions(&mut self, view: &View<'_>, all: &mut Vec<Suspicion>) {
        self.processes.retain(|_, it| view.now.since(it.last) < QUIET);
        let budget = view.budgets.get(Kind::Exhausted);
        all.extend(self.processes.iter().filter_map(|(process, refusals)| {
            Some(Suspicion {
                kind: Kind::Exhausted,
                subject: Subject::Process(*process),
                process: *process,
                since: refusals.since,
                due: refusals.since.after(budget),
                evidence: Evidence::Complete,
                detail: refusals.describe()?,
            })
        }));
    }
}

impl Refusals {
    fn new(now: MonoTime, row: Option<&ProcessRow>) -> Self {
        Self {
            since: now,
            last: now,
            descriptors: Tally::default(),
            ports: Tally::default(),
            moments: [MonoTime::default(); 2],
            open: row.map(numbers),
            far_below_at: None,
            is_host: false,
        }
    }

    fn add(&mut self, call: Call, lacks: Lack, now: MonoTime) {
        self.last = now;
        let tally = match lacks {
            Lack::Descriptors | Lack::HostDescriptors => &mut self.descriptors,
            Lack::Ports => &mut self.ports,
        };
        tally.refused += 1;
        tally.call = Some(call);
        if lacks != Lack::Ports && now.since(self.moments[1]) >= MOMENT {
            self.moments = [self.moments[1], now];
        }
        match lacks {
            Lack::Descriptors if self.far_below_at.is_some_and(|at| now.since(at) < NEAR) => {
                self.is_host = true;
            }
            Lack::HostDescriptors => self.is_host = true,
            Lack::Descriptors | Lack::Ports => {}
        }
    }

    fn see(&mut self, row: &ProcessRow, began: MonoTime) {
        let (open, limit) = numbers(row);
        self.open = Some((open, limit));
        let is_far_below = !reaches(open, FAR_BELOW, limit);
        let is_right_before = |it: &MonoTime| *it <= began && began.since(*it) < NEAR;
        let was_just_refused = self.moments.iter().any(is_right_before);
        self.far_below_at = (is_far_below && was_just_refused).then_some(began);
        // Whoever has reached its own limit needs no other explanation.
        self.is_host &= is_far_below;
    }

    /// One process has one incident: it says what was refused more often.
    fn describe(&self) -> Option<Detail> {
        let (lacks, tally) = if self.descriptors.refused >= self.ports.refused {
            let lacks = if self.is_host { Lack::HostDescriptors } else { Lack::Descriptors };
            (lacks, self.descriptors)
        } else {
            (Lack::Ports, self.ports)
        };
        let (open, limit) = self.open.unzip();
        Some(Detail::Exhausted { call: tally.call?, lacks, refused: tally.refused, open, limit })
    }
}

fn numbers(row: &ProcessRow) -> (u64, u64) {
    (row.open.sum(), row.limit.0)
}

#[cfg(test)]
mod tests;
