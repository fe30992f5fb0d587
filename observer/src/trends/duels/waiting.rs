//! Sessions that the peer ended, nobody knows yet why.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    model::MonoTime,
    trends::connections::{Connection, Session},
};

/// How late the record of a CONNECT may come after that of the end which it caused. Chosen: records
/// of two processors come milliseconds apart at the most.
const LATE: Duration = Duration::from_secs(2);

/// Sessions that may wait. Chosen: three times what ends within two seconds of the largest storm that
/// was measured. One that finds no room is a take-over fewer of very many.
const MOST: usize = 16_384;

/// The ends for which no newer CONNECT was known when they were told.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    ended: HashMap<Session, (MonoTime, Connection)>,
    order: VecDeque<(MonoTime, Session)>,
}

impl Waiting {
    pub(super) fn push(&mut self, connection: &Connection, now: MonoTime) {
        self.expire(now);
        if let Some(session) = connection.session()
            && self.order.len() < MOST
        {
            self.ended.insert(session.clone(), (now, connection.clone()));
            self.order.push_back((now, session));
        }
    }

    /// The connection that ended because `newer` said the same client id, and when: not before it
    /// had. A CONNECT after the end is just the next try.
    pub(super) fn ended_by(
        &mut self,
        newer: &Connection,
        now: MonoTime,
    ) -> Option<(Connection, MonoTime)> {
        self.expire(now);
        let session = newer.session()?;
        let (at, older) = self.ended.get(&session)?;
        let is_cause = older.named < newer.named && newer.named <= Some(*at);
        is_cause.then(|| self.ended.remove(&session)).flatten().map(|(at, older)| (older, at))
    }

    fn expire(&mut self, now: MonoTime) {
        while self.order.front().is_some_and(|(at, _)| at.after(LATE) < now) {
            let Some((at, session)) = self.order.pop_front() else { break };
            if self.ended.get(&session).is_some_and(|(last, _)| *last == at) {
                self.ended.remove(&session);
            }
        }
    }
}
