//! What userspace tells the program.

/// Name of the global that holds [`Config`].
pub const CONFIG_GLOBAL: &str = "CONFIG";

/// Name of the global that holds the [`Offsets`](crate::offsets::Offsets).
pub const OFFSETS_GLOBAL: &str = "OFFSETS";

/// Set before the program is loaded; constant afterwards.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Not 0: every process is watched and the watch maps are not asked.
    pub watch_all: u32,
    /// Added to the kernel's reference counter of a file to get the number of references. Since
    /// 6.13 `f_ref` stores one less than there are (fs/file.c, `file_ref_t`).
    pub refs_bias: u32,
    /// Fill of the ring, bytes, at which the reader is woken. Below it nobody is woken.
    pub wake_bytes: u32,
    /// Numbers of the system calls that connect a socket and have its descriptor as their first
    /// argument: connect, and sendto and sendmsg with `MSG_FASTOPEN`.
    pub connecting: [u32; 3],
    /// Number of close(2).
    pub closing: u32,
    /// Not 0: nobody looks at single changes of state, so what a socket goes through after its
    /// program has closed it is left out. It can be no leak any more.
    pub quiet: u32,
    /// Not 0: sockets are also watched by the ports in the `PORTS` map, whoever has them.
    pub ports: u32,
    /// Number of socket(2).
    pub making: u32,
    /// First and last local port that the kernel gives to connect(2): those that can run out.
    pub port_range: [u32; 2],
    /// So many local ports towards one destination are worth a row.
    pub many_ports: u32,
    /// Not 0: call stacks are taken of every watched process, not only of those with
    /// [`watch::STACKS`].
    pub stacks: u32,
}

const _: () = assert!(size_of::<Config>() == 56);

/// Why a process is watched: flags, the values of the `WATCHED` map.
pub mod watch {
    /// It was named by its pid.
    pub const PID: u32 = 1;
    /// Its name is in the `COMMS` map.
    pub const COMM: u32 = 2;
    /// Its cgroup was named.
    pub const CGROUP: u32 = 4;
    /// Its children are watched too, and theirs.
    pub const CHILDREN: u32 = 8;
    /// A descendant of a watched process. Not watched itself: only its exec and exit are
    /// reported, for it may hold copies of its parent's descriptors.
    pub const KIN: u32 = 16;
    /// A call stack is taken of each of its connects and accepts. It does not make a process
    /// watched.
    pub const STACKS: u32 = 32;
    /// Flags that make a process watched.
    pub const REASONS: u32 = PID | COMM | CGROUP | CHILDREN;
    /// Flags that a forked child gets from its parent: it has the same name and cgroup, and runs
    /// the same code.
    pub const INHERITED: u32 = COMM | CGROUP | CHILDREN | STACKS;
}

/// Elements of the `NAMING` map, by which layer C knows whether it has anything to do.
pub mod naming {
    /// How many connections watched processes have begun. The kernel counts them.
    pub const BEGUN: u32 = 0;
    /// How many of them had begun when userspace last found that all have had time to say who they
    /// are. As long as it is [`BEGUN`], no packet is looked at.
    pub const SETTLED: u32 = 1;
    /// Not 0 once a CONNECT came in several segments: until then nobody looks for more of one.
    pub const SPLIT: u32 = 2;
    /// How many elements there are.
    pub const LEN: u32 = 3;
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, only u32, no padding (size asserted above).
    unsafe impl aya::Pod for super::Config {}
}
