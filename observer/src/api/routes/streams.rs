//! What happens from now on, as streams.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use crate::{
    api::{
        error::ApiError,
        feed::{Entry, Feed, Format, entry},
        query,
        shapes::{self, ErrorBody, Finding, Message, MessageNews, PoolEvent},
    },
    clock::WallClock,
    desk::News,
};

/// The types of [`shapes::News`] that can be chosen. A gap is always told.
const TYPES: [&str; 3] = ["finding", "loss", "pool"];

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// `finding`, `loss` and `pool`, separated by commas; all unless given.
    types: Option<String>,
    /// Whether a finding that opens comes with what happened to its socket (`history`) and its
    /// call stack (`stack`); `false` unless given.
    explain: Option<bool>,
}

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MessageQuery {
    /// Of this device only.
    device: Option<String>,
}

/// Findings, losses and what the pool says, from now on. Server-sent events if `Accept` names them,
/// else one JSON object a line. A reader that is too slow gets an entry of the type `gap`.
#[utoipa::path(get, path = "/api/v1/events", tag = "streams", params(EventQuery), responses(
    (status = 200, description = "Without end", content(
        (shapes::News = "application/x-ndjson"), (String = "text/event-stream"))),
    (status = 400, description = "The query is wrong", body = ErrorBody)))]
pub(crate) async fn events(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let asked: EventQuery = query::parse(&uri)?;
    let wanted = wanted(asked.types.as_deref())?;
    let explain = asked.explain.unwrap_or(false);
    let pick = move |news: News| render(&news, explain).filter(|(kind, _)| wanted.contains(kind));
    Ok(feed(&app, app.backend.desk.news(), pick, &headers))
}

/// What devices receive, from now on. The formats are those of `/api/v1/events`.
#[utoipa::path(get, path = "/api/v1/messages", tag = "streams", params(MessageQuery), responses(
    (status = 200, description = "Without end", content(
        (MessageNews = "application/x-ndjson"), (String = "text/event-stream"))),
    (status = 400, description = "The query is wrong", body = ErrorBody),
    (status = 404, description = "There is no pool", body = ErrorBody)))]
pub(crate) async fn messages(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let asked: MessageQuery = query::parse(&uri)?;
    app.pool()?;
    let pick = move |message: Arc<pool::Message>| {
        let wanted = asked.device.as_deref().is_none_or(|id| message.device.as_str() == id);
        let shape = || MessageNews::Message(Message::new(&message));
        wanted.then(shape).and_then(|news| entry("message", &news))
    };
    Ok(feed(&app, app.backend.messages.subscribe(), pick, &headers))
}

fn feed<T: Clone + Send + 'static>(
    app: &App,
    source: tokio::sync::broadcast::Receiver<T>,
    pick: impl Fn(T) -> Option<Entry> + Send + 'static,
    headers: &HeaderMap,
) -> Response {
    let format = Format::of(headers);
    let counters = Arc::clone(&app.backend.counters);
    Feed { source, pick, format, counters, ending: app.ending.clone() }.into_response()
}

fn wanted(types: Option<&str>) -> Result<Vec<&'static str>, ApiError> {
    let Some(types) = types else { return Ok(TYPES.to_vec()) };
    let find = |name: &str| {
        TYPES
            .into_iter()
            .find(|known| *known == name)
            .ok_or_else(|| ApiError::field("types", format!("types may be {}", TYPES.join(", "))))
    };
    types.split(',').map(find).collect()
}

fn render(news: &News, explain: bool) -> Option<Entry> {
    match news {
        News::Finding(finding) => {
            let mut shape = Finding::new(finding, finding.time, WallClock::read());
            if !explain {
                shape.unexplain();
            }
            entry("finding", &shapes::News::Finding(Box::new(shape)))
        }
        News::Loss { cause, lost } => {
            entry("loss", &shapes::News::Loss { cause: (*cause).to_owned(), lost: *lost })
        }
        News::Pool(event) => entry("pool", &shapes::News::Pool(Box::new(PoolEvent::new(event)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_that_exist_can_be_chosen() {
        assert_eq!(wanted(None).ok(), Some(TYPES.to_vec()));
        assert_eq!(wanted(Some("pool,finding")).ok(), Some(vec!["pool", "finding"]));
        for wrong in ["", "gap", "pool,", "Pool"] {
            assert!(wanted(Some(wrong)).is_err(), "{wrong:?}");
        }
    }
}
