//! PURE. The part behind `?`: what is not known is an error, for a filter that was misspelt would
//! else show too much.

use axum::{
    extract::Query,
    http::{StatusCode, Uri},
};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::{detect::Kind, model::TcpState};

/// Rows of a page unless the client says otherwise.
const USUAL: usize = 1_000;

/// Most rows of a page: some megabytes of JSON.
const MOST: usize = 10_000;

/// The parameters of `uri`.
///
/// # Errors
///
/// 400 for one that is unknown, twice there or of the wrong type.
pub(super) fn parse<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    Query::try_from_uri(uri).map(|Query(query)| query).map_err(|error| {
        let told = error.body_text();
        let problem = told.rsplit_once("query string: ").map_or(&*told, |(_, problem)| problem);
        ApiError::new(StatusCode::BAD_REQUEST, "invalid-query", problem)
    })
}

/// How many rows a page has.
///
/// # Errors
///
/// 400 outside 1 to 10,000.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, ApiError> {
    match asked.unwrap_or(USUAL) {
        limit @ 1..=MOST => Ok(limit),
        _ => Err(ApiError::field("limit", format!("limit may be 1 to {MOST}"))),
    }
}

/// The page after what `is_seen`, of rows that are in order, and whether there are more.
pub(super) fn page<T>(
    rows: impl Iterator<Item = T>,
    is_seen: impl Fn(&T) -> bool,
    limit: usize,
) -> (Vec<T>, bool) {
    let mut rows = rows.filter(|row| !is_seen(row));
    let page: Vec<T> = rows.by_ref().take(limit).collect();
    (page, rows.next().is_some())
}

/// The kind of finding with this code.
///
/// # Errors
///
/// 400 with those that there are.
pub(super) fn kind(code: Option<&str>) -> Result<Option<Kind>, ApiError> {
    one_of("kind", code, Kind::from_code, Kind::ALL.map(Kind::code))
}

/// The TCP state of this name, in any case.
///
/// # Errors
///
/// As [`kind`].
pub(super) fn tcp_state(name: Option<&str>) -> Result<Option<TcpState>, ApiError> {
    let find = |name: &str| {
        TcpState::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(name))
    };
    one_of("state", name, find, TcpState::ALL.map(TcpState::name))
}

/// The state of a device of this name.
///
/// # Errors
///
/// As [`kind`].
pub(super) fn device_state(name: Option<&str>) -> Result<Option<pool::State>, ApiError> {
    let find = |name: &str| pool::State::ALL.into_iter().find(|state| state.name() == name);
    one_of("state", name, find, pool::State::ALL.map(pool::State::name))
}

fn one_of<T, const N: usize>(
    field: &str,
    given: Option<&str>,
    find: impl Fn(&str) -> Option<T>,
    all: [&str; N],
) -> Result<Option<T>, ApiError> {
    given
        .map(|given| {
            find(given).ok_or_else(|| {
                ApiError::field(field, format!("{field} may be one of {}", all.join(", ")))
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Given {
        pid: Option<u32>,
    }

    #[test]
    fn only_known_parameters_are_taken() {
        let parse = |text: &str| {
            let uri: Uri = text.parse().expect("invariant: a valid address");
            parse::<Given>(&uri).map(|given| given.pid).map_err(|error| error.message)
        };
        assert_eq!(parse("/x"), Ok(None));
        assert_eq!(parse("/x?pid=7"), Ok(Some(7)));
        for (text, part) in [
            ("/x?pdi=7", "unknown field `pdi`"),
            ("/x?pid=7&pid=8", "duplicate field `pid`"),
            ("/x?pid=-1", "invalid digit"),
        ] {
            let message = parse(text).expect_err("invariant: all are wrong");
            assert!(message.contains(part) && !message.contains("Failed"), "{text}: {message}");
        }
    }

    #[test]
    fn pages_hold_what_was_asked_for() {
        assert_eq!(limit(None).ok(), Some(1_000));
        assert_eq!(limit(Some(1)).ok(), Some(1));
        assert_eq!(limit(Some(10_000)).ok(), Some(10_000));
        assert!(limit(Some(0)).is_err() && limit(Some(10_001)).is_err());
        assert_eq!(page(1..6, |row| *row <= 2, 2), (vec![3, 4], true));
        assert_eq!(page(1..6, |row| *row <= 3, 2), (vec![4, 5], false));
        assert_eq!(page(1..6, |row| *row <= 5, 2), (vec![], false));
    }

    #[test]
    fn names_are_those_of_the_tables() {
        assert_eq!(kind(Some("close-wait")).ok().flatten(), Some(Kind::CloseWait));
        assert_eq!(tcp_state(Some("close_wait")).ok().flatten(), Some(TcpState::CloseWait));
        assert_eq!(device_state(Some("online")).ok().flatten(), Some(pool::State::Online));
        assert_eq!(kind(None), Ok(None));
        let error = kind(Some("zombie")).expect_err("invariant: no kind");
        assert_eq!(error.field.as_deref(), Some("kind"));
        assert!(error.message.contains("close-wait-buildup, dead-fd"), "{error}");
        assert!(tcp_state(Some("OPEN")).is_err() && device_state(Some("gone")).is_err());
    }
}
