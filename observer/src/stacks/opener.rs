//! EDGE: opens files of foreign processes for those who may not, and reads none of them.
//!
//! A process of its own, started while there are privileges, which keeps three capabilities and
//! parses nothing but requests of a fixed size. What it opens it passes on by SCM_RIGHTS (unix(7)),
//! read-only: what is in the file is looked at by the namer, which has no rights at all.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
        sendmsg, socketpair, sockopt,
    },
    thread::CapabilitySet,
};

use crate::life::privileges;

/// The hidden verb of the process.
pub const VERB: &str = "open-files";

/// What it keeps, as far as it is there: to look into other users' processes
/// (`ptrace_may_access` in proc_pid_maps(5)), to open what they have mapped (`map_files`, for
/// which there is CAP_CHECKPOINT_RESTORE from 5.9 on), and to read files of any mode.
const KEPT: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::from_bits_retain(1 << CHECKPOINT_RESTORE))
    .union(CapabilitySet::DAC_READ_SEARCH);

/// CAP_CHECKPOINT_RESTORE (include/uapi/linux/capability.h).
const CHECKPOINT_RESTORE: u32 = 40;

/// How long an answer is waited for. Chosen: an open takes microseconds; a file system of a hostile
/// process (FUSE) may take for ever.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of a request.
const REQUEST: usize = 24;

/// Bytes of an answer: the request, and the error or 0.
const ANSWER: usize = REQUEST + 4;

/// A file of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `/proc/PID/maps`.
    Maps,
    /// `/proc/PID/status`.
    Status,
    /// The file that is mapped at these addresses, whatever became of its name.
    File {
        /// First address of the mapping.
        start: u64,
        /// The address behind its last.
        end: u64,
    },
    /// `/tmp/perf-NUMBER.map`, as the process sees it.
    PerfMap {
        /// The number that the process has in its own namespace.
        number: u32,
    },
}

/// A file, and whose it is.
#[derive(Debug)]
pub struct Opened {
    /// `/proc/PID/stat`, by the same handle: it says which life of the number it was.
    pub stat: OwnedFd,
    /// What was wished for.
    pub file: OwnedFd,
}

/// The process; it ends when this and every copy of its socket are dropped.
#[derive(Debug)]
pub struct Opener {
    socket: OwnedFd,
    _process: Child,
}

impl Opener {
    /// Starts it, with what this process may do.
    ///
    /// # Errors
    ///
    /// When a process cannot be started.
    pub fn start() -> io::Result<Self> {
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            // Whole messages: nobody has to look where one ends.
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = Command::new(std::env::current_exe()?)
            .arg(VERB)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the whole foreground group.
            .process_group(0)
            .spawn()?;
        Ok(Self { socket, _process: process })
    }

