//! Who connects where: what becomes of the connections that watched processes make.
//!
//! Only those that a process makes, not those that it accepts. Everything that happens between a
//! process and one destination is told to the parts as a step of one connection.

mod carriers;

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use self::carriers::Carriers;
use crate::{
    by_cookie::ByCookie,
    model::{Cookie, KernelEvent, MonoTime, ProcessKey, TcpState, Transition},
    table::{Socket, Table},
};

/// A connection that a process made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connection {
    pub(crate) cookie: Cookie,
    /// Who made it.
    pub(crate) process: ProcessKey,
    pub(crate) local: IpAddr,
    pub(crate) remote: SocketAddr,
    /// When connect(2) was called, if that was seen.
    pub(crate) opened: Option<MonoTime>,
    /// When it was established; for one that was found so, when it was found.
    pub(crate) established: Option<MonoTime>,
    /// The MQTT client id that it carries, if that was seen: untrusted text.
    pub(crate) client: Option<Arc<str>>,
    /// Whether only the beginning of `client` is known.
    pub(crate) is_cut: bool,
    /// When it said its client id.
    pub(crate) named: Option<MonoTime>,
    /// Network namespace.
    pub(crate) netns: u32,
}

impl Connection {
    /// Whose session it carries, if its client id tells it from others, and since when.
    pub(crate) fn identity(&self) -> Option<(&Arc<str>, MonoTime)> {
        let client = self.client.as_ref().filter(|client| !self.is_cut && !client.is_empty())?;
        Some((client, self.named?))
    }

    /// Whose session at which broker it carries, if that is known.
    pub(crate) fn session(&self) -> Option<Session> {
        let (client, _) = self.identity()?;
        let is_own = self.remote.ip().is_loopback();
        let loopback_of = is_own.then_some(self.netns);
        Some(Session { client: Arc::clone(client), broker: self.remote, loopback_of })
    }
}

/// A session of an MQTT broker. A broker has one at a time for a client id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Session {
    pub(crate) client: Arc<str>,
    pub(crate) broker: SocketAddr,
    /// Each network namespace has a loopback of its own, and perhaps a broker on it.
    pub(crate) loopback_of: Option<u32>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// connect(2) was called.
    Opened,
    /// It was answered, or was found to be established by a snapshot.
    Established,
    /// Its MQTT client id is known.
    Named,
    /// It is not live any more.
    Ended(End),
}

/// Who ended a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed or reset it.
    ByPeer,
    /// The process closed it, or exited.
    ByUs,
    /// It was never established.
    Failed,
    /// A snapshot did not find it any more; how it ended was lost.
    Unseen,
}

/// The connections between one process and one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Established, and ended by nobody.
    pub(crate) live: u64,
}

/// All connections that are live or about to be, and their sums by destination.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: ByCookie<Connection>,
    destinations: HashMap<(ProcessKey, SocketAddr), Destination>,
    /// Those with a client id, whoever made them.
    carriers: Carriers,
    /// The process whose connections the ledger judges: they are not followed here.
    own_pool: Option<u32>,
}

impl Connections {
    /// The connection with this cookie, if it is live or about to be.
    pub(crate) fn get(&self, cookie: Cookie) -> Option<&Connection> {
        self.open.get(cookie)
    }

    /// All of them, in no order.
    pub(crate) fn unordered(&self) -> impl Iterator<Item = &Connection> {
        self.open.values()
    }

    /// What a process has at a destination.
    pub(crate) fn at(&self, process: ProcessKey, remote: SocketAddr) -> Destination {
        self.destinations.get(&(process, remote)).cloned().unwrap_or_default()
    }

    /// All destinations with a live connection, in no order.
    pub(crate) fn destinations(
        &self,
    ) -> impl Iterator<Item = (ProcessKey, SocketAddr, &Destination)> {
        self.destinations.iter().map(|((process, remote), it)| (*process, *remote, it))
    }

    /// The live connection that took over the session of `ended`, which ended at `at`: of those to
    /// the same broker that carry its client id, the one that said so last, after `ended` and before
    /// `at`. A broker that follows the standard ends the older session when the newer CONNECT comes
    /// (MQTT 3.1.1 section 3.1.4), whichever socket was opened first.
    pub(super) fn successor(&self, ended: &Connection, at: MonoTime) -> Option<&Connection> {
        self.open.get(self.carriers.successor(ended, at)?)
    }

