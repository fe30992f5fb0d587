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
