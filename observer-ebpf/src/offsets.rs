//! Where the running kernel keeps the fields we read.
//!
//! Userspace fills this table from `/sys/kernel/btf/vmlinux` before the program is loaded. The
//! verifier then sees constants and checks each direct load against the kernel's own types: a
//! wrong offset is refused at load, not read wrongly.

macro_rules! offsets {
    ($($field:ident: $structure:literal . $path:literal, $doc:literal;)*) => {
        /// Byte offsets of kernel struct fields, from the running kernel's BTF.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Offsets {
            $(#[doc = $doc] #[doc = concat!(" (`", $structure, ".", $path, "`)")] pub $field: u32,)*
        }

        /// The fields of [`Offsets`] in order: kernel struct and dotted member path. Where a path
        /// has alternatives over kernel versions, they are separated by `|`.
        pub const FIELDS: &[(&str, &str)] = &[$(($structure, $path),)*];

        impl Offsets {
            /// The offsets in the order of [`FIELDS`].
            pub fn from_array(values: [u32; FIELDS.len()]) -> Self {
                let [$($field),*] = values;
                Self { $($field),* }
            }
        }

        const _: () = assert!(size_of::<Offsets>() == 4 * FIELDS.len());
    };
}

offsets! {
    skc_family: "sock"."__sk_common.skc_family", "Address family";
    skc_state: "sock"."__sk_common.skc_state", "TCP state";
    skc_num: "sock"."__sk_common.skc_num", "Local port, host order; 0 once the port is given back";
    skc_dport: "sock"."__sk_common.skc_dport", "Remote port, network order";
    skc_rcv_saddr: "sock"."__sk_common.skc_rcv_saddr", "Local IPv4 address";
    skc_daddr: "sock"."__sk_common.skc_daddr", "Remote IPv4 address";
    skc_v6_rcv_saddr: "sock"."__sk_common.skc_v6_rcv_saddr", "Local IPv6 address";
    skc_v6_daddr: "sock"."__sk_common.skc_v6_daddr", "Remote IPv6 address";
    skc_net: "sock"."__sk_common.skc_net.net", "Network namespace";
    skc_cookie: "sock"."__sk_common.skc_cookie", "Cookie, 0 until somebody asked for it";
    sk_flags: "sock"."__sk_common.skc_flags", "Flags, `SOCK_DEAD` the lowest";
    sk_protocol: "sock"."sk_protocol", "IP protocol";
    inet_sport: "inet_sock"."inet_sport", "Local port, network order; kept after the port is given back";
    net_inum: "net"."ns.inum", "Inode number of a namespace";
    lrcvtime: "inet_connection_sock"."icsk_ack.lrcvtime", "Tick of the last data segment received";
    rcv_nxt: "tcp_sock"."rcv_nxt", "What is expected next from the peer";
    copied_seq: "tcp_sock"."copied_seq", "How far the program has read";
    write_seq: "tcp_sock"."write_seq", "How far the program has written";
    snd_una: "tcp_sock"."snd_una", "What the peer has acknowledged";
    lsndtime: "tcp_sock"."lsndtime", "Tick of the last data segment sent";
    socket_sk: "socket"."sk", "The sock of a socket";
    task_files: "task_struct"."files", "Descriptor table";
    task_tgid: "task_struct"."tgid", "Process";
    task_pid: "task_struct"."pid", "Thread";
    task_comm: "task_struct"."comm", "Name of the thread";
    task_leader: "task_struct"."group_leader", "Leader thread";
    task_start: "task_struct"."start_boottime", "Start since boot, nanoseconds";
    task_signal: "task_struct"."signal", "What the threads of a process share";
    signal_live: "signal_struct"."live.counter", "Threads still alive";
    signal_rlim: "signal_struct"."rlim", "Resource limits, `struct rlimit`s by number";
    files_fdt: "files_struct"."fdt", "Descriptor table proper";
    fdt_max: "fdtable"."max_fds", "Its size";
    fdt_fd: "fdtable"."fd", "Its array of files";
    fdt_close_on_exec: "fdtable"."close_on_exec", "Its bitmap of descriptors to close on exec";
    file_inode: "file"."f_inode", "Inode of an open file";
    file_private: "file"."private_data", "The socket of a socket's file";
    file_refs: "file"."f_ref.refcnt.counter|f_count.counter", "References to the open file";
    inode_mode: "inode"."i_mode", "Kind of file";
    regs_syscall: "pt_regs"."orig_ax|syscallno", "Number of the system call";
    regs_stack: "pt_regs"."sp", "Its stack pointer";
    regs_first: "pt_regs"."di|orig_x0", "Its first argument";
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, only u32, no padding (size asserted above).
    unsafe impl aya::Pod for super::Offsets {}
}
