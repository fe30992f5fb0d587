//! PURE. What happened to a socket, in order, with names: its recorder and the losses of the table.

use std::{collections::VecDeque, time::Duration};

use super::{
    Table,
    process::forked_at,
    recorder::{Hand, KEPT, What},
    socket::Socket,
};
use crate::model::{Comm, MonoTime};

/// Losses this close together are told as one. Chosen: the observer looks for losses every 20 to
/// 100 ms, and a full ring stays full for as long as the burst takes.
const SAME_LOSS: Duration = Duration::from_secs(1);

/// How long after a record the start of its process may seem to be: the clocks of the two are
/// converted with an offset that is read in two steps.
const SLACK: Duration = Duration::from_millis(10);

/// One thing that happened to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, to a microsecond.
    pub time: MonoTime,
    /// What.
    pub what: What,
    /// Name of the process that belongs to it; empty where none does or its name is not known.
    pub comm: Comm,
}

/// The beginnings of the newest losses. Bounded: the oldest goes, and then a very old story does
/// not show it; whether a finding can be trusted is told by its evidence, which forgets nothing.
#[derive(Debug, Default)]
pub(super) struct Losses {
    began: VecDeque<MonoTime>,
    last: MonoTime,
}

impl Losses {
    pub(super) fn push(&mut self, time: MonoTime) {
        if self.began.is_empty() || time.since(self.last) > SAME_LOSS {
            if self.began.len() >= KEPT {
                self.began.pop_front();
            }
            self.began.push_back(time);
        }
        self.last = self.last.max(time);
    }

    /// Those after the beginning of a story.
    fn since(&self, first: MonoTime) -> impl Iterator<Item = MonoTime> {
        self.began.iter().copied().filter(move |time| *time >= first)
    }
}

impl Table {
    /// The last 32 things that happened to a socket, the oldest first. A loss of records is one of
    /// them: what is told before it may not be all.
    pub fn history(&self, socket: &Socket) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::with_capacity(KEPT);
        steps.extend(socket.recorder.iter().map(|(time, what)| Step {
            time,
            what,
            comm: what.hand().map(|hand| self.comm_at(hand, time, socket)).unwrap_or_default(),
        }));
        let Some(first) = steps.first().map(|step| step.time) else { return steps };
        let lost = |time| Step { time, what: What::Lost, comm: Comm::default() };
        steps.extend(self.lost_at.since(first).map(lost));
        // Stable: at one time, what the records say comes before the loss.
        steps.sort_by_key(|step| step.time);
        steps.drain(..steps.len().saturating_sub(KEPT));
        steps
    }

    /// The name of the process that had this number at `time`: a number may be in use again.
    fn comm_at(&self, hand: Hand, time: MonoTime, socket: &Socket) -> Comm {
        let known = self.processes.get(&hand.pid);
        let lived = known
            .filter(|process| forked_at(process.key, self.limits.boot_offset) <= time.after(SLACK));
        let owner = || socket.owner.as_ref().filter(|owner| owner.process.pid == hand.pid);
        lived
            .map(|process| process.comm.clone())
            .or_else(|| owner().map(|owner| owner.comm.clone()))
            .unwrap_or_default()
    }
}

impl What {
    /// The descriptor that belongs to it.
    pub fn hand(self) -> Option<Hand> {
        match self {
            Self::Accepted(hand)
            | Self::Closed { hand, .. }
            | Self::Exited(hand)
            | Self::Dropped(hand)
            | Self::Held(hand) => Some(hand),
            Self::Transition { .. } | Self::Seen(_) | Self::Named | Self::Lost => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            Cookie, Ends, Holder, KernelEvent, ProcessKey, ReadPosition, Snapshot, SnapshotRow,
            TcpState, Transition,
        },
        table::Limits,
    };

    const SOCKET: Cookie = Cookie(1);
    const NODE: ProcessKey = ProcessKey { pid: 5, start_ns: 1 };
    const CHILD: ProcessKey = ProcessKey { pid: 6, start_ns: 2 };

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    fn ends() -> Ends {
        let host = std::net::Ipv4Addr::LOCALHOST.into();
        Ends::new((host, 4000), (host, 1883))
    }

