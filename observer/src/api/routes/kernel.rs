//! What the observer knows of the kernel: processes, sockets, findings.

use axum::{extract::State, http::Uri};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use crate::{
    api::{
        body::Reply,
        error::ApiError,
        query,
        shapes::{ErrorBody, Finding, FindingPage, KnownSocket, Process, ProcessPage, SocketPage},
    },
    clock::{self, WallClock},
    desk::{Findings, SocketFilter},
    model::Cookie,
};

/// Which processes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProcessQuery {
    /// Only those after this number.
    after: Option<u32>,
    /// At most so many, 1 to 10,000; 1,000 unless given.
    limit: Option<usize>,
}

/// Which sockets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SocketQuery {
    /// Held or owned by this process.
    pid: Option<u32>,
    /// In this TCP state.
    state: Option<String>,
    /// With this local or remote port.
    port: Option<u16>,
    /// Only those after this cookie.
    after: Option<u64>,
    /// At most so many, 1 to 10,000; 1,000 unless given.
    limit: Option<usize>,
}

/// Which findings.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FindingQuery {
    /// Of this kind.
    kind: Option<String>,
    /// About this process.
    pid: Option<u32>,
    /// Whether each comes with what happened to its socket (`history`) and its call stack
    /// (`stack`); `false` unless given.
    explain: Option<bool>,
    /// Only those after this number.
    after: Option<u64>,
    /// At most so many, 1 to 10,000; 1,000 unless given.
    limit: Option<usize>,
}

/// Processes that are watched, or that hold a watched socket.
#[utoipa::path(get, path = "/api/v1/processes", tag = "kernel", params(ProcessQuery), responses(
    (status = 200, description = "By process number", body = ProcessPage),
    (status = 400, description = "The query is wrong", body = ErrorBody),
    (status = 503, description = "The daemon is ending", body = ErrorBody)))]
pub(crate) async fn processes(State(app): State<App>, uri: Uri) -> Result<Reply, ApiError> {
    let asked: ProcessQuery = query::parse(&uri)?;
    let limit = query::limit(asked.limit)?;
    let mut processes = app.backend.desk.reading().await?.processes;
    // Numbers are used again: of two lives of one number, the later is the process.
    processes.sort_unstable_by_key(|it| (it.process.pid, std::cmp::Reverse(it.process.start_ns)));
    processes.dedup_by_key(|it| it.process.pid);
    let is_seen = |pid: u32| asked.after.is_some_and(|after| pid <= after);
    let (page, more) = query::page(processes.iter(), |it| is_seen(it.process.pid), limit);
    let processes: Vec<_> = page.into_iter().map(Process::new).collect();
    let next = processes.last().map(|it| it.pid).filter(|_| more);
    Ok(Reply::ok(ProcessPage { processes, next }))
}

/// Sockets in the table.
#[utoipa::path(get, path = "/api/v1/sockets", tag = "kernel", params(SocketQuery), responses(
    (status = 200, description = "By cookie", body = SocketPage),
    (status = 400, description = "The query is wrong", body = ErrorBody),
    (status = 503, description = "The daemon is ending", body = ErrorBody)))]
pub(crate) async fn sockets(State(app): State<App>, uri: Uri) -> Result<Reply, ApiError> {
    let asked: SocketQuery = query::parse(&uri)?;
    let filter = SocketFilter {
        pid: asked.pid,
        state: query::tcp_state(asked.state.as_deref())?,
        port: asked.port,
        after: Cookie(asked.after.unwrap_or(0)),
        limit: query::limit(asked.limit)?,
    };
    let found = app.backend.desk.sockets(filter).await?;
    let clock = WallClock::read();
    let next = found.sockets.last().map(|it| it.socket.cookie.0).filter(|_| found.more);
    let sockets = found.sockets.iter().map(|it| KnownSocket::new(it, clock)).collect();
    Ok(Reply::ok(SocketPage { sockets, next }))
}

/// Findings that are open, with their age at this moment.
#[utoipa::path(get, path = "/api/v1/findings", tag = "kernel", params(FindingQuery), responses(
    (status = 200, description = "By number", body = FindingPage),
    (status = 400, description = "The query is wrong", body = ErrorBody),
    (status = 503, description = "The daemon is ending", body = ErrorBody)))]
pub(crate) async fn findings(State(app): State<App>, uri: Uri) -> Result<Reply, ApiError> {
    let asked: FindingQuery = query::parse(&uri)?;
    let (kind, limit) = (query::kind(asked.kind.as_deref())?, query::limit(asked.limit)?);
    let explained = asked.explain.unwrap_or(false);
    let Findings { open, ignored } = app.backend.desk.findings(explained).await?;
    let (now, clock) = (clock::now(), WallClock::read());
    let wanted = open.iter().filter(|it| {
        kind.is_none_or(|kind| it.kind == kind) && asked.pid.is_none_or(|pid| it.process.pid == pid)
    });
    let is_seen = |id: u64| asked.after.is_some_and(|after| id <= after);
    let (page, more) = query::page(wanted, |it| is_seen(it.id), limit);
    let findings: Vec<_> = page.into_iter().map(|it| Finding::new(it, now, clock)).collect();
    let next = findings.last().map(|it| it.id).filter(|_| more);
    Ok(Reply::ok(FindingPage { findings, next, ignored }))
}
