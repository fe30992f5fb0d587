//! PURE. What a client is told when its request was not served.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{RosterError, body::Reply};
use crate::desk::Gone;

/// The body of every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorFacts,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorFacts {
    /// A stable name, for programs.
    pub code: String,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// The field or parameter that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) field: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None }
    }

    /// The request is wrong in this field.
    pub(super) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let field = Some(field.into());
        Self { field, ..Self::new(StatusCode::BAD_REQUEST, "invalid-field", message) }
    }

    /// Only who is trusted may do this.
    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error =
            ErrorFacts { code: self.code.to_owned(), message: self.message, field: self.field };
        Reply::with(self.status, ErrorBody { error }).into_response()
    }
}

impl From<Gone> for ApiError {
    fn from(gone: Gone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ending", gone.to_string())
    }
}

impl From<pool::Error> for ApiError {
    fn from(error: pool::Error) -> Self {
        use pool::{CallerError, Error};
        let (status, code) = match &error {
            Error::Caller(CallerError::UnknownDevice(_)) => {
                (StatusCode::NOT_FOUND, "unknown-device")
            }
            Error::Caller(CallerError::DuplicateDevice(_)) => {
                (StatusCode::CONFLICT, "device-exists")
            }
            Error::Caller(CallerError::DuplicateClientId { .. }) => {
                (StatusCode::CONFLICT, "client-id-taken")
            }
            Error::Caller(CallerError::InvalidField { field, .. }) => {
                return Self::field(*field, error.to_string());
            }
            Error::Caller(CallerError::PacketTooLarge { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "packet-too-large")
            }
            Error::Caller(CallerError::OutboxFull { .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, "outbox-full")
            }
            Error::Caller(_) => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
            Error::Operator(_) => (StatusCode::INSUFFICIENT_STORAGE, "no-room"),
            Error::Session(cause) => (StatusCode::BAD_GATEWAY, cause.code()),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "pool"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<RosterError> for ApiError {
    fn from(error: RosterError) -> Self {
        let message = error.to_string();
        let (status, code) = match error {
            RosterError::Invalid { field, .. } => {
                return Self {
                    field,
                    ..Self::new(StatusCode::BAD_REQUEST, "invalid-device", message)
                };
            }
            RosterError::Exists(_) => (StatusCode::CONFLICT, "device-exists"),
            RosterError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown-device"),
            RosterError::OfTheFile(_) => (StatusCode::CONFLICT, "device-of-the-file"),
            RosterError::Pool(error) => return error.into(),
            RosterError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
            RosterError::HalfDone(_) => (StatusCode::INTERNAL_SERVER_ERROR, "half-done"),
            RosterError::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
        };
        Self::new(status, code, message)
    }
}
