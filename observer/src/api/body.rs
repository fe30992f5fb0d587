//! What goes in and out: JSON in the body of a request, JSON as an answer.

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use serde::{Serialize, de::DeserializeOwned};

use super::{error::ApiError, json};

/// A JSON answer.
pub(super) struct Reply {
    status: StatusCode,
    body: Vec<u8>,
}

impl Reply {
    /// Success.
    pub(super) fn ok(value: impl Serialize) -> Self {
        Self::with(StatusCode::OK, value)
    }

    /// With another status.
    pub(super) fn with(status: StatusCode, value: impl Serialize) -> Self {
        match json::to_vec(&value) {
            Ok(body) => Self { status, body },
            // None of our types has an error of its own; a half answer would be worse than none.
            Err(_) => Self { status: StatusCode::INTERNAL_SERVER_ERROR, body: b"{}".to_vec() },
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, "application/json")], self.body).into_response()
    }
}

/// The whole body of a request, at most `most` bytes long.
///
/// # Errors
///
/// 413 for a longer one, before it was read if its length was told; 400 for one that breaks off.
pub(super) async fn read(body: Body, told: Option<u64>, most: u32) -> Result<Bytes, ApiError> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let too_long = || {
        let message = format!("the body may have {most} bytes (`max_body` of [api])");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", message)
    };
    if told.is_some_and(|told| usize::try_from(told).is_ok_and(|told| told > most)) {
        return Err(too_long());
    }
    let mut whole = BytesMut::new();
    let mut parts = body.into_data_stream();
    loop {
        let part = parts.try_next().await.map_err(|_| {
            let message = "the body broke off: send as many bytes as the header says";
            ApiError::new(StatusCode::BAD_REQUEST, "body-broken", message)
        })?;
        match part {
            None => return Ok(whole.freeze()),
            Some(part) if whole.len() + part.len() > most => return Err(too_long()),
            Some(part) => whole.extend_from_slice(&part),
        }
    }
}

/// The body as a value.
///
/// # Errors
///
/// 400, with the place of the fault. What stood there is not repeated: it may be a password.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let told = error.to_string();
        // These name fields; the others name values.
        let names_a_field = ["unknown field", "missing field", "duplicate field"];
        let problem = if names_a_field.iter().any(|start| told.starts_with(start)) {
            told
        } else {
            let what = match error.classify() {
                serde_json::error::Category::Data => "a value of the wrong type",
                _ => "no JSON",
            };
            format!("{what} at line {} column {}", error.line(), error.column())
        };
        let message = format!("the body cannot be understood: {problem}; see /api/v1/openapi.json");
        ApiError::new(StatusCode::BAD_REQUEST, "body-not-understood", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::DeviceSpec;

    #[test]
    fn what_is_wrong_in_a_body_is_told_without_its_values() {
        let cases = [
            (r#"{"id":"d","pasword":"s3cret"}"#, "unknown field `pasword`"),
            (r#"{"id":"d","password":53}"#, "a value of the wrong type at line 1"),
            (r#"{"id":"d","keep_alive_s":"s3cret"}"#, "a value of the wrong type"),
            (r#"{"id":"d","#, "no JSON at line 1 column"),
            ("\"s3cret\"", "a value of the wrong type"),
            ("", "no JSON"),
        ];
        for (body, expected) in cases {
            let error = parse::<DeviceSpec>(body.as_bytes()).expect_err("invariant: all are wrong");
            assert!(error.message.contains(expected), "{body}: {error}");
            assert!(!error.message.contains("s3cret") && !error.message.contains("53"), "{error}");
        }
    }
}
