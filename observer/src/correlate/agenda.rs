//! Which socket is to be looked at when.

use std::collections::{BTreeSet, HashMap};

use crate::model::{Cookie, MonoTime};

/// One moment a socket, at the most.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    order: BTreeSet<(MonoTime, Cookie)>,
    due: HashMap<Cookie, MonoTime>,
}

impl Agenda {
    /// Puts a socket down for `due`, or takes it off.
    pub(super) fn set(&mut self, cookie: Cookie, due: Option<MonoTime>) {
        let before = match due {
            Some(due) => self.due.insert(cookie, due),
            None => self.due.remove(&cookie),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, cookie));
        }
        if let Some(due) = due {
            self.order.insert((due, cookie));
        }
    }

    /// Takes off the first socket whose time has come.
    pub(super) fn pop(&mut self, now: MonoTime) -> Option<(MonoTime, Cookie)> {
        let (due, cookie) = self.order.first().copied().filter(|(due, _)| *due <= now)?;
        self.set(cookie, None);
        Some((due, cookie))
    }

    /// When the first one is due.
    pub(super) fn next(&self) -> Option<MonoTime> {
        self.order.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_one_moment() {
        let mut agenda = Agenda::default();
        agenda.set(Cookie(1), Some(MonoTime::from_nanos(10)));
        agenda.set(Cookie(2), Some(MonoTime::from_nanos(5)));
        agenda.set(Cookie(1), Some(MonoTime::from_nanos(3)));
        assert_eq!(agenda.next(), Some(MonoTime::from_nanos(3)));
        assert_eq!(agenda.pop(MonoTime::from_nanos(4)), Some((MonoTime::from_nanos(3), Cookie(1))));
        assert_eq!(agenda.pop(MonoTime::from_nanos(4)), None);
        agenda.set(Cookie(2), None);
        assert_eq!(agenda.next(), None);
    }
}
