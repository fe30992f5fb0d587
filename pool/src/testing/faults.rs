//! The bytes of each fault.

use super::behaviour::{Behaviour, Fault, Stray};
use super::wire::{ConnAck, Outgoing, write_variable};
use crate::packet::Version;
use std::sync::Arc;

/// Far above the ids that a client with a small window uses.
const STRAY_ID: u16 = 65_501;

/// The largest thing made up here.
const MAX_BYTES: u32 = 16 << 20;

/// What goes before CONNACK.
pub(super) fn before_connack(faults: &[Fault], version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    for fault in faults {
        if let Fault::Early(packet) = fault {
            stray(*packet, version, &mut out);
        }
    }
    out
}

/// What goes after CONNACK.
pub(super) fn after_connack(behaviour: &Arc<Behaviour>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    for fault in &behaviour.faults {
        match fault {
            Fault::Early(_) => {}
            Fault::Late(packet) => stray(*packet, version, &mut out),
            Fault::SecondConnAck => {
                let behaviour = behaviour.clone();
                let connack =
                    ConnAck { session_present: false, code: 0, assigned: None, behaviour };
                Outgoing::ConnAck(Box::new(connack)).write(version, &mut out);
            }
            Fault::Oversized { bytes } => publish_of(*bytes, version, &mut out),
            Fault::HugeLength => {
                out.extend_from_slice(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b't']);
            }
            Fault::EndlessLength => out.extend_from_slice(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
            Fault::Garbage { seed, bytes } => {
                let mut random = fastrand::Rng::with_seed(*seed);
                let start = out.len();
                out.resize(start + (*bytes).min(MAX_BYTES) as usize, 0);
                random.fill(&mut out[start..]);
            }
            // A length of 20, and 5 bytes of them.
            Fault::Truncated => out.extend_from_slice(&[0x30, 20, 0, 9, b't', b'r', b'u']),
        }
    }
    out
}

/// The connection is closed after the faults.
pub(super) fn closes(faults: &[Fault]) -> bool {
    faults.contains(&Fault::Truncated)
}

fn stray(packet: Stray, version: Version, out: &mut Vec<u8>) {
    let (id, code) = (STRAY_ID, 0);
    match packet {
        Stray::PubAck => Outgoing::PubAck { id, code }.write(version, out),
        Stray::PubRec => Outgoing::PubRec { id, code }.write(version, out),
        Stray::PubRel => Outgoing::PubRel { id, code }.write(version, out),
        Stray::PubComp => Outgoing::PubComp { id, code }.write(version, out),
        Stray::SubAck => Outgoing::SubAck { id, codes: vec![0] }.write(version, out),
        Stray::UnsubAck => Outgoing::UnsubAck { id, codes: vec![0] }.write(version, out),
        Stray::PingResp => Outgoing::PingResp.write(version, out),
        Stray::PingReq => out.extend_from_slice(&[0xC0, 0]),
        Stray::Connect => out
            .extend_from_slice(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b's']),
    }
}

fn publish_of(bytes: u32, version: Version, out: &mut Vec<u8>) {
    let whole = bytes.clamp(12, MAX_BYTES) as usize;
    // The length of the whole counts the bytes of the length.
    let length = (1..=4)
        .map(|bytes| (bytes, whole - 1 - bytes))
        .find(|(bytes, length)| *length < 1 << (7 * bytes))
        .map_or(whole - 5, |(_, length)| length);
    out.push(0x30);
    write_variable(length, out);
    let start = out.len();
    out.extend_from_slice(&[0, 1, b't']);
    if version == Version::V5 {
        out.push(0);
    }
    out.resize(start + length, b'x');
}

#[cfg(test)]
mod tests {
    use super::super::wire::frame_length;
    use super::*;

    fn bytes(fault: Fault, version: Version) -> Vec<u8> {
        let behaviour = Behaviour { faults: vec![fault], ..Behaviour::default() };
        after_connack(&Arc::new(behaviour), version)
    }

    #[test]
    fn an_oversized_packet_has_exactly_the_size_that_was_asked_for() {
        for version in [Version::V311, Version::V5] {
            for size in
                [12, 129, 130, 131, 132, 16_386, 16_387, 16_388, 16_389, 2_097_157, 5_000_000]
            {
                let packet = bytes(Fault::Oversized { bytes: size }, version);
                // 130 and 16,387 cannot be told by the shortest length of the length.
                let told = frame_length(&packet, None).expect("invariant: well-formed");
                assert_eq!(told, Some(packet.len()), "{size}");
                assert!(packet.len().abs_diff(size as usize) <= 1, "{size}: {}", packet.len());
            }
        }
    }

    #[test]
    fn garbage_is_the_same_for_the_same_seed() {
        let of = |seed| bytes(Fault::Garbage { seed, bytes: 100 }, Version::V5);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_eq!(of(1).len(), 100);
    }

    #[test]
    fn lengths_are_as_wrong_as_promised() {
        let huge = bytes(Fault::HugeLength, Version::V311);
        assert_eq!(frame_length(&huge, None), Ok(Some(268_435_460)));
        let endless = bytes(Fault::EndlessLength, Version::V311);
        assert!(frame_length(&endless, None).is_err());
        let truncated = bytes(Fault::Truncated, Version::V311);
        assert_eq!(frame_length(&truncated, None), Ok(Some(22)));
        assert!(closes(&[Fault::Truncated]));
    }
}
