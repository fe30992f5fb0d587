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

#[cfg(test)]
mod tests {
    use super::*;

    const END: MonoTime = MonoTime::from_nanos(5_000_000_000);

    fn named(client: &str, named: u64) -> Connection {
        Connection::example(named, client, named)
    }

    #[test]
    fn a_connect_between_the_older_one_and_its_end_is_the_cause() {
        for (older, newer, is_cause) in [
            (10, 11, true),
            (10, END.nanos(), true),
            (10, END.nanos() + 1, false),
            (10, 10, false),
            (10, 9, false),
        ] {
            let mut waiting = Waiting::default();
            waiting.push(&named("a", older), END);
            assert_eq!(waiting.ended_by(&named("b", newer), END), None, "another client");
            let found = waiting.ended_by(&named("a", newer), END);
            assert_eq!(found.is_some(), is_cause, "{older} {newer}");
            assert_eq!(found.map(|(_, at)| at), is_cause.then_some(END));
            // It ends one connection.
            let again = waiting.ended_by(&named("a", 11), END);
            assert_eq!(again.is_some(), !is_cause, "{older} {newer}");
        }
    }

    #[test]
    fn an_end_waits_for_so_long_and_no_longer() {
        for (wait, waits) in [(LATE, true), (LATE + Duration::from_nanos(1), false)] {
            let mut waiting = Waiting::default();
            waiting.push(&named("a", 10), END);
            let found = waiting.ended_by(&named("a", 11), END.after(wait));
            assert_eq!(found.is_some(), waits, "{wait:?}");
        }
    }

    #[test]
    fn the_newer_end_of_a_session_outlives_the_older_one() {
        let mut waiting = Waiting::default();
        waiting.push(&named("a", 10), END);
        let later = END.after(LATE / 2);
        waiting.push(&named("a", 20), later);
        // The first one is expired by now.
        let found = waiting.ended_by(&named("a", 30), END.after(LATE + LATE / 4));
        assert_eq!(
            found.map(|(older, at)| (older.named, at)),
            Some((Some(MonoTime::from_nanos(20)), later))
        );
    }

    #[test]
    fn only_so_many_wait_and_there_is_room_again_later() {
        let mut waiting = Waiting::default();
        for number in 0..=MOST {
            waiting.push(&named(&number.to_string(), 10), END);
        }
        let last = named(&MOST.to_string(), 11);
        assert_eq!(waiting.ended_by(&last, END), None, "it found no room");
        assert!(waiting.ended_by(&named(&(MOST - 1).to_string(), 11), END).is_some());
        let later = END.after(LATE * 2);
        waiting.push(&named(&MOST.to_string(), 10), later);
        assert!(waiting.ended_by(&last, later).is_some());
        assert_eq!((waiting.ended.len(), waiting.order.len()), (0, 1), "the others are forgotten");
    }

    #[test]
    fn who_has_no_session_does_not_wait() {
        let mut waiting = Waiting::default();
        waiting.push(&Connection { is_cut: true, ..named("a", 10) }, END);
        assert_eq!((waiting.ended.len(), waiting.order.len()), (0, 0));
    }
}
