//! What one event changes.

use crate::{
    cgroup::Place,
    model::{Comm, Cookie, KernelEvent, MonoTime, ProcessKey, Transition},
    table::{
        CloseOnExec, Gone, Table,
        recorder::{Hand, What},
        socket::{Owner, Release, ReleaseKind, Socket},
    },
};

/// Accepted descriptors of unknown sockets that may wait for a snapshot. Chosen: one asks for a
/// snapshot at once, so more than a moment's worth never gathers.
const WAITING: usize = 4096;

/// What an event leaves open, so that only a snapshot can answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which descriptors survived the exec?
    NewProgram,
    /// Which socket is it?
    UnknownSocket,
}

impl Table {
    /// Takes in an event. Says what it leaves open.
    pub fn apply(&mut self, event: &KernelEvent) -> Option<Question> {
        match event {
            KernelEvent::Transition(transition) => {
                self.transition(transition);
                None
            }
            KernelEvent::Destroyed { time, cookie } => {
                self.destroyed.push(*time, *cookie);
                self.remove_socket(*cookie, Gone::Destroyed);
                None
            }
            KernelEvent::SynRetransmitted { .. } | KernelEvent::Exhausted { .. } => None,
            KernelEvent::Named { time, cookie, name } => {
                let named = self.change(*cookie, |socket| {
                    socket.recorder.push(*time, What::Named);
                    socket.name(name, *time);
                });
                if named.is_some() {
                    self.touch(*cookie);
                }
                None
            }
            KernelEvent::Accepted { time, cookie, process, fd } => {
                self.accepted(*time, *cookie, *process, *fd)
            }
            KernelEvent::Closed { time, cookie, process, fd, references } => {
                self.closed(*time, *cookie, *process, *fd, *references);
                None
            }
            KernelEvent::Forked { time, parent, child, comm, watched } => {
                // The child has copies of the parent's descriptors; which, a snapshot tells.
                if let Some(process) = self.named(*child, comm, *watched, *time) {
                    process.parent = Some(*parent);
                }
                None
            }
            KernelEvent::Executed { time, process, comm, watched } => {
                if let Some(process) = self.named(*process, comm, *watched, *time) {
                    process.exec_at = Some(*time);
                }
                watched.then_some(Question::NewProgram)
            }
            KernelEvent::Exited { time, process } => {
                self.exited.push(*time, *process);
                self.exit(*process, *time);
                None
            }
        }
    }

    /// Learns the name of a process that did something at `time`.
    ///
    /// Processes that are older than the observer and had no socket yet are known by nothing else.
    pub fn name(&mut self, key: ProcessKey, comm: &Comm, time: MonoTime) {
        if !self.know(key, time) {
            return;
        }
        if let Some(process) = self.processes.get_mut(&key.pid)
            && process.exec_at.is_none_or(|exec| exec <= time)
            // The same text stays the same memory: every socket of the process shares it.
            && process.comm != *comm
        {
            process.comm = comm.clone();
        }
    }

    /// Learns where a process runs. One that is not known is none of the table's business.
    pub fn locate(&mut self, key: ProcessKey, place: Place) {
        let process = self.processes.get_mut(&key.pid).filter(|process| process.key == key);
        if let Some(process) = process {
            process.place = Some(place);
        }
    }

    fn named(
        &mut self,
        key: ProcessKey,
        comm: &Comm,
        watched: bool,
        time: MonoTime,
    ) -> Option<&mut super::Process> {
        if !self.know(key, time) {
            return None;
        }
        let process = self.processes.get_mut(&key.pid)?;
        process.comm = comm.clone();
        process.watched = watched;
        Some(process)
    }

    fn transition(&mut self, transition: &Transition) {
        let cookie = transition.cookie;
        let losses = self.losses;
        if self.change(cookie, |socket| socket.take_transition(transition, losses)).is_none() {
            self.insert_socket(Socket::from_transition(transition, losses));
        }
        if let Some(process) = transition.owner {
            self.own(cookie, process, transition.fd, transition.time);
        }
        self.touch(cookie);
    }

    fn accepted(
        &mut self,
        time: MonoTime,
        cookie: Option<Cookie>,
        process: ProcessKey,
        fd: i32,
    ) -> Option<Question> {
        match cookie.filter(|cookie| self.sockets.contains_key(*cookie)) {
            Some(cookie) => {
                self.record(cookie, time, What::Accepted(Hand { pid: process.pid, fd }));
                self.own(cookie, process, Some(fd), time);
                self.touch(cookie);
                None
            }
            None => {
                if self.accepted.len() < WAITING {
                    self.accepted.insert((process, fd), time);
                }
                Some(Question::UnknownSocket)
            }
        }
    }

    pub(super) fn own(
        &mut self,
        cookie: Cookie,
        process: ProcessKey,
        fd: Option<i32>,
        time: MonoTime,
    ) {
        if !self.know(process, time) {
            return;
        }
        let comm = self.comm(process);
        if let Some(socket) = self.sockets.get_mut(cookie) {
            socket.touched = socket.touched.max(time);
            socket.owner = Some(Owner { process, comm, fd, since: time });
            socket.owners_bit = CloseOnExec::Unknown;
            socket.released = None;
        }
        if let Some(fd) = fd {
            self.gain(cookie, process, fd, time);
        }
    }

    /// The descriptor is gone even if it referred to another socket than was known.
    fn closed(
        &mut self,
        time: MonoTime,
        cookie: Option<Cookie>,
        process: ProcessKey,
        fd: i32,
        references: u32,
    ) {
        self.closed.push(time, (process, fd));
        if self.accepted.get(&(process, fd)).is_some_and(|accepted| *accepted <= time) {
            self.accepted.remove(&(process, fd));
        }
        let known = self.descriptor(process, fd).filter(|known| {
            // A descriptor that was used again since is another one.
            let entry = self.sockets.get(*known).and_then(|socket| socket.holder(process, fd));
            entry.is_some_and(|entry| entry.seen <= time)
        });
        if let (Some(known), Some(cookie)) = (known, cookie)
            && known != cookie
        {
            self.drop_descriptor(known, process, fd, time);
        }
        let Some(cookie) = cookie.or(known) else { return };
        self.forget_descriptor(process, fd, cookie);
        let is_known = self.change(cookie, |socket| {
            socket.touched = socket.touched.max(time);
            socket.unhold(process, fd);
            let hand = Hand { pid: process.pid, fd };
            socket.recorder.push(time, What::Closed { hand, is_last: references <= 1 });
            if !socket.is_owned_by(process) {
                socket.let_go = Some(Box::new((process, fd, time)));
            }
        });
        if is_known.is_some() {
            self.release(cookie, process, Release::seen(ReleaseKind::Closed, fd, time));
            self.touch(cookie);
        }
    }
}
