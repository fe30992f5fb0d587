//! What others ask of a running observer.

use std::collections::{BTreeMap, HashMap};

use super::{Observer, tally::index};
use crate::{
    clock::{self, WallClock},
    desk::{Findings, Question, SocketFilter, SocketView, Sockets},
    detect::Kind,
    ledger::Ledger,
    model::{Cookie, ProcessKey, TcpState},
    procs,
    reading::{ByState, ProcessReading, Reading},
    table::Socket,
};

/// Ports on which MQTT is spoken where nothing else is known (IANA: mqtt, secure-mqtt).
const MQTT_PORTS: [u16; 2] = [1_883, 8_883];

/// Processes whose descriptors and limits are read from /proc in one reading. Chosen: some 30 us
/// each, and more than are shown by themselves anywhere.
const MOST_LOOKED_AT: usize = 200;

impl Observer {
    /// Answers a question from the table as it is.
    pub fn answer(&mut self, question: Question) {
        // Whoever does not wait any more needs no answer.
        match question {
            Question::Reading(reply) => drop(reply.send(self.reading())),
            Question::Findings { explained, reply } => drop(reply.send(self.findings(explained))),
            Question::Sockets(filter, reply) => drop(reply.send(self.sockets(filter))),
            Question::Claims(claiming, reply) => drop(reply.send(self.take_claims(claiming))),
        }
    }

    /// All numbers.
    pub fn reading(&self) -> Reading {
        let core = self.core();
        let table = core.table();
        let is_broker = |socket: &Socket| {
            let remote = socket.ends.remote;
            MQTT_PORTS.contains(&remote.port())
                || core.ledger().is_some_and(|ledger| ledger.is_broker(remote))
        };
        let is_mqtt = |socket: &&Socket| socket.state != TcpState::Listen && is_broker(socket);
        let mut findings_open: BTreeMap<Kind, u64> =
            Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
        for incident in core.open_incidents() {
            *findings_open.entry(incident.finding.kind).or_default() += 1;
        }
        let registry = core.ledger().map(|ledger| {
            let queries = self.join.as_ref().map_or(0, |join| join.queries());
            let mut reading = ledger.reading(table);
            reading.receipts_by_query = queries;
            reading
        });
        Reading {
            time: clock::now(),
            layers: self.layers(),
            names: self.sees_names(),
            processes: self.processes(),
            sockets: table.len(),
            socket_capacity: table.capacity(),
            mqtt_sockets: table.unordered().filter(is_mqtt).count() as u64,
            findings_open,
            findings_opened: self.tally.findings_opened.clone(),
            findings_ignored: core.ignored_by_kind(),
            transitions: self.tally.transitions,
            losses: self.tally.losses.clone(),
            snapshot_time: self.tally.snapshot_time.clone(),
            detection_time: self.tally.detection_time.clone(),
            programs: self.probe.costs(),
            registry,
        }
    }

    fn findings(&mut self, explained: bool) -> Findings {
        let core = self.core();
        let ignored = core.ignored() as u64;
        let mut open: Vec<_> =
            core.open_incidents().map(|incident| incident.finding.clone()).collect();
        open.sort_unstable_by_key(|finding| finding.id);
        let clock = WallClock::read();
        for finding in &mut open {
            self.prove(finding, explained, clock);
        }
        Findings { open, ignored }
    }

    fn sockets(&self, filter: SocketFilter) -> Sockets {
        let table = self.core().table();
        let mut findings: HashMap<Cookie, Vec<Kind>> = HashMap::new();
        for incident in self.core().open_incidents() {
            if let Some(cookie) = incident.finding.cookie() {
                findings.entry(cookie).or_default().push(incident.finding.kind);
            }
        }
        let mut wanted: Vec<&Socket> =
            table.unordered().filter(|socket| is_wanted(socket, &filter)).collect();
        wanted.sort_unstable_by_key(|socket| socket.cookie);
        let more = wanted.len() > filter.limit;
        let view = |socket: &&Socket| SocketView {
            socket: (*socket).clone(),
            holders: table.holders(socket),
            evidence: table.evidence(socket),
            findings: findings.remove(&socket.cookie).unwrap_or_default(),
            device: self.core().ledger().and_then(|ledger| device(ledger, socket.cookie)),
        };
        let sockets = wanted.iter().take(filter.limit).map(view).collect();
        Sockets { sockets, more }
    }

    fn processes(&self) -> Vec<ProcessReading> {
        let table = self.core().table();
        let mut by_process: HashMap<ProcessKey, ByState> = HashMap::new();
        for socket in table.unordered() {
            let mut last = None;
            for holder in &socket.holders {
                // One socket counts once for a process, however many descriptors it has.
                if last.replace(holder.process) != Some(holder.process) {
                    by_process.entry(holder.process).or_default()[index(socket.state)] += 1;
                }
            }
        }
        let mut findings: HashMap<ProcessKey, BTreeMap<Kind, u64>> = HashMap::new();
        for incident in self.core().open_incidents() {
            let finding = &incident.finding;
            *findings.entry(finding.process).or_default().entry(finding.kind).or_default() += 1;
        }
        let mut processes: Vec<ProcessReading> = table
            .processes()
            .filter(|process| {
                process.watched
                    || self.watched.contains(&process.key.pid)
                    || by_process.contains_key(&process.key)
                    || findings.contains_key(&process.key)
            })
            .map(|process| ProcessReading {
                process: process.key,
                comm: process.comm.clone(),
                unit: None,
                watched: process.watched || self.watched.contains(&process.key.pid),
                sockets: by_process.get(&process.key).copied().unwrap_or_default(),
                descriptors: None,
                descriptor_limit: None,
                findings_open: findings.get(&process.key).cloned().unwrap_or_default(),
            })
            .collect();
        for pid in self.watched.iter().filter(|pid| table.process_by_pid(**pid).is_none()) {
            // Without any socket so far, so no record has named it.
            processes.extend(procs::without_sockets(*pid));
        }
        let worth = |process: &ProcessReading| {
            let findings: u64 = process.findings_open.values().sum();
            (findings, process.watched, process.sockets.iter().sum::<u64>())
        };
        processes.sort_by_key(|process| (std::cmp::Reverse(worth(process)), process.process));
        for process in &mut processes {
            // Of every kernel, and after privileges were dropped.
            let row = self.core().process_row(process.process);
            process.descriptors = row.map(|row| row.open.sum());
            process.descriptor_limit = row.map(|row| row.limit);
        }
        for process in processes.iter_mut().take(MOST_LOOKED_AT) {
            procs::look(process);
        }
        processes
    }
}

fn device(ledger: &Ledger, cookie: Cookie) -> Option<(std::sync::Arc<str>, u32)> {
    let (device, generation) = ledger.device_of(cookie)?;
    Some((device.as_str().into(), generation))
}

fn is_wanted(socket: &Socket, filter: &SocketFilter) -> bool {
    let SocketFilter { pid, state, port, after, limit: _ } = *filter;
    let is_of = |pid: u32| {
        let owner = socket.owner.as_ref().map(|owner| owner.process.pid);
        owner == Some(pid) || socket.holders.iter().any(|holder| holder.process.pid == pid)
    };
    socket.cookie > after
        && pid.is_none_or(is_of)
        && state.is_none_or(|state| socket.state == state)
        && port.is_none_or(|port| socket.ends.are_on(&[port]))
}
