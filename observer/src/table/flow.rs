//! What moves through a socket, as far as rows and records prove it.

use std::time::Duration;

use crate::model::{MonoTime, ReadPosition, TcpState};

/// The kernel keeps "last sent" and "last received" in ticks of up to 10 ms (`jiffies`, `HZ` 100
/// at the least); two ticks cover the conversion too.
const TICKS: Duration = Duration::from_millis(20);

/// Something moved at a moment that is known only to lie between two observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Not before.
    pub after: MonoTime,
    /// Not later.
    pub by: MonoTime,
}

/// How far a program has read and written, and since when it has not. All of it is proven by
/// observations; a moment that is not known is never taken to be earlier than it can have been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Bytes of data that wait to be read. The peer's FIN is not counted.
    pub unread: u32,
    /// Since when nothing has been read although data were waiting.
    pub not_read_since: Option<MonoTime>,
    /// When data were last read.
    pub last_read: Option<Moved>,
    /// When the program last wrote.
    pub last_written: Option<Moved>,
    /// When the kernel last sent data, repetitions included.
    pub last_sent: Option<MonoTime>,
    /// When the last data came. Pure acknowledgements and keep-alive probes are no data: the kernel
    /// notes them elsewhere (`rcv_tstamp`; `lrcvtime` is set by `tcp_event_data_recv` alone).
    pub last_received: Option<MonoTime>,
    read: Option<(MonoTime, ReadPosition)>,
    written: Option<Written>,
    /// What the peer had acknowledged, and since when no more.
    acknowledged: Option<(MonoTime, u32)>,
}

/// The write position, first and last seen at these moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    sequence: u32,
    first: MonoTime,
    last: MonoTime,
}

impl Flow {
    /// Takes in how far the program had read at `time`, in `state`. `last_received` is when the
    /// last data came, where that is known.
    pub(super) fn observe_read(
        &mut self,
        time: MonoTime,
        state: TcpState,
        position: ReadPosition,
        last_received: Option<MonoTime>,
    ) {
        if !can_read(state) || self.read.is_some_and(|(earlier, _)| earlier > time) {
            return;
        }
        self.last_received = self.last_received.max(last_received.map(|at| at.min(time)));
        let data = unread_data(state, position);
        let before = self.read.replace((time, position));
        let was_waiting = self.not_read_since;
        self.unread = data;
        self.not_read_since = None;
        let Some((earlier, last)) = before else {
            self.not_read_since = (data > 0).then_some(time);
            return;
        };
        let advanced = position.copied_seq.wrapping_sub(last.copied_seq);
        if data > 0 {
            self.not_read_since = Some(if advanced > 0 {
                time
            } else {
                // What waits came after an observation at which nothing waited, and the last of
                // it came at `last_received`.
                let came = last_received.map_or(time, |received| received.clamp(earlier, time));
                was_waiting.unwrap_or(came)
            });
        }
        // read(2) that returns 0 consumes the FIN: `copied_seq` moves by one, but no data moved.
        let fin = u32::from(state == TcpState::CloseWait && position.unread == 0);
        if advanced > fin {
            // If nothing waits now, what came last was read too, and not before it came.
            let came = last_received.filter(|_| data == 0).map(|received| received.before(TICKS));
            let after = came.map_or(earlier, |came| came.clamp(earlier, time));
            self.last_read = Some(Moved { after, by: time });
        }
    }

    /// Takes in how far the program had written at `time`, in `state`.
    pub(super) fn observe_write(
        &mut self,
        time: MonoTime,
        state: TcpState,
        sequence: u32,
        last_sent: MonoTime,
    ) {
        if !has_written(state) {
            return;
        }
        match &mut self.written {
            Some(written) if written.last > time => return,
            Some(written) if written.sequence == sequence => written.last = time,
            Some(written) => {
                self.last_written = Some(Moved { after: written.last, by: time });
                *written = Written { sequence, first: time, last: time };
            }
            None => self.written = Some(Written { sequence, first: time, last: time }),
        }
        // A clock that was converted from ticks may run ahead of the row.
        self.last_sent = self.last_sent.max(Some(last_sent.min(time)));
    }

    /// Takes in up to which sequence number the peer had acknowledged at `time`, in `state`.
    pub(super) fn observe_acknowledged(&mut self, time: MonoTime, state: TcpState, sequence: u32) {
        let is_known =
            self.acknowledged.is_some_and(|(earlier, known)| known == sequence || earlier > time);
        if has_written(state) && !is_known {
            self.acknowledged = Some((time, sequence));
        }
    }

    /// After this moment no byte has moved in either direction, as far as rows show; `None` before
    /// the first row. It may be later than the last byte, and is never earlier.
    ///
    /// A repetition is no movement, though the kernel notes it as sent (`tcp_event_data_sent` runs
    /// for each segment with data): after the moment at which the write position and what the peer
    /// had acknowledged were already what they are now, nothing new was sent.
    pub fn last_moved(&self) -> Option<MonoTime> {
        let (acknowledged, _) = self.acknowledged?;
        let unchanged = self.written?.first.max(acknowledged);
        let moved = self.last_sent?.min(unchanged).max(self.last_received?);
        Some(moved.after(TICKS))
    }

    /// Whether a program has certainly or very likely used the connection after `time`.
    ///
    /// What the kernel sends by itself (a full send buffer, a repetition) is not use: if the write
    /// position was the same before `time`, nothing was written since.
    pub fn used_after(&self, time: MonoTime) -> bool {
        let moved = |moved: &Option<Moved>| moved.is_some_and(|moved| moved.after >= time);
        let sent = self.last_sent.is_some_and(|sent| sent > time.after(TICKS))
            && self.written.is_some_and(|written| written.first > time);
        moved(&self.last_read) || moved(&self.last_written) || sent
    }
}

