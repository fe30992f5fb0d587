//! Both directions at once: what one side writes, the other reads, and nothing that comes over
//! the network does worse than an error.

mod cases;
mod packets;

use super::server::{self, FromClient};
use super::sink::Sink;
use super::{TooLarge, decode, encode, encoded_size};
use crate::error::ProtocolError;
use crate::packet::{Incoming, Outgoing, Version};
use bytes::{Bytes, BytesMut};
use packets::{OwnedOutgoing, incoming, outgoing, version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

const LIMIT: u32 = 256 << 10;

const PROPERTIES: [&[u8]; 7] = [
    b"\x01\x01",
    b"\x02\0\0\x01\0",
    b"\x03\0\x04text",
    b"\x08\0\x01r",
    b"\x09\0\x02\xFF\0",
    b"\x26\0\x01n\0\x01v",
    b"\x26\0\0\0\0",
];

fn publish_5(properties: &[u8], payload: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    body.string("topic");
    body.variable_integer(properties.len());
    body.raw(properties);
    body.raw(payload);
    let mut packet = BytesMut::from(&[0x30][..]);
    packet.variable_integer(body.len());
    packet.raw(&body);
    packet
}

fn written(version: Version, packet: &Incoming) -> BytesMut {
    let mut buffer = BytesMut::new();
    server::encode(version, packet, &mut buffer);
    buffer
}

/// What holds for any bytes: an unfinished packet takes nothing, a finished one all that its
/// fixed header says, and what was understood means the same when it is said again.
fn check_any(version: Version, bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    match decode(version, &mut buffer, LIMIT) {
        Ok(None) => {
            assert_eq!(buffer, bytes);
            assert!(whole(bytes).is_none_or(|size| size > bytes.len()), "it is whole: {bytes:?}");
        }
        Ok(Some(packet)) => {
            assert_eq!(Some(bytes.len() - buffer.len()), whole(bytes));
            let again = decode(version, &mut written(version, &packet), u32::MAX);
            assert_eq!(again, Ok(Some(packet)));
        }
        Err(ProtocolError::Malformed { .. } | ProtocolError::Unexpected { .. }) => {}
        Err(ProtocolError::Oversized { size, limit }) => assert!(size > limit),
        Err(other) => panic!("{other:?} is the session's to say"),
    }
}

/// The size that the fixed header says, worked out in another way than in the codec.
fn whole(bytes: &[u8]) -> Option<usize> {
    let last = bytes.iter().skip(1).position(|byte| *byte < 0x80)?;
    let length =
        bytes[1..=1 + last].iter().rev().fold(0, |sum, byte| sum * 128 + usize::from(byte & 0x7F));
    Some(2 + last + length)
}

proptest! {
    #[test]
    fn what_a_broker_writes_is_read_back(
        (version, packet) in version().prop_flat_map(|v| (Just(v), incoming(v))),
        behind in vec(any::<u8>(), 0..20),
    ) {
        let mut buffer = written(version, &packet);
        buffer.extend_from_slice(&behind);
        prop_assert_eq!(decode(version, &mut buffer, LIMIT), Ok(Some(packet)));
        prop_assert_eq!(&buffer[..], &behind[..]);
    }

    #[test]
    fn a_packet_in_pieces_waits_for_its_last_byte(
        (version, packet) in version().prop_flat_map(|v| (Just(v), incoming(v))),
    ) {
        let whole = written(version, &packet);
        let mut buffer = BytesMut::new();
        for byte in &whole {
            prop_assert_eq!(decode(version, &mut buffer, LIMIT), Ok(None));
            buffer.extend_from_slice(&[*byte]);
        }
        prop_assert_eq!(decode(version, &mut buffer, LIMIT), Ok(Some(packet)));
    }

    #[test]
    fn packets_in_one_buffer_come_out_in_order(
        (version, packets) in version().prop_flat_map(|v| (Just(v), vec(incoming(v), 0..8))),
    ) {
        let mut buffer = BytesMut::new();
        for packet in &packets {
            server::encode(version, packet, &mut buffer);
        }
        for packet in packets {
            prop_assert_eq!(decode(version, &mut buffer, LIMIT), Ok(Some(packet)));
        }
        prop_assert_eq!(decode(version, &mut buffer, LIMIT), Ok(None));
    }

    #[test]
    fn random_bytes_do_no_worse_than_an_error(
        version in version(),
        bytes in vec(any::<u8>(), 0..200),
    ) {
        check_any(version, &bytes);
    }

    #[test]
    fn random_bytes_in_a_right_frame_do_no_worse_than_an_error(
        version in version(),
        kind in prop_oneof![Just(0x20_u8), 0x30..0x40_u8, Just(0x40), Just(0x62), Just(0x90), Just(0xB0), Just(0xE0)],
        body in vec(prop_oneof![0..48_u8, any::<u8>()], 0..100),
    ) {
        let length = u8::try_from(body.len()).expect("invariant: below 100");
        check_any(version, &[&[kind, length], &body[..]].concat());
    }

    #[test]
    fn damaged_packets_do_no_worse_than_an_error(
        (version, packet) in version().prop_flat_map(|v| (Just(v), incoming(v))),
        read_as in version(),
        damage in vec((any::<prop::sample::Index>(), prop_oneof![0..48_u8, any::<u8>()]), 1..4),
        cut in any::<prop::sample::Index>(),
        is_reframed in any::<bool>(),
    ) {
        let mut bytes = written(version, &packet).to_vec();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        check_any(read_as, &bytes);
        bytes.truncate(1 + cut.index(bytes.len()));
        if is_reframed && bytes.len() > 2 {
            // Cut off in the middle, in a frame that says so.
            let length = u8::try_from(bytes.len() - 2).unwrap_or(0x7F).min(0x7F);
            bytes[1] = length;
        }
        check_any(read_as, &bytes);
    }

    /// And with it rumqttc's readers, of which ours uses some.
    #[test]
    fn a_broker_of_a_test_survives_any_bytes(
        version in version(),
        packet in outgoing(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        random in vec(any::<u8>(), 0..100),
    ) {
        let mut buffer = BytesMut::new();
        encode(version, &packet.borrowed(), &mut buffer).expect("invariant: it is short");
        for (index, byte) in damage {
            let index = index.index(buffer.len());
            buffer[index] = byte;
        }
        for mut bytes in [buffer, BytesMut::from(&random[..])] {
            let before = bytes.len();
            match server::decode(version, &mut bytes) {
                Ok(None) => prop_assert_eq!(bytes.len(), before),
                Ok(Some(_)) | Err(_) => prop_assert!(bytes.len() < before),
            }
        }
    }

    /// Properties in any order, with and without identifiers between them.
    #[test]
    fn subscription_identifiers_change_nothing(
        properties in subsequence(PROPERTIES.to_vec(), 0..=PROPERTIES.len()).prop_shuffle(),
        identifiers in vec((any::<prop::sample::Index>(), 1..268_435_456_usize), 0..5),
        payload in vec(any::<u8>(), 0..20),
    ) {
        let without = publish_5(&properties.concat(), &payload);
        let mut properties: Vec<Vec<u8>> = properties.into_iter().map(<[u8]>::to_vec).collect();
        for (index, identifier) in identifiers {
            let mut property = BytesMut::from(&[0x0B][..]);
            property.variable_integer(identifier);
            properties.insert(index.index(properties.len() + 1), property.to_vec());
        }
        let with = publish_5(&properties.concat(), &payload);
        let [with, without] = [with, without].map(|mut b| decode(Version::V5, &mut b, LIMIT));
        prop_assert!(matches!(with, Ok(Some(Incoming::Publish(_)))), "{:?}", with);
        prop_assert_eq!(with, without);
    }

    #[test]
    fn what_we_write_is_read_by_rumqttc_and_has_the_size_we_say(
        version in version(),
        packet in outgoing(),
        before in vec(any::<u8>(), 0..10),
    ) {
        let (wanted, packet) = (packet.as_read_by_broker(version), packet);
        let packet = packet.borrowed();
        let mut buffer = BytesMut::from(&before[..]);
        prop_assert_eq!(encode(version, &packet, &mut buffer), Ok(()));
        prop_assert_eq!(buffer.len() - before.len(), encoded_size(version, &packet));
        prop_assert_eq!(&buffer.split_to(before.len())[..], &before[..]);
        prop_assert_eq!(server::decode(version, &mut buffer), Ok(Some(wanted)));
        prop_assert!(buffer.is_empty());
    }
}

#[test]
fn what_mqtt_cannot_carry_is_refused_and_nothing_is_written() {
    let long = "a".repeat(65_536);
    let payload = Bytes::from(vec![0; 268_435_456]);
    let publish = |topic, payload| Outgoing::Publish(packets::publish(topic, payload));
    let empty = Bytes::new();
    for (packet, error) in [
        (publish(&long[..], &empty), TooLarge { size: 65_536, limit: 65_535 }),
        (publish("a", &payload), TooLarge { size: 268_435_459, limit: 268_435_455 }),
    ] {
        let mut buffer = BytesMut::from(&b"before"[..]);
        assert_eq!(encode(Version::V311, &packet, &mut buffer), Err(error));
        assert_eq!(&buffer[..], b"before");
    }
    let most = payload.slice(..268_435_455 - 3);
    let packet = publish("a", &most);
    let mut buffer = BytesMut::new();
    assert_eq!(encode(Version::V311, &packet, &mut buffer), Ok(()));
    assert_eq!(buffer.len(), 268_435_460);
    assert_eq!(encoded_size(Version::V311, &packet), 268_435_460);
}

#[test]
fn a_broker_reads_the_version_from_the_connect() {
    for version in [Version::V311, Version::V5] {
        let connect = OwnedOutgoing::connect("device");
        let mut buffer = BytesMut::new();
        encode(version, &connect.borrowed(), &mut buffer).expect("invariant: it is short");
        let Ok(Some(FromClient::Connect(read))) = server::decode(Version::V311, &mut buffer) else {
            panic!("it is a whole CONNECT");
        };
        assert_eq!((read.version, &read.client_id[..]), (version, "device"));
    }
}
