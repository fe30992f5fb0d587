//! EDGE: the datagram socket to journald.

use std::{
    fs::{self, File},
    io::{self, IoSlice, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg},
};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The kernel has it.
    Taken,
    /// journald does not read fast enough.
    Later,
    /// Nobody listens, or not any more.
    Gone,
    /// It is too large, and no memory could be had for it.
    Unsendable,
}

/// A socket that is connected when needed.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    connected: Option<UnixDatagram>,
}

impl Socket {
    /// To the socket at `path`. Nothing is opened yet.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), connected: None }
    }

    /// Where it goes.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last entry found somebody.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// Sends one entry without waiting. It is whole or not sent at all.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Outcome {
        let socket = match self.connected.take() {
            Some(socket) => socket,
            None => match connect(&self.path) {
                Ok(socket) => socket,
                Err(_nobody) => return Outcome::Gone,
            },
        };
        let outcome = send_to(&socket, bytes);
        if outcome != Outcome::Gone {
            self.connected = Some(socket);
        }
        outcome
    }

    /// Waits until another entry may fit, or `patience` is over.
    pub(super) fn wait(&self, patience: Duration) {
        let Some(socket) = &self.connected else { return };
        let timeout = Timespec::try_from(patience).ok();
        // An error shows again at the next entry.
        let _ready = poll(&mut [PollFd::new(socket, PollFlags::OUT)], timeout.as_ref());
    }
}

/// How many datagrams the kernel keeps for a receiver (unix(7)).
pub(super) fn queue_length() -> usize {
    let text = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap_or_default();
    // systemd sets it to 512 when it boots.
    text.trim().parse().unwrap_or(512)
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn send_to(socket: &UnixDatagram, bytes: &[u8]) -> Outcome {
    match send(socket, bytes, flags()) {
        // Larger than the send buffer, or than one piece of kernel memory.
        Err(Errno::MSGSIZE | Errno::NOBUFS | Errno::NOMEM) => match sealed(bytes) {
            Ok(memory) => outcome(send_memory(socket, &memory)),
            Err(_no_memory) => Outcome::Unsendable,
        },
        result => outcome(result),
    }
}

fn outcome(result: rustix::io::Result<usize>) -> Outcome {
    match result {
        Ok(_) => Outcome::Taken,
        // TOOMANYREFS: too many descriptors are under way (unix(7)).
        Err(Errno::AGAIN | Errno::INTR | Errno::TOOMANYREFS) => Outcome::Later,
        Err(_) => Outcome::Gone,
    }
}

/// An empty datagram with a descriptor: the entry is what the descriptor has.
fn send_memory(socket: &UnixDatagram, memory: &OwnedFd) -> rustix::io::Result<usize> {
    let descriptors = [memory.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&descriptors));
    assert!(fits, "invariant: there is space for one descriptor");
    sendmsg(socket, &[IoSlice::new(&[])], &mut control, flags())
}

/// Memory that nobody can change any more: journald takes no other.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("sockwarden-journal", flags)?);
    file.write_all(bytes)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

fn flags() -> SendFlags {
    SendFlags::DONTWAIT | SendFlags::NOSIGNAL
}
