//! Which live sockets carry which MQTT client id, and which of them is the newer one.
//!
//! PURE. All sockets that are established, held and named stand in one order: by client id and
//! broker first, and by age among those that share them. So the next newer connection of a client
//! is the neighbour, and a change costs the same however many carry one id. There are never more
//! entries than sockets.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use crate::{
    model::{Cookie, MonoTime},
    table::{
        Table,
        socket::{Evidence, Socket},
    },
};

/// The place of a socket. The order of the fields is the order of the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) client_id: Arc<str>,
    pub(super) remote: SocketAddr,
    /// The same address in another network namespace may be another broker.
    pub(super) netns: u32,
    /// When it was born, else when it was first seen.
    pub(super) age: MonoTime,
    pub(super) cookie: Cookie,
}

impl Rank {
    fn has_client_of(&self, other: &Self) -> bool {
        self.client_id == other.client_id
            && self.remote == other.remote
            && self.netns == other.netns
    }
}

/// All of them in order.
#[derive(Debug, Default)]
pub(super) struct Clients(BTreeSet<Rank>);

impl Clients {
    /// The next older and the next newer connection of the same client.
    fn neighbours(&self, rank: &Rank) -> (Option<Cookie>, Option<Cookie>) {
        let same = |other: &&Rank| other.has_client_of(rank);
        let older = self.0.range(..rank).next_back().filter(same);
        let newer = self.0.range(rank..).find(|other| *other != rank).filter(same);
        (older.map(|it| it.cookie), newer.map(|it| it.cookie))
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rank> {
        self.0.iter()
    }
}

impl Table {
    /// How good the proof is that a socket is succeeded by a newer one: both states have to be
    /// certain, and the birth of the newer one seen, for without it the order is a guess.
    pub fn succession_evidence(&self, socket: &Socket) -> Evidence {
        let newer = socket.succeeded.and_then(|(newer, _)| self.socket(newer));
        match newer.filter(|newer| newer.born.is_some()) {
            Some(newer) => self.evidence(socket).max(self.evidence(newer)),
            None => Evidence::Reconstructed,
        }
    }

    /// Changes a socket, and its place among the clients with it. Whatever moves the state, the
    /// remote end, the name or the holders of a socket goes through here. `None` for a socket that
    /// is not known.
    pub(super) fn change<R>(
        &mut self,
        cookie: Cookie,
        change: impl FnOnce(&mut Socket) -> R,
    ) -> Option<R> {
        let socket = self.sockets.get_mut(cookie)?;
        let before = socket.rank();
        let result = change(socket);
        let after = socket.rank();
        self.rerank(before, after);
        Some(result)
    }

    /// A socket went from one place to another.
    pub(super) fn rerank(&mut self, before: Option<Rank>, after: Option<Rank>) {
        if before == after {
            return;
        }
        if let Some(rank) = before {
            self.clients.0.remove(&rank);
            let (older, newer) = self.clients.neighbours(&rank);
            self.succeed(rank.cookie, None);
            if let Some(older) = older {
                self.succeed(older, newer);
            }
        }
        if let Some(rank) = after {
            let (older, newer) = self.clients.neighbours(&rank);
            let cookie = rank.cookie;
            self.clients.0.insert(rank);
            self.succeed(cookie, newer);
            if let Some(older) = older {
                self.succeed(older, Some(cookie));
            }
        }
    }

    /// The next newer connection of the client of `older` is `newer` now. If there was another one
    /// until now, it has had a newer one all the time.
    fn succeed(&mut self, older: Cookie, newer: Option<Cookie>) {
        let newer = newer
            .and_then(|newer| self.socket(newer))
            .map(|socket| (socket.cookie, socket.carries_name_since()));
        let Some(socket) = self.sockets.get_mut(older) else { return };
        let succeeded = newer.map(|(cookie, since)| {
            let since = since.max(socket.carries_name_since());
            (cookie, socket.succeeded.map_or(since, |(_, since)| since))
        });
        if socket.succeeded != succeeded {
            socket.succeeded = succeeded;
            self.touch(older);
        }
    }
}

#[cfg(test)]
mod tests;
