//! A correlator on a host that is made of values: what snapshots show is said by the test.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    correlate::{Config, Correlator, Output},
    detect::Kind,
    incident::{Finding, FindingEvent},
    model::{
        Call, Comm, Cookie, Ends, Holder, KernelEvent, Lack, MonoTime, OpenFiles, PortRow,
        ProcessKey, ProcessRow, ReadPosition, Snapshot, SnapshotRow, TcpState,
    },
};

/// When stories begin: the host has been up for a day.
const BEGIN: MonoTime = MonoTime::from_nanos(86_400_000_000_000);

/// One of the host's processes, started an hour before the story.
pub(super) fn process(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ns: BEGIN.nanos() - 3_600_000_000_000 }
}

/// What a process has open, by kinds; `limit` is soft and hard.
pub(super) fn row(pid: u32, open: OpenFiles, limit: u64) -> ProcessRow {
    let comm = Comm::from_bytes(format!("program-{pid}").as_bytes());
    ProcessRow { process: process(pid), comm, open, limit: (limit, limit) }
}

/// So many files and nothing else.
pub(super) fn files(files: u32) -> OpenFiles {
    OpenFiles { files, ..OpenFiles::default() }
}

pub(super) struct Host {
    pub(super) now: MonoTime,
    pub(super) correlator: Correlator,
    pub(super) findings: Vec<Finding>,
    /// What the next snapshot shows.
    pub(super) processes: Vec<ProcessRow>,
    pub(super) ports: Vec<PortRow>,
    pub(super) rows: Vec<SnapshotRow>,
}

impl Host {
    pub(super) fn new(config: Config) -> Self {
        let correlator = Correlator::new(config, BEGIN);
        let (processes, ports, rows) = Default::default();
        Self { now: BEGIN, correlator, findings: Vec::new(), processes, ports, rows }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, seconds: f64) {
        let until = self.now.after(Duration::from_secs_f64(seconds));
        while let Some(next) = self.correlator.poll_timeout().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.correlator.handle_timeout(self.now);
            self.listen();
        }
        self.now = until;
    }

    /// Takes a snapshot.
    pub(super) fn look(&mut self) {
        let ended = self.now.after(Duration::from_millis(1));
        let mut rows = self.rows.clone();
        for row in &mut rows {
            row.time = self.now;
        }
        self.correlator.handle_snapshot(Snapshot {
            began: self.now,
            ended,
            rows,
            processes: self.processes.clone(),
            ports: self.ports.clone(),
            ..Snapshot::default()
        });
        self.now = ended;
        self.listen();
        // What a judgement a moment ago left open is judged now.
        self.pass(0.06);
    }

    pub(super) fn event(&mut self, event: KernelEvent) {
        self.correlator.handle_event(event);
        self.listen();
    }

    pub(super) fn refuse(&mut self, pid: u32, call: Call, lacks: Lack) {
        let process = process(pid);
        self.event(KernelEvent::Exhausted { time: self.now, process, call, lacks });
    }

    /// `count` connections of a process, in the next snapshots.
    pub(super) fn connect(&mut self, pid: u32, local: IpAddr, remote: SocketAddr, count: u32) {
        let first = self.rows.len() as u32;
        for number in first..first + count {
            let holder = Holder {
                process: process(pid),
                comm: Comm::from_bytes(format!("program-{pid}").as_bytes()),
                fd: number as i32 + 3,
                close_on_exec: None,
            };
            self.rows.push(SnapshotRow {
                time: self.now,
                cookie: Cookie(u64::from(number) + 1),
                state: TcpState::Established,
                ends: Ends { local: SocketAddr::new(local, 32_768 + number as u16), remote },
                netns: 1,
                holder: Some(holder),
                read: ReadPosition { copied_seq: 0, unread: 0 },
                unacked: 0,
                write_seq: 0,
                last_sent: self.now,
                last_received: self.now,
            });
        }
    }

    /// What is said of `kind`, as lines: second, event and message.
    pub(super) fn told(&self, kind: Kind) -> Vec<String> {
        let of_kind = self.findings.iter().filter(|finding| finding.kind == kind);
        of_kind
            .map(|finding| {
                let second = finding.time.since(BEGIN).as_secs();
                format!("{second} {}: {}", finding.event.code(), finding.message)
            })
            .collect()
    }

    /// How often findings of `kind` were opened, updated and cleared.
    pub(super) fn counts(&self, kind: Kind) -> [usize; 3] {
        [FindingEvent::Opened, FindingEvent::Updated, FindingEvent::Cleared].map(|event| {
            self.findings.iter().filter(|it| it.kind == kind && it.event == event).count()
        })
    }

    fn listen(&mut self) {
        while let Some(output) = self.correlator.poll_output() {
            if let Output::Finding(finding) = output {
                self.findings.push(finding);
            }
        }
    }
}
