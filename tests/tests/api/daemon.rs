//! A daemon in this process that is nothing but its API.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::http::Place;
use harness::{TempDir, pools, require_root};
use observer::api::{
    Backend, Counters, Entry, Health, Listeners, Origin, Roster, RosterError, Server, bind_tcp,
    bind_unix,
};
use observer::cgroup;
use observer::desk::{Desk, Findings, News, Question, SocketFilter, SocketView, Sockets};
use observer::detect::Kind;
use observer::fleet::DeviceSpec;
use observer::incident::{
    DeviceFacts, Evidence, Finding, FindingEvent, Proof, SocketFacts, Subject,
};
use observer::life::watchdog::Beats;
use observer::model::{
    Comm, Cookie, Ends, Holder, MonoTime, ProcessKey, ReadPosition, Snapshot, SnapshotRow, TcpState,
};
use observer::probe::Layers;
use observer::reading::{ProcessReading, Reading};
use observer::table::{Limits, Step, Table, What};
use pool::testing::TestBroker;
use pool::{Device, Next, Pool, QoS};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, oneshot};

/// The password that must be seen nowhere.
pub(crate) const PASSWORD: &str = "s3cret-of-the-device";

/// A name as somebody hostile chooses it.
pub(crate) const HOSTILE: &str = "\u{1b}[31mx\u{202e}<b>\"";

/// Sockets and findings of the observer.
pub(crate) const ROWS: u64 = 25;

/// A running API, ended when dropped.
pub(crate) struct Daemon {
    pub(crate) tcp: Place,
    pub(crate) unix: Place,
    pub(crate) socket: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) desk: Desk,
    pub(crate) pool: Pool,
    pub(crate) broker: TestBroker,
    pub(crate) health: Health,
    pub(crate) beats: Beats,
    pub(crate) counters: Arc<Counters>,
    end: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
    pub(crate) runtime: Runtime,
    _directory: TempDir,
}