    /// The pool is in process `pid`.
    pub(super) fn set_own_pool(&mut self, pid: u32) {
        self.own_pool = Some(pid);
    }

    /// Takes in an event that the table has taken in: what it means for which connection.
    pub(super) fn handle_event(&mut self, event: &KernelEvent) -> Option<(Step, Connection)> {
        match event {
            KernelEvent::Transition(transition) => self.transition(transition),
            KernelEvent::Named { cookie, name, .. } => {
                // The first word counts, as in the table.
                let connection = self.open.get_mut(*cookie).filter(|it| it.client.is_none())?;
                connection.client = Some(Arc::clone(&name.client_id));
                connection.is_cut = name.is_cut;
                connection.named = Some(event.time());
                self.carriers.insert(connection);
                Some((Step::Named, connection.clone()))
            }
            KernelEvent::Destroyed { cookie, .. } => self.end(*cookie, End::ByUs),
            _ => None,
        }
    }

    /// Takes up the connections that only a snapshot showed, and lets go of those that are gone.
    pub(super) fn handle_snapshot(&mut self, table: &Table, now: MonoTime) {
        let mut listening = HashSet::new();
        let mut unknown = Vec::new();
        let mut known = 0;
        for socket in table.unordered() {
            match socket.state {
                TcpState::Listen => _ = listening.insert(socket.ends.local.port()),
                TcpState::Established | TcpState::SynSent
                    if self.open.contains_key(socket.cookie) =>
                {
                    known += 1;
                }
                TcpState::Established if socket.ends.remote.port() != 0 => unknown.push(socket),
                _ => {}
            }
        }
        if known < self.open.len() {
            self.end_absent(table);
        }
        for socket in unknown {
            // What it accepted is not followed.
            if !listening.contains(&socket.ends.local.port())
                && let Some(process) = user(socket)
                && self.own_pool != Some(process.pid)
            {
                let name = socket.client.as_ref();
                let connection = Connection {
                    cookie: socket.cookie,
                    process,
                    local: socket.ends.local.ip(),
                    remote: socket.ends.remote,
                    opened: socket.born,
                    established: Some(now),
                    client: name.map(|it| Arc::clone(&it.client_id)),
                    is_cut: name.is_some_and(|it| it.is_cut),
                    named: socket.named_at,
                    netns: socket.netns,
                };
                self.carriers.insert(&connection);
                self.count(&connection, true);
                self.open.insert(socket.cookie, connection);
            }
        }
    }

    /// Ends those that the table does not have any more, or not as live ones.
    fn end_absent(&mut self, table: &Table) {
        let is_over = |cookie: Cookie| {
            table.socket(cookie).is_none_or(|socket| {
                !matches!(socket.state, TcpState::Established | TcpState::SynSent)
            })
        };
        let cookies = self.open.values().map(|connection| connection.cookie);
        let over: Vec<_> = cookies.filter(|cookie| is_over(*cookie)).collect();
        for cookie in over {
            self.end(cookie, End::Unseen);
        }
    }

    fn transition(&mut self, transition: &Transition) -> Option<(Step, Connection)> {
        use TcpState::{Close, CloseWait, Established, SynSent};
        let Transition { cookie, time, .. } = *transition;
        match (transition.old, transition.new) {
            (Close, SynSent) => {
                // connect(2) on a socket that was connected before, whose end was lost.
                self.end(cookie, End::Unseen);
                let process = transition.owner.filter(|it| self.own_pool != Some(it.pid))?;
                let connection = Connection {
                    cookie,
                    process,
                    local: transition.ends.local.ip(),
                    remote: transition.ends.remote,
                    opened: Some(time),
                    established: None,
                    client: None,
                    is_cut: false,
                    named: None,
                    netns: transition.netns,
                };
                self.open.insert(cookie, connection.clone());
                Some((Step::Opened, connection))
            }
            (SynSent, Established) => {
                let connection = self.open.get_mut(cookie).filter(|it| it.established.is_none())?;
                connection.established = Some(time);
                connection.local = transition.ends.local.ip();
                let connection = connection.clone();
                self.count(&connection, true);
                Some((Step::Established, connection))
            }
            (SynSent, Close) => self.end(cookie, End::Failed),
            (Established, CloseWait) => self.end(cookie, End::ByPeer),
            // An abort by the program itself runs in its own context; a reset by the peer runs
            // wherever the network interrupted.
            (Established, Close) => {
                let process = self.open.get(cookie)?.process;
                let own = transition.context_pid == process.pid;
                self.end(cookie, if own { End::ByUs } else { End::ByPeer })
            }
            (Established, _) => self.end(cookie, End::ByUs),
            _ => None,
        }
    }

