//! Which program goes to which hook, in the order of attaching.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, Iter, ProgramError, TracePoint, trace_point::TracePointLink},
};

use super::{Layers, error::ProbeError};

/// One program and where it belongs.
pub(super) struct Hook {
    /// Name of the program in the object.
    pub(super) program: &'static str,
    place: Place,
    /// The first layer that has it.
    layer: Layers,
    /// First kernel that can run it.
    since: &'static str,
}

enum Place {
    /// A tracepoint whose arguments the verifier knows by type.
    Typed(&'static str),
    /// Tracepoints `syscalls/NAME`.
    Syscalls(&'static [&'static str]),
    /// Loaded now; each snapshot attaches it anew.
    Iterator(&'static str),
}

/// Numbers of connect, sendto and sendmsg.
pub(super) const CONNECTING: [u32; 3] =
    [libc::SYS_connect as u32, libc::SYS_sendto as u32, libc::SYS_sendmsg as u32];

/// Number of close.
pub(super) const CLOSING: u32 = libc::SYS_close as u32;

/// Number of socket.
pub(super) const MAKING: u32 = libc::SYS_socket as u32;

/// All programs but that of layer C. The changes of state come last, when everything that follows them is there.
pub(super) const HOOKS: &[Hook] = &[
    Hook {
        program: "task_file",
        place: Place::Iterator("task_file"),
        layer: Layers::A,
        since: "5.15",
    },
    Hook { program: "tcp", place: Place::Iterator("tcp"), layer: Layers::A, since: "5.15" },
    Hook {
        program: "exit",
        place: Place::Typed("sched_process_exit"),
        layer: Layers::A,
        since: "5.15",
    },
    Hook {
        program: "exec",
        place: Place::Typed("sched_process_exec"),
        layer: Layers::A,
        since: "5.15",
    },
    Hook {
        program: "fork",
        place: Place::Typed("sched_process_fork"),
        layer: Layers::A,
        since: "5.15",
    },
    Hook {
        program: "accept",
        place: Place::Syscalls(&["sys_exit_accept", "sys_exit_accept4"]),
        layer: Layers::Ab,
        since: "5.15",
    },
    Hook {
        program: "close_enter",
        place: Place::Syscalls(&["sys_enter_close"]),
        layer: Layers::Ab,
        since: "5.15",
    },
    Hook {
        program: "retransmit",
        place: Place::Typed("tcp_retransmit_skb"),
        layer: Layers::A,
        since: "5.15",
    },
    Hook {
        program: "destroy",
        place: Place::Typed("tcp_destroy_sock"),
        layer: Layers::A,
        since: "5.15",
    },
    Hook {
        program: "state",
        place: Place::Typed("inet_sock_set_state"),
        layer: Layers::A,
        since: "5.15",
    },
];

/// The tracepoints `syscalls/NAME` that layer B uses.
pub fn syscall_tracepoints() -> impl Iterator<Item = &'static str> {
    let names = HOOKS.iter().map(|hook| match hook.place {
        Place::Syscalls(names) => names,
        Place::Typed(_) | Place::Iterator(_) => &[],
    });
    names.flatten().copied()
}

/// The links of the syscall tracepoints. They are taken off together when this is dropped.
///
/// Each waits until no CPU can still be in its program (`perf_event_detach_bpf_prog`,
/// kernel/trace/bpf_trace.c), some 40 ms; the waits of several threads overlap. The other programs
/// go without waiting.
#[derive(Default)]
pub(super) struct SyscallLinks(Vec<TracePointLink>);

impl Drop for SyscallLinks {
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            for link in self.0.drain(..) {
                scope.spawn(|| drop(link));
            }
        });
    }
}

/// Loads and attaches everything that `layers` has.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    layers: Layers,
) -> Result<SyscallLinks, ProbeError> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut links = SyscallLinks::default();
    for hook in HOOKS.iter().filter(|hook| hook.layer <= layers) {
        attach_one(ebpf, btf, hook, &mut links)
            .map_err(|error| ProbeError::program(hook.program, hook.since, &release, &error))?;
    }
    Ok(links)
}

fn attach_one(
    ebpf: &mut Ebpf,
    btf: &Btf,
    hook: &Hook,
    links: &mut SyscallLinks,
) -> Result<(), ProgramError> {
    let program = ebpf
        .program_mut(hook.program)
        .ok_or_else(|| ProgramError::InvalidName { name: hook.program.to_owned() })?;
    match hook.place {
        Place::Typed(name) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(name, btf)?;
            program.attach()?;
        }
        Place::Syscalls(names) => {
            let program: &mut TracePoint = program.try_into()?;
            program.load()?;
            for name in names {
                let link = program.attach("syscalls", name)?;
                links.0.push(program.take_link(link)?);
            }
        }
        Place::Iterator(kind) => {
            let program: &mut Iter = program.try_into()?;
            program.load(kind, btf)?;
        }
    }
    Ok(())
}