    /// The socket, to be given to a namer.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

/// The process: opens what it is asked for until nobody is there to ask.
///
/// # Errors
///
/// When its privileges stay, or its socket fails.
pub fn serve() -> io::Result<()> {
    privileges::renounce_but(KEPT).map_err(io::Error::other)?;
    let socket = io::stdin();
    let mut bytes = [0; REQUEST + 1];
    loop {
        let got = rustix::net::recv(socket.as_fd(), bytes.as_mut_slice(), RecvFlags::empty());
        let len = match got {
            Ok((0, _)) => return Ok(()),
            Ok((len, _)) => len,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some((pid, wish)) = read_request(&bytes[..len]) else { continue };
        let opened = open_for(pid, wish);
        match answer(socket.as_fd(), &bytes[..REQUEST], opened) {
            Ok(()) | Err(Errno::AGAIN) => {}
            Err(Errno::PIPE) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks the process at the other end of `socket` for a file. What answers another request, of a
/// namer that is gone, is left aside.
///
/// # Errors
///
/// Those of opening it; `TimedOut` where no answer came.
pub fn ask(socket: impl AsFd, pid: u32, wish: Wish) -> io::Result<Opened> {
    let request = write_request(pid, wish);
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    rustix::net::send(&socket, &request, SendFlags::NOSIGNAL)?;
    loop {
        let mut bytes = [0; ANSWER];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = match recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        };
        let mut files = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => files.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let (stat, file) = (files.next(), files.next());
        if got.bytes == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if got.bytes != ANSWER || got.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (request_back, error) = bytes.split_at(REQUEST);
        if request_back != request {
            continue;
        }
        let error = error.try_into().map(i32::from_ne_bytes).unwrap_or_default();
        return match (error, stat, file) {
            (0, Some(stat), Some(file)) => Ok(Opened { stat, file }),
            // No descriptor was left for them.
            (0, ..) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
            (error, ..) => Err(io::Error::from_raw_os_error(error)),
        };
    }
}

fn write_request(pid: u32, wish: Wish) -> [u8; REQUEST] {
    let (kind, first, second) = match wish {
        Wish::Maps => (1, 0, 0),
        Wish::Status => (2, 0, 0),
        Wish::File { start, end } => (3u32, start, end),
        Wish::PerfMap { number } => (4, u64::from(number), 0),
    };
    let mut bytes = [0; REQUEST];
    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
    bytes[4..8].copy_from_slice(&pid.to_ne_bytes());
    bytes[8..16].copy_from_slice(&first.to_ne_bytes());
    bytes[16..].copy_from_slice(&second.to_ne_bytes());
    bytes
}

fn read_request(bytes: &[u8]) -> Option<(u32, Wish)> {
    let bytes: &[u8; REQUEST] = bytes.try_into().ok()?;
    let half = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let whole = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (pid, first, second) = (half(4)?, whole(8)?, whole(16)?);
    let wish = match half(0)? {
        1 => Wish::Maps,
        2 => Wish::Status,
        3 => Wish::File { start: first, end: second },
        4 => Wish::PerfMap { number: u32::try_from(first).ok()? },
        _ => return None,
    };
    // One request has one form.
    (write_request(pid, wish) == *bytes).then_some((pid, wish))
}

fn open_for(pid: u32, wish: Wish) -> Result<Opened, Errno> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let read = OFlags::RDONLY | OFlags::CLOEXEC;
    let process = open(format!("/proc/{pid}"), directory, Mode::empty())?;
    let stat = openat(&process, "stat", read, Mode::empty())?;
    let file = match wish {
        Wish::Maps => openat(&process, "maps", read, Mode::empty())?,
        Wish::Status => openat(&process, "status", read, Mode::empty())?,
        Wish::File { start, end } => {
            let name = format!("map_files/{start:x}-{end:x}");
            regular(openat(&process, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)?
        }
        Wish::PerfMap { number } => {
            let root = openat(&process, "root", directory, Mode::empty())?;
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            // The process may have made any name there, but reaches nothing beyond its own root.
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            let name = format!("tmp/perf-{number}.map");
            let file = openat2(&root, name, flags, Mode::empty(), resolve)?;
            // Its own, and no link to what it may not read.
            if fstat(&file)?.st_uid != fstat(&process)?.st_uid {
                return Err(Errno::ACCESS);
            }
            regular(file)?
        }
    };
    Ok(Opened { stat, file })
}

/// Opens for reading what `path` stands for, if it is a regular file: others do something when they
/// are opened, or never end.
fn regular(path: OwnedFd) -> Result<OwnedFd, Errno> {
    if FileType::from_raw_mode(fstat(&path)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(format!("/proc/self/fd/{}", path.as_raw_fd()), flags, Mode::empty())
}

fn answer(socket: impl AsFd, request: &[u8], opened: Result<Opened, Errno>) -> Result<(), Errno> {
    let error = opened.as_ref().err().map_or(0, |error| error.raw_os_error());
    let mut bytes = [0; ANSWER];
    bytes[..REQUEST].copy_from_slice(request);
    bytes[REQUEST..].copy_from_slice(&error.to_ne_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = opened.as_ref().map(|opened| [opened.stat.as_fd(), opened.file.as_fd()]);
    if let Ok(files) = &files {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    // Nobody there to read is no reason to wait.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, os::unix::fs::symlink};

    use super::*;

    fn own() -> u32 {
        std::process::id()
    }

    fn text(opened: Opened) -> String {
        let mut text = String::new();
        fs::File::from(opened.file).read_to_string(&mut text).expect("it is text");
        text
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let wishes = [
            Wish::Maps,
            Wish::Status,
            Wish::File { start: 1 << 47, end: u64::MAX },
            Wish::PerfMap { number: u32::MAX },
        ];
        for wish in wishes {
            let bytes = write_request(4711, wish);
            assert_eq!(read_request(&bytes), Some((4711, wish)));
            assert_eq!(read_request(&bytes[..REQUEST - 1]), None);
            let mut longer = bytes.to_vec();
            longer.push(0);
            assert_eq!(read_request(&longer), None);
        }
        let mut maps = write_request(1, Wish::Maps);
        maps[16] = 1;
        assert_eq!(read_request(&maps), None, "what means nothing is 0");
        for kind in [0u32, 5, u32::MAX] {
            maps[..4].copy_from_slice(&kind.to_ne_bytes());
            assert_eq!(read_request(&maps), None);
        }
        let mut number = write_request(1, Wish::PerfMap { number: 1 });
        number[12] = 1;
        assert_eq!(read_request(&number), None, "no process has such a number");
    }

    #[test]
    fn only_what_is_wished_for_is_opened() {
        let maps = open_for(own(), Wish::Maps).expect("they are ours");
        assert!(text(maps).contains("[stack]"));
        let status = open_for(own(), Wish::Status).expect("it is ours");
        assert!(text(status).contains("NSpid:"));
        let nobody = open_for(u32::MAX, Wish::Maps).expect_err("there is none");
        assert_eq!(nobody, Errno::NOENT);
        let nothing = Wish::File { start: 4_096, end: 8_192 };
        assert_eq!(open_for(own(), nothing).expect_err("nothing is there"), Errno::NOENT);
    }

    #[test]
    fn a_perf_map_is_a_regular_file_of_its_process_and_no_link() {
        let number = own();
        let wish = Wish::PerfMap { number };
        let path = format!("/tmp/perf-{number}.map");
        let _gone = fs::remove_file(&path);
        assert_eq!(open_for(own(), wish).expect_err("there is none"), Errno::NOENT);
        fs::write(&path, "1000 10 f\n").expect("it is ours");
        assert_eq!(text(open_for(own(), wish).expect("it is ours")), "1000 10 f\n");
        fs::remove_file(&path).expect("it is ours");
        symlink("/etc/passwd", &path).expect("it is ours");
        assert_eq!(open_for(own(), wish).expect_err("a link"), Errno::LOOP);
        fs::remove_file(&path).expect("it is ours");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR, 0).expect("ours");
        assert_eq!(open_for(own(), wish).expect_err("a pipe"), Errno::INVAL);
        fs::remove_file(&path).expect("it is ours");
        fs::create_dir(&path).expect("it is ours");
        assert_eq!(open_for(own(), wish).expect_err("a directory"), Errno::INVAL);
        fs::remove_dir(&path).expect("it is ours");
        if rustix::process::geteuid().is_root() {
            fs::write(&path, "secret").expect("it is ours");
            std::os::unix::fs::chown(&path, Some(65_534), None).expect("root may");
            assert_eq!(open_for(own(), wish).expect_err("somebody else's"), Errno::ACCESS);
            fs::remove_file(&path).expect("it is ours");
        }
    }

    #[test]
    fn an_answer_is_of_its_request_and_carries_two_files() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("there are descriptors");
        let old = write_request(own(), Wish::Maps);
        answer(&theirs, &old, open_for(own(), Wish::Maps)).expect("there is room");
        let new = write_request(own(), Wish::Status);
        answer(&theirs, &new, open_for(own(), Wish::Status)).expect("there is room");
        let opened = ask(&ours, own(), Wish::Status).expect("the second one");
        assert!(text(opened).contains("NSpid:"));
        answer(&theirs, &old, Err(Errno::ACCESS)).expect("there is room");
        let error = ask(&ours, own(), Wish::Maps).expect_err("it was refused");
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        drop(theirs);
        assert!(ask(&ours, own(), Wish::Maps).is_err(), "nobody is there");
    }
}
