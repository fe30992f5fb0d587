//! The words in which the cases of the ledger are told: what the registry and the kernel said about
//! a few sockets, and when.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use pool::{
    DeviceId, Generation,
    registry::{Change, Claim, Stage},
};

use super::{Ledger, Output};
use crate::{
    detect::{Kind, Verdict},
    model::{
        Comm, Cookie, Ends, Holder, KernelEvent, MonoTime, ProcessKey, ReadPosition, Snapshot,
        SnapshotRow, TcpState, Transition,
    },
    table::{Limits, Table},
};

/// The process of the pool.
pub(super) const POOL: u32 = 1;

/// The port of the broker; everything else is foreign.
pub(super) const BROKER: u16 = 1883;

/// A row of a snapshot: socket, state, and who holds it.
pub(super) type Row = (u64, TcpState, &'static [(u32, i32)]);

/// What happens. Sockets are numbers, and there is one device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The registry claims the socket, or says its stage.
    Claim(u64, Stage),
    /// The registry takes the claim back, with or without a receipt.
    Retract(u64, bool),
    /// Changes were missed; these claims are there.
    All(&'static [(u64, Stage)]),
    /// connect(2) by the pool's process, descriptor 7.
    Connects(u64),
    /// connect(2) by the pool's process to this port.
    ConnectsTo(u64, u16),
    Moves(u64, TcpState, TcpState),
    /// The same, while the pool's process runs.
    MovesHere(u64, TcpState, TcpState),
    /// close(2) by this process, of this descriptor.
    Closes(u64, u32, i32),
    Destroyed(u64),
    SynAgain(u64),
    /// Everything that there is.
    Snapshot(&'static [Row]),
    /// The same, but records were lost: what it lacks proves nothing.
    Uncertain(&'static [Row]),
}

/// The two ledgers.
pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) table: Table,
    pub(super) outputs: Vec<Output>,
}

impl World {
    pub(super) fn new() -> Self {
        let limits = Limits { sockets: 16, processes: 16, boot_offset: Duration::ZERO };
        let (ledger, table) = (Ledger::new(POOL), Table::new(limits));
        Self { ledger, table, outputs: Vec::new() }
    }

    /// Runs steps with their times in microseconds.
    pub(super) fn run(mut self, steps: &[(u64, Step)]) -> Self {
        for (time, step) in steps {
            self.step(us(*time), *step);
            self.outputs.extend(self.ledger.take_outputs());
        }
        self
    }

    pub(super) fn judge(
        &self,
        kind: Kind,
        cookie: u64,
        now: MonoTime,
        budget: Duration,
    ) -> Verdict {
        self.ledger.judge(kind, Cookie(cookie), &self.table, now, budget)
    }

    fn step(&mut self, time: MonoTime, step: Step) {
        let move_to = |cookie, old, new| transition(time, cookie, old, new, None, BROKER);
        let event = match step {
            Step::Claim(cookie, stage) => {
                let change = Change::Claimed(claim(cookie, stage));
                return self.ledger.handle_changes([change], &self.table, time);
            }
            Step::Retract(cookie, with_receipt) => {
                let change = Change::Retracted { cookie, with_receipt };
                return self.ledger.handle_changes([change], &self.table, time);
            }
            Step::All(claims) => {
                let claims = claims.iter().map(|(cookie, stage)| claim(*cookie, *stage));
                return self.ledger.handle_registry(claims.collect(), &self.table, time);
            }
            Step::Connects(cookie) => connect(time, cookie, BROKER),
            Step::ConnectsTo(cookie, port) => connect(time, cookie, port),
            Step::Moves(cookie, old, new) => move_to(cookie, old, new),
            Step::MovesHere(cookie, old, new) => match move_to(cookie, old, new) {
                KernelEvent::Transition(it) => {
                    KernelEvent::Transition(Transition { context_pid: POOL, ..it })
                }
                other => other,
            },
            Step::Closes(cookie, pid, fd) => {
                let (cookie, process) = (Some(Cookie(cookie)), key(pid));
                KernelEvent::Closed { time, cookie, process, fd, references: 1 }
            }
            Step::Destroyed(cookie) => KernelEvent::Destroyed { time, cookie: Cookie(cookie) },
            Step::SynAgain(cookie) => {
                KernelEvent::SynRetransmitted { time, cookie: Cookie(cookie) }
            }
            Step::Snapshot(rows) => return self.snapshot(time, rows, true),
            Step::Uncertain(rows) => return self.snapshot(time, rows, false),
        };
        self.table.apply(&event);
        self.ledger.handle_event(&event);
    }

    fn snapshot(&mut self, time: MonoTime, rows: &[Row], is_certain: bool) {
        let snapshot = snapshot(time, time, rows);
        self.table.apply_snapshot(&snapshot, !is_certain, is_certain);
        self.ledger.handle_snapshot(&snapshot, &self.table, is_certain);
    }
}

/// A walk over these rows that found all of them at its beginning.
pub(super) fn snapshot(began: MonoTime, ended: MonoTime, rows: &[Row]) -> Snapshot {
    let rows = rows.iter().flat_map(|row| rows_of(began, row)).collect();
    Snapshot { began, ended, rows, lists_unheld: true, unheld_netns: 1, ..Snapshot::default() }
}

pub(super) fn us(time: u64) -> MonoTime {
    MonoTime::from_nanos(time * 1_000)
}

pub(super) fn claim(cookie: u64, stage: Stage) -> Claim {
    let device = DeviceId::new("d").expect("a letter is a name");
    Claim { cookie, device, generation: Generation::default(), stage, remote: address(BROKER) }
}

pub(super) fn connect(time: MonoTime, cookie: u64, port: u16) -> KernelEvent {
    transition(time, cookie, TcpState::Close, TcpState::SynSent, Some(key(POOL)), port)
}

fn transition(
    time: MonoTime,
    cookie: u64,
    old: TcpState,
    new: TcpState,
    owner: Option<ProcessKey>,
    port: u16,
) -> KernelEvent {
    KernelEvent::Transition(Transition {
        time,
        cookie: Cookie(cookie),
        old,
        new,
        ends: Ends { local: address(40_000), remote: address(port) },
        netns: 1,
        owner,
        fd: owner.map(|_| 7),
        context_pid: 0,
        read: None,
    })
}

fn rows_of(time: MonoTime, row: &Row) -> Vec<SnapshotRow> {
    let (cookie, state, holders) = *row;
    let row = |holder| SnapshotRow {
        time,
        cookie: Cookie(cookie),
        state,
        ends: Ends { local: address(40_000), remote: address(BROKER) },
        netns: 1,
        holder,
        read: ReadPosition { copied_seq: 1, unread: 0 },
        unacked: 0,
        write_seq: 1,
        last_sent: time,
        last_received: time,
    };
    let holder = |(pid, fd): &(u32, i32)| Holder {
        process: key(*pid),
        comm: Comm::from_bytes(b"node"),
        fd: *fd,
        close_on_exec: None,
    };
    match holders {
        [] => vec![row(None)],
        holders => holders.iter().map(|it| row(Some(holder(it)))).collect(),
    }
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ns: u64::from(pid) }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
