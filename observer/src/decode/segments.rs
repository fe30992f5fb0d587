//! PURE. Puts a CONNECT together that its sender wrote in several pieces, each of which went out in a
//! segment of its own.
//!
//! The kernel reports the segments in the order in which they left, some of them twice, and a full
//! ring loses some. What fits behind what is there is taken, everything else is not: a name is whole
//! and right, or it is cut and marked so, or it is counted.

use std::{collections::HashMap, time::Duration};

use observer_ebpf::record::{JOINED_LEN, PACKET_LEN};

use super::connect::{self, Parsed};
use crate::model::{Cookie, KernelEvent, MonoTime};

/// Sockets whose next piece is waited for, and so 256 KiB at the most. Chosen: a program that writes
/// in pieces does so within a millisecond, so this is a storm of it. When it is full, the oldest is
/// given up.
const WAITING: usize = 256;

/// How long the next piece is waited for. Chosen: a thousand times what a program needs that writes in
/// pieces, and what is given up keeps what is known of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// One segment, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// When it left.
    pub time: MonoTime,
    /// Its socket.
    pub cookie: Cookie,
    /// TCP sequence number of its first byte.
    pub seq: u32,
    /// Its data, at most [`PACKET_LEN`] bytes: what is as long may have been longer.
    pub data: &'a [u8],
}

/// What segments come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A name.
    Named(KernelEvent),
    /// A CONNECT from which the client id cannot be read.
    NoClientId,
}

/// The beginnings that wait for more.
#[derive(Debug, Default)]
pub struct Segments {
    waiting: HashMap<Cookie, Beginning>,
}

#[derive(Debug)]
struct Beginning {
    began: MonoTime,
    seq: u32,
    data: Vec<u8>,
}

impl Segments {
    /// Takes in a segment. `None` if nothing can be said yet, or nothing is to be said.
    pub fn take(&mut self, segment: &Segment<'_>) -> Option<Outcome> {
        let Segment { time, cookie, seq, data } = *segment;
        let Some(beginning) = self.waiting.get_mut(&cookie) else {
            return self.begin(segment);
        };
        if beginning.append(seq, data) {
            let data = &beginning.data;
            let is_all = data.len() >= JOINED_LEN;
            match connect::parse(data) {
                Parsed::Whole(name) => {
                    self.waiting.remove(&cookie);
                    return Some(Outcome::Named(KernelEvent::Named { time, cookie, name }));
                }
                Parsed::Broken => {
                    let was_connect = connect::names_protocol(data);
                    self.waiting.remove(&cookie);
                    return was_connect.then_some(Outcome::NoClientId);
                }
                Parsed::Cut(_) if !is_all => {}
                Parsed::Cut(_) => return self.give_up(cookie, time),
            }
        }
        // Another connection of the same socket.
        else if seq.wrapping_sub(beginning.seq) as usize > JOINED_LEN
            && let Parsed::Whole(name) = connect::parse(data)
        {
            self.waiting.remove(&cookie);
            return Some(Outcome::Named(KernelEvent::Named { time, cookie, name }));
        }
        None
    }

    /// Gives up one that has waited for too long at `now`. Asked until it says `None`.
    pub fn expire(&mut self, now: MonoTime) -> Option<Outcome> {
        while let Some(cookie) = self.oldest(|it| now.since(it.began) >= PATIENCE) {
            let outcome = self.give_up(cookie, now);
            if outcome.is_some() {
                return outcome;
            }
        }
        None
    }

    fn begin(&mut self, segment: &Segment<'_>) -> Option<Outcome> {
        let Segment { time, cookie, seq, data } = *segment;
        let named = |name| Some(Outcome::Named(KernelEvent::Named { time, cookie, name }));
        match connect::parse(data) {
            Parsed::Whole(name) => named(name),
            Parsed::Broken if connect::names_protocol(data) => Some(Outcome::NoClientId),
            // Another protocol, or a later piece of a CONNECT whose first is not known.
            Parsed::Broken => None,
            // It went on behind what was reported, so no segment fits.
            Parsed::Cut(name) if data.len() >= PACKET_LEN => {
                name.map_or(Some(Outcome::NoClientId), named)
            }
            Parsed::Cut(_) => {
                let full = self.waiting.len() >= WAITING;
                let oldest = if full { self.oldest(|_| true) } else { None };
                let outcome = oldest.and_then(|oldest| self.give_up(oldest, time));
                self.waiting.insert(cookie, Beginning { began: time, seq, data: data.to_vec() });
                outcome
            }
        }
    }

    fn oldest(&self, is_it: impl Fn(&Beginning) -> bool) -> Option<Cookie> {
        let candidates = self.waiting.iter().filter(|(_, beginning)| is_it(beginning));
        let oldest = candidates.min_by_key(|(cookie, beginning)| (beginning.began, **cookie));
        oldest.map(|(cookie, _)| *cookie)
    }

