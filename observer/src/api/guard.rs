//! EDGE: what every request goes through: the gate, the body, the clock, the log, the counters.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::time::timeout;

use super::{
    body,
    error::ApiError,
    gate::{self, Door},
    routes::{self, App},
};
use crate::escape;

/// Longest path in the log, characters.
const LOGGED: usize = 200;

/// Lets a request through, or answers for the route.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    // Without a door nobody is let in: a router that was wired wrongly must not be open.
    let Some(door) = request.extensions().get::<Door>().cloned() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let path = escape::short(request.uri().path(), LOGGED).into_owned();
    let mut answer = match admit(&app, &door, request).await {
        Ok(request) => answer(&app, request, next).await,
        Err(error) => error.into_response(),
    };
    let status = answer.status();
    app.backend.counters.answered(
        method.as_str(),
        route.as_ref().map(MatchedPath::as_str),
        status.as_u16(),
    );
    if let (true, Door::Unix(peer)) = (gate::is_write(&method), &door) {
        let method = escape::short(method.as_str(), 16);
        let pid = peer.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        log::info!(
            "uid {} gid {} pid {pid}: {method} {path}: {}",
            peer.uid,
            peer.gid,
            status.as_u16()
        );
    }
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Through the gate, and the whole body in time.
async fn admit(app: &App, door: &Door, request: Request) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    gate::check(door, &app.rule, &parts)?;
    if routes::claims::is_stream(&parts.uri) {
        // It has no end: the route reads it line by line.
        return Ok(Request::from_parts(parts, body));
    }
    let limits = &app.backend.limits;
    let told = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let whole = timeout(limits.request_timeout, body::read(body, told, limits.max_body)).await;
    let whole = whole.map_err(|_| {
        let message = format!("the body was not there after {:?}", limits.request_timeout);
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", message)
    })??;
    Ok(Request::from_parts(parts, Body::from(whole)))
}

async fn answer(app: &App, request: Request, next: Next) -> Response {
    if routes::claims::is_stream(request.uri()) {
        return next.run(request).await;
    }
    let patience = patience(app, &request);
    match timeout(patience, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("there was no answer within {patience:?}: the daemon is busy");
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "busy", message).into_response()
        }
    }
}

/// How long the answer may take; the stream that follows it has no end.
fn patience(app: &App, request: &Request) -> Duration {
    if routes::devices::waits_for_session(request.uri()) {
        routes::devices::LONGEST_WAIT
    } else {
        app.backend.limits.request_timeout
    }
}
