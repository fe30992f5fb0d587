//! One socket and everything that is known about it.

use crate::{
    model::{
        ClientName, Comm, Cookie, Ends, MonoTime, ProcessKey, SnapshotRow, TcpState, Transition,
    },
    table::{
        clients::Rank,
        close_on_exec::CloseOnExec,
        flow::Flow,
        recorder::{Recorder, What},
    },
};

/// How good the proof is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// Nothing is missing that it rests on.
    Complete,
    /// Records were lost; it was put together again from a snapshot.
    Reconstructed,
}

impl Evidence {
    /// Its name in output.
    pub fn code(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Reconstructed => "reconstructed",
        }
    }
}

/// The process that connected or accepted a socket, or to which it was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The process. It may be gone.
    pub process: ProcessKey,
    /// Its name when it got the socket; empty if that is not known.
    pub comm: Comm,
    /// The descriptor it got, where known. It may be closed.
    pub fd: Option<i32>,
    /// Since when it is the owner.
    pub since: MonoTime,
}

/// One descriptor that refers to a socket. The name of the process is in the table's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderEntry {
    /// The process.
    pub process: ProcessKey,
    /// The descriptor.
    pub fd: i32,
    /// What is known of its close-on-exec bit.
    pub close_on_exec: CloseOnExec,
    /// When it was first known.
    pub acquired: MonoTime,
    /// When it was last known to be there.
    pub seen: MonoTime,
}

/// How an owner gave its socket up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseKind {
    /// It closed its last descriptor.
    Closed,
    /// It still has the descriptor, but runs another program now, which knows nothing of it.
    Executed,
    /// It exited.
    Exited,
    /// It has no descriptor any more; how that came was lost.
    Unseen,
}

/// That an owner gave its socket up, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// How.
    pub kind: ReleaseKind,
    /// The last descriptor of the owner.
    pub fd: i32,
    /// Not before.
    pub earliest: MonoTime,
    /// Not later. The same as `earliest` if the close itself was seen.
    pub time: MonoTime,
}

impl Release {
    pub(super) fn seen(kind: ReleaseKind, fd: i32, time: MonoTime) -> Self {
        Self { kind, fd, earliest: time, time }
    }

    /// Whether this is the one to believe after `earlier`: the later of two, for an owner may have
    /// had more descriptors than were known; but a close that was seen explains how the same
    /// descriptor came to be used again.
    pub(super) fn replaces(self, earlier: Self) -> bool {
        let explains = self.fd == earlier.fd && earlier.earliest < earlier.time;
        explains || earlier.time <= self.time
    }
}

/// A TCP socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// The kernel's number for it.
    pub cookie: Cookie,
    /// Its state.
    pub state: TcpState,
    /// Since when it is in that state, at the least.
    pub state_since: MonoTime,
    /// Whether `state_since` is exact, for the transition was seen.
    pub state_entered: bool,
    /// Both ends, with the last ports that were known.
    pub ends: Ends,
    /// Network namespace.
    pub netns: u32,
    /// When the connection began (or the listening), if that was seen.
    pub born: Option<MonoTime>,
    /// When it was first seen.
    pub first_seen: MonoTime,
    /// Whether it was there before it was first seen: its age is not known.
    pub born_before_observer: bool,
    /// Whether it was once connected or connecting.
    pub was_connected: bool,
    /// Who connected or accepted it.
    pub owner: Option<Owner>,
    /// That the owner gave it up.
    pub released: Option<Release>,
    /// The close-on-exec bit of the descriptor that the owner got, as last seen.
    pub(super) owners_bit: CloseOnExec,
    /// When the oldest of the holders was forked, if an exec may still take it from all of them; 0
    /// otherwise: an `Option` would make every socket larger.
    pub(super) spared: MonoTime,
    /// The last descriptor of another process than the owner that was closed, and when: whoever has
    /// it again after that was given it.
    /// Boxed, for most have none.
    pub(super) let_go: Option<Box<(ProcessKey, i32, MonoTime)>>,
    /// The descriptors that refer to it, by process and number.
    pub holders: Vec<HolderEntry>,
    /// What moves through it.
    pub flow: Flow,
    /// Who it said it is, in an MQTT CONNECT.
    pub client: Option<Box<ClientName>>,
    /// When it said so.
    pub named_at: Option<MonoTime>,
    /// The next newer live connection to the same place that carries the same client id, and since
    /// when there has been one.
    pub succeeded: Option<(Cookie, MonoTime)>,
    /// Number of losses at the time when its state was last certain.
    pub(super) certain_at_loss: Option<u64>,
    /// Number of losses at the time when it was first known.
    pub(super) known_at_loss: u64,
    /// Newest record about it.
    pub(super) touched: MonoTime,
    /// Newest transition.
    pub(super) transition_at: Option<MonoTime>,
    /// Newest row about it.
    pub(super) row_at: Option<MonoTime>,
    /// First row about it in the newest snapshot that had any.
    pub(super) confirmed_at: Option<MonoTime>,
    pub(super) was_held: bool,
    pub(super) reported: bool,
    /// What happened last. It stays with the socket, whatever becomes of it.
    pub(super) recorder: Recorder,
}