    fn table() -> Table {
        Table::new(Limits { sockets: 4, processes: 4, boot_offset: Duration::ZERO })
    }

    fn comm(process: ProcessKey) -> Comm {
        Comm::from_bytes(if process == NODE { b"node" } else { b"child" })
    }

    fn moves(table: &mut Table, ms: u64, old: TcpState, new: TcpState) {
        let connects = (old, new) == (TcpState::Close, TcpState::SynSent);
        table.name(NODE, &comm(NODE), at(ms));
        table.apply(&KernelEvent::Transition(Transition {
            time: at(ms),
            cookie: SOCKET,
            old,
            new,
            ends: ends(),
            netns: 1,
            owner: connects.then_some(NODE),
            fd: connects.then_some(7),
            context_pid: 0,
            read: None,
        }));
    }

    fn closes(table: &mut Table, ms: u64, process: ProcessKey, references: u32) {
        let (time, cookie) = (at(ms), Some(SOCKET));
        table.apply(&KernelEvent::Closed { time, cookie, process, fd: 7, references });
    }

    fn shows(table: &mut Table, ms: u64, state: TcpState, holders: &[(ProcessKey, i32)]) {
        let row = |holder| SnapshotRow {
            time: at(ms),
            cookie: SOCKET,
            state,
            ends: ends(),
            netns: 1,
            holder,
            read: ReadPosition { copied_seq: 1, unread: 0 },
            unacked: 0,
            write_seq: 1,
            last_sent: at(0),
            last_received: at(0),
        };
        let held = holders.iter().map(|(process, fd)| {
            row(Some(Holder {
                process: *process,
                comm: comm(*process),
                fd: *fd,
                close_on_exec: None,
            }))
        });
        let rows = held.chain([row(None)]).collect();
        let (began, ended) = (at(ms), at(ms + 1));
        let lists = Snapshot { lists_unheld: true, unheld_netns: 1, ..Snapshot::default() };
        table.apply_snapshot(&Snapshot { began, ended, rows, ..lists }, false, true);
    }

    /// Millisecond and text of each step.
    fn told(table: &Table) -> Vec<(u64, String)> {
        let socket = table.socket(SOCKET).expect("it is there");
        let steps = table.history(socket);
        assert!(steps.is_sorted_by_key(|step| step.time), "{steps:?}");
        steps.iter().map(|step| (step.time.nanos() / 1_000_000, step.text())).collect()
    }

