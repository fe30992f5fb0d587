//! PURE. `fd-pressure` and `fd-limit-low`: the limit of descriptors.
//!
//! ```text
//! snapshot ─▶ history ─▶ forecast ─┐
//!        └──▶ marks ───▶ growing ──┴▶ a look at each process ─▶ suspicions
//! ```
//!
//! Numbers change with snapshots alone, so each is judged once and the verdict is said again as
//! often as it is asked for.

mod forecast;
mod growing;
mod history;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use self::{
    forecast::{Forecast, at_present_pace, forecast},
    growing::{Mark, destinations, growing, remember},
    history::History,
};
use super::{Suspicion, View, connections::Connections, latch::Latch};
use crate::{
    detect::Kind,
    incident::{Detail, Evidence, Subject},
    model::{MonoTime, ProcessKey, ProcessRow, Snapshot},
};

/// Processes that are followed, those with the most descriptors. Chosen: more than any host has
/// that are worth it; one takes some 1.5 KB. Those with fewer are far from any usual limit.
const PROCESSES: usize = 4_096;

/// A process that no snapshot has shown for so long is gone, though its end was not seen. Chosen:
/// three snapshots at the usual pace.
const ABSENCE: Duration = Duration::from_secs(30);

/// Time between two marks of what there is.
const MARK_STEP: Duration = Duration::from_secs(60);

/// Limits below this one are set by programs that lock themselves in (sshd and others call
/// setrlimit(2) in their sandboxes), and to run into them is what they are for. Chosen: no service
/// gets so few, for the usual soft limit is 1,024.
const LEAST_LIMIT: u64 = 64;

/// fd-pressure opens with a forecast, and goes on as long as none is left within this time. Chosen: a
/// third over the horizon of forecasts, so that a pace that varies a little does not end it.
const FAR_HORIZON: Duration = Duration::from_secs(20 * 60);

/// It ends so many percent under the bar. Chosen: more than a restart of a few sessions moves.
pub(super) const PERCENT_BACK: u64 = 5;

/// fd-limit-low ends below this part of the connections that open it, in percent.
const FEWER: u64 = 90;

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// By process number.
    processes: BTreeMap<u32, Followed>,
    marked: Option<MonoTime>,
    /// The bars by which the last numbers were judged; `None` if they were not yet.
    judged_by: Option<Bars>,
}

/// What the config says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bars {
    percent: u64,
    low_limit: u64,
    connections: u64,
    pressure_budget: Duration,
    low_budget: Duration,
}

#[derive(Debug)]
struct Followed {
    row: ProcessRow,
    seen: MonoTime,
    history: History,
    forecast: Option<Forecast>,
    marks: VecDeque<Mark>,
    low: Latch,
    pressure: Latch,
    /// What is said of the pressure, while it lasts.
    detail: Option<Detail>,
}

impl Descriptors {
    pub(super) fn handle_snapshot(
        &mut self,
        snapshot: &Snapshot,
        connections: &Connections,
        now: MonoTime,
    ) {
        for row in most_descriptors(&snapshot.processes) {
            self.take(row, now);
        }
        self.processes.retain(|_, it| now.since(it.seen) < ABSENCE);
        self.keep_most();
        self.mark(connections, now);
        self.judged_by = None;
    }

    /// What a process had open when a snapshot last showed it, half a minute ago at the most.
    pub(super) fn row(&self, process: ProcessKey) -> Option<&ProcessRow> {
        self.processes.get(&process.pid).map(|it| &it.row).filter(|row| row.process == process)
    }

    pub(super) fn forget(&mut self, process: ProcessKey) {
        if self.row(process).is_some() {
            self.processes.remove(&process.pid);
        }
    }

    pub(super) fn suspicions(&mut self, view: &View<'_>, all: &mut Vec<Suspicion>) {
        let bars = Bars {
            percent: view.thresholds.percent_in_use,
            low_limit: view.thresholds.low_limit,
            connections: view.thresholds.many_connections,
            pressure_budget: view.budgets.get(Kind::FdPressure),
            low_budget: view.budgets.get(Kind::FdLimitLow),
        };
        if self.judged_by != Some(bars) {
            self.judge(bars, view.connections);
            self.judged_by = Some(bars);
        }
        for followed in self.processes.values() {
            let process = followed.row.process;
            let suspicion = |kind, since: MonoTime, budget, detail| Suspicion {
                kind,
                subject: Subject::Process(process),
                process,
                since,
                due: since.after(budget),
                evidence: Evidence::Complete,
                detail,
            };
            if let Some(since) = followed.low.since() {
                let (limit, hard_limit) = followed.row.limit;
                let connections = u64::from(followed.row.open.tcp);
                let detail = Detail::Limit { limit, hard_limit, connections };
                all.push(suspicion(Kind::FdLimitLow, since, bars.low_budget, detail));
            }
            if let (Some(since), Some(detail)) = (followed.pressure.since(), &followed.detail) {
                let budget = bars.pressure_budget;
                all.push(suspicion(Kind::FdPressure, since, budget, detail.clone()));
            }
        }
    }

    fn take(&mut self, row: &ProcessRow, now: MonoTime) {
        let open = row.open.sum();
        let followed = self.processes.get_mut(&row.process.pid);
        let Some(followed) = followed.filter(|it| it.row.process == row.process) else {
            self.processes.insert(row.process.pid, Followed::new(row, now));
            return;
        };
        if followed.row.limit != row.limit {
            followed.low.forgive();
            followed.pressure.forgive();
        }
        followed.row.clone_from(row);
        followed.seen = now;
        let (limit, _) = row.limit;
        if followed.history.push(now, open, limit) {
            let started = MonoTime::from_nanos(row.process.start_ns);
            followed.forecast = forecast(&followed.history, open, limit, started, now);
        }
    }

