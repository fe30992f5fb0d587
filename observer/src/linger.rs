//! EDGE: lets an observer end at once.
//!
//! Taking the last user off a tracepoint makes the kernel wait until no CPU can still be in it:
//! some 70 ms each, one after the other, a third of a second for layer B (`perf_trace_event_unreg`
//! calls `tracepoint_synchronize_unregister`, kernel/trace/trace_event_perf.c). Nobody at a
//! terminal should wait for that. So a second process keeps the tracepoints registered, unused and
//! without any program of ours. The observer detaches its programs in a few milliseconds and is
//! gone; the second process sees the end of its input and does the waiting.

use std::{
    fs,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Child, Command, Stdio},
};

use crate::{kernel, life::privileges, probe};

/// The hidden verb of the second process.
pub const VERB: &str = "hold-hooks";

/// The second process; it ends when this is dropped, or this process dies in whatever way.
pub struct HookHolder {
    _process: Child,
}

impl HookHolder {
    /// Starts it. Without it everything works, only the end takes longer.
    ///
    /// # Errors
    ///
    /// When a process cannot be started.
    pub fn start() -> io::Result<Self> {
        let process = Command::new(std::env::current_exe()?)
            .arg(VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the whole foreground group; this one has to live a little longer.
            .process_group(0)
            .spawn()?;
        Ok(Self { _process: process })
    }
}

/// The second process: holds what it can, without any privilege from then on, until its input ends.
///
/// # Errors
///
/// When its input cannot be read, or its privileges stay.
pub fn hold() -> io::Result<()> {
    let _held: Vec<OwnedFd> = probe::syscall_tracepoints()
        .filter_map(|name| {
            let id = probe::TRACEFS.iter().find_map(|tracefs| {
                fs::read_to_string(format!("{tracefs}/events/syscalls/{name}/id")).ok()
            })?;
            kernel::open_tracepoint(id.trim().parse().ok()?).ok()
        })
        .collect();
    privileges::renounce().map_err(io::Error::other)?;
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
