//! PURE. `port-pressure`: local ports towards a destination run out.
//!
//! connect(2) takes ports of one parity first: that of the first port of the range, so even ones
//! by default, for bind(2) with port 0 takes the others. Only when all of these are taken it tries
//! the other half, one by one after them (`__inet_hash_connect` and `inet_csk_find_open_port`,
//! net/ipv4/inet_hashtables.c and inet_connection_sock.c, since Linux 4.2).

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use super::{
    Suspicion, View,
    descriptors::{PERCENT_BACK, reaches},
    latch::Latch,
};
use crate::{
    detect::Kind,
    incident::{Detail, Evidence, Subject},
    model::{MonoTime, PortRow, ProcessKey, Snapshot, TcpState},
    table::Table,
};

/// Routes that are followed, those with the most ports in use, and those that were a while ago.
/// Chosen: each takes thousands of sockets to be of interest, and a table holds 65,536, so what
/// comes beyond is never the fullest.
const ROUTES: usize = 256;

type Route = (IpAddr, SocketAddr);

/// All that is known of it.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// What the last snapshot found.
    rows: Vec<PortRow>,
    seen: MonoTime,
    routes: BTreeMap<Route, Followed>,
    /// By which bars the rows were judged; `None` if they were not yet.
    judged_by: Option<Bars>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bars {
    percent: u64,
    range: (u16, u16),
    budget: std::time::Duration,
}

#[derive(Debug)]
struct Followed {
    row: PortRow,
    latch: Latch,
    /// Who has most of the sockets, and how many.
    process: Option<(ProcessKey, u64)>,
}

impl Ports {
    pub(super) fn handle_snapshot(&mut self, snapshot: &Snapshot, now: MonoTime) {
        self.rows.clear();
        self.rows.extend(&snapshot.ports);
        if self.rows.len() > ROUTES {
            let fewest_last =
                |row: &PortRow| (std::cmp::Reverse(taken(row)), row.local, row.remote);
            self.rows.select_nth_unstable_by_key(ROUTES, fewest_last);
            self.rows.truncate(ROUTES);
        }
        self.seen = now;
        self.judged_by = None;
    }

    pub(super) fn suspicions(&mut self, view: &View<'_>, all: &mut Vec<Suspicion>) {
        let bars = Bars {
            percent: view.thresholds.percent_in_use,
            range: view.thresholds.port_range,
            budget: view.budgets.get(Kind::PortPressure),
        };
        if self.judged_by != Some(bars) {
            self.judge(bars, view.table);
            self.judged_by = Some(bars);
        }
        let Some((range, half)) = ports(bars.range) else { return };
        all.extend(self.routes.iter().filter_map(|(route, followed)| {
            // Sockets in TIME_WAIT alone have no process. Nobody is there to act, and they are gone
            // within a minute: no finding.
            let (process, of_process) = followed.process?;
            let since = followed.latch.since()?;
            let PortRow { sockets, time_wait, .. } = followed.row;
            Some(Suspicion {
                kind: Kind::PortPressure,
                subject: Subject::Route(route.0, route.1),
                process,
                since,
                due: since.after(bars.budget),
                evidence: Evidence::Complete,
                detail: Detail::Ports {
                    source: route.0,
                    in_use: u64::from(sockets) + u64::from(time_wait),
                    time_wait: u64::from(time_wait),
                    of_process,
                    half,
                    range,
                },
            })
        }));
    }

    fn judge(&mut self, bars: Bars, table: &Table) {
        let Some((_, half)) = ports(bars.range) else {
            self.routes.clear();
            return;
        };
        for followed in self.routes.values_mut() {
            followed.row.sockets = 0;
            followed.row.time_wait = 0;
        }
        let back = bars.percent.saturating_sub(PERCENT_BACK);
        for row in &self.rows {
            let route = (row.local, row.remote);
            if let Some(followed) = self.routes.get_mut(&route) {
                followed.row = *row;
            } else if self.routes.len() < ROUTES && reaches(taken(row), bars.percent, half) {
                let followed = Followed { row: *row, latch: Latch::default(), process: None };
                self.routes.insert(route, followed);
            }
        }
        self.name(table);
        for followed in self.routes.values_mut() {
            let taken = taken(&followed.row);
            // What nobody has does not begin.
            let begins = followed.process.is_some() && reaches(taken, bars.percent, half);
            let lasts = reaches(taken, back, half);
            followed.latch.look(begins, lasts, bars.budget, self.seen);
        }
        self.routes.retain(|_, it| it.latch.is_of_use(self.seen));
    }

    /// Finds who has most of the sockets, for all routes that are followed.
    fn name(&mut self, table: &Table) {
        if self.routes.is_empty() {
            return;
        }
        let mut counts: HashMap<(Route, ProcessKey), u64> = HashMap::new();
        for socket in table.unordered().filter(|it| it.state != TcpState::Listen) {
            let route = (socket.ends.local.ip(), socket.ends.remote);
            if !self.routes.contains_key(&route) {
                continue;
            }
            let owner = socket.owner.as_ref().map(|owner| owner.process);
            let holder = socket.holders.first().map(|holder| holder.process);
            if let Some(process) = holder.or(owner) {
                *counts.entry((route, process)).or_default() += 1;
            }
        }
        let mut most: HashMap<Route, (u64, std::cmp::Reverse<ProcessKey>)> = HashMap::new();
        for ((route, process), count) in counts {
            let best = most.entry(route).or_insert((0, std::cmp::Reverse(process)));
            *best = (*best).max((count, std::cmp::Reverse(process)));
        }
        for (route, followed) in &mut self.routes {
            match most.get(route) {
                Some((count, process)) => followed.process = Some((process.0, *count)),
                // Its sockets are in TIME_WAIT now; it is still the one to act while it lives.
                None => {
                    followed.process = followed
                        .process
                        .filter(|(process, _)| table.process(*process).is_some())
                        .map(|(process, _)| (process, 0))
                }
            }
        }
    }
}

/// Ports that a connect(2) cannot have. Over the loopback interface one in TIME_WAIT can be used
/// again after a second (`net.ipv4.tcp_tw_reuse` is 2 by default since Linux 4.19).
fn taken(row: &PortRow) -> u64 {
    let time_wait = if row.local.is_loopback() { 0 } else { row.time_wait };
    u64::from(row.sockets) + u64::from(time_wait)
}

/// Ports of the range, and those of one parity as `__inet_hash_connect` counts them; `None` if
/// there are none.
fn ports((first, last): (u16, u16)) -> Option<(u64, u64)> {
    let range = u64::from(last.checked_sub(first)?) + 1;
    Some((range, (range / 2).max(1)))
}

#[cfg(test)]
mod tests;
