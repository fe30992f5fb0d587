//! `cgroup_skb/egress` at the root of cgroup v2: MQTT CONNECT packets of watched sockets. Layer C.
//!
//! Every packet that leaves a socket of the host comes by here, so it looks at none unless a watched
//! process has begun a connection of late, and those that are no CONNECT have to be through at once.
//! The hook sees packets before they are cut to the size of the wire; one is in several only if its
//! program wrote it so. Direct access to packets with CAP_BPF 5.8, `bpf_ringbuf_reserve` 5.8.

use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    helpers::generated::{
        bpf_get_socket_cookie, bpf_sk_fullsock, bpf_skb_load_bytes, bpf_tcp_sock,
    },
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use observer_ebpf::{
    config::naming,
    connect::{self, CONNECT},
    counter::Counter,
    record::{FirstPacket, JOINED_LEN, PACKET_LEN, kind},
};

use crate::{
    atomic,
    emit::{count, header, submit},
    maps::{NAMING, RING, UNFINISHED, Unfinished},
    watch,
};

/// What the program says of every packet: it may go.
const PASS: i32 = 1;

/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// Least length of the headers of IPv4, IPv6 and TCP.
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP_HEADER: usize = 20;

/// Where a TCP header has its sequence number and its flags, and which of these is SYN (RFC 9293
/// section 3.1).
const SEQUENCE: u32 = 4;
const FLAGS: u32 = 13;
const SYN: u8 = 2;

/// A CONNECT comes among so many first segments with data. It is the first packet of a client
/// (section 3.1), but a proxy may want some words before. Later ones are somebody's payload.
const FIRST_SEGMENTS: u32 = 16;

/// Segments that are reported of a CONNECT after its first. Chosen: a program that writes each field
/// by itself makes eight or nine of it.
const MORE_SEGMENTS: u32 = 8;

/// A packet leaves.
#[cgroup_skb(egress)]
pub fn names(ctx: SkBuffContext) -> i32 {
    if is_expecting() {
        try_packet(&ctx);
    }
    PASS
}

/// A watched process begins a connection: its packets are to be looked at.
#[inline(always)]
pub(super) fn expect() {
    if let Some(begun) = NAMING.get_ptr_mut(naming::BEGUN) {
        // SAFETY: An aligned element of the map.
        unsafe { atomic::add(begun, 1) };
    }
}

/// Whether a watched process has begun a connection that may not have said who it is.
#[inline(always)]
fn is_expecting() -> bool {
    let (begun, settled) = (NAMING.get(naming::BEGUN), NAMING.get(naming::SETTLED));
    matches!((begun, settled), (Some(begun), Some(settled)) if begun != settled)
}

#[inline(always)]
fn try_packet(ctx: &SkBuffContext) -> Option<()> {
    let skb = ctx.skb.skb.cast_const();
    let segment = segment(skb)?;
    if NAMING.get(naming::SPLIT).is_some_and(|split| *split != 0) && is_early(skb) {
        // SAFETY: The context is a packet.
        let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
        if let Some(unfinished) = UNFINISHED.get_ptr_mut(&cookie) {
            // SAFETY: An element of the map; the packets of a socket leave one after the other.
            if go_on(skb, cookie, &segment, unsafe { &mut *unfinished })? {
                return None;
            }
        }
    }
    // Data are in pages of their own, out of reach of direct access.
    if load::<u8>(skb, segment.payload)? != CONNECT {
        return None;
    }
    let known = if segment.len > 8 { 8 } else { segment.len - 1 };
    let bytes = match known {
        0 => 0,
        8 => load(skb, segment.payload + 1)?,
        _ => load_some(skb, segment.payload + 1, known)?,
    };
    if !connect::may_begin(bytes, known) || !is_early(skb) {
        return None;
    }
    // SAFETY: As above.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if cookie == 0 || !watch::is_reported(cookie) {
        return None;
    }
    let seq = sequence(skb, &segment)?;
    let wanted = match connect::length(bytes, known) {
        Some(length) if (length as usize) < JOINED_LEN => length,
        _ => JOINED_LEN as u32,
    };
    // What is longer than a record is told no more of.
    if segment.len < wanted && (segment.len as usize) < PACKET_LEN {
        let unfinished =
            Unfinished { start: seq, wanted, reached: segment.len, left: MORE_SEGMENTS };
        let is_kept = UNFINISHED.insert(&cookie, &unfinished, 0).is_ok();
        if let Some(split) = NAMING.get_ptr_mut(naming::SPLIT).filter(|_| is_kept) {
            // SAFETY: An element of the map, only ever set.
            unsafe { *split = 1 };
        }
    }
    report(skb, cookie, &segment, seq);
    None
}

/// The next segment of a socket that has sent the beginning of a CONNECT. False if it is none of
/// that CONNECT: no more of it is waited for.
#[inline(always)]
fn go_on(
    skb: *const __sk_buff,
    cookie: u64,
    segment: &Segment,
    unfinished: &mut Unfinished,
) -> Option<bool> {
    let seq = sequence(skb, segment)?;
    let offset = seq.wrapping_sub(unfinished.start);
    if unfinished.left == 0 || offset >= unfinished.wanted {
        let _ = UNFINISHED.remove(&cookie);
        return Some(false);
    }
    // Otherwise it was sent once more, and told already.
    if offset + segment.len > unfinished.reached {
        unfinished.left -= 1;
        unfinished.reached = offset + segment.len;
        report(skb, cookie, segment, seq);
    }
    Some(true)
}

