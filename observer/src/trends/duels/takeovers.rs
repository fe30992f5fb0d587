//! Take-overs whose client ids are known.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Duel, Place, WINDOW,
    lives::{Bucket, Lives},
    of_process,
};
use crate::{
    incident::Named,
    model::{MonoTime, ProcessKey},
    trends::connections::Connection,
};

/// Take-overs that are remembered in all. Chosen: 30 s of the largest storm that was measured (2,366
/// a second) are 71,000. Beyond, a fight forgets its oldest ones: it is a fight without them too.
const MOST: usize = 131_072;

/// Client ids that a duel names.
const NAMED: usize = 20;

/// All take-overs within the window.
#[derive(Debug, Default)]
pub(super) struct Takeovers {
    fights: BTreeMap<Place, Fight>,
    /// In all fights.
    remembered: usize,
}

/// The take-overs at one place. Only those of client ids that lost a session twice count: a fleet
/// that moves to another process loses each session once.
#[derive(Debug, Default)]
struct Fight {
    recent: VecDeque<Takeover>,
    clients: HashMap<Arc<str>, Losses>,
    /// Take-overs that count.
    counted: u64,
    /// Client ids that they are about.
    fighters: u64,
    /// Lives that they ended.
    lives: Lives,
    since: MonoTime,
    /// When there were first enough of them; since then it is a duel as long as any counts.
    due: Option<MonoTime>,
}

#[derive(Debug)]
struct Takeover {
    time: MonoTime,
    client: Arc<str>,
    life: Bucket,
}

/// What happened to one client id within the window.
#[derive(Debug)]
struct Losses {
    count: u64,
    last: MonoTime,
    last_life: Bucket,
}

impl Takeovers {
    /// The session of `older` was taken over, which ended it at `now`.
    pub(super) fn push(&mut self, older: &Connection, now: MonoTime) {
        let Some((client, _)) = older.identity() else { return };
        let began = older.established.or(older.opened).unwrap_or(now);
        let life = Bucket::of(now.since(began));
        let fight = self.fights.entry((older.process, older.remote)).or_default();
        self.remembered -= fight.expire(now);
        if self.remembered >= MOST {
            self.remembered -= usize::from(fight.drop_oldest());
        }
        if self.remembered < MOST {
            self.remembered += 1;
            fight.push(Takeover { time: now, client: Arc::clone(client), life });
        }
    }

    pub(super) fn forget(&mut self, process: ProcessKey) {
        for place in of_process(&self.fights, process) {
            let fight = self.fights.remove(&place);
            self.remembered -= fight.map_or(0, |fight| fight.recent.len());
        }
    }

    /// All duels, each with at least `enough` take-overs when it began.
    pub(super) fn duels(&mut self, now: MonoTime, enough: u64) -> Vec<(Place, Duel)> {
        let mut duels = Vec::new();
        self.fights.retain(|place, fight| {
            self.remembered -= fight.expire(now);
            duels.extend(fight.duel(enough).map(|duel| (*place, duel)));
            !fight.recent.is_empty()
        });
        duels
    }
}

impl Fight {
    fn push(&mut self, takeover: Takeover) {
        let Takeover { time, life, .. } = takeover;
        let fresh = Losses { count: 0, last: time, last_life: life };
        let losses = self.clients.entry(Arc::clone(&takeover.client)).or_insert(fresh);
        if losses.count == 1 {
            if self.counted == 0 {
                self.since = losses.last;
            }
            self.fighters += 1;
            self.counted += 1;
            self.lives.add(losses.last_life);
        }
        if losses.count > 0 {
            self.counted += 1;
            self.lives.add(life);
        }
        *losses = Losses { count: losses.count + 1, last: time, last_life: life };
        self.recent.push_back(takeover);
    }

    /// Forgets the oldest take-over. `false` if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(takeover) = self.recent.pop_front() else { return false };
        let losses = self.clients.get_mut(&takeover.client);
        let losses = losses.expect("invariant: each one in the window counts for its client");
        losses.count -= 1;
        match losses.count {
            0 => {
                self.clients.remove(&takeover.client);
            }
            1 => {
                self.fighters -= 1;
                self.counted -= 2;
                self.lives.remove(takeover.life);
                self.lives.remove(losses.last_life);
            }
            _ => {
                self.counted -= 1;
                self.lives.remove(takeover.life);
            }
        }
        if self.counted == 0 {
            self.due = None;
        }
        true
    }

    /// Forgets what is too old; how many.
    fn expire(&mut self, now: MonoTime) -> usize {
        let before = self.recent.len();
        while self.recent.front().is_some_and(|oldest| now.since(oldest.time) >= WINDOW) {
            self.drop_oldest();
        }
        before - self.recent.len()
    }

    fn duel(&mut self, enough: u64) -> Option<Duel> {
        if self.due.is_none() && self.counted >= enough {
            self.due = self.recent.back().map(|last| last.time);
        }
        let due = self.due?;
        Some(Duel {
            since: self.since.min(due),
            due,
            takeovers: self.counted,
            median_life: self.lives.median(),
            client_ids: self.most_beaten(),
            client_id_count: self.fighters,
        })
    }

    fn most_beaten(&self) -> Vec<Named> {
        let mut most: Vec<(u64, &Arc<str>)> = Vec::with_capacity(NAMED + 1);
        for (client, losses) in self.clients.iter().filter(|(_, losses)| losses.count > 1) {
            let key = (losses.count, client);
            let before = |other: &(u64, &Arc<str>)| (key.0, other.1) < (other.0, key.1);
            let index = most.partition_point(before);
            if index < NAMED {
                most.truncate(NAMED - 1);
                most.insert(index, key);
            }
        }
        let named = |(takeovers, client_id): (u64, &Arc<str>)| Named {
            client_id: Arc::clone(client_id),
            takeovers,
        };
        most.into_iter().map(named).collect()
    }
}
