//! What the daemon goes by: `/etc/sockwarden/config.toml`, parsed once into these types.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::{detect::Budgets, fleet::Template, probe::Layers};

/// Everything that the daemon is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Which processes are watched, beside the daemon itself.
    pub watch: Watch,
    /// How long each kind of finding may last.
    pub budgets: Budgets,
    /// The pool; `None` runs the observer alone.
    pub pool: Option<Pool>,
    /// Where devices come from.
    pub fleet: Fleet,
    /// Where findings go.
    pub sinks: Sinks,
    /// The HTTP API.
    pub api: Api,
    /// Who the daemon is once everything is open.
    pub privileges: Privileges,
}

/// Which processes are watched, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Every process of the host.
    pub all: bool,
    /// By the kernel's name, at most 15 bytes.
    pub comm: Vec<String>,
    /// By systemd unit, `NAME.service`.
    pub unit: Vec<String>,
    /// By cgroup directory.
    pub cgroup: Vec<PathBuf>,
    /// Whoever has a socket with this local or remote port.
    pub port: Vec<u16>,
    /// The descendants of all these too.
    pub children: bool,
    /// How much of the kernel to hook; `None` for the most that the host allows.
    pub layers: Option<Layers>,
    /// Longest time between two snapshots.
    pub snapshot_interval: Duration,
    /// Size of the ring of records, bytes.
    pub ring_bytes: u32,
    /// Most sockets that are kept in the table.
    pub max_sockets: u32,
}

/// The pool and its broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// `mqtt://`, `mqtts://`, `ws://` or `wss://`.
    pub broker: pool::Broker,
    /// 3.1.1 or 5.
    pub version: pool::Version,
    /// A profile, with what was changed in it.
    pub limits: pool::Limits,
    /// For devices that have no own one.
    pub keep_alive: Duration,
    /// Whether the broker forgets a session at each connect.
    pub clean_start: bool,
    /// MQTT 5: how long the broker keeps a session.
    pub session_expiry: Duration,
    /// For devices that have none of their own.
    pub credentials: Option<Credentials>,
    /// Local addresses to connect from.
    pub sources: Vec<IpAddr>,
    /// Servers that a broker may redirect to.
    pub redirects: Vec<String>,
    /// How long to wait for others.
    pub timeouts: pool::Timeouts,
    /// How much may wait.
    pub buffers: pool::Buffers,
    /// Descriptors that stay free; `None` for the pool's default.
    pub descriptor_headroom: Option<u64>,
}

/// User name and the file that has the password in its first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Read before privileges are dropped, and again at a reload.
    pub password_file: Option<PathBuf>,
}

/// Where devices come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// A list of devices; its ending tells the format: `.toml`, `.csv`, `.jsonl`.
    pub file: Option<PathBuf>,
    /// Where devices that came by the API are kept.
    pub store: PathBuf,
    /// What devices have that say nothing else.
    pub template: Template,
}

/// Where findings go.
#[derive(Clone, Debug, PartialEq)]
pub struct Sinks {
    /// The journal's socket; where nobody listens, stderr with `<N>` prefixes.
    pub journal_socket: PathBuf,
    /// Least time between two entries about one incident that is only updated.
    pub update_interval: Duration,
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// For reading, on a loopback address; `None` for no TCP at all.
    pub listen: Option<SocketAddr>,
    /// For reading and writing.
    pub socket: PathBuf,
    /// Who besides root and the daemon's own user may use the socket.
    pub group: Option<String>,
    /// Longest body of a request, bytes.
    pub max_body: u32,
    /// How long a client may take for its request.
    pub request_timeout: Duration,
    /// Connections at once, TCP and Unix each.
    pub max_connections: u32,
    /// Events or messages that a reader of a stream may fall behind before it gets a gap.
    pub stream_buffer: u32,
}

/// Who the daemon is once everything is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// The user to become when started as root.
    pub user: String,
    /// Where the daemon keeps its lock and its socket.
    pub runtime_directory: PathBuf,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            all: false,
            comm: Vec::new(),
            unit: Vec::new(),
            cgroup: Vec::new(),
            port: Vec::new(),
            children: false,
            layers: None,
            snapshot_interval: Duration::from_secs(10),
            ring_bytes: 8 << 20,
            max_sockets: 65_536,
        }
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            file: None,
            store: "/var/lib/sockwarden/devices.redb".into(),
            template: Template::default(),
        }
    }
}

impl Default for Sinks {
    fn default() -> Self {
        Self {
            journal_socket: "/run/systemd/journal/socket".into(),
            update_interval: Duration::from_secs(60),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: Some(([127, 0, 0, 1], 9_641).into()),
            socket: "/run/sockwarden/api.sock".into(),
            group: None,
            max_body: 1 << 20,
            request_timeout: Duration::from_secs(10),
            max_connections: 64,
            stream_buffer: 1_024,
        }
    }
}

impl Default for Privileges {
    fn default() -> Self {
        Self { user: "sockwarden".into(), runtime_directory: "/run/sockwarden".into() }
    }
}
