//! The file system that names the kernel's tracepoints; layer B needs it.

use std::path::Path;

use rustix::mount::{MountFlags, mount};

/// Where aya looks for it, in this order.
pub const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Makes sure that tracefs is there, mounting it if that is allowed. Has to happen before the
/// first attach: aya looks once and remembers. The error says why it could not be mounted.
pub(super) fn ensure() -> Result<(), String> {
    if is_there() {
        return Ok(());
    }
    match mount("tracefs", TRACEFS[0], "tracefs", MountFlags::empty(), None) {
        Ok(()) if is_there() => Ok(()),
        Ok(()) => Err(format!("mounted at {}, but it is empty", TRACEFS[0])),
        Err(error) => Err(format!("mounting it at {} failed: {error}", TRACEFS[0])),
    }
}

fn is_there() -> bool {
    TRACEFS.iter().any(|place| Path::new(place).join("events/syscalls/sys_enter_close/id").exists())
}
