//! Both words about one socket, and what is proved by them.
//!
//! Each moment in here rests on something that was seen: a record, or a row of a snapshot. What was
//! not seen, because records were lost, moves no moment. So nothing that is missing can make two
//! sockets look as if they had lived at the same time.

use std::net::SocketAddr;

use pool::{DeviceId, Receipt, registry::Stage};

use crate::{
    model::{MonoTime, SnapshotRow, TcpState, Transition},
    table::Socket,
};

/// Both words about one socket of the pool's process.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// The registry's word.
    pub(super) claim: Option<Claimed>,
    /// When connect(2) began; not earlier than it did, where that was not seen.
    pub(super) connected: Option<MonoTime>,
    /// The last moment at which it certainly was in a state in which data can flow or may come to
    /// flow.
    pub(super) alive: Option<MonoTime>,
    /// When it left those states; not later than it did, where that was not seen.
    pub(super) ended: Option<MonoTime>,
    /// When it was first seen past ESTABLISHED.
    pub(super) left: Option<MonoTime>,
    /// When the kernel gave it up, or when a snapshot first did not find it any more.
    pub(super) gone: Option<MonoTime>,
    /// Where it was connected to.
    pub(super) remote: Option<SocketAddr>,
    /// The beginning of the newest snapshot that showed it.
    pub(super) shown: Option<MonoTime>,
    /// The receipt went out.
    pub(super) is_receipted: bool,
    /// That it overlapped an older socket was reported: it connects only once.
    pub(super) is_overlap_told: bool,
}

/// The registry's word about a socket.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub(super) device: DeviceId,
    pub(super) generation: u32,
    pub(super) stage: ClaimStage,
    /// Since when it is in this stage, as far as we were told.
    pub(super) since: MonoTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimStage {
    Connecting,
    Online,
    /// Closed by the pool.
    Closed,
    /// Closed, and the pool waits for no receipt any more.
    GivenUp,
    /// The pool has its receipt.
    Retracted,
}

impl From<Stage> for ClaimStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Connecting => Self::Connecting,
            Stage::Online => Self::Online,
            Stage::Closed => Self::Closed,
        }
    }
}

impl Entry {
    /// connect(2) on it begins. Whatever it was before, it is a new connection.
    pub(super) fn connect(&mut self, time: MonoTime, remote: SocketAddr) {
        *self = Self {
            claim: self.claim.take(),
            connected: Some(time),
            alive: Some(time),
            remote: Some(remote),
            ..Self::default()
        };
    }

    /// A record about it, later than that of its connect(2).
    pub(super) fn transition(&mut self, transition: &Transition) {
        let time = transition.time;
        let was_alive = is_live(transition.old) && transition.old != TcpState::NewSynRecv;
        if is_live(transition.new) || was_alive && self.ended.is_none() {
            self.connected.get_or_insert(time);
            self.alive = self.alive.max(Some(time));
        }
        if !is_live(transition.new) && was_alive {
            self.ended.get_or_insert(time);
        } else if !is_live(transition.new) {
            self.end_unseen();
        }
        if is_past_established(transition.new) {
            self.left.get_or_insert(time);
        }
    }

    /// The kernel has given it up, or a complete snapshot that began at `time` had no row of it.
    pub(super) fn go(&mut self, time: MonoTime) {
        self.gone.get_or_insert(time);
        self.left.get_or_insert(time);
        self.end_unseen();
    }

    /// A snapshot that began at `began` shows it.
    pub(super) fn row(&mut self, row: &SnapshotRow, began: MonoTime) {
        self.shown = Some(began);
        // Claimed and not connected yet, it is in CLOSE too. A state that is only reached by
        // connecting tells of a connect(2) whose record was lost.
        let is_known = self.connected.is_some_and(|connected| connected <= row.time);
        if row.state == TcpState::Close && !is_known {
            return;
        }
        let connected = *self.connected.get_or_insert(row.time);
        self.remote.get_or_insert(row.ends.remote);
        if is_live(row.state) {
            // The row's time and its state are not read at once, but both after the beginning.
            self.alive = self.alive.max(Some(began.max(connected)));
        } else {
            self.end_unseen();
        }
        if is_past_established(row.state) {
            self.left.get_or_insert(row.time);
        }
    }

    /// Takes over what the table knows of a socket whose records came before anybody asked.
    pub(super) fn take(&mut self, socket: &Socket) {
        if socket.state == TcpState::Close && socket.born.is_none() {
            return;
        }
        let connected = socket.born.unwrap_or(socket.state_since);
        self.connected = Some(connected);
        self.alive = Some(connected);
        self.remote = Some(socket.ends.remote);
        if is_live(socket.state) {
            self.alive = self.alive.max(socket.confirmed_at());
        } else {
            self.end_unseen();
        }
        if is_past_established(socket.state) {
            self.left = Some(socket.state_since);
        }
    }

    /// Where the claim is.
    pub(super) fn stage(&self) -> Option<ClaimStage> {
        self.claim.as_ref().map(|claim| claim.stage)
    }

    /// Whether it is a device's. One that was given up is until the kernel has let go of it.
    pub(super) fn is_claimed(&self) -> bool {
        match self.stage() {
            Some(ClaimStage::Retracted) | None => false,
            Some(ClaimStage::GivenUp) => self.receipt().is_none(),
            Some(_) => true,
        }
    }

    /// Whether the registry still has the claim.
    pub(super) fn is_registered(&self) -> bool {
        use ClaimStage::{Closed, Connecting, Online};
        matches!(self.stage(), Some(Connecting | Online | Closed))
    }

    /// Whether the snapshot that began at `began` showed it.
    pub(super) fn is_shown(&self, began: MonoTime) -> bool {
        self.shown == Some(began)
    }

    /// Whether the registry and the kernel say the same of it, by itself.
    pub(super) fn is_in_order(&self) -> bool {
        use ClaimStage::{Connecting, Online};
        matches!(self.stage(), Some(Connecting | Online)) && self.left.is_none()
    }

    /// What is proved of the socket.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        match (self.gone, self.ended) {
            (Some(_), _) => Some(Receipt::Destroyed),
            (None, Some(_)) => Some(Receipt::Disconnected),
            (None, None) => None,
        }
    }

    /// Whether a snapshot that began at `began` had to show it, if it is still there.
    pub(super) fn was_there(&self, began: MonoTime) -> bool {
        let is_connected = self.connected.is_some_and(|connected| connected < began);
        let told = self.claim.as_ref().filter(|claim| claim.stage != ClaimStage::Connecting);
        is_connected || told.is_some_and(|claim| claim.since < began)
    }

    /// Whether neither side will say anything more about it.
    pub(super) fn is_over(&self) -> bool {
        match self.stage() {
            // That it was never connected proves nothing: the record may be lost, or still to come.
            Some(ClaimStage::Retracted | ClaimStage::GivenUp) | None => self.gone.is_some(),
            Some(_) => false,
        }
    }

    /// It has ended, and nobody saw when.
    fn end_unseen(&mut self) {
        if self.ended.is_none() {
            self.ended = self.alive.or(self.connected).or(self.left);
        }
    }
}

/// Whether data can flow, or may come to flow: a socket that has left these states is disconnected.
pub(super) fn is_live(state: TcpState) -> bool {
    use TcpState::{CloseWait, Established, NewSynRecv, SynRecv, SynSent};
    matches!(state, SynSent | SynRecv | NewSynRecv | Established | CloseWait)
}

fn is_past_established(state: TcpState) -> bool {
    state == TcpState::CloseWait || !is_live(state)
}
