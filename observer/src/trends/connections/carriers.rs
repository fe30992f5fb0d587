//! Which live connections carry which session, by the order of their CONNECT packets.

use std::collections::BTreeSet;

use super::{Connection, Session};
use crate::model::{Cookie, MonoTime};

/// By session, then by when the client id was said. At most one for each open connection.
#[derive(Debug, Default)]
pub(super) struct Carriers(BTreeSet<(Session, MonoTime, Cookie)>);

impl Carriers {
    pub(super) fn insert(&mut self, connection: &Connection) {
        self.0.extend(key(connection));
    }

    pub(super) fn remove(&mut self, connection: &Connection) {
        if let Some(key) = key(connection) {
            self.0.remove(&key);
        }
    }

    /// The one that said the client id of `ended` last, after `ended` and not after `at`.
    pub(super) fn successor(&self, ended: &Connection, at: MonoTime) -> Option<Cookie> {
        let (session, named, _) = key(ended)?;
        let last = self.0.range(..=(session.clone(), at, Cookie(u64::MAX))).next_back()?;
        (last.0 == session && last.1 > named).then_some(last.2)
    }
}

fn key(connection: &Connection) -> Option<(Session, MonoTime, Cookie)> {
    Some((connection.session()?, connection.named?, connection.cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_said_the_same_last_after_the_ended_one_and_before_its_end() {
        let all = [(1, "a", 10), (2, "a", 20), (3, "a", 30), (4, "b", 25), (5, "a", 30)];
        let mut carriers = Carriers::default();
        for (cookie, client, named) in all {
            carriers.insert(&Connection::example(cookie, client, named));
        }
        for (client, named, at, expected) in [
            ("a", 9, 9, None),
            ("a", 9, 10, Some(1)),
            ("a", 10, 19, None),
            ("a", 10, 20, Some(2)),
            ("a", 10, 29, Some(2)),
            ("a", 10, 30, Some(5)),
            ("a", 10, 99, Some(5)),
            ("a", 30, 99, None),
            ("a", 31, 99, None),
            ("b", 1, 24, None),
            ("b", 1, 99, Some(4)),
            ("c", 1, 99, None),
            ("", 1, 99, None),
        ] {
            let ended = Connection::example(9, client, named);
            let found = carriers.successor(&ended, MonoTime::from_nanos(at)).map(|it| it.0);
            assert_eq!(found, expected, "{client} of {named} ended at {at}");
        }
        carriers.remove(&Connection::example(5, "a", 30));
        let ended = Connection::example(9, "a", 10);
        assert_eq!(carriers.successor(&ended, MonoTime::from_nanos(99)), Some(Cookie(3)));
        let elsewhere = Connection { remote: ([10, 0, 0, 9], 1_883).into(), ..ended };
        assert_eq!(
            carriers.successor(&elsewhere, MonoTime::from_nanos(99)),
            None,
            "another broker"
        );
    }
}
