//! How the daemon is.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};

use super::App;
use crate::{
    api::{body::Reply, error::ApiError, openapi, shapes::ErrorBody, shapes::Health},
    clock,
};

/// Whether the daemon's loops go round; if not, restart it.
#[utoipa::path(get, path = "/healthz", tag = "daemon", responses(
    (status = 200, description = "Alive", body = Health),
    (status = 503, description = "A loop stands still", body = Health)))]
pub(crate) async fn healthz(State(app): State<App>) -> Reply {
    let report = app.backend.health.report(clock::now());
    answer(report.alive, report)
}

/// Whether the daemon does what it is for, what it has attached, and what it may still do.
#[utoipa::path(get, path = "/readyz", tag = "daemon", responses(
    (status = 200, description = "Ready", body = Health),
    (status = 503, description = "Not ready, with the reasons", body = Health)))]
pub(crate) async fn readyz(State(app): State<App>) -> Reply {
    let report = app.backend.health.report(clock::now());
    answer(report.ready, report)
}

/// Everything that is counted, in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "daemon", responses(
    (status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain"),
    (status = 503, description = "The daemon is ending", body = ErrorBody)))]
pub(crate) async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, ApiError> {
    let text = (app.backend.metrics)().await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "daemon", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document())
}

fn answer(is_well: bool, report: Health) -> Reply {
    Reply::with(if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
}