    /// Lets go of those with the fewest descriptors: different ones may have been the largest in
    /// the last snapshots.
    fn keep_most(&mut self) {
        let surplus = self.processes.len().saturating_sub(PROCESSES);
        if surplus == 0 {
            return;
        }
        let mut by_size: Vec<_> =
            self.processes.iter().map(|(pid, it)| (it.row.open.sum(), *pid)).collect();
        by_size.sort_unstable();
        for (_, pid) in by_size.into_iter().take(surplus) {
            self.processes.remove(&pid);
        }
    }

    /// Marks what there is: of all processes every minute, of a new one at once.
    fn mark(&mut self, connections: &Connections, now: MonoTime) {
        let is_time = self.marked.is_none_or(|marked| now.since(marked) >= MARK_STEP);
        if is_time {
            self.marked = Some(now);
        }
        let is_due = |it: &Followed| is_time || it.marks.is_empty();
        if !self.processes.values().any(is_due) {
            return;
        }
        let wanted = |process: ProcessKey| self.processes.get(&process.pid).is_some_and(is_due);
        let mut found = destinations(connections, wanted);
        for followed in self.processes.values_mut().filter(|it| is_due(it)) {
            let mark = followed.mark(&mut found, now);
            remember(&mut followed.marks, mark);
        }
    }

    fn judge(&mut self, bars: Bars, connections: &Connections) {
        for followed in self.processes.values_mut() {
            followed.judge(bars);
        }
        let is_pressed = |it: &Followed| it.pressure.since().is_some();
        if !self.processes.values().any(is_pressed) {
            return;
        }
        let wanted = |process: ProcessKey| self.processes.get(&process.pid).is_some_and(is_pressed);
        let mut found = destinations(connections, wanted);
        for followed in self.processes.values_mut().filter(|it| is_pressed(it)) {
            let mark = followed.mark(&mut found, followed.seen);
            followed.detail = Some(followed.describe(&mark));
        }
    }
}

impl Followed {
    fn new(row: &ProcessRow, now: MonoTime) -> Self {
        Self {
            row: row.clone(),
            seen: now,
            history: History::new(now, row.open.sum()),
            forecast: None,
            marks: VecDeque::new(),
            low: Latch::default(),
            pressure: Latch::default(),
            detail: None,
        }
    }

    fn mark(&self, found: &mut HashMap<ProcessKey, Vec<(SocketAddr, u64)>>, now: MonoTime) -> Mark {
        Mark::new(now, self.row.open, found.remove(&self.row.process).unwrap_or_default())
    }

    fn judge(&mut self, bars: Bars) {
        let (limit, _) = self.row.limit;
        let open = self.row.open.sum();
        // Without a limit nothing runs out. What has far more than its limit has lowered it on
        // purpose; a few more are descriptors from before, with numbers above the limit.
        let has_lowered_it = open > limit.saturating_add(limit / 10);
        let can_run_out = limit != u64::MAX && limit >= LEAST_LIMIT && !has_lowered_it;
        let connections = u64::from(self.row.open.tcp);
        let is_low = can_run_out && limit <= bars.low_limit;
        let is_many = connections >= bars.connections;
        let stays_many = reaches(connections, FEWER, bars.connections);
        self.low.look(is_low && is_many, is_low && stays_many, bars.low_budget, self.seen);

        let begins = can_run_out && (reaches(open, bars.percent, limit) || self.forecast.is_some());
        let lasts = || {
            let back = bars.percent.saturating_sub(PERCENT_BACK);
            let present = || at_present_pace(&self.history, open, limit);
            reaches(open, back, limit) || present().is_some_and(|it| it.left < FAR_HORIZON)
        };
        let lasts = self.pressure.since().is_some() && can_run_out && lasts();
        self.pressure.look(begins, lasts, bars.pressure_budget, self.seen);
    }

    fn describe(&self, now: &Mark) -> Detail {
        let (limit, _) = self.row.limit;
        let open = self.row.open.sum();
        let per_second = match self.forecast {
            Some(forecast) => Some(forecast.per_second),
            None => self.history.mean_growth(),
        };
        Detail::Pressure {
            open,
            limit,
            by_kind: self.row.open,
            per_minute: (per_second.unwrap_or(0.0) * 60.0).round() as i64,
            exhausted_in: self.forecast.map(|it| it.left),
            growing: growing(&self.marks, now),
        }
    }
}

/// Whether `part` is `percent` of `whole` or more.
pub(super) fn reaches(part: u64, percent: u64, whole: u64) -> bool {
    u128::from(part) * 100 >= u128::from(percent) * u128::from(whole)
}

/// The rows that are followed: all of them, or those with the most descriptors.
fn most_descriptors(rows: &[ProcessRow]) -> Vec<&ProcessRow> {
    let mut rows: Vec<_> = rows.iter().collect();
    if rows.len() > PROCESSES {
        let fewest_last = |row: &&ProcessRow| (std::cmp::Reverse(row.open.sum()), row.process);
        rows.select_nth_unstable_by_key(PROCESSES, fewest_last);
        rows.truncate(PROCESSES);
    }
    rows
}

#[cfg(test)]
mod tests;