/// A segment with data.
struct Segment {
    /// Where its TCP header begins.
    tcp: u32,
    /// Where its data begin.
    payload: u32,
    /// Length of the data; not 0.
    len: u32,
}

/// The TCP segment that a packet is, if it has data.
#[inline(always)]
fn segment(skb: *const __sk_buff) -> Option<Segment> {
    // SAFETY: The verifier knows both as the bounds of the packet's headers.
    let (start, end) = unsafe {
        (
            (&raw const (*skb).data).read_volatile() as usize,
            (&raw const (*skb).data_end).read_volatile() as usize,
        )
    };
    if start + IPV4 + TCP_HEADER > end {
        return None;
    }
    let first = at(start);
    let ip = if first >> 4 == 4 {
        if at(start + 9) != TCP {
            return None;
        }
        usize::from(first & 0xf) * 4
    } else {
        // TCP of the kernel puts nothing between the two headers unless a program asks for it.
        if first >> 4 != 6 || at(start + 6) != TCP {
            return None;
        }
        IPV6
    };
    let tcp = start + ip;
    if tcp + TCP_HEADER > end {
        return None;
    }
    let payload = (ip + usize::from(at(tcp + 12) >> 4) * 4) as u32;
    // SAFETY: The context's own fields.
    let len = unsafe { (&raw const (*skb).len).read_volatile() }.checked_sub(payload)?;
    (len > 0).then_some(Segment { tcp: ip as u32, payload, len })
}

/// Sequence number of the first byte of data. A SYN, which may have data (RFC 7413), takes one.
#[inline(always)]
fn sequence(skb: *const __sk_buff, segment: &Segment) -> Option<u32> {
    let seq: u32 = load(skb, segment.tcp + SEQUENCE)?;
    let flags: u8 = load(skb, segment.tcp + FLAGS)?;
    Some(u32::from_be(seq).wrapping_add(u32::from(flags & SYN != 0)))
}

/// Whether the socket has sent hardly anything before.
#[inline(always)]
fn is_early(skb: *const __sk_buff) -> bool {
    // SAFETY: The verifier knows the packet's socket, which may be none, and checks each step.
    unsafe {
        let sk = (&raw const (*skb).__bindgen_anon_2.sk).read_volatile();
        if sk.is_null() {
            return false;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return false;
        }
        let tcp = bpf_tcp_sock(sk);
        !tcp.is_null() && (&raw const (*tcp).data_segs_out).read_volatile() <= FIRST_SEGMENTS
    }
}

#[inline(always)]
fn report(skb: *const __sk_buff, cookie: u64, segment: &Segment, seq: u32) {
    let Some(mut slot) = RING.reserve::<FirstPacket>(0) else {
        // The socket stays without a name.
        count(Counter::ConnectNotRead);
        return;
    };
    let header = header(kind::NAME, 0);
    let len = if segment.len > PACKET_LEN as u32 { PACKET_LEN as u32 } else { segment.len };
    // Read once more, so that the compiler cannot drop the bounds that old verifiers want to see.
    // SAFETY: A local variable.
    let len = unsafe { (&raw const len).read_volatile() };
    let len = (len.wrapping_sub(1) & (PACKET_LEN as u32 - 1)) + 1;
    let record = slot.as_mut_ptr();
    // SAFETY: The record's place in the ring, all of which is written but for the end of `data`;
    // userspace does not look there. The helper fails rather than read beyond the packet.
    let failed = unsafe {
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).cookie).write(cookie);
        (&raw mut (*record).len).write(len);
        (&raw mut (*record).seq).write(seq);
        let data = (&raw mut (*record).data).cast();
        bpf_skb_load_bytes(skb.cast(), segment.payload, data, len) != 0
    };
    if failed {
        slot.discard(0);
        count(Counter::ConnectNotRead);
        return;
    }
    submit(slot, header.time_ns);
}

/// A byte of the headers.
#[inline(always)]
fn at(address: usize) -> u8 {
    // SAFETY: The verifier checks it against the bounds of the packet.
    unsafe { (address as *const u8).read_volatile() }
}

/// Some bytes of the packet, wherever they are.
#[inline(always)]
fn load<T: Copy + Default>(skb: *const __sk_buff, offset: u32) -> Option<T> {
    let mut value = T::default();
    // SAFETY: The helper fills all of the value or fails.
    let failed = unsafe {
        bpf_skb_load_bytes(skb.cast(), offset, (&raw mut value).cast(), size_of::<T>() as u32)
    };
    (failed == 0).then_some(value)
}

/// The first `len` bytes, 1 to 7, of a word in the packet; the others are 0.
#[inline(always)]
fn load_some(skb: *const __sk_buff, offset: u32, len: u32) -> Option<u64> {
    let mut value = 0u64;
    // Read once more, so that the compiler cannot drop the bounds that old verifiers want to see.
    // SAFETY: A local variable.
    let len = unsafe { (&raw const len).read_volatile() };
    let len = (len.wrapping_sub(1) & 7) + 1;
    // SAFETY: The helper fills as many bytes of the value as it is told or fails.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), offset, (&raw mut value).cast(), len) };
    (failed == 0).then_some(value)
}