    fn end(&mut self, cookie: Cookie, end: End) -> Option<(Step, Connection)> {
        let connection = self.open.remove(cookie)?;
        self.carriers.remove(&connection);
        if connection.established.is_some() {
            self.count(&connection, false);
        }
        Some((Step::Ended(end), connection))
    }

    fn count(&mut self, connection: &Connection, is_new: bool) {
        let key = (connection.process, connection.remote);
        let destination = self.destinations.entry(key).or_default();
        if is_new {
            destination.live += 1;
        } else {
            destination.live = destination.live.saturating_sub(1);
            if destination.live == 0 {
                self.destinations.remove(&key);
            }
        }
    }
}

/// Whose connection it is: the owner's, or that of the first who holds it.
pub(super) fn user(socket: &Socket) -> Option<ProcessKey> {
    let owner = socket.owner.as_ref().map(|owner| owner.process);
    owner.or_else(|| socket.holders.first().map(|holder| holder.process))
}

#[cfg(test)]
impl Connection {
    /// One of process 1 to a broker, established at 1, that said its client id at `named`.
    pub(crate) fn example(cookie: u64, client: &str, named: u64) -> Self {
        let host = std::net::Ipv4Addr::LOCALHOST;
        Self {
            cookie: Cookie(cookie),
            process: ProcessKey { pid: 1, start_ns: 1 },
            local: host.into(),
            remote: (host, 1_883).into(),
            opened: Some(MonoTime::from_nanos(1)),
            established: Some(MonoTime::from_nanos(1)),
            client: Some(client.into()),
            is_cut: false,
            named: Some(MonoTime::from_nanos(named)),
            netns: 1,
        }
    }
}

#[cfg(test)]
impl Connections {
    /// Takes up a connection as it is.
    pub(crate) fn carry(&mut self, connection: Connection) {
        self.carriers.insert(&connection);
        self.open.insert(connection.cookie, connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClientName, Ends};

    /// A connection of process 1 goes from one state to the next, seen in the context of `context`.
    fn moves(time: u64, states: (TcpState, TcpState), context_pid: u32) -> KernelEvent {
        let host = std::net::Ipv4Addr::LOCALHOST.into();
        KernelEvent::Transition(Transition {
            time: MonoTime::from_nanos(time),
            cookie: Cookie(1),
            old: states.0,
            new: states.1,
            ends: Ends::new((host, 40_000), (host, 1_883)),
            netns: 1,
            owner: Some(ProcessKey { pid: 1, start_ns: 1 }),
            fd: None,
            context_pid,
            read: None,
        })
    }

    fn says(time: u64, client_id: &str) -> KernelEvent {
        let (client_id, is_cut) = (client_id.into(), false);
        let name = ClientName { client_id, is_cut, keep_alive: 0, level: 4 };
        KernelEvent::Named { time: MonoTime::from_nanos(time), cookie: Cookie(1), name }
    }

    #[test]
    fn how_a_connection_ends_tells_who_ended_it() {
        use TcpState::{Close, CloseWait, Established, FinWait1, SynSent};
        for (last, context, expected) in [
            ((Established, CloseWait), 7, Some(End::ByPeer)),
            ((Established, CloseWait), 1, Some(End::ByPeer)),
            ((Established, Close), 7, Some(End::ByPeer)),
            ((Established, Close), 1, Some(End::ByUs)),
            ((Established, FinWait1), 7, Some(End::ByUs)),
            ((CloseWait, Close), 7, None),
        ] {
            let mut connections = Connections::default();
            connections.handle_event(&moves(1, (Close, SynSent), 1));
            connections.handle_event(&moves(2, (SynSent, Established), 0));
            let end = connections.handle_event(&moves(3, last, context));
            let end = end.map(|(step, _)| step);
            assert_eq!(end, expected.map(Step::Ended), "{last:?} in the context of {context}");
        }
        let mut connections = Connections::default();
        connections.handle_event(&moves(1, (Close, SynSent), 1));
        let end = connections.handle_event(&moves(3, (SynSent, Close), 0));
        assert_eq!(end.map(|(step, _)| step), Some(Step::Ended(End::Failed)));
    }

    #[test]
    fn the_first_name_of_a_connection_counts() {
        use TcpState::{Close, SynSent};
        let mut connections = Connections::default();
        assert_eq!(connections.handle_event(&says(1, "a")), None, "it is not known");
        connections.handle_event(&moves(1, (Close, SynSent), 1));
        let named = connections.handle_event(&says(2, "a")).map(|(step, it)| (step, it.named));
        assert_eq!(named, Some((Step::Named, Some(MonoTime::from_nanos(2)))));
        assert_eq!(connections.handle_event(&says(3, "b")), None);
        let known = connections.get(Cookie(1)).and_then(|it| it.client.clone());
        assert_eq!(known.as_deref(), Some("a"));
        let older = Connection::example(9, "a", 1);
        assert!(connections.successor(&older, MonoTime::from_nanos(2)).is_some());
        // connect(2) again, its end was lost: another connection, which has said nothing.
        connections.handle_event(&moves(4, (Close, SynSent), 1));
        assert_eq!(connections.get(Cookie(1)).map(|it| it.client.clone()), Some(None));
        assert_eq!(connections.successor(&older, MonoTime::from_nanos(9)), None);
    }

    #[test]
    fn a_session_needs_a_whole_client_id_and_a_loopback_its_namespace() {
        let one = Connection::example(1, "a", 1);
        let session = |it: Connection| it.session();
        assert_eq!(session(Connection { is_cut: true, ..one.clone() }), None);
        assert_eq!(session(Connection { client: Some("".into()), ..one.clone() }), None);
        assert_eq!(session(Connection { named: None, ..one.clone() }), None);
        let elsewhere = Connection { netns: 2, ..one.clone() };
        assert_ne!(session(one.clone()), session(elsewhere.clone()));
        let remote = ([10, 0, 0, 1], 1_883).into();
        let [one, elsewhere] = [one, elsewhere].map(|it| Connection { remote, ..it });
        assert_eq!(session(one), session(elsewhere), "one broker for both");
    }
}

#[cfg(test)]
mod own_pool {
    use super::*;
    use crate::{
        model::{Comm, Ends, Holder, ReadPosition, Snapshot, SnapshotRow},
        table::Limits,
    };

