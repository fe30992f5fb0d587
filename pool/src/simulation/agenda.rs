//! What will happen, and when: the one queue of events.

use crate::error::Cause;
use crate::session::Carried;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// The number of a socket, and of the dial that made it: its place among all sockets.
pub(super) type Cookie = usize;

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Pool,
    Broker,
}

/// What travels from one end to the other.
#[derive(Debug)]
pub(super) enum Segment {
    Data(Vec<u8>),
    Fin,
    Reset,
}

/// One thing that happens.
#[derive(Debug)]
pub(super) enum Event {
    // The network and the kernel.
    /// A SYN arrives at the broker's host. The first try is 0.
    Syn {
        cookie: Cookie,
        attempt: u32,
    },
    /// The handshake of TCP is complete for the pool.
    Connected {
        cookie: Cookie,
    },
    /// Nobody listens there.
    Refused {
        cookie: Cookie,
    },
    /// A segment arrives at one end.
    Arrive {
        cookie: Cookie,
        end: End,
        segment: Segment,
    },
    /// The session on a connection that died at that time must have found it out.
    Overdue {
        cookie: Cookie,
        since: Instant,
    },
    /// `TCP_USER_TIMEOUT`, if the connection is dead.
    TcpTimeout {
        cookie: Cookie,
    },
    /// Whoever held a copy of a closed socket lets go of it.
    Release {
        cookie: Cookie,
    },
    // The drivers.
    /// A timer, a stop, space to write: the driver looks around.
    Wake {
        cookie: Cookie,
    },
    /// The application has space for a message again.
    Unblock {
        cookie: Cookie,
    },
    /// The dial has had its time.
    ConnectTimeout {
        cookie: Cookie,
    },
    /// The broker has had its time to close after our DISCONNECT.
    GoodbyeOver {
        cookie: Cookie,
    },
    // The pool's loop.
    Online {
        cookie: Cookie,
        latency: Duration,
    },
    Finished {
        cookie: Cookie,
        end: Box<(Cause, Carried)>,
    },
    AskForReceipt {
        cookie: Cookie,
        retry: Duration,
    },
    // The broker.
    /// It takes the next connection from its listen queue.
    Accept,
    /// Its database says yes to a CONNECT.
    Authenticated {
        cookie: Cookie,
    },
    /// It looks whether a client was silent for too long.
    BrokerKeepAlive {
        cookie: Cookie,
    },
    RivalConnects {
        device: usize,
    },
    // The callers.
    Add {
        device: usize,
    },
    Publish {
        device: usize,
    },
    Change {
        device: usize,
    },
    /// Somebody publishes to a device.
    Deliver {
        device: usize,
    },
    // The storm.
    Begin(usize),
    End(usize),
    /// One more step of a trouble that has several.
    Go(usize),
}

/// Events in the order of their time, and at one time in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Planned>,
    planned: u64,
}

#[derive(Debug)]
struct Planned {
    at: Instant,
    number: u64,
    event: Event,
}

impl Agenda {
    pub(super) fn plan(&mut self, at: Instant, event: Event) {
        self.planned += 1;
        self.heap.push(Planned { at, number: self.planned, event });
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|planned| planned.at)
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.heap.pop().map(|planned| planned.event)
    }
}

/// The earliest is the greatest, for the heap gives the greatest first.
impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Planned {}