    fn lines(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(ms, text)| (*ms, (*text).to_owned())).collect()
    }

    #[test]
    fn the_story_of_a_leaked_connection_is_told() {
        use TcpState::{Close, CloseWait, Established, SynSent};
        let mut table = table();
        moves(&mut table, 10, Close, SynSent);
        moves(&mut table, 11, SynSent, Established);
        shows(&mut table, 500, Established, &[(NODE, 7), (CHILD, 7)]);
        moves(&mut table, 1_000, Established, CloseWait);
        closes(&mut table, 1_500, NODE, 2);
        table.lose(at(1_700));
        table.lose(at(2_600));
        shows(&mut table, 9_000, CloseWait, &[(CHILD, 7)]);
        let expected = [
            (10, "CLOSE → SYN_SENT"),
            (11, "SYN_SENT → ESTABLISHED"),
            (500, "a snapshot found fd 7 of child (pid 6)"),
            (1_000, "ESTABLISHED → CLOSE_WAIT"),
            (1_500, "close(7) by node (pid 5), not the last"),
            (1_700, "records were lost"),
        ];
        assert_eq!(told(&table), lines(&expected));

        table.apply(&KernelEvent::Exited { time: at(9_500), process: CHILD });
        assert_eq!(
            told(&table).last(),
            lines(&[(9_500, "exit of child (pid 6) with fd 7")]).last()
        );
        closes(&mut table, 9_600, NODE, 1);
        assert_eq!(
            told(&table).last(),
            lines(&[(9_600, "close(7) by node (pid 5), the last")]).last()
        );
    }

    #[test]
    fn what_only_snapshots_show_is_told_as_such() {
        use TcpState::{CloseWait, Established};
        let mut table = table();
        table.lose(at(1));
        shows(&mut table, 100, Established, &[(NODE, 7)]);
        shows(&mut table, 200, CloseWait, &[(NODE, 8)]);
        let name = crate::model::ClientName {
            client_id: "device".into(),
            is_cut: false,
            keep_alive: 60,
            level: 4,
        };
        table.apply(&KernelEvent::Named { time: at(300), cookie: SOCKET, name });
        let expected = [
            (100, "a snapshot found it in ESTABLISHED"),
            (100, "a snapshot found fd 7 of node (pid 5)"),
            (200, "a snapshot found it in CLOSE_WAIT"),
            (200, "a snapshot found fd 8 of node (pid 5)"),
            (200, "fd 7 of node (pid 5) was found to be gone"),
            (300, "its MQTT CONNECT went by"),
        ];
        assert_eq!(told(&table), lines(&expected));
    }

    #[test]
    fn an_accept_is_told_whether_or_not_the_socket_was_known() {
        use TcpState::{Established, SynRecv};
        let accepts = |table: &mut Table, cookie| {
            table.name(NODE, &comm(NODE), at(20));
            table.apply(&KernelEvent::Accepted { time: at(20), cookie, process: NODE, fd: 9 });
        };
        let accepted = (20, "accept() = 9 by node (pid 5)");
        let mut known = table();
        moves(&mut known, 10, SynRecv, Established);
        accepts(&mut known, Some(SOCKET));
        shows(&mut known, 100, Established, &[(NODE, 9)]);
        assert_eq!(told(&known), lines(&[(10, "SYN_RECV → ESTABLISHED"), accepted]));
        // The kernel had no cookie for it yet, and a snapshot tells which socket it was.
        let mut guessed = table();
        moves(&mut guessed, 10, SynRecv, Established);
        accepts(&mut guessed, None);
        shows(&mut guessed, 100, Established, &[(NODE, 9)]);
        assert_eq!(told(&guessed), told(&known));
        let mut unknown = table();
        accepts(&mut unknown, None);
        shows(&mut unknown, 100, Established, &[(NODE, 9)]);
        let found = (100, "a snapshot found it in ESTABLISHED");
        // It was before that, and the recorder does not run backwards.
        assert_eq!(told(&unknown), lines(&[found, (100, accepted.1)]));
    }

    #[test]
    fn a_number_that_is_used_again_has_not_the_name_of_another() {
        use TcpState::{Close, Established, SynSent};
        let mut table = table();
        moves(&mut table, 10, Close, SynSent);
        moves(&mut table, 11, SynSent, Established);
        shows(&mut table, 100, Established, &[(NODE, 7), (CHILD, 7)]);
        closes(&mut table, 200, CHILD, 2);
        closes(&mut table, 300, NODE, 1);
        for (pid, name) in [(NODE.pid, b"other"), (CHILD.pid, b"third")] {
            let later = ProcessKey { pid, start_ns: at(5_000).nanos() };
            table.name(later, &Comm::from_bytes(name), at(5_000));
        }
        let told = told(&table);
        assert_eq!(told[3].1, "close(7) by a process (pid 6), not the last");
        // The owner's name is known from the socket itself.
        assert_eq!(told[4].1, "close(7) by node (pid 5), the last");
    }

    #[test]
    fn a_listener_that_many_hold_keeps_its_own_story() {
        use TcpState::{Close, Listen};
        let mut table = table();
        moves(&mut table, 10, Close, Listen);
        let workers: Vec<_> = (0..200).map(|fd| (NODE, fd)).collect();
        shows(&mut table, 100, Listen, &workers);
        let told = told(&table);
        assert_eq!((told.len(), &*told[0].1), (5, "CLOSE → LISTEN"), "{told:?}");
    }

    #[test]
    fn a_story_and_its_losses_are_bounded() {
        use TcpState::{Close, Established, SynSent};
        let mut table = table();
        for turn in 0..100 {
            let begin = turn * 10_000;
            moves(&mut table, begin, Close, SynSent);
            moves(&mut table, begin + 1, SynSent, Established);
            moves(&mut table, begin + 2, Established, Close);
            table.lose(at(begin + 3));
            assert!(told(&table).len() <= KEPT);
        }
        assert_eq!(table.lost_at.began.len(), KEPT);
        assert_eq!(told(&table).last(), lines(&[(990_003, "records were lost")]).last());
    }
}