    const BROKER: &str = "10.0.0.9:1883";

    fn ends() -> Ends {
        let broker: SocketAddr = BROKER.parse().expect("invariant: an address");
        Ends { local: SocketAddr::from(([10, 0, 0, 1], 40_000)), remote: broker }
    }

    fn process(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ns: 1 }
    }

    #[test]
    fn what_our_own_pool_connects_is_its_ledgers_business() {
        for (pid, follows) in [(7, false), (8, true)] {
            let mut connections = Connections::default();
            connections.set_own_pool(7);
            let opened = connections.handle_event(&KernelEvent::Transition(Transition {
                time: MonoTime::from_nanos(5),
                cookie: Cookie(1),
                old: TcpState::Close,
                new: TcpState::SynSent,
                ends: ends(),
                netns: 1,
                owner: Some(process(pid)),
                fd: Some(3),
                context_pid: pid,
                read: None,
            }));
            assert_eq!(opened.is_some(), follows, "told by a record, of process {pid}");
            let mut connections = Connections::default();
            connections.set_own_pool(7);
            let now = MonoTime::from_nanos(9);
            connections.handle_snapshot(&table_with_one_of(pid, now), now);
            assert_eq!(connections.get(Cookie(1)).is_some(), follows, "shown, of process {pid}");
        }
    }

    fn table_with_one_of(pid: u32, now: MonoTime) -> Table {
        let limits = Limits { sockets: 9, processes: 9, boot_offset: std::time::Duration::ZERO };
        let mut table = Table::new(limits);
        let comm = Comm::from_bytes(b"node");
        let row = SnapshotRow {
            time: now,
            cookie: Cookie(1),
            state: TcpState::Established,
            ends: ends(),
            netns: 1,
            holder: Some(Holder { process: process(pid), comm, fd: 3, close_on_exec: None }),
            read: ReadPosition { copied_seq: 0, unread: 0 },
            unacked: 0,
            write_seq: 0,
            last_sent: now,
            last_received: now,
        };
        let snapshot = Snapshot { began: now, ended: now, rows: vec![row], ..Snapshot::default() };
        table.apply_snapshot(&snapshot, false, true);
        table
    }
}