/// What a daemon is started with.
pub(crate) struct Setup {
    pub(crate) api: observer::config::Api,
    pub(crate) patience: Duration,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let api = observer::config::Api {
            request_timeout: Duration::from_secs(2),
            ..observer::config::Api::default()
        };
        Self { api, patience: Duration::from_secs(30) }
    }

    pub(crate) fn start(self) -> Daemon {
        Daemon::with(self)
    }
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Setup::new().start()
    }

    fn with(Setup { api, patience }: Setup) -> Self {
        require_root();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let _inside = runtime.enter();
        let directory = TempDir::new();
        let socket = directory.join("api.sock");
        let tcp = bind_tcp(([127, 0, 0, 1], 0).into()).expect("the kernel has a free port");
        let address = tcp.local_addr().expect("invariant: it is bound");
        let unix = bind_unix(&socket, api.group.as_deref(), None).expect("nothing is there");
        let broker = runtime
            .block_on(TestBroker::builder().record(1_000).start())
            .expect("a broker can listen");
        let pool = pools::builder_for(&broker.url()).build().expect("all values are valid");
        let buffer = usize::try_from(api.stream_buffer).expect("invariant: it is small");
        let (desk, questions) = Desk::new(buffer);
        let messages = broadcast::channel(buffer).0;
        let beats = Beats::default();
        let (health, counters) = (Health::new(beats.clone()), Arc::new(Counters::default()));
        runtime.spawn(observe(questions));
        runtime.spawn(pass_messages(pool.messages().expect("nobody reads"), messages.clone()));
        runtime.spawn(pass_events(pool.events(), desk.clone()));
        let backend = Backend {
            desk: desk.clone(),
            pool: Some(pool.clone()),
            roster: Some(Arc::new(Keeper { pool: pool.clone(), entries: Mutex::default() })),
            health: health.clone(),
            counters: Arc::clone(&counters),
            metrics: Arc::new(|| Box::pin(async { Ok("sockwarden_up 1\n".to_owned()) })),
            messages,
            limits: api,
        };
        let server = Server::new(Listeners { tcp: Some(tcp), unix }, backend).patience(patience);
        let (end, ending) = oneshot::channel();
        let (over, ended) = oneshot::channel();
        runtime.spawn(async move {
            let served = server.serve(async { _ = ending.await }).await;
            served.expect("the runtime takes the listeners");
            _ = over.send(());
        });
        Self {
            tcp: Place::Tcp(address),
            unix: Place::Unix(socket.clone()),
            socket,
            address,
            desk,
            pool,
            broker,
            health,
            beats,
            counters,
            end: Some(end),
            ended: Some(ended),
            runtime,
            _directory: directory,
        }
    }

    /// Ends the server, and waits for that.
    pub(crate) fn stop(&mut self) {
        if let (Some(end), Some(ended)) = (self.end.take(), self.ended.take()) {
            _ = end.send(());
            let over = pools::soon("the server to end", ended);
            self.runtime.block_on(over).expect("the server ends without a panic");
        }
    }

    /// Adds a device by the API, and waits until it is online.
    #[track_caller]
    pub(crate) fn add(&self, id: &str) {
        let body = serde_json::json!({
            "id": id, "username": "user", "password": PASSWORD,
            "subscriptions": [{"filter": "in/#", "qos": 1}],
        });
        let answer = self.unix.post("/api/v1/devices", &body.to_string());
        assert_eq!(answer.status, 201, "{}", answer.text());
        pools::await_state(&self.pool, id, pool::State::Online);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

pub(crate) fn finding(id: u64) -> Finding {
    let (kind, pid) =
        if id.is_multiple_of(5) { (Kind::Overlap, 500) } else { (Kind::CloseWait, 400) };
    let process = ProcessKey { pid, start_ns: 1 };
    let comm = Comm::from_bytes(b"a\xe2\x80\xaeb");
    Finding {
        event: FindingEvent::Opened,
        id,
        kind,
        time: MonoTime::from_nanos(2_000_000_000),
        process,
        comm: comm.clone(),
        subject: Subject::Socket(Cookie(id)),
        socket: Some(SocketFacts {
            state: TcpState::CloseWait,
            ends: ends(),
            netns: 1,
            born_before_observer: false,
            unread: 0,
        }),
        holders: vec![Holder { process, comm, fd: 7, close_on_exec: None }],
        since: MonoTime::from_nanos(1_000_000_000),
        budget: Duration::from_secs(1),
        evidence: Evidence::Complete,
        detail: None,
        device: (kind == Kind::Overlap).then(|| DeviceFacts {
            device: HOSTILE.into(),
            generation: Some(3),
            other: Some(Cookie(9)),
            overlap: Some(Duration::from_micros(17)),
        }),
        proof: Box::new(Proof {
            place: cgroup::Place { unit: Some(HOSTILE.into()), container: None },
            ..Proof::default()
        }),
        message: format!("{HOSTILE} holds it"),
        clear_reason: None,
    }
}

/// With what happened to its socket.
pub(crate) fn told(finding: Finding) -> Finding {
    let what = What::Seen(TcpState::CloseWait);
    let step = Step { time: finding.since, what, comm: Comm::default() };
    let history = Some([step].into());
    let proof = Box::new(Proof { history, ..(*finding.proof).clone() });
    Finding { proof, ..finding }
}

fn ends() -> Ends {
    let host = std::net::Ipv4Addr::LOCALHOST.into();
    Ends::new((host, 40_000), (host, 1_883))
}

/// Answers the questions of the API as the observer's thread does.
async fn observe(mut questions: mpsc::Receiver<Question>) {
    let table = table();
    while let Some(question) = questions.recv().await {
        // Who does not wait any more is none of our business.
        match question {
            Question::Reading(reply) => _ = reply.send(reading()),
            Question::Findings { explained, reply } => {
                let findings = (1..=ROWS).map(finding);
                let open = findings.map(|it| if explained { told(it) } else { it }).collect();
                _ = reply.send(Findings { open, ignored: 3 });
            }
            Question::Sockets(filter, reply) => _ = reply.send(sockets(&table, filter)),
            // Nobody claims here: tests/claims.rs does.
            Question::Claims(_, reply) => drop(reply),
        }
    }
}

fn table() -> Table {
    let mut table = Table::new(Limits { sockets: 64, processes: 64, boot_offset: Duration::ZERO });
    let time = MonoTime::from_nanos(1_000_000_000);
    let row = |cookie: u64| SnapshotRow {
        time,
        cookie: Cookie(cookie),
        state: if cookie.is_multiple_of(5) { TcpState::CloseWait } else { TcpState::Established },
        ends: ends(),
        netns: 1,
        holder: Some(Holder {
            process: ProcessKey { pid: 400, start_ns: 1 },
            comm: Comm::from_bytes(b"node"),
            fd: 7,
            close_on_exec: None,
        }),
        read: ReadPosition { copied_seq: 1, unread: 0 },
        unacked: 0,
        write_seq: 1,
        last_sent: time,
        last_received: time,
    };
    let rows = (1..=ROWS).map(row).collect();
    let snapshot = Snapshot {
        began: time,
        ended: time,
        rows,
        lists_unheld: true,
        unheld_netns: 1,
        ..Snapshot::default()
    };
    table.apply_snapshot(&snapshot, false, true);
    table
}

fn sockets(table: &Table, filter: SocketFilter) -> Sockets {
    let wanted = table.sockets().filter(|socket| {
        socket.cookie > filter.after
            && filter.state.is_none_or(|state| socket.state == state)
            && filter.port.is_none_or(|port| socket.ends.are_on(&[port]))
            && filter.pid.is_none_or(|pid| pid == 400)
    });
    let views: Vec<_> = wanted
        .map(|socket| SocketView {
            socket: socket.clone(),
            holders: table.holders(socket),
            evidence: table.evidence(socket),
            findings: vec![Kind::CloseWait],
            device: Some((HOSTILE.into(), 3)),
        })
        .collect();
    let more = views.len() > filter.limit;
    Sockets { sockets: views.into_iter().take(filter.limit).collect(), more }
}

fn reading() -> Reading {
    let process = |pid: u32| ProcessReading {
        process: ProcessKey { pid, start_ns: 1 },
        comm: Comm::from_bytes(b"node"),
        unit: Some(HOSTILE.to_owned()),
        watched: true,
        sockets: [pid.into(); 12],
        descriptors: Some(7),
        descriptor_limit: Some((1_024, 4_096)),
        findings_open: BTreeMap::from([(Kind::CloseWait, 2)]),
    };
    Reading {
        time: MonoTime::from_nanos(1),
        layers: Layers::Ab,
        names: true,
        processes: [500, 450, 400, 450].map(process).into(),
        sockets: 25,
        socket_capacity: 64,
        mqtt_sockets: 25,
        findings_open: BTreeMap::new(),
        findings_opened: BTreeMap::new(),
        findings_ignored: BTreeMap::new(),
        transitions: [0; 12],
        losses: BTreeMap::new(),
        snapshot_time: Default::default(),
        detection_time: Default::default(),
        programs: Vec::new(),
        registry: None,
    }
}

async fn pass_messages(mut from: pool::Messages, to: broadcast::Sender<Arc<pool::Message>>) {
    while let Some(message) = from.next().await {
        _ = to.send(Arc::new(message));
    }
}

async fn pass_events(mut from: pool::Events, to: Desk) {
    while let Some(next) = from.next().await {
        if let Next::Event(event) = next {
            to.tell(News::Pool(Arc::new(event)));
        }
    }
}

/// The least that keeps a fleet.
struct Keeper {
    pool: Pool,
    entries: Mutex<BTreeMap<String, Entry>>,
}

type Changed<'a> = Pin<Box<dyn Future<Output = Result<(), RosterError>> + Send + 'a>>;

impl Roster for Keeper {
    fn add(&self, spec: DeviceSpec) -> Changed<'_> {
        Box::pin(async move {
            let client_id = spec.client_id.clone().unwrap_or_else(|| spec.id.clone());
            let device = device(&spec).map_err(|error| RosterError::Pool(error.into()))?;
            self.pool.add(device).map_err(RosterError::Pool)?;
            // As a store takes its time: who is cut off here leaves half a device.
            tokio::time::sleep(Duration::from_millis(30)).await;
            let entry = Entry { id: spec.id.clone(), origin: Origin::Api, client_id };
            self.entries.lock().expect("nobody panicked").insert(spec.id, entry);
            Ok(())
        })
    }

    fn remove(&self, id: &str) -> Changed<'_> {
        let id = id.to_owned();
        Box::pin(async move {
            if id == "of-the-file" {
                return Err(RosterError::OfTheFile(id));
            }
            let known = self.entries.lock().expect("nobody panicked").remove(&id);
            known.ok_or_else(|| RosterError::Unknown(id.clone()))?;
            self.pool.remove(&id).await.map_err(RosterError::Pool)
        })
    }

    fn list(&self) -> Vec<Entry> {
        self.entries.lock().expect("nobody panicked").values().cloned().collect()
    }
}

fn device(spec: &DeviceSpec) -> Result<Device, pool::CallerError> {
    let mut device = Device::new(&spec.id)?;
    if let Some(client_id) = &spec.client_id {
        device = device.client_id(client_id)?;
    }
    if let (Some(user), Some(password)) = (&spec.username, &spec.password) {
        device = device.credentials(user.clone(), password.0.clone().into_bytes())?;
    }
    for subscription in spec.subscriptions.iter().flatten() {
        device = device.subscribe(&subscription.filter, QoS::AtLeastOnce)?;
    }
    Ok(device)
}