impl Socket {
    /// A socket that a record makes known.
    pub(super) fn from_transition(transition: &Transition, losses: u64) -> Self {
        let born = is_birth(transition).then_some(transition.time);
        let mut socket = Self {
            cookie: transition.cookie,
            state: transition.new,
            state_since: transition.time,
            state_entered: true,
            ends: transition.ends,
            netns: transition.netns,
            born,
            first_seen: transition.time,
            born_before_observer: born.is_none(),
            was_connected: is_connection(transition.old) || is_connection(transition.new),
            owner: None,
            released: None,
            owners_bit: CloseOnExec::Unknown,
            spared: MonoTime::from_nanos(0),
            let_go: None,
            holders: Vec::new(),
            flow: Flow::default(),
            client: None,
            named_at: None,
            succeeded: None,
            certain_at_loss: Some(losses),
            known_at_loss: losses,
            touched: transition.time,
            transition_at: Some(transition.time),
            row_at: None,
            confirmed_at: None,
            was_held: false,
            reported: false,
            recorder: Recorder::default(),
        };
        socket.record_transition(transition);
        socket.observe_transition(transition);
        socket
    }

    /// A socket that a snapshot makes known. `certain` unless records were lost before it.
    pub(super) fn from_row(row: &SnapshotRow, time: MonoTime, losses: u64, certain: bool) -> Self {
        let mut recorder = Recorder::default();
        recorder.push(time, What::Seen(row.state));
        Self {
            cookie: row.cookie,
            state: row.state,
            state_since: time,
            state_entered: false,
            ends: row.ends,
            netns: row.netns,
            born: None,
            first_seen: time,
            born_before_observer: true,
            was_connected: is_connection(row.state) || row.ends.remote.port() != 0,
            owner: None,
            released: None,
            owners_bit: CloseOnExec::Unknown,
            spared: MonoTime::from_nanos(0),
            let_go: None,
            holders: Vec::new(),
            flow: Flow::default(),
            client: None,
            named_at: None,
            succeeded: None,
            certain_at_loss: certain.then_some(losses),
            known_at_loss: losses,
            touched: time,
            transition_at: None,
            row_at: None,
            confirmed_at: None,
            was_held: false,
            reported: false,
            recorder,
        }
    }

    /// Takes in a transition. The only place, with [`Self::take_row`], that moves the state.
    pub(super) fn take_transition(&mut self, transition: &Transition, losses: u64) {
        let time = transition.time;
        self.touched = self.touched.max(time);
        self.record_transition(transition);
        if self.row_at.is_some_and(|row| row >= time) {
            // A row that is newer has told the outcome; the record still knows the moment.
            if self.state == transition.new && !self.state_entered {
                self.state_since = time;
                self.state_entered = true;
                self.certain_at_loss = Some(losses);
            }
            return;
        }
        if transition.old == TcpState::Close && is_birth(transition) {
            // connect(2) or listen(2) on a socket that was known before: a new connection.
            self.born = Some(time);
            self.born_before_observer = false;
            self.released = None;
            self.begin_anew();
        } else if begins_anew(self.state, transition.new) {
            self.begin_anew();
        }
        self.certain_at_loss = (self.state == transition.old).then_some(losses);
        self.state = transition.new;
        self.state_since = time;
        self.state_entered = true;
        self.transition_at = Some(time);
        self.was_connected |= is_connection(transition.new);
        self.take_ends(transition.ends);
        self.observe_transition(transition);
    }

