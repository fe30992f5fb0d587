//! What the observer counts, as plain numbers that any exporter can read.

use std::collections::BTreeMap;

pub use pool::metrics::Histogram;

use crate::{
    detect::Kind,
    model::{Comm, MonoTime, ProcessKey, TcpState},
    probe::Layers,
};

/// Sockets by state, in the order of [`TcpState::ALL`].
pub type ByState = [u64; TcpState::ALL.len()];

/// A reading of everything that the observer counts. Counters grow from its start.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// When.
    pub time: MonoTime,
    /// What is attached.
    pub layers: Layers,
    /// Whether MQTT client ids are seen (layer C).
    pub names: bool,
    /// The watched processes, and those that hold a watched socket.
    pub processes: Vec<ProcessReading>,
    /// Sockets in the table.
    pub sockets: usize,
    /// Sockets that it may hold.
    pub socket_capacity: usize,
    /// Sockets to the brokers of the pool or to a usual MQTT port (1883, 8883), in any state.
    pub mqtt_sockets: u64,
    /// Findings that are open, by kind.
    pub findings_open: BTreeMap<Kind, u64>,
    /// Findings that were opened, by kind.
    pub findings_opened: BTreeMap<Kind, u64>,
    /// Findings that rules have ignored, by kind.
    pub findings_ignored: BTreeMap<Kind, u64>,
    /// Transitions by the state that was entered.
    pub transitions: ByState,
    /// What was lost, by cause: a stable name.
    pub losses: BTreeMap<&'static str, u64>,
    /// How long a snapshot took.
    pub snapshot_time: Histogram,
    /// From the end of a budget to the opened finding.
    pub detection_time: Histogram,
    /// What our programs in the kernel cost; empty where the kernel does not count
    /// (`kernel.bpf_stats_enabled`).
    pub programs: Vec<ProgramCost>,
    /// The pool's ledger as the observer knows it; `None` without a pool.
    pub registry: Option<RegistryReading>,
}

/// One process.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessReading {
    /// Which life of which number.
    pub process: ProcessKey,
    /// Its name: untrusted text.
    pub comm: Comm,
    /// Its systemd unit, or else the last part of its cgroup: untrusted text.
    pub unit: Option<String>,
    /// Whether it is watched by itself, and not only for a socket that it holds.
    pub watched: bool,
    /// Sockets that it holds, by state.
    pub sockets: ByState,
    /// Open descriptors of any kind; `None` where the kernel does not tell us.
    pub descriptors: Option<u64>,
    /// Limits of descriptors, soft and hard; `None` where the kernel does not tell us.
    pub descriptor_limit: Option<(u64, u64)>,
    /// Findings about it that are open, by kind.
    pub findings_open: BTreeMap<Kind, u64>,
}

/// What a program in the kernel cost since it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name in the object.
    pub name: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// How long in all.
    pub time: std::time::Duration,
}

/// The claims, against the kernel's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegistryReading {
    /// Sockets claimed before their CONNACK.
    pub connecting: u64,
    /// Sockets claimed as online.
    pub online: u64,
    /// Sockets that were closed, and have no receipt yet.
    pub closed: u64,
    /// Claims as online whose socket is not ESTABLISHED: zombies.
    pub zombies: u64,
    /// Receipts that the kernel's events gave.
    pub receipts_by_event: u64,
    /// Receipts for which the kernel had to be asked, because records were lost or late.
    pub receipts_by_query: u64,
    /// SYNs that were sent again towards a broker of the pool.
    pub syn_retransmits: u64,
}
