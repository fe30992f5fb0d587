//! What watched processes have open, by kind of file. The walk visits one process after the other.

use observer_ebpf::row::{OPEN_FILES, OpenFiles};

use super::{Meta, now, walk, write};
use crate::{
    maps::{OPEN, Open, offset},
    process::{self, load},
};

/// `S_IFMT` and the kinds in it (include/uapi/linux/stat.h).
const FILE_KIND: u16 = 0xf000;
const SOCKET: u16 = 0xc000;
const REGULAR: u16 = 0x8000;
const DIRECTORY: u16 = 0x4000;
const FIFO: u16 = 0x1000;

/// Kinds of open files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Socket,
    Pipe,
    File,
    Other,
}

/// What `file` is. A TCP socket is only known to be a socket here.
#[inline(always)]
pub(super) fn kind(file: *const u8) -> Kind {
    let inode: *const u8 = load(file, offset!(file_inode));
    let mode: u16 = load(inode, offset!(inode_mode));
    match mode & FILE_KIND {
        SOCKET => Kind::Socket,
        FIFO => Kind::Pipe,
        REGULAR | DIRECTORY => Kind::File,
        // Devices; and epoll and its like, whose inodes are of no kind (fs/anon_inodes.c).
        _ => Kind::Other,
    }
}

/// Counts an open file of `task`. Writes the row of the process before, if this is another one.
///
/// Nothing is counted if there is no room for that row: the kernel calls again for this file.
#[inline(always)]
pub(super) fn count(meta: *const Meta, task: *const u8, kind: Kind) {
    let Some(open) = OPEN.get_ptr_mut(0) else { return };
    // SAFETY: An element of the map, of which one walk at a time makes use.
    let open = unsafe { &mut *open };
    let (walk, tgid) = (walk(meta), process::tgid(task));
    if open.walk != walk || open.tgid != tgid {
        if open.walk == walk && !hand_over(meta, open) {
            return;
        }
        open.walk = walk;
        open.tgid = tgid;
        open.is_watched = process::is_watched(tgid).into();
        if open.is_watched != 0 {
            let (time_ns, jiffies) = now();
            open.row = OpenFiles {
                cookie: 0,
                time_ns,
                jiffies,
                start_ns: process::start_ns(task),
                tgid,
                marker: OPEN_FILES,
                tcp: 0,
                sockets: 0,
                pipes: 0,
                files: 0,
                others: 0,
                _reserved: 0,
                limit: process::descriptor_limit(task),
                _padding: [0; 4],
                comm: process::comm(task),
            };
        }
    }
    if open.is_watched == 0 {
        return;
    }
    match kind {
        Kind::Tcp => open.row.tcp += 1,
        Kind::Socket => open.row.sockets += 1,
        Kind::Pipe => open.row.pipes += 1,
        Kind::File => open.row.files += 1,
        Kind::Other => open.row.others += 1,
    }
}

/// The walk is over.
#[inline(always)]
pub(super) fn end(meta: *const Meta) {
    let Some(open) = OPEN.get_ptr_mut(0) else { return };
    // SAFETY: As above.
    let open = unsafe { &mut *open };
    if open.walk == walk(meta) && hand_over(meta, open) {
        open.walk = 0;
    }
}

/// Writes the row of the process that was counted; false if there is no room for it.
#[inline(always)]
fn hand_over(meta: *const Meta, open: &Open) -> bool {
    open.is_watched == 0 || write(meta, &open.row)
}
