//! PURE and total: what the walks of a snapshot write.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use observer_ebpf::row::{OPEN_FILES, ROUTE, RouteCount, RouteKey, Row};

use super::{DecodeError, Fields, row};
use crate::{
    model::{Comm, OpenFiles, PortRow, ProcessKey, ProcessRow, SnapshotRow},
    ticks::TickRate,
};

/// One row of a walk.
#[derive(Clone, Debug, PartialEq)]
pub enum Walked {
    /// A socket, or a descriptor of one.
    Socket(SnapshotRow),
    /// What a process has open.
    Process(ProcessRow),
    /// Many local ports are in use here; how many is to be asked when the walk is over.
    Route(RouteKey),
}

/// One row of a walk. Ticks of the kernel become moments by `rate`.
///
/// # Errors
///
/// Bytes that are none.
pub fn walked(bytes: &[u8], rate: TickRate) -> Result<Walked, DecodeError> {
    if bytes.len() != size_of::<Row>() {
        // Says what is wrong with the length.
        return row(bytes, rate).map(Walked::Socket);
    }
    let mut fields = Fields(bytes);
    let (cookie, _time, _jiffies) = (fields.u64(), fields.u64(), fields.u64());
    let start_ns = fields.u64();
    let (pid, marker) = (fields.u32(), fields.i32());
    Ok(match (cookie, marker) {
        (0, OPEN_FILES) => Walked::Process(process(&mut fields, ProcessKey { pid, start_ns })),
        (0, ROUTE) => Walked::Route(RouteKey {
            local: [fields.u64(), fields.u64()],
            remote: [fields.u64(), fields.u64()],
            remote_port: fields.u64(),
        }),
        _ => Walked::Socket(row(bytes, rate)?),
    })
}

/// How many local ports are in use on a route.
pub fn port_row(key: &RouteKey, count: &RouteCount) -> PortRow {
    let address = |[high, low]: [u64; 2]| {
        // Words of memory: their bytes are in the order of the network.
        let bits = (u128::from(u64::from_be(high)) << 64) | u128::from(u64::from_be(low));
        IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical()
    };
    let port = u16::try_from(key.remote_port).unwrap_or(0);
    PortRow {
        local: address(key.local),
        remote: SocketAddr::new(address(key.remote), port),
        sockets: count.sockets,
        time_wait: count.time_wait,
    }
}

fn process(fields: &mut Fields<'_>, process: ProcessKey) -> ProcessRow {
    let open = OpenFiles {
        tcp: fields.u32(),
        sockets: fields.u32(),
        pipes: fields.u32(),
        files: fields.u32(),
        others: fields.u32(),
    };
    let _reserved = fields.u32();
    let limit = (fields.u64(), fields.u64());
    let _padding = fields.array::<32>();
    ProcessRow { process, comm: Comm::from_bytes(&fields.array::<16>()), open, limit }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const RATE: TickRate = TickRate::HZ_250;

    /// The beginning that all rows which are no sockets have.
    fn begin(marker: i32) -> Vec<u8> {
        let mut bytes = [0u64, 99, 4_000].map(u64::to_ne_bytes).concat();
        bytes.extend(7u64.to_ne_bytes());
        bytes.extend(4711u32.to_ne_bytes());
        bytes.extend(marker.to_ne_bytes());
        bytes
    }

    fn full(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(size_of::<Row>(), 0);
        bytes
    }

    #[test]
    fn what_a_process_has_open_keeps_every_field() {
        let mut bytes = begin(OPEN_FILES);
        for count in [1u32, 2, 3, 4, 5, 0] {
            bytes.extend(count.to_ne_bytes());
        }
        bytes.extend([1_024u64, u64::MAX].map(u64::to_ne_bytes).concat());
        bytes.resize(112, 0);
        bytes.extend(*b"node\0\0\0\0\0\0\0\0\0\0\0\0");
        let expected = ProcessRow {
            process: ProcessKey { pid: 4711, start_ns: 7 },
            comm: Comm::from_bytes(b"node"),
            open: OpenFiles { tcp: 1, sockets: 2, pipes: 3, files: 4, others: 5 },
            limit: (1_024, u64::MAX),
        };
        assert_eq!(walked(&bytes, RATE), Ok(Walked::Process(expected)));
        assert_eq!(super::super::row_clock(&bytes), Some((99, 4_000)));
    }

    #[test]
    fn a_route_is_read_and_mapped_addresses_are_ipv4() {
        let remote: Ipv6Addr = "2001:db8::1".parse().expect("an address");
        let mut bytes = begin(ROUTE);
        bytes.extend(Ipv4Addr::new(10, 0, 0, 7).to_ipv6_mapped().octets());
        bytes.extend(remote.octets());
        bytes.extend(1883u64.to_ne_bytes());
        let word = |from: usize| {
            u64::from_ne_bytes(*bytes[from..].first_chunk().expect("invariant: long enough"))
        };
        let (local, remote) = ([word(40), word(48)], [word(56), word(64)]);
        let key = RouteKey { local, remote, remote_port: 1883 };
        assert_eq!(walked(&full(bytes), RATE), Ok(Walked::Route(key)));
        let count = RouteCount { walk: 3, sockets: 17, time_wait: 4 };
        let expected = PortRow {
            local: "10.0.0.7".parse().expect("an address"),
            remote: "[2001:db8::1]:1883".parse().expect("an address"),
            sockets: 17,
            time_wait: 4,
        };
        assert_eq!(port_row(&key, &count), expected);
    }

    #[test]
    fn what_has_a_cookie_is_a_socket_and_what_has_neither_is_an_error() {
        assert_eq!(walked(&full(begin(3)), RATE), Err(DecodeError::NoCookie));
        let mut socket = full(begin(OPEN_FILES));
        socket[..8].copy_from_slice(&1u64.to_ne_bytes());
        assert_eq!(walked(&socket, RATE), Err(DecodeError::State(0)));
        assert!(matches!(walked(&[0; 5], RATE), Err(DecodeError::Length { len: 5, .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..160), marker in -4..4
        ) {
            let _ = walked(&bytes, RATE);
            let mut row = full(bytes);
            let _ = walked(&row, RATE);
            row[..8].fill(0);
            row[36..40].copy_from_slice(&i32::to_ne_bytes(marker));
            let _ = walked(&row, RATE);
        }
    }
}