    /// What there is of it is all that will be known.
    fn give_up(&mut self, cookie: Cookie, time: MonoTime) -> Option<Outcome> {
        let Beginning { data, .. } = self.waiting.remove(&cookie)?;
        match connect::parse(&data) {
            Parsed::Cut(Some(name)) | Parsed::Whole(name) => {
                Some(Outcome::Named(KernelEvent::Named { time, cookie, name }))
            }
            // Too short to be anything is no CONNECT that was missed.
            _ => connect::names_protocol(&data).then_some(Outcome::NoClientId),
        }
    }
}

impl Beginning {
    /// Takes what is new in `data`, if it follows what is there.
    fn append(&mut self, seq: u32, data: &[u8]) -> bool {
        let offset = seq.wrapping_sub(self.seq) as usize;
        let Some(known) = self.data.len().checked_sub(offset) else { return false };
        let Some(new) = data.get(known..).filter(|new| !new.is_empty()) else { return false };
        let room = JOINED_LEN.saturating_sub(self.data.len());
        self.data.extend_from_slice(&new[..new.len().min(room)]);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        decode::connect::tests::{connects, simple},
        model::ClientName,
    };

    const START: u32 = u32::MAX - 7;

    fn s(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(seconds * 1_000_000_000)
    }

    /// A segment of socket `cookie` whose data begin at `offset` of its connection.
    fn segment(cookie: u64, offset: usize, data: &[u8]) -> Segment<'_> {
        let seq = START.wrapping_add(offset as u32);
        Segment { time: s(1), cookie: Cookie(cookie), seq, data }
    }

    fn named(cookie: u64, name: ClientName, time: MonoTime) -> Option<Outcome> {
        Some(Outcome::Named(KernelEvent::Named { time, cookie: Cookie(cookie), name }))
    }

    /// What one socket comes to whose packet is cut at these places.
    fn told(segments: &mut Segments, packet: &[u8], cuts: &[usize]) -> Vec<Outcome> {
        let mut cuts = [&[0], cuts, &[packet.len()]].concat();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).filter(|ends| ends[0] < ends[1]);
        pieces
            .filter_map(|ends| {
                // The kernel hands out so many bytes of each segment.
                let end = ends[1].min(ends[0] + PACKET_LEN);
                segments.take(&segment(7, ends[0], &packet[ends[0]..end]))
            })
            .collect()
    }

    #[test]
    fn a_packet_in_two_pieces_waits_for_the_second() {
        let (packet, at) = simple("device").write();
        for cut in 1..at + 6 {
            let mut segments = Segments::default();
            assert_eq!(segments.take(&segment(7, 0, &packet[..cut])), None, "{cut}");
            // Sent once more: nothing new.
            assert_eq!(segments.take(&segment(7, 0, &packet[..cut])), None, "{cut}");
            let whole = segments.take(&segment(7, cut, &packet[cut..]));
            assert_eq!(whole, named(7, simple("device").name(), s(1)), "{cut}");
            assert!(segments.waiting.is_empty());
        }
    }

    #[test]
    fn a_piece_that_overlaps_what_is_there_adds_what_is_new() {
        let (packet, _) = simple("device").write();
        let mut segments = Segments::default();
        assert_eq!(segments.take(&segment(7, 0, &packet[..6])), None);
        let whole = segments.take(&segment(7, 3, &packet[3..]));
        assert_eq!(whole, named(7, simple("device").name(), s(1)));
        let mut segments = Segments::default();
        assert_eq!(segments.take(&segment(7, 0, &packet[..6])), None);
        assert_eq!(segments.take(&segment(7, 0, &packet)), named(7, simple("device").name(), s(1)));
    }

    #[test]
    fn a_lost_piece_leaves_the_name_cut_or_counted_and_never_wrong() {
        let (packet, at) = simple("device").write();
        let mut segments = Segments::default();
        // The beginning of the client id came, the middle did not.
        assert_eq!(segments.take(&segment(7, 0, &packet[..at + 2])), None);
        assert_eq!(segments.take(&segment(7, at + 4, &packet[at + 4..])), None);
        // Nothing of the client id came.
        assert_eq!(segments.take(&segment(8, 0, &packet[..9])), None);
        assert_eq!(segments.take(&segment(8, 11, &packet[11..])), None);
        // Nothing that would make it a CONNECT came.
        assert_eq!(segments.take(&segment(9, 0, &packet[..7])), None);
        assert_eq!(segments.expire(s(10)), None);
        let cut = ClientName { client_id: "de".into(), is_cut: true, ..simple("").name() };
        assert_eq!(segments.expire(s(11)), named(7, cut, s(11)));
        assert_eq!(segments.expire(s(11)), Some(Outcome::NoClientId));
        assert_eq!(segments.expire(s(11)), None);
        assert!(segments.waiting.is_empty());
    }

    #[test]
    fn what_is_no_connect_is_nothing_and_a_broken_one_is_counted() {
        let cases: [(&[&[u8]], Option<Outcome>); 6] = [
            (&[b"\x10\x18\0\x04MQXX\x04"], None),
            (&[b"\x10\x18\0\x04MQTT\x09\x02"], Some(Outcome::NoClientId)),
            (&[b"\x10", b"\x18\0\x05hello\x04"], None),
            (&[b"\x10", b"\x18\0\x04MQ", b"TT\x04\x02\0\x3c\0\xff"], Some(Outcome::NoClientId)),
            (&[b"\x10\x80\x80", b"\x80\x80"], None),
            (&[b"a later piece"], None),
        ];
        for (pieces, expected) in cases {
            let (mut segments, mut at, mut last) = (Segments::default(), 0, None);
            for piece in pieces {
                last = segments.take(&segment(7, at, piece));
                at += piece.len();
            }
            assert_eq!(last, expected, "{pieces:?}");
            assert!(segments.waiting.is_empty(), "{pieces:?}");
        }
    }

    #[test]
    fn what_fills_a_record_may_have_been_longer_and_is_not_waited_for() {
        let mut segments = Segments::default();
        let (packet, at) = simple(&"x".repeat(300)).write();
        let client_id = "x".repeat(PACKET_LEN - at);
        let cut = ClientName { client_id: client_id.into(), is_cut: true, ..simple("").name() };
        assert_eq!(segments.take(&segment(7, 0, &packet[..PACKET_LEN])), named(7, cut, s(1)));
        // One byte less was all of its segment.
        assert_eq!(segments.take(&segment(8, 0, &packet[..PACKET_LEN - 1])), None);
        assert_eq!(segments.waiting.len(), 1);
    }

    #[test]
    fn another_connection_of_the_socket_is_heard() {
        let (packet, _) = simple("device").write();
        let mut segments = Segments::default();
        assert_eq!(segments.take(&segment(7, 0, &packet[..9])), None);
        let whole = segments.take(&segment(7, 1 << 30, &packet));
        assert_eq!(whole, named(7, simple("device").name(), s(1)));
        assert!(segments.waiting.is_empty());
    }

    #[test]
    fn what_does_not_end_is_given_up_at_its_limits() {
        // A client id that goes on and on, in pieces.
        let (packet, at) = simple(&"x".repeat(5_000)).write();
        let mut segments = Segments::default();
        let outcomes = told(&mut segments, &packet, &[200, 400, 600, 800, 1_000, 1_200]);
        let client_id = "x".repeat(JOINED_LEN - at);
        let cut =
            ClientName { client_id: client_id.as_str().into(), is_cut: true, ..simple("").name() };
        assert_eq!(outcomes[..1], [named(7, cut, s(1)).expect("an outcome")]);
        assert!(segments.waiting.is_empty());
        // More sockets than there is room for: the oldest makes room, and is counted.
        let mut given_up = 0;
        for cookie in 0..2 * WAITING as u64 {
            let time = MonoTime::from_nanos(cookie);
            let outcome = segments.take(&Segment { time, ..segment(cookie, 0, &packet[..10]) });
            given_up += usize::from(outcome == Some(Outcome::NoClientId));
            assert!(segments.waiting.len() <= WAITING);
        }
        assert_eq!(given_up, WAITING);
        assert!(!segments.waiting.contains_key(&Cookie(0)), "the oldest goes first");
    }

    proptest! {
        #[test]
        fn any_split_of_any_connect_gives_the_name_of_the_whole(
            connect in connects(), cuts in vec(0usize..900, 0..12)
        ) {
            let (packet, at) = connect.write();
            let cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(packet.len())).collect();
            // As far as it is reported: a longer piece is cut.
            let mut ends = [&[0], &cuts[..], &[packet.len()]].concat();
            ends.sort_unstable();
            let is_reported = ends.windows(2).all(|pair| pair[1] - pair[0] < PACKET_LEN);
            let mut segments = Segments::default();
            let mut outcomes = told(&mut segments, &packet, &cuts);
            outcomes.extend(std::iter::from_fn(|| segments.expire(s(100))));
            if is_reported {
                let whole = named(7, connect.name(), s(1));
                prop_assert_eq!(outcomes.first(), whole.as_ref());
            } else if let Some(Outcome::Named(KernelEvent::Named { name, .. })) = outcomes.first() {
                prop_assert!(connect.client_id.starts_with(&*name.client_id));
                prop_assert_eq!(name.is_cut, name.client_id.len() < connect.client_id.len());
            } else {
                prop_assert!(ends.iter().any(|end| *end >= PACKET_LEN) || at >= PACKET_LEN);
            }
        }

        #[test]
        fn any_segments_give_something_or_nothing(
            pieces in vec((0u64..3, 0usize..1_200, vec(any::<u8>(), 0..256), any::<bool>()), 0..40)
        ) {
            let mut segments = Segments::default();
            for (cookie, offset, data, is_connect) in pieces {
                let begin = if is_connect { &b"\x10\xff\x01\0\x04MQTT\x05"[..] } else { b"" };
                let data = [begin, &data].concat();
                let data = &data[..data.len().min(PACKET_LEN)];
                let _ = segments.take(&segment(cookie, offset, data));
                for beginning in segments.waiting.values() {
                    prop_assert!(beginning.data.len() < JOINED_LEN);
                }
            }
            let given_up = std::iter::from_fn(|| segments.expire(s(100))).count();
            prop_assert!(given_up <= 3 && segments.waiting.is_empty());
        }
    }
}
