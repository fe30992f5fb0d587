//! EDGE: a process tells which of its sockets is which device's.

mod lines;

use std::sync::Arc;

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, Uri},
};
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use utoipa::IntoParams;

use self::lines::Lines;
use super::App;
use crate::{
    api::{
        body::{self, Reply},
        error::ApiError,
        gate::Door,
        query,
        shapes::{ClaimLine, Claims, ClaimsTaken, ErrorBody},
    },
    claims::{Counts, LONGEST_DEVICE, Refusal, Statement},
    desk::Claiming,
    procs,
};

/// Where the stream is: its body has no end, so the guard does not wait for it.
const STREAM: &str = "/api/v1/claims/stream";

/// How long claims hold unless the request says so, seconds: six of the usual ten seconds.
const LEASE: u32 = 60;

/// How long they may hold, seconds.
const LEASES: std::ops::RangeInclusive<u32> = 5..=3_600;

/// Whose stream.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClaimsQuery {
    /// The process, as the host numbers it; that of the client unless given.
    pid: Option<u32>,
}

/// Whether the body of a request to `uri` is a stream.
pub(in crate::api) fn is_stream(uri: &Uri) -> bool {
    uri.path() == STREAM
}

/// The whole registry of a process: which of its sockets is which device's. It replaces what the
/// process said before, an empty list withdraws everything. A process may claim for those of its own
/// user, root for all.
#[utoipa::path(put, path = "/api/v1/claims", tag = "claims", request_body = Claims, responses(
    (status = 200, description = "They are taken", body = ClaimsTaken),
    (status = 400, description = "The body is wrong", body = ErrorBody),
    (status = 403, description = "Not by this way, or not for this process", body = ErrorBody),
    (status = 404, description = "There is no such process", body = ErrorBody),
    (status = 409, description = "The process is not watched", body = ErrorBody),
    (status = 413, description = "There are too many", body = ErrorBody)))]
pub(crate) async fn put(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    uri: Uri,
    body: Bytes,
) -> Result<Reply, ApiError> {
    let super::devices::Nothing {} = query::parse(&uri)?;
    let given: Claims = body::parse(&body)?;
    let lease = given.lease_s.unwrap_or(LEASE);
    if !LEASES.contains(&lease) {
        return Err(ApiError::field("lease_s", "lease_s may be 5 to 3600"));
    }
    let pid = process(&door, given.pid)?;
    let claims = lines::claims(given.claims)?;
    let lease = Some(std::time::Duration::from_secs(lease.into()));
    let statements = vec![Statement::All { claims, lease }];
    let counts = told(&app, Claiming { pid, statements, stream: None }).await?;
    Ok(Reply::ok(taken(pid, counts)))
}

/// The registry of a process as it changes, one JSON object a line, for as long as the request lasts.
/// An empty line says that all still stands. After the end the claims hold for 30 s. The answer
/// comes at the end; at a broken line it comes at once, and the lines before it stay.
#[utoipa::path(post, path = "/api/v1/claims/stream", tag = "claims", params(ClaimsQuery),
    request_body(content = ClaimLine, content_type = "application/x-ndjson"), responses(
    (status = 200, description = "The stream has ended", body = ClaimsTaken),
    (status = 400, description = "A line is wrong: the message begins with its number",
        body = ErrorBody),
    (status = 403, description = "Not by this way, or not for this process", body = ErrorBody),
    (status = 404, description = "There is no such process", body = ErrorBody),
    (status = 409, description = "The process is not watched", body = ErrorBody),
    (status = 413, description = "There are too many, or a line is too long", body = ErrorBody)))]
