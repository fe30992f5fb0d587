//! PURE and total: bytes of the ring and of the snapshot into [`crate::model`].
//!
//! Any bytes give a value or an error, never a panic: the program in the kernel may be of another
//! version than this code, and the object is only as trustworthy as its build. The layout is that
//! of `observer_ebpf::{record, row}`, which have no padding, so fields follow each other.

mod connect;
mod segments;
mod stack;
mod walk;

pub use segments::{Outcome, Segment, Segments};
pub use stack::stack;
pub use walk::{Walked, port_row, walked};

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use observer_ebpf::{
    AF_INET, AF_INET6, COMM_LEN,
    config::watch,
    record::{
        BriefChange, FirstPacket, Header, ProcessChange, Refusal, SocketRef, StateChange, call,
        change, errno, kind,
    },
    row::{NO_FD, Row, close_on_exec},
    tcp_state,
};

use crate::{
    model::{
        Call, Comm, Cookie, Ends, Holder, KernelEvent, Lack, MonoTime, ProcessKey, ReadPosition,
        SnapshotRow, TcpState, Transition,
    },
    ticks::TickRate,
};

/// How long before the change itself a change of state is stamped, at the most: the kernel tells of
/// a change before it stores it (`inet_sk_state_store`, net/ipv4/af_inet.c). A row is dated back as
/// much, so that of the two the change counts as the newer word. Chosen: a hundred times what lies
/// between the two calls.
const STORE_DELAY: Duration = Duration::from_micros(20);

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another length than the ABI's.
    #[error("a record of kind {kind} has {len} bytes, not {expected}")]
    Length {
        /// Its kind, 0 for a row of a snapshot.
        kind: u32,
        /// Its length in bytes.
        len: usize,
        /// The ABI's length.
        expected: usize,
    },
    /// A kind that this version does not know.
    #[error("unknown kind of record: {0}")]
    Kind(u32),
    /// A number that is no TCP state.
    #[error("unknown TCP state: {0}")]
    State(u8),
    /// A number that is no IP family.
    #[error("unknown address family: {0}")]
    Family(u16),
    /// A number that is no call which is refused anything, or no error that says so.
    #[error("unknown refusal: call {call}, error {errno}")]
    Refusal {
        /// The system call.
        call: u32,
        /// The error.
        errno: u32,
    },
    /// The kernel gives every socket a cookie that is not 0.
    #[error("a socket without a cookie")]
    NoCookie,
}

/// One record of the ring, if it is no [`segment`].
pub fn event(bytes: &[u8]) -> Result<KernelEvent, DecodeError> {
    let mut fields = Fields(bytes);
    let (kind, tgid) = (fields.u32(), fields.u32());
    let time = MonoTime::from_nanos(fields.u64());
    let expect = |expected: usize| match bytes.len() == expected {
        true => Ok(()),
        false => Err(DecodeError::Length { kind, len: bytes.len(), expected }),
    };
    match kind {
        kind::STATE => {
            expect(size_of::<StateChange>())?;
            transition(&mut fields, tgid, time).map(KernelEvent::Transition)
        }
        kind::DESTROY | kind::ACCEPT | kind::CLOSE | kind::SYN_RETRANSMIT => {
            expect(size_of::<SocketRef>())?;
            socket_ref(&mut fields, kind, tgid, time)
        }
        kind::FORK | kind::EXEC | kind::EXIT => {
            expect(size_of::<ProcessChange>())?;
            Ok(process_change(&mut fields, kind, tgid, time))
        }
        kind::EXHAUSTED => {
            expect(size_of::<Refusal>())?;
            refusal(&mut fields, tgid, time)
        }
        unknown => Err(DecodeError::Kind(unknown)),
    }
}

