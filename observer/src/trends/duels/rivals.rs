//! Take-overs whose client ids are not known, told by their moments alone.
//!
//! In a duel the peer ends a connection right after a younger one to the same place was established,
//! again and again. But something is often established shortly before something else ends. So each
//! end is asked how likely so short a time would be by chance, given how often connections are made
//! there, and only many unlikely ones together are a duel. Where connections are made so fast that
//! chance explains everything, nothing is said: that is a reconnect-storm.

use std::{collections::VecDeque, time::Duration};

use super::{Duel, WINDOW};
use crate::{
    model::{Cookie, MonoTime},
    trends::connections::{Connection, Connections, End},
};

/// Longest life that a rival ends. Chosen: clients come back after a second or two. Servers that
/// close idle connections do it after 5 s or later (Node.js, Apache), and a program that asks such
/// a server every 5 s would look like a duel.
const LONGEST_LIFE: Duration = Duration::from_secs(4);

/// Longest time from the younger connection to the older one's end. Chosen: three round trips of
/// 30 ms (TLS, CONNECT, FIN).
const REACTION: Duration = Duration::from_millis(100);

/// How many times as long the ended one has lived as the younger one at that moment. Chosen: what is
/// opened in one go ends at one age, and its members differ by less.
const TIMES_AS_LONG: u32 = 8;

/// A connection that is opened so soon after another one ended takes its place. Chosen: a program
/// that works through a list does it at once; clients that fight wait before they come back.
const REPLACES: Duration = Duration::from_millis(50);

/// Of 100 ends so many have to be take-overs. Chosen: in a duel all are, but for a few that the
/// network ends.
const PERCENT: u64 = 80;

/// How unlikely all ends together have to be by chance: the negative natural logarithms of their
/// chances, in thousandths, add up to this and [`EACH`] for each end. By chance one end adds 1,000 on
/// average (its chance is evenly distributed), so both numbers together are passed less than once in
/// a million times, after five ends (25,000) as after fifty (115,000).
const ALL: u64 = 15_000;
const EACH: u64 = 2_000;

/// Least chance that one end may have. Chosen: a clock in milliseconds cannot say more.
const LEAST_CHANCE: f64 = 0.001;

/// Establishments by which their rate is measured. Chosen: enough for a rate, few enough to follow a
/// burst.
const RECENT: usize = 16;

/// Ends that are remembered at a place. Chosen: more than pass the test above in 30 s; beyond, the
/// oldest are forgotten, which changes no proportion.
const ENDS: usize = 1_024;

/// What happens between one process and one destination.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    /// The newest establishments.
    established: VecDeque<MonoTime>,
    youngest: Option<Youngest>,
    /// When a connection last ended, in whatever way.
    ended: Option<MonoTime>,
    ends: VecDeque<Ended>,
    /// Of `ends`.
    takeovers: u64,
    /// Sum of `ends`.
    surprise: u64,
    /// Since when it is a duel and from when on.
    duel: Option<(MonoTime, MonoTime)>,
}

/// The connection that was established last.
#[derive(Debug)]
struct Youngest {
    cookie: Cookie,
    established: MonoTime,
    /// Establishments in a second before it, at the most.
    rate: f64,
    replaces: bool,
    /// It has ended a connection already; it can end only one.
    is_spent: bool,
}

/// A short life that the peer ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    time: MonoTime,
    life: Duration,
    /// Negative logarithm of its chance, in thousandths; 0 if no younger connection explains it.
    surprise: u64,
}

impl Rivals {
    pub(super) fn established(&mut self, connection: &Connection, now: MonoTime) {
        let opened = connection.opened.unwrap_or(now);
        let replaces = self.ended.is_some_and(|ended| opened.since(ended) <= REPLACES);
        let rate = self.rate(now);
        self.youngest = Some(Youngest {
            cookie: connection.cookie,
            established: now,
            rate,
            replaces,
            is_spent: false,
        });
        if self.established.len() >= RECENT {
            self.established.pop_front();
        }
        self.established.push_back(now);
    }

