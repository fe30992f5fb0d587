//! Client ids that look like one device's: a stable part, and a token that is new each time.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use super::course::Twins;
use crate::{
    model::{MonoTime, ProcessKey},
    trends::{View, connections::Connection},
};

/// Pairs that are named at most.
const MOST: usize = 5;

/// Characters of a token at the least. Chosen: fewer are a channel or a room, not a time or chance.
const SHORTEST_TOKEN: usize = 3;

/// Ids longer than this are not looked at: it bounds the work that a stranger's text can cause.
const LONGEST_ID: usize = 256;

/// Of so many stable parts all but one must have had one connection, or the last token is the
/// device: 90 %.
const SHARED: usize = 10;

/// The pairs among the connections of a process, where `began` divides the older from the newer.
/// The first pairs by time.
pub(super) fn twins(
    process: ProcessKey,
    remote: SocketAddr,
    began: MonoTime,
    view: &View<'_>,
) -> Twins {
    let named = view.connections.unordered().filter(|it| {
        it.process == process
            && it.remote == remote
            && it.client.as_ref().is_some_and(|id| id.len() <= LONGEST_ID)
    });
    let (older, newer): (Vec<_>, Vec<_>) =
        named.partition(|it| it.established.is_some_and(|established| established < began));
    let is_whole = |it: &Connection| {
        let socket = view.table.socket(it.cookie);
        socket.and_then(|it| it.client.as_ref()).is_none_or(|name| !name.is_cut)
    };
    let mut pairs: Vec<_> = pairs(&older, &newer)
        .into_iter()
        .filter(|(old, new)| is_whole(old) && is_whole(new))
        .collect();
    pairs.sort_unstable_by_key(|(old, new)| (new.established, new.cookie, old.cookie));
    let id = |it: &Connection| it.client.as_ref().map(Arc::clone);
    pairs.into_iter().filter_map(|(old, new)| Some((id(old)?, id(new)?))).take(MOST).collect()
}

fn pairs<'a>(
    older: &[&'a Connection],
    newer: &[&'a Connection],
) -> Vec<(&'a Connection, &'a Connection)> {
    let mut stems: HashMap<&str, (usize, &Connection)> = HashMap::with_capacity(older.len());
    let mut wholes: HashMap<&str, &Connection> = HashMap::new();
    for connection in older {
        let Some(id) = connection.client.as_deref() else { continue };
        stems.entry(stem(id).unwrap_or(id)).or_insert((0, connection)).0 += 1;
    }
    let wanted: std::collections::HashSet<_> =
        newer.iter().filter_map(|it| stem(it.client.as_deref()?)).collect();
    for connection in older {
        if let Some(id) = connection.client.as_deref().filter(|id| wanted.contains(id)) {
            wholes.insert(id, connection);
        }
    }
    let shared = stems.values().filter(|(count, _)| *count > 1).count();
    let tells = shared * SHARED <= stems.len();
    let pair = |new: &&'a Connection| {
        let stem = stem(new.client.as_deref()?)?;
        // The first client of a device may have had no token.
        let whole = wholes.get(stem).copied();
        let alone = stems.get(stem).filter(|(count, _)| tells && *count == 1).map(|(_, it)| *it);
        let old = whole.or(alone)?;
        (old.client != new.client).then_some((old, *new))
    };
    newer.iter().filter_map(pair).collect()
}

/// What stands before the last separator, if a token follows it.
fn stem(id: &str) -> Option<&str> {
    let at = id.rfind(['-', '_', '.', '/', ':'])?;
    let token = &id[at + 1..];
    let is_token =
        token.len() >= SHORTEST_TOKEN && token.bytes().all(|it| it.is_ascii_alphanumeric());
    (is_token && at > 0).then_some(&id[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cookie;

    fn connection((number, id): (usize, &String)) -> Connection {
        let remote = SocketAddr::from(([127, 0, 0, 1], 1883));
        Connection {
            cookie: Cookie(number as u64),
            process: ProcessKey { pid: 1, start_ns: 1 },
            local: remote.ip(),
            remote,
            opened: None,
            established: Some(MonoTime::from_nanos(number as u64)),
            client: Some(id.as_str().into()),
            is_cut: false,
            named: None,
            netns: 1,
        }
    }

    fn found(older: &[String], newer: &[String]) -> Vec<(String, String)> {
        let older: Vec<_> = older.iter().enumerate().map(connection).collect();
        let newer: Vec<_> = newer.iter().enumerate().map(connection).collect();
        let name = |it: &Connection| it.client.as_deref().unwrap_or_default().to_owned();
        pairs(&older.iter().collect::<Vec<_>>(), &newer.iter().collect::<Vec<_>>())
            .into_iter()
            .map(|(old, new)| (name(old), name(new)))
            .collect()
    }

    #[test]
    fn what_a_stem_is() {
        let cases = [
            ("dev-17-a8f3", Some("dev-17")),
            ("dev-17_1699999999", Some("dev-17")),
            ("site/7:9f2", Some("site/7")),
            ("dev-17", None),
            ("dev-17-", None),
            ("dev-17-a8", None),
            ("dev-17-a8 f", None),
            ("-a8f3", None),
            ("a8f3", None),
            ("", None),
            ("ä-ööö", None),
        ];
        for (id, expected) in cases {
            assert_eq!(stem(id), expected, "{id}");
        }
    }

    #[test]
    fn who_looks_like_whom() {
        let numbered = |prefix: &str, count: usize, suffix: &str| -> Vec<String> {
            (0..count).map(|number| format!("{prefix}{number}{suffix}")).collect()
        };
        let fleet = numbered("dev-", 40, "-a8f3");
        let expected = [("dev-3-a8f3".to_owned(), "dev-3-77aa".to_owned())];
        assert_eq!(found(&fleet, &["dev-3-77aa".to_owned()]), expected, "a new token");
        let bare = numbered("dev-1", 40, "");
        let expected = [("dev-13".to_owned(), "dev-13-77aa".to_owned())];
        assert_eq!(found(&bare, &["dev-13-77aa".to_owned()]), expected, "no token at first");
        let bare = numbered("dev-10", 40, "");
        let expected = [("dev-103".to_owned(), "dev-103-77aa".to_owned())];
        assert_eq!(found(&bare, &["dev-103-77aa".to_owned()]), expected, "the number is a token");
        let rooms = numbered("sensor-kitchen-10", 9, "");
        assert_eq!(
            found(&rooms, &["sensor-kitchen-109".to_owned()]),
            [],
            "the token is the device"
        );
        let mut mixed = numbered("dev-", 18, "-a8f3");
        mixed.extend(["hub-aaa".to_owned(), "hub-bbb".to_owned()]);
        assert_eq!(found(&mixed, &["dev-3-77aa".to_owned()]).len(), 1, "one of 19 is shared");
        mixed.extend(numbered("cam-", 3, "-aaa"));
        mixed.extend(numbered("cam-", 3, "-bbb"));
        assert_eq!(found(&mixed, &["dev-3-77aa".to_owned()]), [], "four of 22 are shared");
        assert_eq!(found(&fleet, &["dev-3-a8f3".to_owned()]), [], "the same id is no twin");
    }
}
