//! EDGE: the only part that speaks to the kernel's eBPF side, and the only importer of aya.
//!
//! It hands out raw bytes: records of the ring and rows of the snapshot. [`crate::decode`] makes
//! sense of them. Nothing here decides anything.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, GlobalData,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::Iter,
};
use aya_log::EbpfLogger;
use observer_ebpf::{
    COMM_LEN,
    config::{CONFIG_GLOBAL, Config, OFFSETS_GLOBAL, naming, watch},
    counter::Counter,
    row::{RouteCount, RouteKey},
};

use crate::reading::ProgramCost;

pub use btf::BtfError;
pub use error::ProbeError;
pub use hooks::syscall_tracepoints;
pub use offsets::KERNEL_BTF;
pub use tracefs::TRACEFS;

mod btf;
mod error;
mod hooks;
mod names;
mod offsets;
mod ports;
mod privileges;
mod tracefs;

/// Fails if this process may not observe `layers`; asks the kernel for nothing but its status.
///
/// # Errors
///
/// [`ProbeError::NotPermitted`] and [`ProbeError::PidNamespace`].
pub fn may_observe(layers: Layers) -> Result<(), ProbeError> {
    privileges::check(layers)
}

/// Fails if this process may not see MQTT client ids (layer C).
///
/// # Errors
///
/// [`ProbeError::NotPermitted`].
pub fn may_see_names() -> Result<(), ProbeError> {
    privileges::check_names()
}

/// Bytes of a row of a snapshot.
const ROW: usize = size_of::<observer_ebpf::row::Row>();

/// Bytes to ask for at once: the kernel's own buffer for an iterator (`bpf_seq_read`, 8 pages,
/// kernel/bpf/bpf_iter.c).
const READ: usize = 32 << 10;

/// The program, made by `cargo xtask build-ebpf` and put here by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sockwarden.bpf.o"));

/// How much of the kernel is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layers {
    /// Changes of state, ends of sockets, processes, snapshots.
    A,
    /// And the descriptors of connect, accept and close, at once.
    Ab,
}

impl Layers {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::Ab => "ab",
        }
    }
}

/// How to start the probe.
#[derive(Clone, Debug)]
pub struct Options {
    /// The layers wanted; `None` for the most that this host allows.
    pub layers: Option<Layers>,
    /// Observe every process of the host.
    pub watch_all: bool,
    /// Watch sockets by their ports too: those that [`Probe::watch_port`] names.
    pub watch_ports: bool,
    /// Leave out what a socket goes through after its program has closed it.
    pub quiet: bool,
    /// Size of the ring in bytes: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Take call stacks of every watched process, not only of those that [`Probe::arm`] names.
    pub stacks: bool,
    /// The kernel's type information, instead of its own file.
    pub btf: Option<PathBuf>,
}

/// The programs in the kernel. They are detached when this is dropped.
pub struct Probe {
    ebpf: Ebpf,
    _links: hooks::SyscallLinks,
    ring: RingBuf<MapData>,
    watched: HashMap<MapData, u32, u32>,
    comms: HashMap<MapData, [u8; COMM_LEN], u32>,
    ports: HashMap<MapData, u32, u32>,
    routes: HashMap<MapData, RouteKey, RouteCount>,
    port_range: (u16, u16),
    naming: Array<MapData, u64>,
    counters: PerCpuArray<MapData, u64>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    layers: Layers,
    nameless: Option<String>,
    rows: Vec<u8>,
}

/// Name and answer of a start that gave less than asked for.
pub struct Started {
    /// The running probe.
    pub probe: Probe,
    /// Why layer B is not there, if it could not be had.
    pub degraded: Option<String>,
}

