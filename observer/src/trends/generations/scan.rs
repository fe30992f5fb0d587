//! What one snapshot says of the connections to one destination.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use super::history::History;
use crate::{
    model::{Cookie, MonoTime, ProcessKey, TcpState},
    table::Table,
    trends::connections::user,
};

/// Connections that were opened within one time of this many nanoseconds are one generation: 10 s.
/// Chosen: a burst, the start of a pool or of its workers, is one thing.
const GENERATION_NS: u64 = 10_000_000_000;

/// A connection counts as kept after this. Chosen: a pool that replaces one may have both for a
/// moment.
const SETTLED: Duration = Duration::from_secs(10);

/// Whoever has not opened any for so many times the usual while does not keep opening.
const PATIENCE: u32 = 10;

/// To each generation that was used again after its silence there must be so many that were not:
/// otherwise the program has not forgotten its quiet connections, it needs them seldom.
const USED_SHARE: usize = 3;

/// A connection that a process made and still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) cookie: Cookie,
    /// When connect(2) was called, if that was seen.
    pub(super) born: Option<MonoTime>,
    /// When a byte last moved, if that is known.
    pub(super) moved: Option<MonoTime>,
    /// Since when it is silent: established, ended by the peer, or a byte moved.
    pub(super) quiet: MonoTime,
    /// It was used again after it had been silent for the whole budget.
    pub(super) is_used: bool,
}

/// Old connections are forgotten while new ones are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// When enough generations had become stale.
    pub(super) since: MonoTime,
    pub(super) generations: u64,
    pub(super) stale: u64,
    pub(super) live: u64,
}

/// Connections to one destination, opened within one time.
#[derive(Debug)]
struct Generation {
    born: MonoTime,
    /// When the last of its stale ones fell silent; `None` if there is no stale one.
    quiet: Option<MonoTime>,
    stale: u64,
    is_used: bool,
}

/// All connections by process and destination, where there are several. Other kinds judge where
/// client ids are known or MQTT is spoken (`is_mqtt`); a connection on a port on which the host
/// listens was accepted, or might have been.
pub(super) fn groups(
    table: &Table,
    is_mqtt: impl Fn(SocketAddr) -> bool,
) -> impl Iterator<Item = ((ProcessKey, SocketAddr), Vec<Member>)> {
    let listening: HashSet<u16> = table
        .unordered()
        .filter(|socket| socket.state == TcpState::Listen)
        .map(|socket| socket.ends.local.port())
        .collect();
    let mut groups: HashMap<_, Option<Vec<Member>>> = HashMap::new();
    for socket in table.unordered() {
        let remote = socket.ends.remote;
        let is_connected = matches!(socket.state, TcpState::Established | TcpState::CloseWait);
        if !is_connected
            || remote.port() == 0
            || is_mqtt(remote)
            || listening.contains(&socket.ends.local.port())
        {
            continue;
        }
        let Some(process) = user(socket).filter(|it| socket.is_held_by(*it)) else { continue };
        let group = groups.entry((process, remote)).or_insert_with(|| Some(Vec::new()));
        if socket.client.is_some() {
            *group = None;
        }
        let moved = socket.flow.last_moved();
        let member = Member {
            cookie: socket.cookie,
            born: socket.born,
            moved,
            quiet: moved.map_or(socket.state_since, |moved| moved.max(socket.state_since)),
            is_used: false,
        };
        group.iter_mut().for_each(|group| group.push(member));
    }
    groups.into_iter().filter_map(|(key, members)| {
        members.filter(|members| members.len() > 1).map(|members| (key, members))
    })
}

/// How many connections have been there for a while.
pub(super) fn settled(members: &[Member], at: MonoTime) -> u64 {
    members.iter().filter(|member| is_settled(member, at)).count() as u64
}

/// Whether at least `least` generations are forgotten, at the time `at` of a snapshot.
pub(super) fn judge(
    members: &[Member],
    history: &History,
    at: MonoTime,
    budget: Duration,
    least: u64,
) -> Option<Found> {
    let generations = generations(members, at, budget);
    let stale: Vec<_> =
        generations.values().filter(|it| it.quiet.is_some() && !it.is_used).collect();
    let least = usize::try_from(least.max(2)).unwrap_or(usize::MAX);
    if stale.len() < least {
        return None;
    }
    let mut quiet: Vec<_> = stale.iter().filter_map(|it| it.quiet).collect();
    quiet.sort_unstable();
    let since = quiet[least - 1].after(budget);
    let newest = members.iter().filter_map(|member| member.born).max()?;
    // It goes on: one was opened although these were stale, and not long ago.
    let after_first = generations.range(generation(stale[0].born)..).count();
    let gaps = u32::try_from(after_first.saturating_sub(1)).ok().filter(|gaps| *gaps > 0)?;
    let usual = newest.since(stale[0].born) / gaps;
    let goes_on = newest >= since && at.since(newest) <= usual.saturating_mul(PATIENCE);
    // There are more and more: they do not replace older ones.
    let second = stale[1].born;
    let is_older = |member: &&Member| member.born.is_none_or(|born| born < second);
    let older = members.iter().filter(is_older).count() as u64;
    let growth =
        settled(members, at).saturating_sub(history.before(second).unwrap_or_default().max(older));
    let newer = members.iter().filter(|it| is_settled(it, at) && !is_older(it)).count() as u64;
    let grows = growth >= least as u64 - 1
        && growth * 2 >= newer
        && settled(members, at) > history.before(since).unwrap_or_default();
    let used = generations.values().filter(|it| it.is_used).count();
    let forgets = used * USED_SHARE <= stale.len();
    let count: u64 = stale.iter().map(|it| it.stale).sum();
    (goes_on && grows && forgets).then_some(Found {
        since,
        generations: stale.len() as u64,
        stale: count,
        live: members.len() as u64,
    })
}

fn generations(members: &[Member], at: MonoTime, budget: Duration) -> BTreeMap<u64, Generation> {
    let mut generations = BTreeMap::new();
    for member in members {
        let Some(born) = member.born else { continue };
        let new = || Generation { born, quiet: None, stale: 0, is_used: false };
        let it = generations.entry(generation(born)).or_insert_with(new);
        it.born = it.born.min(born);
        it.is_used |= member.is_used;
        if at.since(member.quiet) >= budget && !member.is_used {
            it.stale += 1;
            it.quiet = it.quiet.max(Some(member.quiet));
        }
    }
    generations
}

fn generation(born: MonoTime) -> u64 {
    born.nanos() / GENERATION_NS
}

fn is_settled(member: &Member, at: MonoTime) -> bool {
    member.born.is_none_or(|born| at.since(born) >= SETTLED)
}
