//! One JSON object a line. The format is a promise: `docs/json.md`.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::{Report, Sink, Summary};
use crate::{
    clock::WallClock,
    correlate::SeenTransition,
    incident::Finding,
    model::{Ends, Holder},
    table::{Socket, Table},
};

/// Writes reports as JSON lines.
pub struct Json<W: Write> {
    out: W,
    transitions: bool,
}

impl<W: Write> Json<W> {
    /// Writes to `out`; changes of state only if `transitions`.
    pub fn new(out: W, transitions: bool) -> Self {
        Self { out, transitions }
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write> Sink for Json<W> {
    fn report(&mut self, report: Report<'_>, clock: WallClock) -> io::Result<()> {
        match report {
            Report::Ready { layers, sockets } => {
                self.line(&Line::Ready { layers: layers.name(), sockets })
            }
            Report::Transition(_) if !self.transitions => Ok(()),
            Report::Transition(seen) => self.line(&Line::transition(seen, clock)),
            Report::Finding(finding) => self.line(&Line::finding(finding, clock)),
            Report::Loss { cause, lost } => self.line(&Line::Loss { cause, lost }),
            Report::Sockets { table, ports } => {
                let mut count = 0;
                for socket in table.sockets() {
                    if socket.ends.are_on(ports) {
                        count += 1;
                        self.line(&Line::socket(table, socket, clock))?;
                    }
                }
                self.line(&Line::Sockets { count })
            }
            Report::Summary(summary) => self.line(&Line::Summary(summary)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Ready {
        layers: &'static str,
        sockets: usize,
    },
    Transition {
        time: String,
        t_ns: u64,
        cookie: u64,
        pid: Option<u32>,
        comm: Option<&'a str>,
        fd: Option<i32>,
        old: &'static str,
        new: &'static str,
        local: String,
        remote: String,
    },
    Finding {
        event: &'static str,
        id: u64,
        kind: &'static str,
        pid: u32,
        comm: &'a str,
        cookie: u64,
        state: &'static str,
        local: String,
        remote: String,
        holders: Vec<HolderLine>,
        since: String,
        age_ms: u64,
        budget_ms: u64,
        evidence: &'static str,
        born_before_observer: bool,
        message: &'a str,
    },
    Loss {
        cause: &'a str,
        lost: u64,
    },
    Socket {
        cookie: u64,
        state: &'static str,
        local: String,
        remote: String,
        netns: u32,
        pid: Option<u32>,
        comm: Option<String>,
        holders: Vec<HolderLine>,
        since: String,
        born_before_observer: bool,
        evidence: &'static str,
    },
    Sockets {
        count: usize,
    },
    Summary(&'a Summary),
}

#[derive(Serialize)]
struct HolderLine {
    pid: u32,
    comm: String,
    fd: i32,
}

impl<'a> Line<'a> {
    fn transition(seen: &'a SeenTransition, clock: WallClock) -> Self {
        let transition = &seen.transition;
        let (local, remote) = ends(&seen.ends);
        let owner = seen.owner.as_ref();
        Self::Transition {
            time: rfc3339(clock.wall(transition.time)),
            t_ns: transition.time.0,
            cookie: transition.cookie.0,
            pid: owner.map(|owner| owner.process.pid),
            comm: owner.map(|owner| owner.comm.as_str()),
            fd: owner.and_then(|owner| owner.fd),
            old: transition.old.name(),
            new: transition.new.name(),
            local,
            remote,
        }
    }

    fn finding(finding: &'a Finding, clock: WallClock) -> Self {
        let (local, remote) = ends(&finding.ends);
        Self::Finding {
            event: finding.event.code(),
            id: finding.id,
            kind: finding.kind.code(),
            pid: finding.process.pid,
            comm: finding.comm.as_str(),
            cookie: finding.cookie.0,
            state: finding.state.name(),
            local,
            remote,
            holders: holder_lines(&finding.holders),
            since: rfc3339(clock.wall(finding.since)),
            age_ms: millis(finding.age()),
            budget_ms: millis(finding.budget),
            evidence: finding.evidence.code(),
            born_before_observer: finding.born_before_observer,
            message: &finding.message,
        }
    }

    fn socket(table: &Table, socket: &Socket, clock: WallClock) -> Self {
        let (local, remote) = ends(&socket.ends);
        let owner = socket.owner.as_ref().map(|owner| (owner.process.pid, owner.comm.clone()));
        let holders = table.holders(socket);
        // As in the stream: where nobody was seen to connect or accept it, the first who has it.
        let first = || holders.first().map(|holder| (holder.process.pid, holder.comm.clone()));
        let (pid, comm) = owner.or_else(first).unzip();
        Self::Socket {
            cookie: socket.cookie.0,
            state: socket.state.name(),
            local,
            remote,
            netns: socket.netns,
            pid,
            comm: comm.map(|comm| comm.as_str().to_owned()),
            holders: holder_lines(&holders),
            since: rfc3339(clock.wall(socket.state_since)),
            born_before_observer: socket.born_before_observer,
            evidence: table.evidence(socket).code(),
        }
    }
}

fn holder_lines(holders: &[Holder]) -> Vec<HolderLine> {
    holders
        .iter()
        .map(|holder| HolderLine {
            pid: holder.process.pid,
            comm: holder.comm.as_str().to_owned(),
            fd: holder.fd,
        })
        .collect()
}

fn ends(ends: &Ends) -> (String, String) {
    (ends.local.to_string(), ends.remote.to_string())
}

fn rfc3339(time: Timestamp) -> String {
    // Always six digits, so that lines sort as text.
    format!("{time:.6}")
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
