//! PURE. Findings and their life: a finding is opened, updated and cleared.

mod book;
mod detail;
mod message;
mod proof;
mod registry;
mod subject;
mod trend;

use std::{net::SocketAddr, sync::Arc, time::Duration};

pub(crate) use self::{
    book::{Book, Trigger},
    proof::told,
    registry::{About, culprit, describe as describe_registry},
    trend::describe as describe_trend,
};
pub use self::{
    detail::{Detail, Growing, Named},
    proof::Proof,
    subject::{SocketFacts, Subject},
};
pub use crate::table::Evidence;
use crate::{
    detect::{Kind, inherited_remedy},
    model::{Comm, Cookie, Holder, MonoTime, ProcessKey},
};

/// What happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindingEvent {
    /// The cause is gone.
    Cleared,
    /// It was found.
    Opened,
    /// It lasts, and something about it is new.
    Updated,
}

impl FindingEvent {
    /// Its name in output.
    pub fn code(self) -> &'static str {
        match self {
            Self::Cleared => "cleared",
            Self::Opened => "opened",
            Self::Updated => "updated",
        }
    }
}

/// Why an incident was cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClearReason {
    /// A claim covers the socket now.
    Claimed,
    /// The last descriptor was closed.
    Closed,
    /// The kernel gave the socket up.
    Destroyed,
    /// The process exited.
    Exited,
    /// The table was full: what becomes of the socket is not known.
    Forgotten,
    /// Another process uses it now.
    HandedOver,
    /// A rule of the config ignores it now.
    Ignored,
    /// One of the device's two sockets is left.
    Parted,
    /// Data were read again.
    Read,
    /// The registry does not claim the socket any more.
    Retracted,
    /// Data were sent again.
    Sent,
    /// The socket went on to another state.
    StateLeft,
    /// It is not so any more.
    Subsided,
    /// No descriptor was found any more.
    Vanished,
}

impl ClearReason {
    /// Its name in output.
    pub fn code(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Closed => "closed",
            Self::Destroyed => "destroyed",
            Self::Exited => "exited",
            Self::Forgotten => "forgotten",
            Self::HandedOver => "handed-over",
            Self::Ignored => "ignored",
            Self::Parted => "parted",
            Self::Read => "read",
            Self::Retracted => "retracted",
            Self::Sent => "sent",
            Self::StateLeft => "state-left",
            Self::Subsided => "subsided",
            Self::Vanished => "vanished",
        }
    }
}

/// A verdict, as it is reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Whether it is new, goes on or is over.
    pub event: FindingEvent,
    /// Number of the incident: the same from opening to clearing, and never used again.
    pub id: u64,
    /// What is wrong.
    pub kind: Kind,
    /// When this was found.
    pub time: MonoTime,
    /// The process that should act: the owner if it holds the socket, else the first holder.
    pub process: ProcessKey,
    /// Its name.
    pub comm: Comm,
    /// What it is about: the incident is known by this and the kind.
    pub subject: Subject,
    /// The socket, if it is about one.
    pub socket: Option<SocketFacts>,
    /// All descriptors that refer to the socket, that of `process` first. In a clearing those that
    /// last did. Empty for a finding that is not about one socket.
    pub holders: Vec<Holder>,
    /// Since when it is wrong, at the least.
    pub since: MonoTime,
    /// How long it may be.
    pub budget: Duration,
    /// How good the proof is.
    pub evidence: Evidence,
    /// The device, for a finding about the registry.
    pub device: Option<DeviceFacts>,
    /// What else is to be said, for the kinds that have more to say.
    pub detail: Option<Detail>,
    /// What stands behind it. Empty in the core: it is added where a finding is reported.
    pub proof: Box<Proof>,
    /// A sentence for people.
    pub message: String,
    /// Why it is over.
    pub clear_reason: Option<ClearReason>,
}

impl Finding {
    /// The first thing to do about it, a sentence without its dot.
    pub fn remedy(&self) -> &'static str {
        if self.kind == Kind::Inherited {
            return inherited_remedy(self.holders.first().and_then(|it| it.close_on_exec));
        }
        let all = self.kind.what_to_do();
        all.split_once(". ").map_or(all, |(first, _)| first)
    }

    /// How long it has been wrong.
    pub fn age(&self) -> Duration {
        self.time.since(self.since)
    }

    /// The socket that it is about.
    pub fn cookie(&self) -> Option<Cookie> {
        self.subject.cookie()
    }

    /// The other end: of the socket, or the destination that it is about.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.socket.map(|socket| socket.ends.remote).or_else(|| self.subject.destination())
    }

    /// Whether it has to do with one of `ports`; everything has if there are none.
    pub fn is_on(&self, ports: &[u16]) -> bool {
        match (&self.socket, self.subject.destination()) {
            (Some(socket), _) => socket.ends.are_on(ports),
            (None, Some(remote)) => ports.is_empty() || ports.contains(&remote.port()),
            (None, None) => true,
        }
    }

    /// The device that it names: the registry's, or the client id of the connection.
    pub fn device_name(&self) -> Option<&str> {
        let registered = self.device.as_ref().map(|facts| &*facts.device);
        registered.or_else(|| self.detail.as_ref().and_then(Detail::device))
    }
}

/// What the registry says of the socket of a finding: the pool's, or that of a process that claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Whose socket it is, as the application named the device: untrusted text.
    pub device: Arc<str>,
    /// Which of its sessions; `None` for a claim of another process, which has no numbers.
    pub generation: Option<u32>,
    /// The device's other live socket, in an overlap.
    pub other: Option<Cookie>,
    /// For how long both were alive.
    pub overlap: Option<Duration>,
}

/// A finding that is not over.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// As it was last reported.
    pub finding: Finding,
    /// When it was first reported.
    pub opened: MonoTime,
    /// At which age it is reported again though nothing changed.
    remind_at: Duration,
}
