//! A finding about a socket that the registry and the kernel disagree about. The kernel's table may
//! not have the socket any more.

use std::time::Duration;

use super::{DeviceFacts, Evidence, Finding, FindingEvent, SocketFacts, Subject, message};
use crate::{
    detect::Kind,
    model::{Cookie, MonoTime, ProcessKey},
    table::{Socket, Table},
};

/// What a finding is about.
pub(crate) struct About<'a> {
    /// The socket.
    pub(crate) cookie: Cookie,
    /// What the kernel's table has of it.
    pub(crate) socket: Option<&'a Socket>,
    /// Where it went, if the registry knows.
    pub(crate) remote: Option<std::net::SocketAddr>,
    /// The registry's word.
    pub(crate) device: Option<DeviceFacts>,
    /// The process of the pool.
    pub(crate) pid: u32,
}

/// The process that a finding about this socket names, if it is one that holds the socket.
pub(crate) fn culprit(kind: Kind, socket: Option<&Socket>, pid: u32) -> Option<ProcessKey> {
    let holders = socket.map_or(&[][..], |socket| &socket.holders).iter();
    let first = holders.map(|it| it.process).min_by_key(|it| comes_late(kind, *it, pid));
    first.filter(|_| matches!(kind, Kind::Orphan | Kind::Unreleased))
}

/// Who else holds a socket that the pool closed explains more than a second descriptor of the
/// pool's; what the pool's process holds without a claim is its own business.
fn comes_late(kind: Kind, process: ProcessKey, pid: u32) -> bool {
    let own_comes_first = kind != Kind::Unreleased;
    (process.pid == pid) != own_comes_first
}

/// All of a finding but its number.
pub(crate) fn describe(
    table: &Table,
    about: About<'_>,
    kind: Kind,
    since: MonoTime,
    budget: Duration,
    now: MonoTime,
) -> Finding {
    let About { cookie, socket, remote, device, pid } = about;
    let mut holders = socket.map(|socket| table.holders(socket)).unwrap_or_default();
    holders.sort_by_key(|holder| comes_late(kind, holder.process, pid));
    let own = || {
        let process = table.process_by_pid(pid);
        let key = process.map_or(ProcessKey { pid, start_ns: 0 }, |process| process.key);
        (key, table.comm(key))
    };
    let culprit = culprit(kind, socket, pid).map(|process| (process, table.comm(process)));
    let (process, comm) = culprit.unwrap_or_else(own);
    let mut finding = Finding {
        event: FindingEvent::Opened,
        id: 0,
        kind,
        time: now.max(since),
        process,
        comm,
        subject: Subject::Socket(cookie),
        socket: Some(socket.map_or_else(|| SocketFacts::gone(remote), SocketFacts::of)),
        holders,
        since,
        budget,
        evidence: match (kind, socket) {
            (Kind::Overlap, Some(socket)) => table.life_evidence(socket),
            (_, Some(socket)) => table.evidence(socket),
            (_, None) => Evidence::Complete,
        },
        device,
        detail: None,
        proof: Box::default(),
        message: String::new(),
        clear_reason: None,
    };
    finding.message = message::registry(&finding);
    finding
}
