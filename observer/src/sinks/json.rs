//! One JSON object a line. The format is a promise: `docs/json.md`.

pub mod shapes;

use std::io::{self, Write};

use serde::Serialize;

use self::shapes::{ends, rfc3339};
use super::{Report, Sink, Summary};
use crate::{clock::WallClock, correlate::SeenTransition};

/// Writes reports as JSON lines.
pub struct Json<W: Write> {
    out: W,
    transitions: bool,
    explain: bool,
}

impl<W: Write> Json<W> {
    /// Writes to `out`; changes of state only if `transitions`.
    pub fn new(out: W, transitions: bool) -> Self {
        Self { out, transitions, explain: false }
    }

    /// Whether a finding that opens comes with what happened to its socket, and its call stack.
    pub fn explain(self, explain: bool) -> Self {
        Self { explain, ..self }
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write> Sink for Json<W> {
    fn report(&mut self, report: Report<'_>, clock: WallClock) -> io::Result<()> {
        match report {
            Report::Ready { layers, names, sockets } => {
                self.line(&Line::Ready { layers: layers.name(), names, sockets })
            }
            Report::Transition(_) if !self.transitions => Ok(()),
            Report::Transition(seen) => self.line(&Line::transition(seen, clock)),
            Report::Finding(finding) => {
                let mut shape = shapes::Finding::new(finding, finding.time, clock);
                if !self.explain {
                    shape.unexplain();
                }
                self.line(&Line::Finding(Box::new(shape)))
            }
            Report::Loss { cause, lost } => self.line(&Line::Loss { cause, lost }),
            Report::Sockets { table, ports } => {
                let mut count = 0;
                for socket in table.sockets() {
                    if socket.ends.are_on(ports) {
                        count += 1;
                        let (holders, evidence) = (table.holders(socket), table.evidence(socket));
                        let shape = shapes::Socket::new(socket, &holders, evidence, clock);
                        self.line(&Line::Socket(shape))?;
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
        names: bool,
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
    Finding(Box<shapes::Finding>),
    Loss {
        cause: &'a str,
        lost: u64,
    },
    Socket(shapes::Socket),
    Sockets {
        count: usize,
    },
    Summary(&'a Summary),
}

impl<'a> Line<'a> {
    fn transition(seen: &'a SeenTransition, clock: WallClock) -> Self {
        let transition = &seen.transition;
        let (local, remote) = ends(&seen.ends);
        let owner = seen.owner.as_ref();
        Self::Transition {
            time: rfc3339(clock.wall(transition.time)),
            t_ns: transition.time.nanos(),
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
}
