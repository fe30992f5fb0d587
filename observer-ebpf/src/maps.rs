//! Every map, with its capacity and what a full map means.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use observer_ebpf::{
    COMM_LEN,
    config::{Config, naming},
    counter::Counter,
    offsets::Offsets,
    row::{OpenFiles, RouteCount, RouteKey},
};

/// Where the running kernel keeps its fields. Userspace writes it before the load; it is read
/// through [`offset!`] so that the compiler does not take the zeros here for the truth.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = zeroed_offsets();

/// What userspace asked for. Written before the load, read through [`config!`].
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config = Config {
    watch_all: 0,
    refs_bias: 0,
    wake_bytes: 0,
    connecting: [0; 3],
    closing: 0,
    quiet: 0,
    ports: 0,
    making: 0,
    port_range: [0; 2],
    many_ports: 0,
    stacks: 0,
};

/// The records. 8 MiB unless userspace sets another size: about 90,000 changes of state, some two
/// seconds of the fastest connect/close loop. Full: the record is counted by cause and lost, and
/// userspace takes a snapshot.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Watched processes: tgid to `config::watch` flags. Full: counted, the process is not watched.
#[map]
pub(crate) static WATCHED: HashMap<u32, u32> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Names of processes to watch when they start. Userspace fills it, at most 64.
#[map]
pub(crate) static COMMS: HashMap<[u8; COMM_LEN], u32> =
    HashMap::with_max_entries(64, BPF_F_NO_PREALLOC);

/// Local and remote ports whose sockets are watched, whoever has them. Userspace fills it, at most
/// 64; it is asked only if the config says so.
#[map]
pub(crate) static PORTS: HashMap<u32, u32> = HashMap::with_max_entries(64, BPF_F_NO_PREALLOC);

/// Sets of [`MARKS`].
pub(crate) const MARK_SETS: u32 = 16_384;

/// Cookies in one set: a cache line.
pub(crate) const MARK_WAYS: usize = 8;

/// Cookies of the watched sockets, eight that follow each other in one set; 131,072 in all, 1 MiB. The
/// verifier turns a lookup into a few instructions, where a hash or the kernel's own storage in
/// sockets cost 50 to 100 ns a change of state, and much more for each new socket. A full set
/// overflows into [`MARKS_OVERFLOW`].
#[map]
pub(crate) static MARKS: Array<[u64; MARK_WAYS]> = Array::with_max_entries(MARK_SETS, 0);

/// Cookies whose set was full. Full: counted, and the socket is known from snapshots only.
#[map]
pub(crate) static MARKS_OVERFLOW: HashMap<u64, u32> =
    HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Whether [`MARKS_OVERFLOW`] was ever used: until then nobody looks there.
#[map]
pub(crate) static OVERFLOWED: Array<u64> = Array::with_max_entries(1, 0);

/// Where watched listeners listen, and how many: what they accept is watched from its first
/// change of state on, long before anybody accepts it. Full: counted, and what such a listener
/// accepts is known from snapshots only.
#[map]
pub(crate) static LISTENERS: HashMap<Listener, u64> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Key of [`LISTENERS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) netns: u32,
    pub(crate) port: u32,
}

/// What the walk over all descriptors has counted of the process that it is in. One walk at a
/// time: userspace has one thread for them.
#[map]
pub(crate) static OPEN: Array<Open> = Array::with_max_entries(1, 0);

/// Element of [`OPEN`].
#[repr(C)]
pub(crate) struct Open {
    /// The walk, a number of the kernel's; what another one left counts for nothing.
    pub(crate) walk: u64,
    /// The process.
    pub(crate) tgid: u32,
    /// Whether it is counted.
    pub(crate) is_watched: u32,
    pub(crate) row: OpenFiles,
}

/// How many local ports are in use, by destination. Full: the route that was not met for the
/// longest time makes room. Those with many ports are met all the time.
#[map]
pub(crate) static ROUTES: LruHashMap<RouteKey, RouteCount> = LruHashMap::with_max_entries(4_096, 0);

/// What the program of layer C waits for, by [`naming`].
#[map]
pub(crate) static NAMING: Array<u64> = Array::with_max_entries(naming::LEN, 0);

/// Sockets that have sent the beginning of a CONNECT. Full: the one that was not met for the longest
/// time makes room, and its name stays cut, or unread and counted.
#[map]
pub(crate) static UNFINISHED: LruHashMap<u64, Unfinished> = LruHashMap::with_max_entries(1_024, 0);

/// Value of [`UNFINISHED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Unfinished {
    /// Sequence number of the first byte of the CONNECT.
    pub(crate) start: u32,
    /// Bytes of it that are wanted.
    pub(crate) wanted: u32,
    /// Bytes of it that were reported, those of lost records included.
    pub(crate) reached: u32,
    /// Segments that may still be reported.
    pub(crate) left: u32,
}

/// What was not delivered, by CPU and cause.
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// An offset of the running kernel.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: Reads a static of ours; volatile because userspace rewrites it before the load.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::OFFSETS.$field) as usize }
    };
}
pub(crate) use offset;

/// A setting of userspace.
macro_rules! config {
    ($field:ident) => {
        // SAFETY: As for `offset!`.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::CONFIG.$field) }
    };
}
pub(crate) use config;

const fn zeroed_offsets() -> Offsets {
    // SAFETY: `Offsets` is a `repr(C)` struct of u32; all zeros is a value of it.
    unsafe { core::mem::zeroed() }
}
