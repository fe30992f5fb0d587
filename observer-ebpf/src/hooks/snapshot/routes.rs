//! How many local ports are in use towards each destination.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use observer_ebpf::{
    AF_INET, AF_INET6,
    row::{ROUTE, Route, RouteCount, RouteKey},
    tcp_state::{NEW_SYN_RECV, TIME_WAIT},
};

use super::{Meta, now, walk, write};
use crate::{
    maps::{ROUTES, config, offset},
    process::load,
};

/// The third word of a v4-mapped address: zeros, then ones (RFC 4291 2.5.5.2).
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// Counts a socket, full or in TIME_WAIT, if its local port is one of those that can run out.
///
/// A server's own side of its connections has the server's port, which is none of them as a rule.
/// Where it is, each peer is a destination of its own with one socket, so that nothing is reached.
#[inline(always)]
pub(super) fn count(meta: *const Meta, sk: *const u8) {
    let local_port = u32::from(load::<u16>(sk, offset!(skc_num)));
    let [first, last] = config!(port_range);
    if local_port < first || local_port > last {
        return;
    }
    let remote_port = u64::from(u16::from_be(load(sk, offset!(skc_dport))));
    let state: u8 = load(sk, offset!(skc_state));
    // Requests are somebody else's connections.
    if remote_port == 0 || state == NEW_SYN_RECV {
        return;
    }
    let Some(key) = key(sk, remote_port) else { return };
    let walk = walk(meta);
    let Some(count) = ROUTES.get_ptr_mut(&key) else {
        let first = RouteCount {
            walk,
            sockets: (state != TIME_WAIT).into(),
            time_wait: (state == TIME_WAIT).into(),
        };
        // A full map makes room by itself; where it cannot for a moment, the count is one short.
        let _ = ROUTES.insert(&key, &first, 0);
        return;
    };
    // SAFETY: An element of the map, of which one walk at a time makes use.
    let count = unsafe { &mut *count };
    if count.walk != walk {
        *count = RouteCount { walk, sockets: 0, time_wait: 0 };
    }
    if count.sockets + count.time_wait + 1 == config!(many_ports) && !say(meta, key) {
        // The kernel calls again for this socket.
        return;
    }
    if state == TIME_WAIT {
        count.time_wait += 1;
    } else {
        count.sockets += 1;
    }
}

/// The route of `sk`, of which only what full sockets and others have in common is read.
#[inline(always)]
fn key(sk: *const u8, remote_port: u64) -> Option<RouteKey> {
    let family: u16 = load(sk, offset!(skc_family));
    let (local, remote) = if family == AF_INET {
        let mapped = |address: u32| [0, u64::from(address) << 32 | u64::from(MAPPED)];
        (mapped(load(sk, offset!(skc_rcv_saddr))), mapped(load(sk, offset!(skc_daddr))))
    } else if family == AF_INET6 {
        let here = sk.wrapping_add(offset!(skc_v6_rcv_saddr));
        let there = sk.wrapping_add(offset!(skc_v6_daddr));
        // SAFETY: The helper checks the addresses.
        let local = unsafe { bpf_probe_read_kernel(here.cast()) }.ok()?;
        // SAFETY: As above.
        let remote = unsafe { bpf_probe_read_kernel(there.cast()) }.ok()?;
        (local, remote)
    } else {
        return None;
    };
    Some(RouteKey { local, remote, remote_port })
}

/// Tells userspace to look this route up when the walk is over.
#[inline(always)]
fn say(meta: *const Meta, key: RouteKey) -> bool {
    let (time_ns, jiffies) = now();
    let row = Route {
        cookie: 0,
        time_ns,
        jiffies,
        start_ns: 0,
        tgid: 0,
        marker: ROUTE,
        key,
        _padding: [0; 6],
    };
    write(meta, &row)
}
