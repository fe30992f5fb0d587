//! Who holds what: a descriptor of a process refers to one socket at a time.

use crate::{
    model::{Cookie, MonoTime, ProcessKey},
    table::{
        Table,
        recorder::{Hand, What},
        socket::{Release, ReleaseKind},
    },
};

impl Table {
    /// `fd` of `process` refers to this socket at `time`. Whatever it referred to before, it does
    /// not any more; but knowledge that is newer than `time` stays.
    pub(super) fn gain(&mut self, cookie: Cookie, process: ProcessKey, fd: i32, time: MonoTime) {
        if !self.know(process, time) {
            return;
        }
        if let Some(other) = self.descriptor(process, fd)
            && other != cookie
        {
            let entry = self.sockets.get(other).and_then(|socket| socket.holder(process, fd));
            if let Some(newer) = entry.filter(|entry| entry.seen > time) {
                // It has been closed since and used again.
                let until = newer.acquired;
                if let Some(socket) = self.sockets.get_mut(cookie) {
                    socket.was_held = true;
                }
                self.release(
                    cookie,
                    process,
                    Release {
                        kind: ReleaseKind::Closed,
                        fd,
                        earliest: time,
                        time: until.max(time),
                    },
                );
                return;
            }
            self.drop_descriptor(other, process, fd, time);
        }
        let is_known = self.change(cookie, |socket| socket.hold(process, fd, time)).is_some();
        if is_known && let Some(process) = self.processes.get_mut(&process.pid) {
            process.descriptors.insert(fd, cookie);
        }
    }

    /// `fd` of `process` was found not to refer to this socket any more at `time`; its close was
    /// not seen (dup2(2), close_range(2), an exec with close-on-exec).
    pub(super) fn drop_descriptor(
        &mut self,
        cookie: Cookie,
        process: ProcessKey,
        fd: i32,
        time: MonoTime,
    ) {
        self.forget_descriptor(process, fd, cookie);
        let entry = self.change(cookie, |socket| socket.unhold(process, fd)).flatten();
        if let Some(entry) = entry {
            self.record(cookie, time, What::Dropped(Hand { pid: process.pid, fd }));
            self.release(
                cookie,
                process,
                Release { kind: ReleaseKind::Closed, fd, earliest: entry.seen.min(time), time },
            );
            self.touch(cookie);
        }
    }

    /// Notes what happened to a socket.
    pub(super) fn record(&mut self, cookie: Cookie, time: MonoTime, what: What) {
        if let Some(socket) = self.sockets.get_mut(cookie) {
            socket.recorder.push(time, what);
        }
    }

    /// Notes that the owner gave the socket up, if `process` is the owner and no other descriptor of
    /// it is known.
    pub(super) fn release(&mut self, cookie: Cookie, process: ProcessKey, release: Release) {
        if let Some(socket) = self.sockets.get_mut(cookie)
            && socket.is_owned_by(process)
            && !socket.is_held_by(process)
            && socket.released.is_none_or(|earlier| release.replaces(earlier))
        {
            socket.released = Some(release);
        }
    }

    /// A process is gone, and with it all its descriptors.
    pub(super) fn exit(&mut self, key: ProcessKey, time: MonoTime) {
        if self.process(key).is_none() {
            return;
        }
        let Some(process) = self.processes.remove(&key.pid) else { return };
        let mut descriptors: Vec<_> = process.descriptors.into_iter().collect();
        descriptors.sort_unstable();
        for (fd, cookie) in descriptors {
            self.change(cookie, |socket| {
                socket.unhold(key, fd);
                socket.recorder.push(time, What::Exited(Hand { pid: key.pid, fd }));
            });
            self.release(cookie, key, Release::seen(ReleaseKind::Exited, fd, time));
            self.touch(cookie);
        }
    }

    /// What `fd` of `process` refers to.
    pub(super) fn descriptor(&self, process: ProcessKey, fd: i32) -> Option<Cookie> {
        self.process(process)?.descriptors.get(&fd).copied()
    }

    pub(super) fn forget_descriptor(&mut self, process: ProcessKey, fd: i32, cookie: Cookie) {
        if let Some(known) = self.processes.get_mut(&process.pid)
            && known.key == process
            && known.descriptors.get(&fd) == Some(&cookie)
        {
            known.descriptors.remove(&fd);
        }
    }
}