/// One segment of a CONNECT; `None` for other records.
///
/// # Errors
///
/// Another length than the ABI's, or a socket without a cookie.
pub fn segment(bytes: &[u8]) -> Option<Result<Segment<'_>, DecodeError>> {
    let mut fields = Fields(bytes);
    let (kind, _tgid, time) = (fields.u32(), fields.u32(), MonoTime::from_nanos(fields.u64()));
    if kind != kind::NAME {
        return None;
    }
    let expected = size_of::<FirstPacket>();
    if bytes.len() != expected {
        return Some(Err(DecodeError::Length { kind, len: bytes.len(), expected }));
    }
    let (number, len, seq) = (fields.u64(), fields.u32(), fields.u32());
    let data = &fields.0[..fields.0.len().min(len as usize)];
    Some(cookie(number).map(|cookie| Segment { time, cookie, seq, data }))
}

/// The close(2) that caused a change of state. It comes before the change itself.
pub fn cause(bytes: &[u8]) -> Option<KernelEvent> {
    let (header, cookie, flags) = change_of(bytes)?;
    let mut fields = Fields(bytes.get(24..)?);
    let start_ns = fields.u64();
    let (_netns, fd) = (fields.u32(), fields.i32());
    (flags & change::BY_CLOSE != 0 && fd >= 0).then_some(KernelEvent::Closed {
        time: MonoTime::from_nanos(header.time_ns),
        cookie: Some(cookie),
        process: ProcessKey { pid: header.tgid, start_ns },
        fd,
        references: 1,
    })
}

/// The end of a socket that its last change of state implies: the kernel reports no other.
pub fn end(bytes: &[u8]) -> Option<KernelEvent> {
    let (header, cookie, flags) = change_of(bytes)?;
    (flags & change::LAST != 0)
        .then_some(KernelEvent::Destroyed { time: MonoTime::from_nanos(header.time_ns), cookie })
}

