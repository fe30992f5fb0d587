//! Publishing on a device's session.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{StatusCode, Uri},
};
use bytes::Bytes;
use tokio::time::timeout;

use super::{
    App,
    devices::{Nothing, device_id},
};
use crate::api::{
    base64, body,
    body::Reply,
    error::ApiError,
    query,
    shapes::{ErrorBody, Publication, Published},
};

/// Publishes on a device's session, or on its next one when there is none at the moment.
#[utoipa::path(post, path = "/api/v1/devices/{id}/publish", tag = "devices",
    params(("id" = String, Path, description = "Name of the device, percent-encoded")),
    request_body = Publication, responses(
    (status = 200, description = "It is delivered", body = Published),
    (status = 202, description = "It waits for a session or for the broker", body = Published),
    (status = 400, description = "The message is wrong", body = ErrorBody),
    (status = 403, description = "Not by this way", body = ErrorBody),
    (status = 404, description = "There is no such device", body = ErrorBody),
    (status = 413, description = "The message is too long", body = ErrorBody),
    (status = 429, description = "Too much waits for this device already", body = ErrorBody),
    (status = 502, description = "The broker refused it, or its session ended", body = ErrorBody)))]
pub(crate) async fn publish(
    State(app): State<App>,
    uri: Uri,
    id: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Result<Reply, ApiError> {
    let Nothing {} = query::parse(&uri)?;
    let (device, pool) = (device_id(id)?, app.pool()?);
    let message = message(body::parse(&body)?)?;
    let delivery = pool.publish(&device, message)?;
    // Half of the time that an answer may take: it should say that it waits, and not break off.
    match timeout(app.backend.limits.request_timeout / 2, delivery).await {
        Ok(outcome) => {
            outcome?;
            Ok(Reply::ok(Published { device, delivered: true }))
        }
        Err(_) => Ok(Reply::with(StatusCode::ACCEPTED, Published { device, delivered: false })),
    }
}

fn message(given: Publication) -> Result<pool::Publish, ApiError> {
    let payload = match (given.payload, given.payload_base64) {
        (Some(_), Some(_)) => {
            let message = "give `payload` or `payload_base64`, not both";
            return Err(ApiError::field("payload_base64", message));
        }
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => base64::decode(&text).ok_or_else(|| {
            let message = "this is no base64 with padding (RFC 4648 section 4)";
            ApiError::field("payload_base64", message)
        })?,
        (None, None) => Vec::new(),
    };
    let qos = match given.qos {
        0 => pool::QoS::AtMostOnce,
        1 => pool::QoS::AtLeastOnce,
        2 => pool::QoS::ExactlyOnce,
        _ => return Err(ApiError::field("qos", "qos may be 0, 1 or 2")),
    };
    let message = pool::Publish::new(given.topic, qos, payload)
        .map_err(|error| ApiError::field("topic", error.to_string()))?;
    Ok(if given.retain { message.retain() } else { message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_checked_before_it_is_published() {
        let cases = [
            (r#"{"topic":"a"}"#, None),
            (r#"{"topic":"a","payload":"x","qos":2,"retain":true}"#, None),
            (r#"{"topic":"a","payload_base64":"/w=="}"#, None),
            (r#"{"topic":"a","payload_base64":"/w"}"#, Some("payload_base64")),
            (r#"{"topic":"a","payload":"","payload_base64":""}"#, Some("payload_base64")),
            (r#"{"topic":"a","qos":3}"#, Some("qos")),
            (r#"{"topic":"a/+"}"#, Some("topic")),
            (r#"{"topic":""}"#, Some("topic")),
        ];
        for (body, field) in cases {
            let given = body::parse(body.as_bytes()).expect("invariant: the shape is right");
            let wrong = message(given).err().and_then(|error| error.field);
            assert_eq!(wrong.as_deref(), field, "{body}");
        }
        let given = Publication {
            topic: "a".into(),
            payload_base64: Some("/wA=".into()),
            qos: 1,
            retain: true,
            payload: None,
        };
        let expected = pool::Publish::new("a", pool::QoS::AtLeastOnce, vec![0xff, 0])
            .expect("invariant: a valid topic")
            .retain();
        assert_eq!(message(given).ok(), Some(expected));
    }
}
