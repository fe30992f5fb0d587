//! `cgroup_skb/egress` at the root of cgroup v2: MQTT CONNECT packets of watched sockets. Layer C.
//!
//! Every packet that leaves a socket of the host comes by here, so those that are no CONNECT have
//! to be through at once. The hook sees packets before they are cut to the size of the wire.
//! Direct access to packets with CAP_BPF 5.8, `bpf_ringbuf_reserve` 5.8.

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
    counter::Counter,
    record::{FirstPacket, PACKET_LEN, kind},
};

use crate::{
    emit::{count, header, submit},
    maps::RING,
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

/// First byte of a CONNECT (MQTT 3.1.1 and 5, section 3.1.1).
const CONNECT: u8 = 0x10;

/// Length and first two letters of the protocol's name, `MQTT` and `MQIsdp` (MQTT 3.1).
const MQTT: u32 = u32::from_le_bytes([0, 4, b'M', b'Q']);
const MQISDP: u32 = u32::from_le_bytes([0, 6, b'M', b'Q']);

/// A CONNECT comes among so many first segments with data. It is the first packet of a client
/// (section 3.1), but a proxy may want some words before. Later ones are somebody's payload.
const FIRST_SEGMENTS: u32 = 16;

/// A packet leaves.
#[cgroup_skb(egress)]
pub fn names(ctx: SkBuffContext) -> i32 {
    try_packet(&ctx);
    PASS
}

#[inline(always)]
fn try_packet(ctx: &SkBuffContext) -> Option<()> {
    let skb = ctx.skb.skb.cast_const();
    let payload = payload(skb)?;
    // SAFETY: The context's own fields.
    let available = (unsafe { (&raw const (*skb).len).read_volatile() }).checked_sub(payload)?;
    // Data are in pages of their own, out of reach of direct access.
    if available == 0 || load::<u8>(skb, payload)? != CONNECT {
        return None;
    }
    // Shorter than its protocol's name: nobody can say what it is.
    if !is_connect(load(skb, payload + 1)?) || !is_early(skb) {
        return None;
    }
    // SAFETY: The context is a packet.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if cookie != 0 && watch::is_reported(cookie) {
        report(skb, cookie, payload, available);
    }
    None
}

/// Where the data of a TCP segment begin.
#[inline(always)]
fn payload(skb: *const __sk_buff) -> Option<u32> {
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
    Some((ip + usize::from(at(tcp + 12) >> 4) * 4) as u32)
}

/// Whether `bytes`, which follow the packet's type, are the length of the rest, one to four bytes
/// of which all but the last have the highest bit, and the name of the protocol.
#[inline(always)]
fn is_connect(bytes: u64) -> bool {
    let after = if bytes & 0x80 == 0 {
        bytes >> 8
    } else if bytes & 0x8000 == 0 {
        bytes >> 16
    } else if bytes & 0x80_0000 == 0 {
        bytes >> 24
    } else {
        bytes >> 32
    };
    after as u32 == MQTT || after as u32 == MQISDP
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
fn report(skb: *const __sk_buff, cookie: u64, payload: u32, available: u32) {
    let Some(mut slot) = RING.reserve::<FirstPacket>(0) else {
        // The socket stays without a name.
        count(Counter::ConnectNotRead);
        return;
    };
    let header = header(kind::NAME, 0);
    let len = if available > PACKET_LEN as u32 { PACKET_LEN as u32 } else { available };
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
        (&raw mut (*record)._reserved).write(0);
        let data = (&raw mut (*record).data).cast();
        bpf_skb_load_bytes(skb.cast(), payload, data, len) != 0
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
