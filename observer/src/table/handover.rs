//! Whether a socket that its owner gave up was left behind or handed over.

use std::time::Duration;

use crate::{
    model::MonoTime,
    table::{
        close_on_exec::CloseOnExec,
        process::{Process, Processes, forked_at},
        socket::{HolderEntry, Owner, Release, ReleaseKind, Socket},
    },
};

/// How soon after a fork the parent closes its copy when the socket is meant for the child.
/// Chosen: sshd, inetd and PostgreSQL do it within a millisecond; a busy host may take longer.
const AFTER_FORK: Duration = Duration::from_secs(1);

/// How long after a socket was made its program may still set close-on-exec, with fcntl(2): what is
/// forked until then may have a copy without it by accident. Chosen: a thousand times what lies
/// between two system calls.
const BIT_SETTLES: Duration = Duration::from_secs(1);

impl Socket {
    /// Moves the ownership to a holder that got the socket on purpose, if there is one. Called
    /// after a snapshot, for only that shows the holders that came by fork.
    pub(super) fn hand_over(&mut self, processes: &Processes, boot_offset: Duration) {
        let Some(release) = self.released else { return };
        self.spared = self.before_exec(processes, boot_offset).unwrap_or_default();
        let Some(since) = self.row_at else { return };
        let Some(receiver) = self.receiver(release, processes, boot_offset) else { return };
        let process = known(processes, &receiver);
        self.owner = Some(Owner {
            process: receiver.process,
            comm: process.map(|process| process.comm.clone()).unwrap_or_default(),
            fd: Some(receiver.fd),
            since,
        });
        self.owners_bit = receiver.close_on_exec;
        self.released = None;
    }

    /// When the oldest holder was forked, if all of them may be on the way to an exec that takes the
    /// socket from them.
    fn before_exec(&self, processes: &Processes, boot_offset: Duration) -> Option<MonoTime> {
        let may_lose_it = |entry: &HolderEntry| {
            entry.close_on_exec == CloseOnExec::Set
                && known(processes, entry).is_some_and(|process| process.exec_at.is_none())
        };
        let forked = self.holders.iter().map(|entry| forked_at(entry.process, boot_offset)).min();
        forked.filter(|_| self.holders.iter().all(may_lose_it))
    }

    fn receiver(
        &self,
        release: Release,
        processes: &Processes,
        boot_offset: Duration,
    ) -> Option<HolderEntry> {
        let first = *self.holders.first()?;
        if self.flow.used_after(release.time) {
            return Some(first);
        }
        if release.kind == ReleaseKind::Executed {
            return None;
        }
        let chose_its_number = self.holders.iter().find(|entry| !self.has_owners_number(entry));
        let was_there_before = self.born.and_then(|born| {
            self.holders.iter().find(|entry| forked_at(entry.process, boot_offset) < born)
        });
        // A new version of a server closes what it got by fork(2), and receives it in a message with
        // SCM_RIGHTS, which takes the lowest number: often the same.
        let got_it_again = self.holders.iter().find(|entry| {
            self.let_go.as_deref().is_some_and(|&(process, fd, time)| {
                (entry.process, entry.fd) == (process, fd) && entry.acquired > time
            })
        });
        if let Some(taker) = chose_its_number.or(was_there_before).or(got_it_again) {
            return Some(*taker);
        }
        if let Some(taker) = self.kept_on_purpose(processes, boot_offset) {
            return Some(taker);
        }
        let is_single = self.holders.last().is_some_and(|last| last.process == first.process);
        let executed = known(processes, &first).is_some_and(|process| process.exec_at.is_some());
        let forked = forked_at(first.process, boot_offset);
        let is_meant = match release.kind {
            // A daemon that detaches itself: the parent exits, its child goes on.
            ReleaseKind::Exited | ReleaseKind::Unseen => true,
            // A server that forks for each connection: the parent closes, the child goes on. A
            // child that ran another program since, and kept the number, knows nothing of it.
            ReleaseKind::Closed => closed_for(forked, release) && !executed,
            ReleaseKind::Executed => false,
        };
        (is_single && is_meant).then_some(first)
    }

    /// A holder whose program was given the socket by its number: it is there after an exec, though
    /// the owner's descriptor was close-on-exec, so somebody cleared the bit on purpose. A new version
    /// of a server gets connections so.
    fn kept_on_purpose(&self, processes: &Processes, boot_offset: Duration) -> Option<HolderEntry> {
        let owner = self.owner.as_ref()?;
        let is_single = self.holders.first().map(|entry| entry.process)
            == self.holders.last().map(|entry| entry.process);
        let cleared_for = |entry: &HolderEntry| match (entry.close_on_exec, self.owners_bit) {
            // The bit of this copy was seen before it was cleared.
            (CloseOnExec::Cleared, _) => true,
            (CloseOnExec::Unset, CloseOnExec::Set) => true,
            // Cleared in the owner, it was so for whatever program the owner ran.
            (CloseOnExec::Unset, CloseOnExec::Cleared) => is_single,
            _ => false,
        };
        let is_it = |entry: &&HolderEntry| {
            // A program that sets the bit after accept(2) may fork in between.
            let settled = forked_at(entry.process, boot_offset) >= owner.since.after(BIT_SETTLES);
            Some(entry.fd) == owner.fd
                && settled
                && cleared_for(entry)
                && known(processes, entry).is_some_and(|process| process.exec_at.is_some())
        };
        self.holders.iter().find(is_it).copied()
    }

    /// Whether the process of `entry` holds the socket under a number that the owner used: fork(2)
    /// copies a descriptor under its number. Another number was chosen: by dup2(2) to 0, 1 or 2
    /// before an exec, or by receiving it in a message with SCM_RIGHTS.
    fn has_owners_number(&self, entry: &HolderEntry) -> bool {
        let first = self.owner.as_ref().and_then(|owner| owner.fd);
        let last = self.released.map(|release| release.fd);
        let is_held_as = |fd| self.holder(entry.process, fd).is_some();
        first.is_some_and(is_held_as) || last.is_some_and(is_held_as)
    }
}

/// Whether the owner may have closed it right after it forked a child.
fn closed_for(forked: MonoTime, release: Release) -> bool {
    forked <= release.time && release.earliest <= forked.after(AFTER_FORK)
}

fn known<'a>(processes: &'a Processes, entry: &HolderEntry) -> Option<&'a Process> {
    processes.get(&entry.process.pid).filter(|process| process.key == entry.process)
}
