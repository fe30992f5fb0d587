//! The children of the demonstration: five that leak, one that does not.
//!
//! Only ordinary calls that any program makes: what is leaked here is leaked for real.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
    process::{Command, Stdio},
    time::Duration,
};

use clap::{Args, ValueEnum};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{FdFlags, fcntl_setfd},
    net::{
        AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with,
    },
};

use crate::{clock, detect::Kind, model::MonoTime};

/// A child of the demonstration. Not for people.
#[derive(Debug, Args)]
pub struct Child {
    /// What it does.
    way: Way,
}

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// The peer closes, the child does not.
    CloseWait,
    /// The peer resets the connection, the child never looks.
    DeadFd,
    /// A connect to a server that does not accept.
    StuckConnect,
    /// Data that is never read.
    Undrained,
    /// A helper process keeps a copy of a descriptor that the child closes.
    Inherited,
    /// Nothing is leaked.
    Healthy,
    /// The helper of `Inherited`.
    Helper,
}

impl Way {
    /// The children of a demonstration.
    pub const ALL: [Self; 6] = [
        Self::CloseWait,
        Self::DeadFd,
        Self::StuckConnect,
        Self::Undrained,
        Self::Inherited,
        Self::Healthy,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Helper => "helper",
            leak => leak.kind().expect("invariant: the others leak").code(),
        }
    }

    /// The finding that it must lead to.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::CloseWait => Some(Kind::CloseWait),
            Self::DeadFd => Some(Kind::DeadFd),
            Self::StuckConnect => Some(Kind::StuckConnect),
            Self::Undrained => Some(Kind::Undrained),
            Self::Inherited => Some(Kind::Inherited),
            Self::Healthy | Self::Helper => None,
        }
    }
}

impl Child {
    /// Waits for a line on stdin, leaks, tells when, and lives until stdin ends.
    ///
    /// # Errors
    ///
    /// Those of the calls; the parent shows them.
    pub fn run(self) -> io::Result<()> {
        let mut line = String::new();
        if self.way != Way::Helper {
            io::stdin().read_line(&mut line)?;
        }
        // What is leaked stays in scope, and so open, until the parent is gone.
        match self.way {
            Way::CloseWait => hold(close_wait()?),
            Way::DeadFd => hold(dead_fd()?),
            Way::StuckConnect => hold(stuck_connect()?),
            Way::Undrained => hold(undrained()?),
            Way::Inherited => hold(inherited()?),
            Way::Healthy => healthy(),
            Way::Helper => wait_for_parent(),
        }
    }
}

/// A leak: what keeps it, who holds it and since when.
struct Leak<T> {
    _kept: T,
    holder: u32,
    at: MonoTime,
}

impl<T> Leak<T> {
    fn here(kept: T, at: MonoTime) -> Self {
        Self { _kept: kept, holder: std::process::id(), at }
    }
}

fn hold<T>(leak: Leak<T>) -> io::Result<()> {
    tell(leak.at, leak.holder)?;
    wait_for_parent()
}

fn tell(at: MonoTime, holder: u32) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "planted {} {holder}", at.nanos())?;
    out.flush()
}

fn wait_for_parent() -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

/// Both ends of a new connection: (client, server).
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

fn close_wait() -> io::Result<Leak<TcpStream>> {
    let (client, server) = pair()?;
    let at = clock::now();
    drop(server);
    Ok(Leak::here(client, at))
}

fn dead_fd() -> io::Result<Leak<TcpStream>> {
    let (client, server) = pair()?;
    // Closing with unread data sends a reset (RFC 2525, section 2.17).
    (&client).write_all(b"never read")?;
    wait_readable(&server)?;
    let at = clock::now();
    drop(server);
    Ok(Leak::here(client, at))
}

fn undrained() -> io::Result<Leak<(TcpStream, TcpStream)>> {
    let (client, server) = pair()?;
    let at = clock::now();
    (&server).write_all(b"never read")?;
    Ok(Leak::here((client, server), at))
}

fn stuck_connect() -> io::Result<Leak<(OwnedFd, Vec<OwnedFd>)>> {
    let listener =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    listen(&listener, 0)?;
    let address = getsockname(&listener)?;
    let mut clients = Vec::new();
    // A queue of length 0 has room for one; a few more tries and a connect stays unanswered.
    for _ in 0..16 {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let client = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let at = clock::now();
        let in_progress = matches!(connect(&client, &address), Err(rustix::io::Errno::INPROGRESS));
        let answered = !in_progress || {
            let mut fds = [PollFd::new(&client, PollFlags::OUT)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 }))? > 0
        };
        clients.push(client);
        if !answered {
            return Ok(Leak::here((listener, clients), at));
        }
    }
    Err(io::Error::other("the server's queue did not fill up"))
}

fn inherited() -> io::Result<Leak<(TcpStream, std::process::Child)>> {
    let (client, server) = pair()?;
    // The classic mistake: a descriptor without the flag goes to whatever is started next.
    fcntl_setfd(&client, FdFlags::empty())?;
    let helper = Command::new(std::env::current_exe()?)
        .args(["demo-child", Way::Helper.name()])
        .stdin(Stdio::piped())
        .spawn()?;
    let at = clock::now();
    drop(client);
    let holder = helper.id();
    Ok(Leak { _kept: (server, helper), holder, at })
}

/// Everything that looks like a leak for a moment and is none.
fn healthy() -> io::Result<()> {
    let (idle_client, idle_server) = pair()?;
    tell(clock::now(), std::process::id())?;
    loop {
        let (mut client, mut server) = pair()?;
        client.write_all(b"question")?;
        let mut buffer = [0; 8];
        server.read_exact(&mut buffer)?;
        server.write_all(b"answer")?;
        // The server closes first: for a moment the client is in CLOSE_WAIT, with data to read.
        drop(server);
        std::thread::sleep(Duration::from_millis(50));
        client.read_to_end(&mut Vec::new())?;
        drop(client);
        // An idle connection is no leak.
        (&idle_client).write_all(b".")?;
        (&idle_server).read_exact(&mut buffer[..1])?;
        let stdin = io::stdin();
        let stdin = stdin.as_fd();
        let mut fds = [PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
        if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 }))? > 0 {
            return Ok(());
        }
    }
}

fn wait_readable(stream: &TcpStream) -> io::Result<()> {
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 }))?;
    Ok(())
}