    pub(super) fn ended(
        &mut self,
        end: End,
        connection: &Connection,
        connections: &Connections,
        now: MonoTime,
    ) {
        self.ended = Some(now);
        let Some(began) = connection.established.filter(|_| connection.opened.is_some()) else {
            return;
        };
        let life = now.since(began);
        if end != End::ByPeer || connection.client.is_some() || life > LONGEST_LIFE {
            return;
        }
        let surprise = match self.rival(connection, connections, life, now) {
            Rival::Unclear => return,
            Rival::None => 0,
            Rival::Found { surprise } => surprise,
        };
        if self.ends.len() >= ENDS {
            self.drop_oldest();
        }
        self.takeovers += u64::from(surprise > 0);
        self.surprise += surprise;
        self.ends.push_back(Ended { time: now, life, surprise });
    }

    /// Whether nothing has happened for so long that nothing here counts any more.
    pub(super) fn is_idle(&self, now: MonoTime) -> bool {
        let last = self.established.back().copied().max(self.ended);
        last.is_none_or(|last| now.since(last) >= WINDOW)
    }

    pub(super) fn duel(&mut self, now: MonoTime, enough: u64) -> Option<Duel> {
        while self.ends.front().is_some_and(|oldest| now.since(oldest.time) >= WINDOW) {
            self.drop_oldest();
        }
        let is_over = self.takeovers == 0 || !self.are_mostly_takeovers();
        if is_over {
            self.duel = None;
        } else if self.duel.is_none() && self.takeovers >= enough && self.is_no_chance() {
            let first = self.ends.iter().find(|end| end.surprise > 0)?.time;
            self.duel = Some((first, self.ends.back()?.time));
        }
        let (since, due) = self.duel?;
        let mut lives: Vec<_> =
            self.ends.iter().filter(|end| end.surprise > 0).map(|end| end.life).collect();
        let middle = (lives.len() - 1) / 2;
        let (_, median_life, _) = lives.select_nth_unstable(middle);
        Some(Duel {
            since,
            due,
            takeovers: self.takeovers,
            median_life: *median_life,
            client_ids: Vec::new(),
            client_id_count: 0,
        })
    }

    fn are_mostly_takeovers(&self) -> bool {
        self.takeovers * 100 >= self.ends.len() as u64 * PERCENT
    }

    fn is_no_chance(&self) -> bool {
        self.surprise >= ALL + self.ends.len() as u64 * EACH
    }

    /// Whether the youngest connection explains the end of one that lived for `life`.
    fn rival(
        &mut self,
        connection: &Connection,
        connections: &Connections,
        life: Duration,
        now: MonoTime,
    ) -> Rival {
        let Some(youngest) = &mut self.youngest else { return Rival::None };
        let delay = now.since(youngest.established);
        let is_live = connections.get(youngest.cookie).is_some_and(|it| it.client.is_none());
        let explains = youngest.cookie != connection.cookie
            && is_live
            && delay <= REACTION
            && life >= delay * TIMES_AS_LONG;
        if !explains {
            return Rival::None;
        }
        if youngest.replaces {
            return Rival::Unclear;
        }
        if std::mem::replace(&mut youngest.is_spent, true) {
            return Rival::None;
        }
        // That at least one of many independent establishments lies within the delay.
        let chance = 1.0 - (-youngest.rate * delay.as_secs_f64()).exp();
        let thousandths = -chance.max(LEAST_CHANCE).ln() * 1000.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the logarithm of a chance of at least a thousandth is between 0 and 7"
        )]
        let surprise = (thousandths as u64).max(1);
        Rival::Found { surprise }
    }

    /// The most establishments in a second over the last 2, 4, 8 and 16: a burst counts in full. With
    /// fewer, nothing is known, and nothing is unlikely.
    fn rate(&self, now: MonoTime) -> f64 {
        let mut rate = if self.established.len() < 2 { f64::INFINITY } else { 0.0 };
        for (count, number) in [(2, 2.0), (4, 4.0), (8, 8.0), (16, 16.0)] {
            let first = self.established.len().checked_sub(count);
            if let Some(first) = first.and_then(|index| self.established.get(index)) {
                rate = f64::max(rate, number / now.since(*first).as_secs_f64().max(LEAST_CHANCE));
            }
        }
        rate
    }

    fn drop_oldest(&mut self) {
        if let Some(ended) = self.ends.pop_front() {
            self.takeovers -= u64::from(ended.surprise > 0);
            self.surprise -= ended.surprise;
        }
    }
}

/// What the moments say of one end.
enum Rival {
    /// The youngest connection took the place of one that had ended: it says nothing.
    Unclear,
    /// Nothing explains it.
    None,
    Found {
        surprise: u64,
    },
}
