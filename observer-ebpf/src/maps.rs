//! Every map, with its capacity and what a full map means.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    macros::map,
    maps::{HashMap, PerCpuArray, RingBuf},
};
use observer_ebpf::{COMM_LEN, config::Config, counter::Counter, offsets::Offsets};

/// `BPF_F_CLONE` (include/uapi/linux/bpf.h): a socket accepted from a marked listener is marked.
const BPF_F_CLONE: usize = 1 << 9;

/// Where the running kernel keeps its fields. Userspace writes it before the load; it is read
/// through [`offset!`] so that the compiler does not take the zeros here for the truth.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = zeroed_offsets();

/// What userspace asked for. Written before the load, read through [`config!`].
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config =
    Config { watch_all: 0, refs_bias: 0, wake_bytes: 0, descriptors: 0 };

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

/// Threads inside connect(2): pid_tgid to descriptor. Full: counted, the descriptor of that
/// socket stays unknown until the next snapshot.
#[map]
pub(crate) static CONNECTING: HashMap<u64, u32> = HashMap::with_max_entries(8_192, 0);

/// What was not delivered, by CPU and cause.
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// The mark of a watched socket. It lives in the socket itself, so it has no capacity, dies with
/// the socket, and costs a lookup of one cache line. aya's own type has no `BPF_F_CLONE`.
#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "MARKS")]
pub(crate) static MARKS: MarkMap = MarkMap {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// Definition of [`MARKS`] in the form that loaders read from BTF: each number is the length of
/// an array that is never there.
#[repr(C)]
pub(crate) struct MarkMap {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const u32,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize | BPF_F_CLONE],
}

// SAFETY: The pointers only carry types to the loader; nothing follows them.
unsafe impl Sync for MarkMap {}

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
