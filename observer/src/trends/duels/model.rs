//! Clients and servers as they behave, with chance from a seed: what the kernel tells of them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    ops::Range,
    sync::Arc,
};

use crate::model::{
    ClientName, Cookie, Ends, KernelEvent, MonoTime, ProcessKey, TcpState, Transition,
};

/// Numbers that only look like chance (SplitMix64).
#[derive(Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of the range; its start if it is empty.
    pub(super) fn of(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % range.end.saturating_sub(range.start).max(1)
    }

    /// The time to the next of events that come by chance, on average `mean` apart.
    pub(super) fn gap(&mut self, mean: u64) -> u64 {
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (-(1.0 - part).ln() * mean as f64) as u64
    }
}

/// What the other side does.
#[derive(Clone, Debug)]
pub(super) enum Server {
    /// An MQTT broker: the newer CONNECT ends the older session.
    Broker,
    /// It ends each connection after so many microseconds.
    Closes(Range<u64>),
}

/// One client object of a program.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) process: u32,
    pub(super) port: u16,
    pub(super) id: String,
    /// Whether its CONNECT can be read.
    pub(super) is_named: bool,
    pub(super) server: Server,
    /// How long it waits before it comes back after an end, microseconds; `None` if it does not.
    pub(super) back: Option<Range<u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Open(usize),
    Answer(usize, Cookie),
    Connect(usize, Cookie),
    Arrive(usize, Cookie),
    End(usize, Cookie),
    /// The client destroys its connection, and comes back right then.
    Replace(usize),
}

/// The world: everything in microseconds.
#[derive(Debug)]
pub(super) struct World {
    pub(super) chance: Chance,
    clients: Vec<Client>,
    queue: BinaryHeap<Reverse<(u64, u64, Action)>>,
    steps: u64,
    live: HashMap<usize, Cookie>,
    over: HashSet<Cookie>,
    sessions: HashMap<(u16, String), (usize, Cookie)>,
    cookies: u64,
    told: Vec<KernelEvent>,
    /// One way to the broker.
    way: Range<u64>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            clients: Vec::new(),
            queue: BinaryHeap::new(),
            steps: 0,
            live: HashMap::new(),
            over: HashSet::new(),
            sessions: HashMap::new(),
            cookies: 0,
            told: Vec::new(),
            way: 50..500,
        }
    }

    /// How long a packet is under way.
    pub(super) fn with_way(mut self, way: Range<u64>) -> Self {
        self.way = way;
        self
    }

    /// A client that connects at `at`.
    pub(super) fn open(&mut self, at: u64, client: Client) -> usize {
        self.clients.push(client);
        let index = self.clients.len() - 1;
        self.plan(at, Action::Open(index));
        index
    }

    /// This client destroys its connection at `at` and makes a new one.
    pub(super) fn replace(&mut self, at: u64, client: usize) {
        self.plan(at, Action::Replace(client));
    }

    /// Everything that is told up to `until`. Records of a CONNECT come up to 5 ms late.
    pub(super) fn run(mut self, until: u64) -> Vec<KernelEvent> {
        while let Some(Reverse((at, _, action))) = self.queue.pop() {
            if at > until {
                break;
            }
            self.act(at, action);
        }
        let mut told: Vec<_> = std::mem::take(&mut self.told)
            .into_iter()
            .map(|event| {
                let late = matches!(event, KernelEvent::Named { .. });
                let late = if late { self.chance.of(0..5_000) } else { 0 };
                (event.time().nanos() / 1000 + late, event)
            })
            .collect();
        told.sort_by_key(|(at, _)| *at);
        told.into_iter().map(|(_, event)| event).collect()
    }

    fn plan(&mut self, at: u64, action: Action) {
        self.steps += 1;
        self.queue.push(Reverse((at, self.steps, action)));
    }

    fn way(&mut self) -> u64 {
        let way = self.way.clone();
        self.chance.of(way)
    }

    fn act(&mut self, at: u64, action: Action) {
        use TcpState::{Close, CloseWait, Established, FinWait1, LastAck, SynSent};
        match action {
            Action::Open(client) => {
                self.cookies += 1;
                let cookie = Cookie(self.cookies);
                self.live.insert(client, cookie);
                self.tell(at, client, cookie, Close, SynSent);
                let there_and_back = self.way() + self.way();
                self.plan(at + there_and_back, Action::Answer(client, cookie));
            }
            Action::Answer(client, cookie) => {
                self.tell(at, client, cookie, SynSent, Established);
                let pause = self.chance.of(10..200);
                self.plan(at + pause, Action::Connect(client, cookie));
            }
            Action::Connect(client, cookie) => {
                let Client { id, is_named, .. } = &self.clients[client];
                if *is_named {
                    let client_id = Arc::from(id.as_str());
                    let name = ClientName { client_id, is_cut: false, keep_alive: 60, level: 4 };
                    self.told.push(KernelEvent::Named {
                        time: MonoTime::from_nanos(at * 1000),
                        cookie,
                        name,
                    });
                }
                let way = self.way();
                self.plan(at + way, Action::Arrive(client, cookie));
            }
            Action::Arrive(client, cookie) => match self.clients[client].server.clone() {
                Server::Broker => {
                    let session = (self.clients[client].port, self.clients[client].id.clone());
                    let former = self.sessions.insert(session, (client, cookie));
                    if let Some((former, older)) = former.filter(|(_, older)| *older != cookie) {
                        let way = self.way() + self.chance.of(20..300);
                        self.plan(at + way, Action::End(former, older));
                    }
                }
                Server::Closes(after) => {
                    let after = self.chance.of(after) + self.way();
                    self.plan(at + after, Action::End(client, cookie));
                }
            },
            Action::End(client, cookie) => {
                if !self.over.insert(cookie) {
                    return;
                }
                self.tell(at, client, cookie, Established, CloseWait);
                self.tell(at + 100, client, cookie, CloseWait, LastAck);
                if let Some(back) = self.clients[client].back.clone() {
                    let pause = self.chance.of(back);
                    self.plan(at + 100 + pause, Action::Open(client));
                }
            }
            Action::Replace(client) => {
                let Some(cookie) = self.live.get(&client).copied() else { return };
                if self.over.insert(cookie) {
                    self.tell(at, client, cookie, Established, FinWait1);
                    self.plan(at + 100, Action::Open(client));
                }
            }
        }
    }

    fn tell(&mut self, at: u64, client: usize, cookie: Cookie, old: TcpState, new: TcpState) {
        let Client { process, port, .. } = &self.clients[client];
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let owner = ProcessKey { pid: *process, start_ns: 1 };
        self.told.push(KernelEvent::Transition(Transition {
            time: MonoTime::from_nanos(at * 1000),
            cookie,
            old,
            new,
            ends: Ends::new((address, 40_000), (address, *port)),
            netns: 1,
            owner: (new == TcpState::SynSent).then_some(owner),
            fd: None,
            context_pid: 0,
            read: None,
        }));
    }
}