impl Probe {
    /// Loads and attaches the programs.
    pub fn start(options: &Options) -> Result<Started, ProbeError> {
        if OBJECT.is_empty() {
            return Err(ProbeError::NoObject);
        }
        privileges::check(options.layers.unwrap_or(Layers::A))?;
        let kernel_btf = offsets::read(offsets::KERNEL_BTF.as_ref())?;
        let layout = match &options.btf {
            None => offsets::resolve(&kernel_btf)?,
            Some(path) => offsets::resolve(&offsets::read(path)?)?,
        };
        let btf = Btf::parse(&kernel_btf, Endianness::default())
            .map_err(|error| ProbeError::using("typed", &error))?;
        let (layers, degraded) = choose_layers(options.layers)?;
        let port_range = ports::range();
        let config = Config {
            watch_all: options.watch_all.into(),
            refs_bias: layout.refs_bias,
            // Half full: the reader has the other half to come.
            wake_bytes: options.ring_bytes / 2,
            connecting: hooks::CONNECTING,
            closing: hooks::CLOSING,
            quiet: options.quiet.into(),
            ports: options.watch_ports.into(),
            making: hooks::MAKING,
            port_range: [port_range.0.into(), port_range.1.into()],
            many_ports: ports::many(port_range),
            stacks: options.stacks.into(),
        };
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global(OFFSETS_GLOBAL, GlobalData::from(&layout.offsets), true)
            .override_global(CONFIG_GLOBAL, GlobalData::from(&config), true)
            .map_max_entries("RING", options.ring_bytes)
            .load(OBJECT)
            .map_err(ProbeError::loading)?;
        // The program's own rare diagnostics. A build without any has no map for them.
        let logger = EbpfLogger::init(&mut ebpf).ok();
        let links = hooks::attach(&mut ebpf, &btf, layers)?;
        let nameless = match options.layers {
            Some(Layers::A) => Some("only layer A was asked for".to_owned()),
            _ => names::attach(&mut ebpf).err(),
        };
        let mut probe = Self {
            ring: map(&mut ebpf, "RING")?,
            watched: map(&mut ebpf, "WATCHED")?,
            comms: map(&mut ebpf, "COMMS")?,
            ports: map(&mut ebpf, "PORTS")?,
            routes: map(&mut ebpf, "ROUTES")?,
            port_range,
            naming: map(&mut ebpf, "NAMING")?,
            counters: map(&mut ebpf, "COUNTERS")?,
            ebpf,
            _links: links,
            logger,
            layers,
            nameless,
            rows: Vec::new(),
        };
        // Connections that are there already.
        probe.expect_names();
        Ok(Started { probe, degraded })
    }

    /// The layers that are attached.
    pub fn layers(&self) -> Layers {
        self.layers
    }

    /// Why MQTT client ids are not seen (layer C); `None` if they are.
    pub fn nameless(&self) -> Option<&str> {
        self.nameless.as_deref()
    }

    /// How often connections of watched processes were begun or answered, if that can be read.
    pub fn begun(&self) -> Option<u64> {
        self.naming.get(&naming::BEGUN, 0).ok()
    }

    /// As long as no more than `begun` connections were, no packet is looked at.
    pub fn settle_names(&mut self, begun: u64) {
        self.set_settled(begun);
    }

    /// Packets are looked at from now on, whatever was said before.
    pub fn expect_names(&mut self) {
        // No host has so many.
        self.set_settled(u64::MAX);
    }

    fn set_settled(&mut self, begun: u64) {
        if let Err(error) = self.naming.set(naming::SETTLED, begun, 0) {
            log::warn!("layer C cannot be told what to look for: {error}");
        }
    }

    /// First and last of the local ports that the kernel gives to connect(2) in our network
    /// namespace, as it was at the start.
    pub fn port_range(&self) -> (u16, u16) {
        self.port_range
    }

    /// How many local ports the last walk over sockets has found on a route.
    pub fn ports_in_use(&self, route: &RouteKey) -> Option<RouteCount> {
        self.routes.get(route, 0).ok()
    }