    fn record_transition(&mut self, transition: &Transition) {
        let Transition { time, old, new, .. } = *transition;
        self.recorder.push(time, What::Transition { old, new });
    }

    fn observe_transition(&mut self, transition: &Transition) {
        if let Some(position) = transition.read {
            self.flow.observe_read(transition.time, transition.new, position, None);
        }
    }

    /// Takes in what a snapshot saw at `time`, unless a record or row is newer.
    pub(super) fn take_row(&mut self, row: &SnapshotRow, time: MonoTime) {
        let is_newest = self.row_at.is_none_or(|earlier| earlier <= time);
        if is_newest && self.transition_at.is_none_or(|earlier| earlier <= time) {
            if self.state != row.state {
                self.recorder.push(time, What::Seen(row.state));
                if begins_anew(self.state, row.state) {
                    self.begin_anew();
                }
                self.state = row.state;
                self.state_since = time;
                self.state_entered = false;
                self.certain_at_loss = None;
                self.was_connected |= is_connection(row.state);
            }
            self.take_ends(row.ends);
        }
        self.flow.observe_read(time, row.state, row.read, Some(row.last_received));
        self.flow.observe_write(time, row.state, row.write_seq, row.last_sent);
        self.flow.observe_acknowledged(time, row.state, row.write_seq.wrapping_sub(row.unacked));
        self.row_at = self.row_at.max(Some(time));
    }

    /// It is another connection from now on: what moved through the former one, and who that said it
    /// is, are forgotten.
    fn begin_anew(&mut self) {
        self.flow = Flow::default();
        self.client = None;
        self.named_at = None;
    }

    /// Learns who it says it is. The first word counts: a second CONNECT in a connection is a fault
    /// after which the broker ends it (MQTT-3.1.0-2), and bytes that only look like one may be in
    /// any message.
    pub(super) fn name(&mut self, name: &ClientName, time: MonoTime) {
        self.touched = self.touched.max(time);
        if self.client.is_none() {
            self.client = Some(Box::new(name.clone()));
            self.named_at = Some(time);
        }
    }

    /// Its place among the clients, if it is live and carries a client id that tells it from others.
    pub(super) fn rank(&self) -> Option<Rank> {
        if self.holders.is_empty() { None } else { self.rank_if_held() }
    }

    /// As [`Self::rank`], whoever holds it.
    pub(super) fn rank_if_held(&self) -> Option<Rank> {
        let client_id = self.client.as_ref()?.identity()?;
        (self.state == TcpState::Established).then(|| Rank {
            client_id: client_id.clone(),
            remote: self.ends.remote,
            netns: self.netns,
            age: self.born.unwrap_or(self.first_seen),
            cookie: self.cookie,
        })
    }

    /// Since when it has been established and has had a name, at the least.
    pub fn carries_name_since(&self) -> MonoTime {
        self.named_at.map_or(self.state_since, |named| named.max(self.state_since))
    }

    /// Keeps what is known where the kernel has forgotten it: the first record of a connect(2) and
    /// those into CLOSE have no local port (`inet_put_port` clears it).
    fn take_ends(&mut self, ends: Ends) {
        let keep = |known: std::net::SocketAddr, new: std::net::SocketAddr| {
            let mut end = new;
            if new.port() == 0 {
                end.set_port(known.port());
            }
            if new.ip().is_unspecified() {
                end.set_ip(known.ip());
            }
            end
        };
        self.ends = Ends {
            local: keep(self.ends.local, ends.local),
            remote: keep(self.ends.remote, ends.remote),
        };
    }

    /// Adds or refreshes a descriptor.
    pub(super) fn hold(&mut self, process: ProcessKey, fd: i32, time: MonoTime) {
        self.was_held = true;
        match self.holder_index(process, fd) {
            Ok(index) => {
                let entry = &mut self.holders[index];
                entry.seen = entry.seen.max(time);
            }
            Err(index) => {
                let close_on_exec = CloseOnExec::Unknown;
                let entry = HolderEntry { process, fd, close_on_exec, acquired: time, seen: time };
                // Almost every socket has one; a vector would make room for four.
                self.holders.reserve_exact(1);
                self.holders.insert(index, entry);
            }
        }
    }

