//! What an incident is about.

use std::net::{IpAddr, SocketAddr};

use crate::{
    model::{Cookie, Ends, ProcessKey, TcpState},
    table::Socket,
};

/// What a finding is about. With the kind it is the name of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One socket.
    Socket(Cookie),
    /// A process as a whole.
    Process(ProcessKey),
    /// What a process does with one destination.
    Destination(ProcessKey, SocketAddr),
    /// The ports between an address of ours and a destination, whoever has them.
    Route(IpAddr, SocketAddr),
}

impl Subject {
    /// The socket.
    pub fn cookie(self) -> Option<Cookie> {
        match self {
            Self::Socket(cookie) => Some(cookie),
            Self::Process(_) | Self::Destination(..) | Self::Route(..) => None,
        }
    }

    /// The destination, where it is about one and not about a socket.
    pub fn destination(self) -> Option<SocketAddr> {
        match self {
            Self::Destination(_, remote) | Self::Route(_, remote) => Some(remote),
            Self::Socket(_) | Self::Process(_) => None,
        }
    }
}

/// What is to be said about the socket of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFacts {
    /// Its state.
    pub state: TcpState,
    /// Both ends.
    pub ends: Ends,
    /// Network namespace.
    pub netns: u32,
    /// Whether it was there before it was first seen.
    pub born_before_observer: bool,
    /// Bytes that wait to be read.
    pub unread: u32,
}

impl SocketFacts {
    /// The facts of a socket that is in the table.
    pub(crate) fn of(socket: &Socket) -> Self {
        Self {
            state: socket.state,
            ends: socket.ends,
            netns: socket.netns,
            born_before_observer: socket.born_before_observer,
            unread: socket.unread(),
        }
    }

    /// The facts of a socket that the kernel does not have any more.
    pub(crate) fn gone(remote: Option<SocketAddr>) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            state: TcpState::Close,
            ends: Ends { local: nowhere, remote: remote.unwrap_or(nowhere) },
            netns: 0,
            born_before_observer: false,
            unread: 0,
        }
    }
}
