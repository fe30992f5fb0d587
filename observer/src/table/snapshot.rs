//! What a snapshot changes.

use std::{collections::HashMap, time::Duration};

use crate::{
    model::{Cookie, Holder, MonoTime, ProcessKey, Snapshot, SnapshotRow, TcpState},
    table::{
        CloseOnExec, Gone, Table, endings,
        process::{Process, Processes},
        recorder::{Hand, What},
        socket::{HolderEntry, Owner, Release, ReleaseKind, Socket},
    },
};

/// How long a process that exited may still be seen with descriptors: `do_exit` tells of the exit
/// before it runs `exit_files`. Chosen: far longer than that takes.
const EXITING: Duration = Duration::from_secs(1);

/// Holders of one socket that its recorder tells of when a snapshot finds them. Chosen: the story
/// of a leak has one or two; a listener that hundreds of workers share must not lose its own.
const HOLDERS_TOLD: usize = 4;

impl Table {
    /// Takes in a snapshot. `lost` says that records were lost since the last one, and `settles`
    /// that this one began after that. Every event up to the snapshot's end must have been applied
    /// before: an event that is newer than a row is believed, not the row.
    ///
    /// `false` if more ended during the walk than could be remembered, so that some of the rows
    /// may be out of date.
    pub fn apply_snapshot(&mut self, snapshot: &Snapshot, lost: bool, settles: bool) -> bool {
        let began = snapshot.began;
        let closed = self.closed_since(began);
        let destroyed = endings(&self.destroyed, began);
        let exited = endings(&self.exited, MonoTime::from_nanos(0));
        let is_complete = self.closed.is_complete_since(began)
            && self.destroyed.is_complete_since(began)
            && self.exited.is_complete_since(began);
        for row in &snapshot.rows {
            if destroyed.contains(&row.cookie) {
                continue;
            }
            let time = row.time.clamp(began, snapshot.ended.max(began));
            self.row(row, time, began, !lost);
            if let Some(holder) = &row.holder
                && !exited.contains(&holder.process)
                && closed.get(&(holder.process, holder.fd)).is_none_or(|closed| *closed < time)
            {
                self.held(row.cookie, holder, time);
            }
        }
        self.settle(snapshot, lost, settles);
        self.closed.drop_before(began);
        self.destroyed.drop_before(began);
        self.exited.drop_before(began.before(EXITING));
        self.accepted.retain(|_, accepted| *accepted >= began);
        is_complete
    }

    fn closed_since(&self, began: MonoTime) -> HashMap<(ProcessKey, i32), MonoTime> {
        let mut closed = HashMap::new();
        for (time, descriptor) in self.closed.iter().filter(|(time, _)| *time >= began) {
            let newest = closed.entry(*descriptor).or_insert(*time);
            *newest = (*newest).max(*time);
        }
        closed
    }

    fn row(&mut self, row: &SnapshotRow, time: MonoTime, began: MonoTime, certain: bool) {
        let take = |socket: &mut Socket| {
            socket.take_row(row, time);
            if socket.confirmed_at.is_none_or(|confirmed| confirmed < began) {
                socket.confirmed_at = Some(time);
            }
        };
        if self.change(row.cookie, take).is_none() {
            self.insert_socket(Socket::from_row(row, time, self.losses, certain));
            self.change(row.cookie, take);
        }
    }

    fn held(&mut self, cookie: Cookie, holder: &Holder, time: MonoTime) {
        let key = holder.process;
        if !self.know(key, time) || self.is_held_still(cookie, holder, time) {
            return;
        }
        let is_known =
            self.sockets.get(cookie).is_some_and(|socket| socket.holder(key, holder.fd).is_some());
        self.gain(cookie, key, holder.fd, time);
        let accepted = self.accepted.remove(&(key, holder.fd));
        let Some(process) = self.processes.get_mut(&key.pid) else { return };
        let Some(socket) = self.sockets.get_mut(cookie) else { return };
        call_by_name(process, holder, time);
        let hand = Hand { pid: key.pid, fd: holder.fd };
        let is_new = !is_known && socket.holder(key, holder.fd).is_some();
        if let Some(since) = accepted.filter(|accepted| *accepted <= time) {
            socket.recorder.push(since, What::Accepted(hand));
            if socket.owner.is_none() {
                let (comm, fd) = (process.comm.clone(), Some(holder.fd));
                socket.owner = Some(Owner { process: key, comm, fd, since });
            }
        } else if is_new && socket.holders.len() <= HOLDERS_TOLD {
            socket.recorder.push(time, What::Held(hand));
        }
        socket.take_bit(key, holder.fd, holder.close_on_exec);
        seen_with_owner(socket, process, holder.fd, time);
    }

