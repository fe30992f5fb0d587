//! The fleet: who is in it, who comes and goes, who gets a new session.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{StatusCode, Uri},
};
use bytes::Bytes;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{App, no_pool};
use crate::{
    api::{
        Roster, body,
        body::Reply,
        error::ApiError,
        query,
        shapes::{AllReconnected, Device, DevicePage, ErrorBody, Reconnected},
    },
    fleet::DeviceSpec,
};

/// How long a client may wait for a session: a storm of 4,000 devices under the gentlest profile
/// takes 192 s.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Which devices.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeviceQuery {
    /// In this state of the pool.
    state: Option<String>,
    /// Only those after this name.
    after: Option<String>,
    /// At most so many, 1 to 10,000; 1,000 unless given.
    limit: Option<usize>,
}

/// How to reconnect.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReconnectQuery {
    /// Answer when the new session is online, within 300 s.
    #[param(required = false)]
    wait: bool,
}

/// Devices of the pool. Passwords are not shown.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", params(DeviceQuery), responses(
    (status = 200, description = "By name", body = DevicePage),
    (status = 400, description = "The query is wrong", body = ErrorBody),
    (status = 404, description = "There is no pool", body = ErrorBody)))]
pub(crate) async fn list(State(app): State<App>, uri: Uri) -> Result<Reply, ApiError> {
    let asked: DeviceQuery = query::parse(&uri)?;
    let limit = query::limit(asked.limit)?;
    let state = query::device_state(asked.state.as_deref())?;
    let pool = app.pool()?;
    let mut entries = roster(&app)?.list();
    entries.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    // One that leaves at this moment is in the roster, and not in the pool any more.
    let devices = entries.into_iter().filter_map(|entry| {
        let status = pool.device(&entry.id).ok()?;
        state.is_none_or(|state| status.state == state).then(|| Device::new(entry, &status))
    });
    let is_seen = |id: &str| asked.after.as_deref().is_some_and(|after| id <= after);
    let (devices, more) = query::page(devices, |it| is_seen(&it.id), limit);
    let next = devices.last().map(|it| it.id.clone()).filter(|_| more);
    Ok(Reply::ok(DevicePage { devices, next }))
}

/// Adds a device. When this is answered, it survives a restart of the daemon.
#[utoipa::path(post, path = "/api/v1/devices", tag = "devices", request_body = DeviceSpec, responses(
    (status = 201, description = "It is in the pool", body = Device),
    (status = 400, description = "It is no device", body = ErrorBody),
    (status = 403, description = "Not by this way", body = ErrorBody),
    (status = 404, description = "There is no pool", body = ErrorBody),
    (status = 409, description = "Its name or client id is taken", body = ErrorBody),
    (status = 507, description = "No descriptors are left for it", body = ErrorBody)))]
pub(crate) async fn add(State(app): State<App>, uri: Uri, body: Bytes) -> Result<Reply, ApiError> {
    let Nothing {} = query::parse(&uri)?;
    let spec: DeviceSpec = body::parse(&body)?;
    pool::DeviceId::new(&spec.id).map_err(|error| ApiError::field("id", error.to_string()))?;
    let (id, roster) = (spec.id.clone(), Arc::clone(roster(&app)?));
    let keeper = Arc::clone(&roster);
    app.jobs.run(async move { keeper.add(spec).await }).await??;
    let status = app.pool()?.device(&id)?;
    let entry = roster.list().into_iter().find(|entry| entry.id == id);
    let entry = entry.ok_or_else(|| {
        let message = format!("device {id} was added, and removed again at once");
        ApiError::new(StatusCode::NOT_FOUND, "unknown-device", message)
    })?;
    Ok(Reply::with(StatusCode::CREATED, Device::new(entry, &status)))
}

/// Removes a device that came by the API. When this is answered, its socket is gone.
#[utoipa::path(delete, path = "/api/v1/devices/{id}", tag = "devices",
    params(("id" = String, Path, description = "Name of the device, percent-encoded")), responses(
    (status = 204, description = "It is gone"),
    (status = 400, description = "This is no name", body = ErrorBody),
    (status = 403, description = "Not by this way", body = ErrorBody),
    (status = 404, description = "There is no such device", body = ErrorBody),
    (status = 409, description = "It comes from the file of the fleet", body = ErrorBody)))]
pub(crate) async fn remove(
    State(app): State<App>,
    uri: Uri,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Nothing {} = query::parse(&uri)?;
    let (id, roster) = (device_id(id)?, Arc::clone(roster(&app)?));
    app.jobs.run(async move { roster.remove(&id).await }).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces a device's session by a new one when its turn has come.
#[utoipa::path(post, path = "/api/v1/devices/{id}/reconnect", tag = "devices",
    params(("id" = String, Path, description = "Name of the device, percent-encoded"),
        ReconnectQuery), responses(
    (status = 200, description = "The new session is online", body = Reconnected),
    (status = 202, description = "It is asked for", body = Reconnected),
    (status = 400, description = "This is no name", body = ErrorBody),
    (status = 403, description = "Not by this way", body = ErrorBody),
    (status = 404, description = "There is no such device", body = ErrorBody),
    (status = 502, description = "The connect failed; the device goes on trying", body = ErrorBody),
    (status = 504, description = "Its turn has not come yet", body = ErrorBody)))]
pub(crate) async fn reconnect(
    State(app): State<App>,
    uri: Uri,
    id: Result<Path<String>, PathRejection>,
) -> Result<Reply, ApiError> {
    let asked: ReconnectQuery = query::parse(&uri)?;
    let (device, pool) = (device_id(id)?, app.pool()?);
    if asked.wait {
        let generation = Some(pool.reconnect(&device).await?.number());
        return Ok(Reply::ok(Reconnected { device, generation }));
    }
    pool.request_reconnect(&device, pool::ReconnectOptions::default())?;
    Ok(Reply::with(StatusCode::ACCEPTED, Reconnected { device, generation: None }))
}

/// Asks for a new session of every device; each keeps its old one until it is its turn.
#[utoipa::path(post, path = "/api/v1/reconnect", tag = "devices", responses(
    (status = 202, description = "They are asked for", body = AllReconnected),
    (status = 403, description = "Not by this way", body = ErrorBody),
    (status = 404, description = "There is no pool", body = ErrorBody)))]
pub(crate) async fn reconnect_all(State(app): State<App>, uri: Uri) -> Result<Reply, ApiError> {
    let Nothing {} = query::parse(&uri)?;
    let devices = app.pool()?.reconnect_all(pool::ReconnectOptions::default())?;
    Ok(Reply::with(StatusCode::ACCEPTED, AllReconnected { devices }))
}

/// Whether the answer comes only when a session is there.
pub(crate) fn waits_for_session(uri: &Uri) -> bool {
    uri.path().ends_with("/reconnect")
        && query::parse(uri).is_ok_and(|asked: ReconnectQuery| asked.wait)
}

/// The name in the path.
///
/// # Errors
///
/// 400 for what can be no name of a device.
pub(super) fn device_id(id: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::field("id", "the name must be UTF-8"))?;
    pool::DeviceId::new(&id).map_err(|error| ApiError::field("id", error.to_string()))?;
    Ok(id)
}

/// No parameters at all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

fn roster(app: &App) -> Result<&Arc<dyn Roster>, ApiError> {
    app.backend.roster.as_ref().ok_or_else(no_pool)
}