pub(crate) async fn stream(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    uri: Uri,
    body: Body,
) -> Result<Reply, ApiError> {
    let asked: ClaimsQuery = query::parse(&uri)?;
    let pid = process(&door, asked.pid)?;
    // Whoever drops it ends the stream, also when the client hangs up and this future is dropped.
    let token = Arc::new(());
    let begin = vec![Statement::Begin];
    let stream = Some(Arc::downgrade(&token));
    let mut counts = told(&app, Claiming { pid, statements: begin, stream }).await?;
    let mut parts = body.into_data_stream();
    let mut lines = Lines::new(app.backend.limits.max_body);
    let mut ending = app.ending.clone();
    loop {
        let part = tokio::select! {
            part = parts.try_next() => part,
            _ = ending.wait_for(|ending| *ending) => Ok(None),
        };
        // A client that hangs up is at its end too.
        let part = part.unwrap_or_default();
        let is_end = part.is_none();
        let (statements, broken) = match part {
            Some(part) => lines.take(&part),
            None => lines.end(),
        };
        if !statements.is_empty() {
            counts = told(&app, Claiming { pid, statements, stream: None }).await?;
        }
        if let Some(broken) = broken {
            return Err(broken);
        }
        if is_end {
            drop(token);
            return Ok(Reply::ok(taken(pid, counts)));
        }
    }
}

async fn told(app: &App, claiming: Claiming) -> Result<Counts, ApiError> {
    Ok(app.backend.desk.claims(claiming).await??)
}

fn taken(pid: u32, counts: Counts) -> ClaimsTaken {
    let Counts { matched, unmatched } = counts;
    ClaimsTaken { pid, matched, unmatched }
}

/// The process that is meant, if the client may speak for it.
fn process(door: &Door, asked: Option<u32>) -> Result<u32, ApiError> {
    let Door::Unix(peer) = door else {
        return Err(ApiError::forbidden("read-only", "claims are taken by the Unix socket only"));
    };
    let own = peer.pid.and_then(|pid| u32::try_from(pid).ok());
    let Some(pid) = asked.or(own) else {
        return Err(ApiError::field("pid", "give `pid`: that of the client is not known here"));
    };
    let Some((real, effective)) = procs::users(pid) else {
        let message = format!(
            "there is no process {pid}: give its number as the host sees it (`ps -e`), or leave \
             `pid` out to claim for the client itself"
        );
        return Err(ApiError::new(StatusCode::NOT_FOUND, "unknown-process", message));
    };
    // Both: a program with other rights than its user's is not that user's to speak for.
    if peer.uid != 0 && (real != peer.uid || effective != peer.uid) {
        let message = format!(
            "uid {} may not claim for process {pid} of uid {effective}: claim as its user, or as \
             root",
            peer.uid
        );
        return Err(ApiError::forbidden("not-your-process", message));
    }
    Ok(pid)
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match refusal {
            Refusal::NotWatched => (StatusCode::CONFLICT, "not-watched"),
            Refusal::Ourselves => (StatusCode::CONFLICT, "own-pool"),
            Refusal::TooManyProcesses => (StatusCode::PAYLOAD_TOO_LARGE, "too-many-processes"),
            Refusal::TooManyClaims => (StatusCode::PAYLOAD_TOO_LARGE, "too-many-claims"),
        };
        Self::new(status, code, refusal.to_string())
    }
}

/// A device may be called this.
fn check_device(device: &str) -> Result<(), ApiError> {
    if device.is_empty() || device.len() > LONGEST_DEVICE {
        return Err(ApiError::field("device", "device may have 1 to 1,024 bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::peer::Peer;

    fn code(uid: u32, own: Option<i32>, asked: Option<u32>) -> Result<u32, &'static str> {
        let door = Door::Unix(Peer { uid, gid: 0, pid: own, groups: Vec::new() });
        process(&door, asked).map_err(|error| error.code)
    }

    #[test]
    fn a_client_speaks_for_its_own_user_and_root_for_all() {
        let me = std::process::id();
        let own = i32::try_from(me).ok();
        let (uid, _) = procs::users(me).expect("this process lives");
        assert_eq!(code(uid, own, None), Ok(me));
        assert_eq!(code(uid, None, Some(me)), Ok(me));
        assert_eq!(code(0, own, Some(1)), Ok(1));
        assert_eq!(code(uid + 7, own, Some(me)), Err("not-your-process"));
        assert_eq!(code(uid + 7, own, None), Err("not-your-process"));
        assert_eq!(code(uid, None, None), Err("invalid-field"));
        // Above the kernel's own limit (PID_MAX_LIMIT, 4,194,304).
        assert_eq!(code(uid, own, Some(4_194_305)), Err("unknown-process"));
        assert_eq!(process(&Door::Tcp, Some(me)).map_err(|it| it.code), Err("read-only"));
    }
}
