//! PURE. `takeover-duel`: two clients fight for one session.
//!
//! Where client ids are known, a take-over is proven: a connection is ended by the peer right after
//! a newer one had said the same client id to the same broker. Where they are not (TLS, WebSocket, or
//! no permission to look), only the moments speak, and they have to speak clearly.
//!
//! The number of sockets is not looked at: a duel needs an end for each connection it makes, so the
//! number stays the same by itself.

mod lives;
mod places;
mod rivals;
mod takeovers;
mod waiting;

use std::{net::SocketAddr, time::Duration};

use self::{places::Places, takeovers::Takeovers, waiting::Waiting};
use super::{
    Suspicion, View,
    connections::{Connection, Connections, End, Step},
};
use crate::{
    detect::Kind,
    incident::{Detail, Evidence, Named, Subject},
    model::{MonoTime, ProcessKey},
};

/// How far back take-overs count.
const WINDOW: Duration = Duration::from_secs(30);

/// How soon after the newer CONNECT the older session ends. Chosen: mosquitto takes less than a
/// millisecond; a cluster that has to ask another node takes a second or two.
const SOON: Duration = Duration::from_secs(5);

/// Where the fight is: the process whose connections are ended, and the broker.
type Place = (ProcessKey, SocketAddr);

/// All fights that are followed.
#[derive(Debug, Default)]
pub(super) struct Duels {
    takeovers: Takeovers,
    waiting: Waiting,
    places: Places,
}

/// What a duel is, with client ids or without.
struct Duel {
    since: MonoTime,
    /// When there were enough take-overs.
    due: MonoTime,
    takeovers: u64,
    median_life: Duration,
    client_ids: Vec<Named>,
    client_id_count: u64,
}

impl Duels {
    /// Takes in what became of a connection at `now`.
    pub(super) fn step(
        &mut self,
        step: Step,
        connection: &Connection,
        connections: &Connections,
        now: MonoTime,
    ) {
        match step {
            Step::Opened => {}
            Step::Established => self.places.established(connection, now),
            Step::Named => {
                // The end that this CONNECT caused may have been told before it.
                if let Some((older, at)) = self.waiting.ended_by(connection, now) {
                    self.takeovers.push(&older, at);
                }
            }
            Step::Ended(end) => self.ended(end, connection, connections, now),
        }
    }

    pub(super) fn forget(&mut self, process: ProcessKey) {
        self.takeovers.forget(process);
        self.places.forget(process);
    }

    pub(super) fn suspicions(&mut self, view: &View<'_>, all: &mut Vec<Suspicion>) {
        let enough = view.thresholds.takeovers.max(1);
        let named = self.takeovers.duels(view.now, enough);
        let unnamed = self.places.duels(view.now, enough);
        let is_named = |place: &Place| named.iter().any(|(other, _)| other == place);
        let rest: Vec<_> = unnamed.into_iter().filter(|(place, _)| !is_named(place)).collect();
        all.extend(named.into_iter().chain(rest).map(|(place, duel)| suspicion(place, duel)));
    }

    fn ended(
        &mut self,
        end: End,
        connection: &Connection,
        connections: &Connections,
        now: MonoTime,
    ) {
        self.places.ended(end, connection, connections, now);
        if end != End::ByPeer || connection.session().is_none() {
            return;
        }
        let newer = connections.successor(connection, now).and_then(|newer| newer.named);
        if newer.is_some_and(|named| now.since(named) <= SOON) {
            self.takeovers.push(connection, now);
        } else {
            self.waiting.push(connection, now);
        }
    }
}

fn suspicion((process, remote): Place, duel: Duel) -> Suspicion {
    Suspicion {
        kind: Kind::TakeoverDuel,
        subject: Subject::Destination(process, remote),
        process,
        since: duel.since,
        due: duel.due,
        evidence: Evidence::Complete,
        detail: Detail::Duel {
            takeovers: duel.takeovers,
            window: WINDOW,
            median_life: duel.median_life,
            client_ids: duel.client_ids,
            client_id_count: duel.client_id_count,
        },
    }
}

/// The keys of one process in a map by place.
fn of_process<T>(map: &std::collections::BTreeMap<Place, T>, process: ProcessKey) -> Vec<Place> {
    let first = (process, SocketAddr::from(([0, 0, 0, 0], 0)));
    let own = map.range(first..).take_while(|((owner, _), _)| *owner == process);
    own.map(|(place, _)| *place).collect()
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