/// A brief change of state as the full record that it stands for; `None` for other records. It is
/// asked first, once for each record: the functions beside it know the full form only.
pub fn widen(bytes: &[u8]) -> Option<[u8; size_of::<StateChange>()]> {
    let mut fields = Fields(bytes);
    if bytes.len() != size_of::<BriefChange>() || fields.u32() != kind::BRIEF {
        return None;
    }
    let (tgid, time, cookie, start) = (fields.u32(), fields.u64(), fields.u64(), fields.u64());
    let (netns, fd, copied_seq, unread) = (fields.u32(), fields.u32(), fields.u32(), fields.u32());
    let (local, remote) = (fields.array::<4>(), fields.array::<4>());
    let (local_port, remote_port) = (fields.u16(), fields.u16());
    let (old, new, flags) = (fields.u8(), fields.u8(), fields.u8());
    let mut full = [0; size_of::<StateChange>()];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        full[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    put(&kind::STATE.to_ne_bytes());
    put(&tgid.to_ne_bytes());
    put(&time.to_ne_bytes());
    put(&cookie.to_ne_bytes());
    put(&start.to_ne_bytes());
    put(&netns.to_ne_bytes());
    put(&fd.to_ne_bytes());
    put(&u32::from(flags).to_ne_bytes());
    put(&[0; 4]);
    put(&[old, new]);
    put(&AF_INET.to_ne_bytes());
    put(&local_port.to_ne_bytes());
    put(&remote_port.to_ne_bytes());
    put(&local);
    put(&[0; 12]);
    put(&remote);
    put(&[0; 12]);
    put(&copied_seq.to_ne_bytes());
    put(&unread.to_ne_bytes());
    Some(full)
}

/// Header, socket and flags of a change of state.
fn change_of(bytes: &[u8]) -> Option<(Header, Cookie, u32)> {
    let mut fields = Fields(bytes);
    let header = Header { kind: fields.u32(), tgid: fields.u32(), time_ns: fields.u64() };
    let (number, _start_ns) = (fields.u64(), fields.u64());
    let (_netns, _fd, flags) = (fields.u32(), fields.u32(), fields.u32());
    let is_change = header.kind == kind::STATE && bytes.len() == size_of::<StateChange>();
    is_change.then_some((header, cookie(number).ok()?, flags))
}

/// Who did it, where a record says so: connect, listen and refusals name the process. Those that
/// accept have a listener, so that the snapshot names them.
pub fn actor(bytes: &[u8]) -> Option<(ProcessKey, Comm)> {
    // The name comes last.
    let comm = Comm::from_bytes(bytes.last_chunk::<COMM_LEN>()?);
    let mut fields = Fields(bytes);
    let (kind, pid) = (fields.u32(), fields.u32());
    if kind == kind::EXHAUSTED && bytes.len() == size_of::<Refusal>() {
        let _time = fields.u64();
        return Some((ProcessKey { pid, start_ns: fields.u64() }, comm));
    }
    let (header, _cookie, flags) = change_of(bytes)?;
    let start_ns = Fields(bytes.get(24..)?).u64();
    (flags & change::BY_OWNER != 0).then_some((ProcessKey { pid: header.tgid, start_ns }, comm))
}

/// One row of the snapshot. Ticks of the kernel become moments by `rate`.
pub fn row(bytes: &[u8], rate: TickRate) -> Result<SnapshotRow, DecodeError> {
    let expected = size_of::<Row>();
    if bytes.len() != expected {
        return Err(DecodeError::Length { kind: 0, len: bytes.len(), expected });
    }
    let mut fields = Fields(bytes);
    let cookie = cookie(fields.u64())?;
    let time = MonoTime::from_nanos(fields.u64()).before(STORE_DELAY);
    let _jiffies = fields.u64();
    let start_ns = fields.u64();
    let (tgid, fd, netns) = (fields.u32(), fields.i32(), fields.u32());
    let state = state(fields.u8())?;
    let close_on_exec = match fields.u8() {
        close_on_exec::UNSET => Some(false),
        close_on_exec::SET => Some(true),
        _ => None,
    };
    let family = fields.u16();
    let (local_port, remote_port) = (fields.u16(), fields.u16());
    let read = ReadPosition { copied_seq: fields.u32(), unread: fields.u32() };
    let (unacked, write_seq) = (fields.u32(), fields.u32());
    let (sent_ago, received_ago) = (fields.u32(), fields.u32());
    let _padding = fields.u32();
    let ends = ends(&mut fields, family, local_port, remote_port)?;
    let comm = Comm::from_bytes(&fields.array::<COMM_LEN>());
    Ok(SnapshotRow {
        time,
        cookie,
        state,
        ends,
        netns,
        holder: (fd != NO_FD).then_some(Holder {
            process: ProcessKey { pid: tgid, start_ns },
            comm,
            fd,
            close_on_exec,
        }),
        read,
        unacked,
        write_seq,
        // A stamp says in which tick it was; the earliest moment of that tick is certain.
        last_sent: time.before(rate.duration(sent_ago.saturating_add(1))),
        last_received: time.before(rate.duration(received_ago.saturating_add(1))),
    })
}

/// The clock reading of a row, as (nanoseconds since boot, ticks): what [`TickRate`] needs.
pub fn row_clock(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut fields = Fields(bytes.get(..size_of::<Row>())?);
    let _cookie = fields.u64();
    Some((fields.u64(), fields.u64()))
}

fn transition(
    fields: &mut Fields<'_>,
    tgid: u32,
    time: MonoTime,
) -> Result<Transition, DecodeError> {
    let cookie = cookie(fields.u64())?;
    let start_ns = fields.u64();
    let (netns, fd) = (fields.u32(), fields.i32());
    let (flags, _reserved) = (fields.u32(), fields.u32());
    let (old, new) = (state(fields.u8())?, state(fields.u8())?);
    let family = fields.u16();
    let (local_port, remote_port) = (fields.u16(), fields.u16());
    let ends = ends(fields, family, local_port, remote_port)?;
    let read = ReadPosition { copied_seq: fields.u32(), unread: fields.u32() };
    let is_by_owner = flags & change::BY_OWNER != 0;
    Ok(Transition {
        time,
        cookie,
        old,
        new,
        ends,
        netns,
        owner: is_by_owner.then_some(ProcessKey { pid: tgid, start_ns }),
        fd: (is_by_owner && fd >= 0).then_some(fd),
        context_pid: tgid,
        read: matches!(new as u8, tcp_state::ESTABLISHED | tcp_state::CLOSE_WAIT).then_some(read),
    })
}

fn socket_ref(
    fields: &mut Fields<'_>,
    kind: u32,
    tgid: u32,
    time: MonoTime,
) -> Result<KernelEvent, DecodeError> {
    let number = fields.u64();
    let process = ProcessKey { pid: tgid, start_ns: fields.u64() };
    let (fd, references) = (fields.i32(), fields.u32());
    let known = (number != 0).then_some(Cookie(number));
    Ok(match kind {
        kind::DESTROY => KernelEvent::Destroyed { time, cookie: cookie(number)? },
        kind::SYN_RETRANSMIT => KernelEvent::SynRetransmitted { time, cookie: cookie(number)? },
        kind::ACCEPT => KernelEvent::Accepted { time, cookie: known, process, fd },
        _ => KernelEvent::Closed { time, cookie: known, process, fd, references },
    })
}

fn process_change(fields: &mut Fields<'_>, kind: u32, tgid: u32, time: MonoTime) -> KernelEvent {
    let process = ProcessKey { pid: tgid, start_ns: fields.u64() };
    let (parent, flags) = (fields.u32(), fields.u32());
    let comm = Comm::from_bytes(&fields.array::<COMM_LEN>());
    let watched = flags & watch::REASONS != 0;
    match kind {
        kind::FORK => KernelEvent::Forked { time, parent, child: process, comm, watched },
        kind::EXEC => KernelEvent::Executed { time, process, comm, watched },
        _ => KernelEvent::Exited { time, process },
    }
}

fn refusal(fields: &mut Fields<'_>, tgid: u32, time: MonoTime) -> Result<KernelEvent, DecodeError> {
    let process = ProcessKey { pid: tgid, start_ns: fields.u64() };
    let (number, error) = (fields.u32(), fields.u32());
    let unknown = DecodeError::Refusal { call: number, errno: error };
    let call = match number {
        call::ACCEPT => Call::Accept,
        call::CONNECT => Call::Connect,
        call::SOCKET => Call::Socket,
        _ => return Err(unknown),
    };
    let lacks = match error {
        errno::EMFILE | errno::ENFILE => Lack::Descriptors,
        errno::EADDRNOTAVAIL => Lack::Ports,
        _ => return Err(unknown),
    };
    Ok(KernelEvent::Exhausted { time, process, call, lacks })
}

fn ends(
    fields: &mut Fields<'_>,
    family: u16,
    local_port: u16,
    remote_port: u16,
) -> Result<Ends, DecodeError> {
    let (local, remote) = (fields.array::<16>(), fields.array::<16>());
    let address = |bytes: [u8; 16]| match family {
        AF_INET => Ok(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
        AF_INET6 => Ok(IpAddr::V6(Ipv6Addr::from(bytes))),
        unknown => Err(DecodeError::Family(unknown)),
    };
    Ok(Ends::new((address(local)?, local_port), (address(remote)?, remote_port)))
}

fn cookie(number: u64) -> Result<Cookie, DecodeError> {
    match number {
        0 => Err(DecodeError::NoCookie),
        number => Ok(Cookie(number)),
    }
}

fn state(number: u8) -> Result<TcpState, DecodeError> {
    TcpState::from_kernel(number).ok_or(DecodeError::State(number))
}

/// Takes integers from the front; past the end they are 0, and the length is checked elsewhere.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.0 = rest;
                *head
            }
            None => {
                self.0 = &[];
                [0; N]
            }
        }
    }

    fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_ne_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.array())
    }

    fn i32(&mut self) -> i32 {
        i32::from_ne_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.array())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use observer_ebpf::record::PACKET_LEN;

    const RATE: TickRate = TickRate::HZ_250;

    /// A record as the kernel writes it.
    fn state_bytes(change: &StateChange) -> Vec<u8> {
        let StateChange { header, cookie, start_ns, netns, fd, old, new, family, .. } = *change;
        [
            header.kind.to_ne_bytes().as_slice(),
            &header.tgid.to_ne_bytes(),
            &header.time_ns.to_ne_bytes(),
            &cookie.to_ne_bytes(),
            &start_ns.to_ne_bytes(),
            &netns.to_ne_bytes(),
            &fd.to_ne_bytes(),
            &change.flags.to_ne_bytes(),
            &[0; 4],
            &[old, new],
            &family.to_ne_bytes(),
            &change.local_port.to_ne_bytes(),
            &change.remote_port.to_ne_bytes(),
            &change.local,
            &change.remote,
            &change.copied_seq.to_ne_bytes(),
            &change.unread.to_ne_bytes(),
            &change.comm,
        ]
        .concat()
    }

    fn sample() -> StateChange {
        let mut local = [0; 16];
        local[..4].copy_from_slice(&[10, 0, 0, 7]);
        StateChange {
            header: Header { kind: kind::STATE, tgid: 4711, time_ns: 99 },
            cookie: 0x1234,
            start_ns: 5,
            netns: 7,
            fd: 23,
            flags: change::BY_OWNER,
            _reserved: 0,
            old: 7,
            new: 2,
            family: AF_INET,
            local_port: 0,
            remote_port: 1883,
            local,
            remote: local,
            copied_seq: 1,
            unread: 2,
            comm: *b"node\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    #[test]
    fn a_change_of_state_keeps_every_field() {
        let decoded = event(&state_bytes(&sample())).expect("valid");
        let KernelEvent::Transition(event) = decoded else { panic!("{decoded:?}") };
        assert_eq!(event.time, MonoTime::from_nanos(99));
        assert_eq!(event.cookie, Cookie(0x1234));
        assert_eq!((event.old, event.new), (TcpState::Close, TcpState::SynSent));
        assert_eq!(event.ends.remote, "10.0.0.7:1883".parse().expect("an address"));
        assert_eq!(event.owner, Some(ProcessKey { pid: 4711, start_ns: 5 }));
        assert_eq!((event.fd, event.netns, event.read), (Some(23), 7, None));
        let (process, comm) = actor(&state_bytes(&sample())).expect("connect names its process");
        assert_eq!((process.pid, comm.as_str()), (4711, "node"));
        let by_softirq = StateChange { flags: 0, ..sample() };
        assert_eq!(actor(&state_bytes(&by_softirq)), None);
        assert_eq!(end(&state_bytes(&sample())), None);
        let last = StateChange { flags: change::LAST, ..sample() };
        let gone =
            KernelEvent::Destroyed { time: MonoTime::from_nanos(99), cookie: Cookie(0x1234) };
        assert_eq!(end(&state_bytes(&last)), Some(gone));
        assert_eq!(cause(&state_bytes(&sample())), None);
        let close = StateChange { flags: change::BY_CLOSE, ..sample() };
        let closed = KernelEvent::Closed {
            time: MonoTime::from_nanos(99),
            cookie: Some(Cookie(0x1234)),
            process: ProcessKey { pid: 4711, start_ns: 5 },
            fd: 23,
            references: 1,
        };
        assert_eq!(cause(&state_bytes(&close)), Some(closed));
    }

    #[test]
    fn a_refusal_names_who_was_refused_what() {
        let bytes = |call: u32, errno: u32| {
            [
                kind::EXHAUSTED.to_ne_bytes().as_slice(),
                &4711u32.to_ne_bytes(),
                &99u64.to_ne_bytes(),
                &5u64.to_ne_bytes(),
                &call.to_ne_bytes(),
                &errno.to_ne_bytes(),
                b"node\0\0\0\0\0\0\0\0\0\0\0\0",
            ]
            .concat()
        };
        let process = ProcessKey { pid: 4711, start_ns: 5 };
        let cases = [
            (call::ACCEPT, errno::EMFILE, Call::Accept, Lack::Descriptors),
            (call::ACCEPT, errno::ENFILE, Call::Accept, Lack::Descriptors),
            (call::SOCKET, errno::EMFILE, Call::Socket, Lack::Descriptors),
            (call::CONNECT, errno::EADDRNOTAVAIL, Call::Connect, Lack::Ports),
        ];
        for (number, error, call, lacks) in cases {
            let bytes = bytes(number, error);
            let expected =
                KernelEvent::Exhausted { time: MonoTime::from_nanos(99), process, call, lacks };
            assert_eq!(event(&bytes), Ok(expected));
            assert_eq!(actor(&bytes), Some((process, Comm::from_bytes(b"node"))));
        }
        for (call, errno) in [(0, errno::EMFILE), (4, errno::EMFILE), (call::ACCEPT, 1)] {
            let unknown = DecodeError::Refusal { call, errno };
            assert_eq!(event(&bytes(call, errno)), Err(unknown));
        }
    }

    #[test]
    fn a_segment_keeps_every_field_and_only_what_is_of_the_packet_is_read() {
        let packet = b"\x10\x12\0\x04MQTT\x04\x02\0\x3c\0\x06device";
        let bytes = |cookie: u64, len: u32| {
            let mut bytes = [
                kind::NAME.to_ne_bytes().as_slice(),
                &[0; 4],
                &99u64.to_ne_bytes(),
                &cookie.to_ne_bytes(),
                &len.to_ne_bytes(),
                &77u32.to_ne_bytes(),
                packet,
            ]
            .concat();
            bytes.resize(size_of::<FirstPacket>(), 0x10);
            bytes
        };
        for len in [1, 14, packet.len()] {
            let bytes = bytes(7, len as u32);
            let data = &packet[..len];
            let expected =
                Segment { time: MonoTime::from_nanos(99), cookie: Cookie(7), seq: 77, data };
            assert_eq!(segment(&bytes), Some(Ok(expected)));
            assert_eq!(event(&bytes), Err(DecodeError::Kind(kind::NAME)));
        }
        assert_eq!(segment(&bytes(0, 20)), Some(Err(DecodeError::NoCookie)));
        // A length that no kernel of ours writes.
        let bytes = bytes(7, u32::MAX);
        let long = segment(&bytes).expect("a segment").expect("valid");
        assert_eq!(long.data.len(), PACKET_LEN);
        let len = bytes.len() - 1;
        let expected = DecodeError::Length { kind: kind::NAME, len, expected: len + 1 };
        assert_eq!(segment(&bytes[..len]), Some(Err(expected)));
        assert_eq!(segment(&state_bytes(&sample())), None);
    }

    #[test]
    fn a_row_says_whether_its_descriptor_is_closed_on_exec() {
        let read = |fd: i32, bit: u8| {
            let mut bytes = [7u64, 99, 0, 5].map(u64::to_ne_bytes).concat();
            bytes.extend(4711u32.to_ne_bytes());
            bytes.extend(fd.to_ne_bytes());
            bytes.extend(1u32.to_ne_bytes());
            bytes.extend([tcp_state::ESTABLISHED, bit]);
            bytes.extend(AF_INET.to_ne_bytes());
            bytes.resize(size_of::<Row>(), 0);
            row(&bytes, RATE).expect("valid").holder.map(|holder| holder.close_on_exec)
        };
        let cases = [
            (close_on_exec::UNKNOWN, None),
            (close_on_exec::UNSET, Some(false)),
            (close_on_exec::SET, Some(true)),
            (77, None),
        ];
        for (bit, expected) in cases {
            assert_eq!(read(23, bit), Some(expected), "{bit}");
            assert_eq!(read(NO_FD, bit), None, "{bit}");
        }
    }

    #[test]
    fn a_brief_change_says_the_same_as_a_full_one() {
        let full = StateChange {
            flags: change::BY_CLOSE | change::LAST,
            comm: [0; COMM_LEN],
            old: 1,
            new: 8,
            ..sample()
        };
        let brief = [
            kind::BRIEF.to_ne_bytes().as_slice(),
            &full.header.tgid.to_ne_bytes(),
            &full.header.time_ns.to_ne_bytes(),
            &full.cookie.to_ne_bytes(),
            &full.start_ns.to_ne_bytes(),
            &full.netns.to_ne_bytes(),
            &full.fd.to_ne_bytes(),
            &full.copied_seq.to_ne_bytes(),
            &full.unread.to_ne_bytes(),
            &full.local[..4],
            &full.remote[..4],
            &full.local_port.to_ne_bytes(),
            &full.remote_port.to_ne_bytes(),
            &[full.old, full.new, full.flags as u8, 0],
        ]
        .concat();
        assert_eq!(brief.len(), size_of::<BriefChange>());
        let full = state_bytes(&full);
        let brief = widen(&brief).expect("a brief record");
        assert_eq!(event(&brief), event(&full));
        assert_eq!((cause(&brief), end(&brief)), (cause(&full), end(&full)));
        assert_eq!(actor(&brief), None);
    }

    #[test]
    fn v4_mapped_addresses_are_written_as_ipv4() {
        let mapped = Ipv4Addr::new(127, 0, 0, 1).to_ipv6_mapped().octets();
        let change = StateChange { family: AF_INET6, local: mapped, ..sample() };
        let decoded = event(&state_bytes(&change)).expect("valid");
        let KernelEvent::Transition(event) = decoded else { panic!("{decoded:?}") };
        assert_eq!(event.ends.local.to_string(), "127.0.0.1:0");
    }

    #[test]
    fn what_is_no_record_is_named() {
        let cases = [
            (StateChange { cookie: 0, ..sample() }, DecodeError::NoCookie),
            (StateChange { old: 77, ..sample() }, DecodeError::State(77)),
            (StateChange { family: 1, ..sample() }, DecodeError::Family(1)),
        ];
        for (change, expected) in cases {
            assert_eq!(event(&state_bytes(&change)), Err(expected));
        }
        let short = &state_bytes(&sample())[..40];
        assert_eq!(
            event(short),
            Err(DecodeError::Length { kind: 1, len: 40, expected: size_of::<StateChange>() })
        );
        assert_eq!(event(&[]), Err(DecodeError::Kind(0)));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u32..13
        ) {
            let _ = event(&bytes);
            let _ = segment(&bytes);
            let _ = widen(&bytes).map(|full| event(&full));
            let _ = row(&bytes, RATE);
            let _ = row_clock(&bytes);
            let _ = actor(&bytes);
            let _ = (cause(&bytes), end(&bytes));
            let mut bytes = bytes;
            bytes.resize(size_of::<FirstPacket>(), 0);
            let _ = row(&bytes[..128], RATE);
            bytes[..4].copy_from_slice(&kind.to_ne_bytes());
            for len in [40, 48, 64, 112, 288] {
                let _ = event(&bytes[..len]);
                let _ = segment(&bytes[..len]);
                let _ = widen(&bytes[..len]).map(|full| event(&full));
                let _ = actor(&bytes[..len]);
                let _ = (cause(&bytes[..len]), end(&bytes[..len]));
            }
        }
    }
}
