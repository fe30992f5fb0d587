//! The destinations at which no client id is known.

use std::{collections::BTreeMap, time::Duration};

use super::{Duel, Place, of_process, rivals::Rivals};
use crate::{
    model::{MonoTime, ProcessKey},
    trends::connections::{Connection, Connections, End},
};

/// Destinations that are followed at a time. Chosen: far more than a process that talks to brokers
/// has. Of a crawler the rest is not followed, which can only hide a duel.
const MOST: usize = 4_096;

/// How often a full map is searched for what can leave. Chosen: the search looks at all of it.
const SWEEP: Duration = Duration::from_secs(1);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Places {
    rivals: BTreeMap<Place, Rivals>,
    swept: MonoTime,
}

impl Places {
    pub(super) fn established(&mut self, connection: &Connection, now: MonoTime) {
        let place = (connection.process, connection.remote);
        if !self.rivals.contains_key(&place) && !self.has_room(now) {
            return;
        }
        self.rivals.entry(place).or_default().established(connection, now);
    }

    pub(super) fn ended(
        &mut self,
        end: End,
        connection: &Connection,
        connections: &Connections,
        now: MonoTime,
    ) {
        if let Some(rivals) = self.rivals.get_mut(&(connection.process, connection.remote)) {
            rivals.ended(end, connection, connections, now);
        }
    }

    pub(super) fn forget(&mut self, process: ProcessKey) {
        for place in of_process(&self.rivals, process) {
            self.rivals.remove(&place);
        }
    }

    pub(super) fn duels(&mut self, now: MonoTime, enough: u64) -> Vec<(Place, Duel)> {
        let duel =
            |(place, rivals): (&Place, &mut Rivals)| Some((*place, rivals.duel(now, enough)?));
        self.rivals.iter_mut().filter_map(duel).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rivals.len()
    }

    #[cfg(test)]
    pub(super) fn follows(&self, place: &Place) -> bool {
        self.rivals.contains_key(place)
    }

    fn has_room(&mut self, now: MonoTime) -> bool {
        if self.rivals.len() >= MOST && now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.rivals.retain(|_, rivals| !rivals.is_idle(now));
        }
        self.rivals.len() < MOST
    }
}