    /// Whether this is no news, as with almost every row: then it is noted.
    fn is_held_still(&mut self, cookie: Cookie, holder: &Holder, time: MonoTime) -> bool {
        let key = holder.process;
        if !self.accepted.is_empty() && self.accepted.contains_key(&(key, holder.fd)) {
            return false;
        }
        let Some(process) = self.processes.get_mut(&key.pid) else { return false };
        let Some(socket) = self.sockets.get_mut(cookie) else { return false };
        if socket.holder(key, holder.fd).is_none() {
            return false;
        }
        socket.hold(key, holder.fd, time);
        call_by_name(process, holder, time);
        socket.take_bit(key, holder.fd, holder.close_on_exec);
        seen_with_owner(socket, process, holder.fd, time);
        true
    }

    /// Draws the conclusions from what the rows did not show.
    fn settle(&mut self, snapshot: &Snapshot, lost: bool, settles: bool) {
        let began = snapshot.began;
        let mut absent: Vec<Cookie> = Vec::new();
        let mut parted = Vec::new();
        for (_, socket) in self.sockets.iter_mut() {
            let was_held = !socket.holders.is_empty();
            prune(socket, &mut self.processes, began, lost);
            if was_held && socket.holders.is_empty() {
                parted.extend(socket.rank_if_held());
            }
            let unseen = socket.touched < began && socket.row_at.is_none_or(|row| row < began);
            let listed = snapshot.lists_unheld && socket.netns == snapshot.unheld_netns;
            // A socket that was reset before it was accepted is in CLOSE and in no list, and yet a
            // descriptor of it may come: only a loss makes its end one that may have been missed.
            let is_certain = socket.certain_at_loss == Some(self.losses);
            let listed = listed && (socket.state != TcpState::Close || !is_certain);
            if unseen && (listed || settles && !socket.was_held) {
                absent.push(socket.cookie);
            } else if socket.confirmed_at.is_some_and(|confirmed| confirmed >= began) {
                socket.hand_over(&self.processes, self.limits.boot_offset);
            }
        }
        for rank in parted {
            self.rerank(Some(rank), None);
        }
        absent.sort_unstable();
        for cookie in absent {
            self.remove_socket(cookie, Gone::Absent);
        }
    }
}

/// A process goes by the name that its newest program has.
fn call_by_name(process: &mut Process, holder: &Holder, time: MonoTime) {
    if process.comm != holder.comm && process.exec_at.is_none_or(|exec| exec <= time) {
        process.comm = holder.comm.clone();
    }
}

/// The owner itself was seen with a descriptor of its socket.
fn seen_with_owner(socket: &mut Socket, process: &Process, fd: i32, time: MonoTime) {
    let Some(HolderEntry { acquired, close_on_exec, .. }) = socket.holder(process.key, fd).copied()
    else {
        return;
    };
    let Some(owner) = socket.owner.as_mut().filter(|owner| owner.process == process.key) else {
        return;
    };
    if socket.released.is_some_and(|release| release.kind != ReleaseKind::Executed) {
        // It had another descriptor all the time.
        socket.released = None;
    }
    match process.exec_at.filter(|exec| *exec > owner.since) {
        None => {
            if owner.comm != process.comm {
                owner.comm = process.comm.clone();
            }
        }
        // The bit was set and is not any more, or else the exec would have closed it: the new program
        // was given it.
        Some(exec) if time > exec && close_on_exec == CloseOnExec::Cleared => {
            // What was wrong before is so still: it answers for the socket since it got it.
            if owner.comm != process.comm {
                owner.comm = process.comm.clone();
            }
        }
        // A new program that finds a socket at 0, 1 or 2 was given it; above, it knows of none.
        Some(exec) if fd > 2 && time > exec && (acquired < exec || owner.fd == Some(fd)) => {
            let release = Release::seen(ReleaseKind::Executed, fd, exec);
            socket.released.get_or_insert(release);
        }
        Some(_) => {}
    }
}

/// Takes away the descriptors that were there before the walk and that it did not find.
fn prune(socket: &mut Socket, processes: &mut Processes, began: MonoTime, lost: bool) {
    let owner = socket.owner.as_ref().map(|owner| owner.process);
    let mut last_of_owner: Option<(MonoTime, i32)> = None;
    let cookie = socket.cookie;
    socket.holders.retain(|entry| {
        let stays = entry.seen >= began;
        if !stays {
            let hand = Hand { pid: entry.process.pid, fd: entry.fd };
            socket.recorder.push(began, What::Dropped(hand));
            if owner == Some(entry.process) {
                last_of_owner = last_of_owner.max(Some((entry.seen, entry.fd)));
            }
            if let Some(process) = processes.get_mut(&entry.process.pid)
                && process.key == entry.process
                && process.descriptors.get(&entry.fd) == Some(&cookie)
            {
                process.descriptors.remove(&entry.fd);
            }
        }
        stays
    });
    if let (Some((earliest, fd)), Some(owner)) = (last_of_owner, owner)
        && !socket.is_held_by(owner)
    {
        let kind = if lost { ReleaseKind::Unseen } else { ReleaseKind::Closed };
        socket.released = Some(Release { kind, fd, earliest, time: began });
    }
}