/// States in which `copied_seq` belongs to a connection and the FIN is where [`unread_data`]
/// expects it.
fn can_read(state: TcpState) -> bool {
    use TcpState::{CloseWait, Established, FinWait1, FinWait2};
    matches!(state, Established | CloseWait | FinWait1 | FinWait2)
}

/// States in which `write_seq` and `lsndtime` belong to a connection. They outlast it: `tcp_done`
/// leaves them as they are.
fn has_written(state: TcpState) -> bool {
    use TcpState::{Listen, NewSynRecv, SynRecv, SynSent};
    !matches!(state, SynSent | SynRecv | NewSynRecv | Listen)
}

/// `rcv_nxt` counts the FIN (`tcp_fin` runs after `tcp_rcv_nxt_update`). As long as data wait the
/// FIN waits behind them.
fn unread_data(state: TcpState, position: ReadPosition) -> u32 {
    let fin = u32::from(state == TcpState::CloseWait);
    position.unread.saturating_sub(fin)
}

#[cfg(test)]
mod tests {
    use TcpState::{CloseWait, Established, SynSent};

    use super::*;

    const fn at(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    /// (when, state, copied_seq, unread, last received)
    type Seen = (u64, TcpState, u32, u32, u64);

    /// Name, observations, and not before and not later than when something moved.
    type Case = (&'static str, &'static [Seen], Option<(u64, u64)>);

    fn flow(seen: &[Seen]) -> Flow {
        let mut flow = Flow::default();
        for (time, state, copied_seq, unread, received) in seen {
            let position = ReadPosition { copied_seq: *copied_seq, unread: *unread };
            flow.observe_read(at(*time), *state, position, Some(at(*received)));
        }
        flow
    }

    #[test]
    fn since_when_nothing_was_read() {
        let cases: &[(&str, &[Seen], Option<u64>)] = &[
            ("nothing waits", &[(1000, Established, 1, 0, 500)], None),
            ("seen for the first time: not before", &[(1000, Established, 1, 5, 500)], Some(1000)),
            (
                "came after an empty queue: when it came",
                &[(1000, Established, 1, 0, 500), (2000, Established, 1, 5, 1500)],
                Some(1500),
            ),
            (
                "a clock in ticks cannot make it older than the empty queue",
                &[(1000, Established, 1, 0, 500), (2000, Established, 1, 5, 990)],
                Some(1000),
            ),
            (
                "more came, nothing read: the earlier moment stays",
                &[(1000, Established, 1, 5, 500), (2000, Established, 1, 9, 1900)],
                Some(1000),
            ),
            (
                "some was read, some waits: not before this observation",
                &[(1000, Established, 1, 5, 500), (2000, Established, 3, 3, 500)],
                Some(2000),
            ),
            (
                "all was read",
                &[(1000, Established, 1, 5, 500), (2000, Established, 6, 0, 500)],
                None,
            ),
            (
                "only the FIN waits",
                &[(1000, Established, 1, 0, 500), (2000, CloseWait, 1, 1, 500)],
                None,
            ),
            (
                "data wait before the FIN",
                &[(1000, Established, 1, 4, 500), (2000, CloseWait, 1, 5, 500)],
                Some(1000),
            ),
            (
                "sequence numbers of a state without data mean nothing",
                &[(1, SynSent, 0, 9, 0)],
                None,
            ),
            (
                "a row older than the record does not count",
                &[(2000, Established, 1, 0, 500), (1000, Established, 1, 5, 500)],
                None,
            ),
        ];
        for (name, seen, expected) in cases {
            assert_eq!(flow(seen).not_read_since, expected.map(at), "{name}");
        }
    }

    #[test]
    fn when_data_were_read() {
        let cases: &[Case] = &[
            ("one observation proves nothing", &[(1000, Established, 9, 0, 1)], None),
            (
                "between two observations",
                &[(1000, Established, 1, 5, 500), (2000, Established, 6, 0, 500)],
                Some((1000, 2000)),
            ),
            (
                "not before it came",
                &[(1000, Established, 1, 0, 500), (2000, Established, 6, 0, 1520)],
                Some((1500, 2000)),
            ),
            (
                "the FIN is no data",
                &[(1000, CloseWait, 1, 1, 500), (2000, CloseWait, 2, 0, 500)],
                None,
            ),
            (
                "data and the FIN",
                &[(1000, CloseWait, 1, 4, 500), (2000, CloseWait, 5, 0, 500)],
                Some((1000, 2000)),
            ),
            (
                "sequence numbers wrap",
                &[(1000, Established, u32::MAX, 5, 500), (2000, Established, 4, 0, 500)],
                Some((1000, 2000)),
            ),
        ];
        for (name, seen, expected) in cases {
            let expected = expected.map(|(after, by)| Moved { after: at(after), by: at(by) });
            assert_eq!(flow(seen).last_read, expected, "{name}");
        }
    }

    #[test]
    fn the_kernel_alone_is_no_use() {
        let mut flow = Flow::default();
        flow.observe_write(at(1000), Established, 7, at(900));
        flow.observe_write(at(3000), Established, 7, at(2900));
        assert!(!flow.used_after(at(1000)), "the same write position: a repetition");
        flow.observe_write(at(4000), Established, 9, at(3900));
        assert!(flow.used_after(at(3000)), "written between two rows");
        assert!(flow.used_after(at(3500)), "sent, and the position is new since then");
        assert!(!flow.used_after(at(3890)), "a tick is no proof");
    }
}
