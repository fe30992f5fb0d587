//! What the daemon goes by: `/etc/sockwarden/config.toml`, parsed once into these types.
//!
//! `keys` has one row for each key, and everything else follows from it: what is read (`parse`), what
//! is shown (`show`), what a reload can change (`changes`), and `docs/config.md` (`document`). All of
//! that is PURE; the only EDGE is `load`.

mod builder;
mod changes;
mod complaint;
mod document;
pub(crate) mod duration;
mod form;
mod key;
mod keys;
mod load;
mod nearest;
mod parse;
mod rules;
mod show;
mod source;
mod written;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use jiff::Timestamp;

use crate::{detect::Budgets, fleet::Template, probe::Layers, trends::Thresholds, tuning::Rule};

pub use builder::pool_builder;
pub use changes::{Applies, Change, What, changes};
pub use complaint::{Complaint, Complaints};
pub use document::{example, page};
pub use load::{LoadError, PasswordError};
pub use show::show;

/// Where the daemon looks unless it is told another file.
pub const DEFAULT_PATH: &str = "/etc/sockwarden/config.toml";

/// Everything that the daemon is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Which processes are watched, beside the daemon itself.
    pub watch: Watch,
    /// How long each kind of finding may last.
    pub budgets: Budgets,
    /// How much is too much. The range of ports is not in the file: the kernel says it.
    pub thresholds: Thresholds,
    /// What is allowed to some, in the order in which it counts.
    pub rules: Vec<Rule<Timestamp>>,
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
    /// Take call stacks of all from the start, and not only of those with a finding.
    pub stacks: bool,
}

/// The pool and its broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// `mqtt://`, `mqtts://`, `ws://` or `wss://`; without what `tls` says, which [`pool_builder`]
    /// joins to it.
    pub broker: pool::Broker,
    /// Whom to trust and who we are, behind `mqtts` and `wss`.
    pub tls: Tls,
    /// 3.1.1 or 5.
    pub version: pool::Version,
    /// The profile that `limits` began as.
    pub profile: Profile,
    /// The profile, with what was changed in it.
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

/// Whom to trust and who we are. The files are read when the pool is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM with the authorities to trust; `None` for those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM with our certificate chain; there if and only if `client_key` is.
    pub client_certificate: Option<PathBuf>,
    /// PEM with our key.
    pub client_key: Option<PathBuf>,
    /// The name in the broker's certificate, where it is not the host of the address.
    pub server_name: Option<String>,
    /// Protocols to offer by ALPN (RFC 7301), the preferred one first.
    pub alpn: Vec<String>,
}

/// Limits with a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// [`pool::Limits::article`].
    Article,
    /// [`pool::Limits::paced`].
    #[default]
    Paced,
    /// [`pool::Limits::adaptive`].
    Adaptive,
}

/// User name and the file that has the password in its first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Read once, before privileges are dropped.
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

impl Pool {
    /// The pool's own defaults towards `broker`.
    pub fn new(broker: pool::Broker) -> Self {
        let profile = Profile::default();
        Self {
            broker,
            tls: Tls::default(),
            version: pool::Version::default(),
            profile,
            limits: profile.limits(),
            keep_alive: Duration::from_secs(60),
            clean_start: false,
            session_expiry: Duration::from_secs(3_600),
            credentials: None,
            sources: Vec::new(),
            redirects: Vec::new(),
            timeouts: pool::Timeouts::default(),
            buffers: pool::Buffers::default(),
            descriptor_headroom: None,
        }
    }
}

impl Profile {
    /// The limits of this name.
    pub fn limits(self) -> pool::Limits {
        match self {
            Self::Article => pool::Limits::article(),
            Self::Paced => pool::Limits::paced(),
            Self::Adaptive => pool::Limits::adaptive(),
        }
    }
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
            ring_bytes: 1 << 20,
            max_sockets: 65_536,
            stacks: false,
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