    /// Hands every record that is in the ring to `consume`, oldest first.
    pub fn drain(&mut self, mut consume: impl FnMut(&[u8])) {
        while let Some(record) = self.ring.next() {
            consume(&record);
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// A descriptor that becomes readable when the ring is half full, and only then.
    pub fn ring_fd(&self) -> std::io::Result<OwnedFd> {
        self.ring.as_fd().try_clone_to_owned()
    }

    /// Watches a process, for the reasons in `flags` (`observer_ebpf::config::watch`).
    pub fn watch(&mut self, pid: u32, flags: u32) -> Result<(), ProbeError> {
        let flags = flags | self.watched.get(&pid, 0).unwrap_or(0);
        self.watched
            .insert(pid, flags, 0)
            .map_err(|error| ProbeError::using("told which process to watch", &error))
    }

    /// Takes call stacks of a process from now on. It does not make it watched.
    pub fn arm(&mut self, pid: u32) -> Result<(), ProbeError> {
        self.watch(pid, watch::STACKS)
    }

    /// Takes no more call stacks of a process.
    pub fn disarm(&mut self, pid: u32) -> Result<(), ProbeError> {
        let Ok(flags) = self.watched.get(&pid, 0) else { return Ok(()) };
        let rest = flags & !watch::STACKS;
        let told =
            if rest == 0 { self.watched.remove(&pid) } else { self.watched.insert(pid, rest, 0) };
        told.map_err(|error| ProbeError::using("told whose call stacks to leave", &error))
    }

    /// Watches processes by the name they will have, with `flags` beside `watch::COMM`.
    pub fn watch_comm(&mut self, comm: [u8; COMM_LEN], flags: u32) -> Result<(), ProbeError> {
        self.comms
            .insert(comm, flags, 0)
            .map_err(|error| ProbeError::using("told which names to watch", &error))
    }

    /// Watches sockets with this local or remote port, whoever has them. It has an effect only if
    /// [`Options::watch_ports`] was set.
    pub fn watch_port(&mut self, port: u16) -> Result<(), ProbeError> {
        self.ports
            .insert(u32::from(port), 1, 0)
            .map_err(|error| ProbeError::using("told which ports to watch", &error))
    }

    /// What each program has cost since it was loaded: runs and time. All zero where the kernel
    /// does not count (`kernel.bpf_stats_enabled`).
    pub fn costs(&self) -> Vec<ProgramCost> {
        let cost = |name: &'static str| {
            let info = self.ebpf.program(name)?.info().ok()?;
            let (runs, time) = (info.run_count(), info.run_time());
            Some(ProgramCost { name, runs, time })
        };
        let programs = hooks::HOOKS.iter().map(|hook| hook.program).chain([names::PROGRAM]);
        programs.filter_map(cost).collect()
    }

    /// Sums of the counters over all CPUs, in the order of [`Counter::ALL`].
    pub fn counters(&self) -> Vec<(Counter, u64)> {
        Counter::ALL
            .iter()
            .map(|counter| {
                let sum = self
                    .counters
                    .get(&(*counter as u32), 0)
                    .map_or(0, |values| values.iter().sum());
                (*counter, sum)
            })
            .collect()
    }

    /// Walks all descriptors of the host and hands each row to `consume`.
    pub fn snapshot_descriptors(&mut self, consume: impl FnMut(&[u8])) -> Result<(), ProbeError> {
        self.iterate("task_file", consume)
    }

    /// Walks the TCP sockets of our network namespace and hands each row to `consume`.
    pub fn snapshot_sockets(&mut self, consume: impl FnMut(&[u8])) -> Result<(), ProbeError> {
        self.iterate("tcp", consume)
    }

    fn iterate(
        &mut self,
        program: &'static str,
        mut consume: impl FnMut(&[u8]),
    ) -> Result<(), ProbeError> {
        let failed = |error: &(dyn std::error::Error + 'static)| ProbeError::using("read", error);
        let mut file = self.open_iterator(program)?;
        self.rows.resize(READ, 0);
        let mut filled = 0;
        loop {
            let read = file.read(&mut self.rows[filled..]).map_err(|error| failed(&error))?;
            filled += read;
            // The kernel cuts no row if the buffer is as large as its own; at the end, what is left
            // over is shown to be no row.
            let whole = if read == 0 { filled } else { filled - filled % ROW };
            for row in self.rows[..whole].chunks(ROW) {
                consume(row);
            }
            self.rows.copy_within(whole..filled, 0);
            filled -= whole;
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn open_iterator(&mut self, program: &'static str) -> Result<File, ProbeError> {
        let failed = |error: &(dyn std::error::Error + 'static)| ProbeError::using("read", error);
        let program: &mut Iter = self
            .ebpf
            .program_mut(program)
            .expect("invariant: attached at the start")
            .try_into()
            .map_err(|error: aya::programs::ProgramError| failed(&error))?;
        let link = program.attach().map_err(|error| failed(&error))?;
        let link = program.take_link(link).map_err(|error| failed(&error))?;
        link.into_file().map_err(|error| failed(&error))
    }
}

fn choose_layers(wanted: Option<Layers>) -> Result<(Layers, Option<String>), ProbeError> {
    if wanted == Some(Layers::A) {
        return Ok((Layers::A, None));
    }
    let obstacle = match privileges::check(Layers::Ab) {
        Ok(()) => match tracefs::ensure() {
            Ok(()) => return Ok((Layers::Ab, None)),
            Err(reason) => ProbeError::NoTracefs { reason },
        },
        Err(error) => error,
    };
    match wanted {
        Some(_) => Err(obstacle),
        None => Ok((Layers::A, Some(obstacle.to_string()))),
    }
}

fn map<T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, ProbeError> {
    let map = ebpf.take_map(name).ok_or(ProbeError::Bpf {
        doing: "used",
        error: format!("it has no map `{name}`; the object is older than this binary"),
    })?;
    map.try_into().map_err(|error: aya::maps::MapError| ProbeError::using("used", &error))
}
