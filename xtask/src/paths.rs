//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    // `cargo run` sets the variable, and it stays right when the clone is moved; the compiled-in
    // path serves whoever starts the program by hand.
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or(xtask.clone(), Path::to_path_buf)
}

/// Cargo's target directory, as an absolute path.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        // Cargo takes a relative one from the directory it was called in, and so does this.
        Some(dir) if !dir.is_empty() => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        _ => root().join("target"),
    }
}

/// The binary that users get.
pub(crate) fn release_binary() -> PathBuf {
    target().join("release/sockwarden")
}

/// The eBPF object that the observer embeds.
pub(crate) fn bpf_object() -> PathBuf {
    target().join("bpf/sockwarden.bpf.o")
}