    /// Learns what a snapshot shows of the close-on-exec bit of a descriptor.
    pub(super) fn take_bit(&mut self, process: ProcessKey, fd: i32, bit: Option<bool>) {
        let Ok(index) = self.holder_index(process, fd) else { return };
        let entry = &mut self.holders[index];
        entry.close_on_exec = entry.close_on_exec.shown(bit);
        if let Some(owner) = &self.owner
            && (owner.process, owner.fd) == (process, Some(fd))
        {
            self.owners_bit = entry.close_on_exec;
        }
    }

    pub(super) fn unhold(&mut self, process: ProcessKey, fd: i32) -> Option<HolderEntry> {
        let index = self.holder_index(process, fd).ok()?;
        Some(self.holders.remove(index))
    }

    /// The descriptor `fd` of `process`, if it refers to this socket.
    pub fn holder(&self, process: ProcessKey, fd: i32) -> Option<&HolderEntry> {
        self.holder_index(process, fd).ok().map(|index| &self.holders[index])
    }

    /// Whether a descriptor of `process` refers to this socket.
    pub fn is_held_by(&self, process: ProcessKey) -> bool {
        let index = self.holders.partition_point(|entry| entry.process < process);
        self.holders.get(index).is_some_and(|entry| entry.process == process)
    }

    /// Whether `process` owns it.
    pub fn is_owned_by(&self, process: ProcessKey) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.process == process)
    }

    /// When the owner closed it, or went away, while others may still hold it.
    pub fn closed_by_owner(&self) -> Option<MonoTime> {
        self.released.map(|release| release.time)
    }

    /// When the oldest of its holders was forked, if all of them are close-on-exec and in processes
    /// that have executed no program since: they may be on the way to one, which closes them.
    pub fn spared_since(&self) -> Option<MonoTime> {
        (self.spared > MonoTime::from_nanos(0)).then_some(self.spared)
    }

    /// When the newest snapshot that knew this socket began to see it.
    pub fn confirmed_at(&self) -> Option<MonoTime> {
        self.confirmed_at
    }

    /// Whether an open incident is about it.
    pub fn is_reported(&self) -> bool {
        self.reported
    }

    /// Bytes of data that wait to be read.
    pub fn unread(&self) -> u32 {
        self.flow.unread
    }

    /// `since`, or since when there is somebody to answer for it if that is later: nobody can read
    /// or close a socket before accept(2).
    pub fn answerable(&self, since: MonoTime) -> MonoTime {
        self.owner.as_ref().map_or(since, |owner| owner.since.max(since))
    }

    /// The same socket with nothing remembered of its past, to compare.
    #[cfg(test)]
    pub(crate) fn without_history(self) -> Self {
        Self { recorder: Recorder::default(), ..self }
    }

    fn holder_index(&self, process: ProcessKey, fd: i32) -> Result<usize, usize> {
        self.holders.binary_search_by_key(&(process, fd), |entry| (entry.process, entry.fd))
    }
}

/// Whether a transition is the first one in the life of a connection or listener. An accepted
/// socket's first good record is SYN_RECV to ESTABLISHED; the one before carries the listener.
pub(super) fn is_birth(transition: &Transition) -> bool {
    use TcpState::{Close, Established, Listen, SynRecv, SynSent};
    matches!((transition.old, transition.new), (Close, SynSent | Listen) | (SynRecv, Established))
}

fn is_connection(state: TcpState) -> bool {
    !matches!(state, TcpState::Close | TcpState::Listen)
}

/// Whether a socket in state `old` that is found in `new` must have begun another connection, of
/// whose beginning no record came: no connection goes back.
fn begins_anew(old: TcpState, new: TcpState) -> bool {
    use TcpState::{Established, NewSynRecv, SynRecv, SynSent};
    match new {
        SynSent => !matches!(old, SynSent),
        Established => !matches!(old, Established | SynSent | SynRecv | NewSynRecv),
        _ => false,
    }
}
