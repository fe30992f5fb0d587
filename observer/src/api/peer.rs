//! EDGE: who is at the other end of a Unix socket.

use tokio::net::UnixStream;

/// A client on this host, as the kernel tells it (`SO_PEERCRED`, socket(7)): the credentials at the
/// time of its connect(2), which it cannot choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Effective user.
    pub(super) uid: u32,
    /// Effective group.
    pub(super) gid: u32,
    /// Process; `None` where it cannot be seen from here (another pid namespace).
    pub(super) pid: Option<i32>,
    /// Supplementary groups, as `/proc` shows them now: the kernel tells only the effective group.
    pub(super) groups: Vec<u32>,
}

/// The client of `stream`.
///
/// # Errors
///
/// Those of getsockopt(2).
pub(super) fn of(stream: &UnixStream) -> std::io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    let pid = credentials.pid().filter(|pid| *pid > 0);
    let status = pid.and_then(|pid| procfs::process::Process::new(pid).ok()?.status().ok());
    Ok(Peer {
        uid: credentials.uid(),
        gid: credentials.gid(),
        pid,
        groups: status.map(|status| status.groups).unwrap_or_default(),
    })
}
