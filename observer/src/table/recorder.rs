//! PURE. The last things that happened to one socket, packed: a flight recorder.
//!
//! Every socket has one and most never need it, so it is small: an entry is the time since the one
//! before (microseconds, as a varint), a byte that says what, and a process and descriptor where
//! they belong to it: 2 to 4 bytes for a transition, 6 to 10 for a close. A connection that is up
//! needs some 12 bytes, which lie in the socket itself; only longer stories have memory of their own.

use crate::model::{MonoTime, TcpState};

/// Entries that are kept. Chosen: a connection has 3 to 10 in its whole life; a socket that is
/// connected again and again shows its last five turns.
pub(crate) const KEPT: usize = 32;

/// Bytes that lie in the socket itself: as many as the pointer to longer stories needs anyway.
const INLINE: usize = 22;

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hand {
    /// The process, as the host sees it.
    pub pid: u32,
    /// The descriptor.
    pub fd: i32,
}

/// What happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It changed its state.
    Transition {
        /// State before.
        old: TcpState,
        /// State after.
        new: TcpState,
    },
    /// accept(2) returned it.
    Accepted(Hand),
    /// close(2) was called.
    Closed {
        /// On what.
        hand: Hand,
        /// Whether this was the last reference to the open file, as the kernel counted at that
        /// moment: one that a running system call holds counts too.
        is_last: bool,
    },
    /// A process with it exited.
    Exited(Hand),
    /// The descriptor was found to be gone: closed in a way that was not seen, or not yet.
    Dropped(Hand),
    /// A snapshot found a descriptor that was not known.
    Held(Hand),
    /// A snapshot found it in this state, which no record had told.
    Seen(TcpState),
    /// Its MQTT CONNECT went by.
    Named,
    /// Records were lost.
    Lost,
}

/// The last entries of a socket, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Recorder(Tape);

#[derive(Clone, PartialEq, Eq)]
enum Tape {
    Short { used: u8, bytes: [u8; INLINE] },
    Long(Box<[u8]>),
}

impl Recorder {
    /// Notes what happened. The oldest of 32 entries makes room; what is older than the last entry
    /// is put at its time, so that times never run backwards.
    pub fn push(&mut self, time: MonoTime, what: What) {
        let (mut count, mut last, mut second) = (0, 0, None);
        let mut cursor = Cursor(self.bytes());
        while let Some(delta) = cursor.skip() {
            count += 1;
            last += delta;
            if count == 1 {
                second = cursor.peek(last);
            }
        }
        let delta = (time.nanos() / 1000).saturating_sub(last);
        let mut entry = Packed::default();
        entry.varint(delta);
        entry.what(what);
        match second.filter(|_| count >= KEPT) {
            Some((micros, rest)) => {
                // The first entry goes; the second now counts from the boot.
                let mut first = Packed::default();
                first.varint(micros);
                let kept = &self.bytes()[self.bytes().len() - rest..];
                let mut bytes = Vec::with_capacity(first.len + rest + entry.len);
                bytes.extend_from_slice(first.bytes());
                bytes.extend_from_slice(kept);
                bytes.extend_from_slice(entry.bytes());
                self.0 = Tape::Long(bytes.into_boxed_slice());
            }
            None => self.append(entry.bytes()),
        }
    }

    /// All entries, the oldest first. Times are cut to microseconds.
    pub fn iter(&self) -> impl Iterator<Item = (MonoTime, What)> {
        let mut cursor = Cursor(self.bytes());
        let mut last = 0;
        std::iter::from_fn(move || {
            let (micros, what) = cursor.entry(last)?;
            last = micros;
            Some((MonoTime::from_nanos(micros.saturating_mul(1000)), what))
        })
    }

    /// Bytes that it has beside those in the socket.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Tape::Short { .. } => 0,
            Tape::Long(bytes) => bytes.len(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Tape::Short { used, bytes } => &bytes[..usize::from(*used)],
            Tape::Long(bytes) => bytes,
        }
    }

    fn append(&mut self, entry: &[u8]) {
        let before = self.bytes().len();
        let after = before + entry.len();
        match &mut self.0 {
            Tape::Short { used, bytes } if after <= INLINE => {
                bytes[before..after].copy_from_slice(entry);
                *used = u8::try_from(after).expect("invariant: at most 22");
            }
            Tape::Short { .. } => {
                let mut longer = Vec::with_capacity(after);
                longer.extend_from_slice(self.bytes());
                longer.extend_from_slice(entry);
                self.0 = Tape::Long(longer.into_boxed_slice());
            }
            Tape::Long(bytes) => {
                let mut longer = std::mem::take(bytes).into_vec();
                longer.reserve_exact(entry.len());
                longer.extend_from_slice(entry);
                *bytes = longer.into_boxed_slice();
            }
        }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self(Tape::Short { used: 0, bytes: [0; INLINE] })
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

// A transition's byte is old and new state, 1 to 12 each; so the high half 0 is free for the rest,
// and 13 for a state that a snapshot found. Those up to `HELD` are followed by a descriptor.
const ACCEPTED: u8 = 0x00;
const CLOSED: u8 = 0x01;
const CLOSED_LAST: u8 = 0x02;
const EXITED: u8 = 0x03;
const DROPPED: u8 = 0x04;
const HELD: u8 = 0x05;
const NAMED: u8 = 0x06;
const LOST: u8 = 0x07;
const SEEN: u8 = 0xd0;

/// One entry on its way: a time (10 bytes at most), a code, and two numbers of 5 bytes at most.
#[derive(Default)]
struct Packed {
    bytes: [u8; 21],
    len: usize,
}

impl Packed {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// Seven bits a byte, the lowest first; all but the last have the high bit (LEB128).
    fn varint(&mut self, mut number: u64) {
        loop {
            let low = number.to_le_bytes()[0] & 0x7f;
            number >>= 7;
            if number == 0 {
                return self.byte(low);
            }
            self.byte(low | 0x80);
        }
    }

    fn what(&mut self, what: What) {
        match what {
            What::Transition { old, new } => self.byte((old as u8) << 4 | new as u8),
            What::Seen(state) => self.byte(SEEN | state as u8),
            What::Named => self.byte(NAMED),
            What::Lost => self.byte(LOST),
            What::Accepted(hand) => self.hand(ACCEPTED, hand),
            What::Closed { hand, is_last: false } => self.hand(CLOSED, hand),
            What::Closed { hand, is_last: true } => self.hand(CLOSED_LAST, hand),
            What::Exited(hand) => self.hand(EXITED, hand),
            What::Dropped(hand) => self.hand(DROPPED, hand),
            What::Held(hand) => self.hand(HELD, hand),
        }
    }

    fn hand(&mut self, code: u8, hand: Hand) {
        self.byte(code);
        self.varint(u64::from(hand.pid));
        self.varint(u64::from(hand.fd.cast_unsigned()));
    }
}

/// Reads entries. What was packed here is whole, so `None` is the end.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// Goes over the next entry, and gives the microseconds since the one before.
    fn skip(&mut self) -> Option<u64> {
        let delta = self.varint()?;
        if self.byte()? <= HELD {
            self.varint()?;
            self.varint()?;
        }
        Some(delta)
    }

    /// The next entry with its microsecond since boot, where the one before was at `last`.
    fn entry(&mut self, last: u64) -> Option<(u64, What)> {
        let micros = last.saturating_add(self.varint()?);
        let code = self.byte()?;
        let what = match code {
            ACCEPTED => What::Accepted(self.hand()?),
            CLOSED => What::Closed { hand: self.hand()?, is_last: false },
            CLOSED_LAST => What::Closed { hand: self.hand()?, is_last: true },
            EXITED => What::Exited(self.hand()?),
            DROPPED => What::Dropped(self.hand()?),
            HELD => What::Held(self.hand()?),
            NAMED => What::Named,
            LOST => What::Lost,
            _ => {
                let new = TcpState::from_kernel(code & 0x0f)?;
                match TcpState::from_kernel(code >> 4) {
                    Some(old) => What::Transition { old, new },
                    None => What::Seen(new),
                }
            }
        };
        Some((micros, what))
    }

    /// The microsecond of the next entry, and how many bytes there are from its code to the end.
    fn peek(&self, last: u64) -> Option<(u64, usize)> {
        let mut ahead = Cursor(self.0);
        let micros = last.saturating_add(ahead.varint()?);
        Some((micros, ahead.0.len()))
    }

    fn hand(&mut self) -> Option<Hand> {
        let pid = u32::try_from(self.varint()?).ok()?;
        let fd = u32::try_from(self.varint()?).ok()?.cast_signed();
        Some(Hand { pid, fd })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> impl Strategy<Value = TcpState> {
        prop::sample::select(TcpState::ALL.to_vec())
    }

    fn what() -> impl Strategy<Value = What> {
        let fd = prop_oneof![0..2000_i32, any::<i32>()];
        let pid = prop_oneof![1..4_194_304_u32, any::<u32>()];
        let hand = (pid, fd).prop_map(|(pid, fd)| Hand { pid, fd });
        prop_oneof![
            3 => (state(), state()).prop_map(|(old, new)| What::Transition { old, new }),
            3 => (hand.clone(), any::<bool>())
                .prop_map(|(hand, is_last)| What::Closed { hand, is_last }),
            1 => hand.clone().prop_map(What::Accepted),
            1 => hand.clone().prop_map(What::Exited),
            1 => hand.clone().prop_map(What::Dropped),
            1 => hand.prop_map(What::Held),
            1 => state().prop_map(What::Seen),
            1 => prop::sample::select(vec![What::Named, What::Lost]),
        ]
    }

    /// Pauses of any length: most are short, some are longer than 2^32 ns, some go back.
    fn pause() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => 0..2_000_000_i64,
            2 => 0..(1_i64 << 45),
            1 => Just(1 << 32),
            1 => -5_000_000..0_i64,
        ]
    }

    proptest! {
        #[test]
        fn it_has_the_last_of_everything(
            start in any::<u32>(),
            story in prop::collection::vec((pause(), what()), 0..100),
        ) {
            let (mut recorder, mut naive) = (Recorder::default(), Vec::new());
            let (mut now, mut last) = (u64::from(start), 0);
            for (pause, what) in story {
                now = now.saturating_add_signed(pause);
                recorder.push(MonoTime::from_nanos(now), what);
                last = last.max(now / 1000);
                naive.push((MonoTime::from_nanos(last * 1000), what));
                let kept = &naive[naive.len().saturating_sub(KEPT)..];
                prop_assert_eq!(recorder.iter().collect::<Vec<_>>(), kept);
                prop_assert!(recorder.heap_bytes() <= KEPT * 21);
            }
            let times: Vec<_> = recorder.iter().map(|(time, _)| time).collect();
            prop_assert!(times.is_sorted());
        }
    }

    #[test]
    fn the_end_of_time_is_a_time() {
        let mut recorder = Recorder::default();
        for time in [0, u64::MAX, u64::MAX, 5] {
            recorder.push(MonoTime::from_nanos(time), What::Named);
        }
        let last = u64::MAX / 1000 * 1000;
        let times: Vec<_> = recorder.iter().map(|(time, _)| time.nanos()).collect();
        assert_eq!(times, [0, last, last, last]);
    }

    #[test]
    fn a_connection_that_is_up_needs_no_memory_of_its_own() {
        use TcpState::{Close, CloseWait, Established, LastAck, SynSent};
        let mut recorder = Recorder::default();
        // A year after boot.
        let up = 31_536_000_000_000_000;
        let hand = Hand { pid: 4_194_303, fd: 12_000 };
        recorder.push(MonoTime::from_nanos(up), What::Transition { old: Close, new: SynSent });
        let established = What::Transition { old: SynSent, new: Established };
        recorder.push(MonoTime::from_nanos(up + 150_000_000), established);
        recorder.push(MonoTime::from_nanos(up + 150_900_000), What::Named);
        assert_eq!(recorder.heap_bytes(), 0);
        // A day later.
        let end = up + 86_400_000_000_000;
        recorder
            .push(MonoTime::from_nanos(end), What::Transition { old: Established, new: CloseWait });
        assert_eq!(recorder.heap_bytes(), 0);
        recorder
            .push(MonoTime::from_nanos(end + 10_000_000_000), What::Closed { hand, is_last: true });
        recorder.push(
            MonoTime::from_nanos(end + 10_000_050_000),
            What::Transition { old: CloseWait, new: LastAck },
        );
        assert_eq!(recorder.iter().count(), 6);
        assert!(recorder.heap_bytes() <= 40, "{}", recorder.heap_bytes());
        assert_eq!(size_of::<Recorder>(), 24);
    }
}
