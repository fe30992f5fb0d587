//! PURE and total: the MQTT CONNECT with which a client begins (MQTT 3.1, 3.1.1 and 5, section 3.1).

use std::sync::Arc;

use crate::model::ClientName;

/// First byte of a CONNECT.
const CONNECT: u8 = 0x10;

/// Names of the protocol, with the levels that go with each.
const PROTOCOLS: [(&[u8], &[u8]); 2] = [(b"MQTT", &[4, 5]), (b"MQIsdp", &[3])];

/// Bridges of Mosquitto set the highest bit of the level, to tell a broker what they are.
const BRIDGE: u8 = 0x80;

/// Who sends the CONNECT that begins with the bytes `seen`, which may be cut anywhere.
///
/// `None` if it is no CONNECT, is broken, or is cut before the first byte of its client id. An
/// empty client id is one: the broker chooses another for the client then (section 3.1.3.1).
pub(super) fn parse(seen: &[u8]) -> Option<ClientName> {
    let mut rest = seen.strip_prefix(&[CONNECT])?;
    let length = take_length(&mut rest)?;
    // What follows the packet is another one.
    rest = &rest[..length.min(rest.len())];
    let hidden = length - rest.len();

    let protocol = take_text(&mut rest)?;
    let (_, levels) = PROTOCOLS.iter().find(|(name, _)| *name == protocol)?;
    let [level, _flags] = take(&mut rest)?;
    let level = level & !BRIDGE;
    if !levels.contains(&level) {
        return None;
    }
    let keep_alive = u16::from_be_bytes(take(&mut rest)?);
    if level == 5 {
        let properties = take_length(&mut rest)?;
        rest = rest.get(properties..)?;
    }
    let wanted = usize::from(u16::from_be_bytes(take(&mut rest)?));
    let bytes = &rest[..wanted.min(rest.len())];
    let is_cut = bytes.len() < wanted;
    if is_cut && (bytes.is_empty() || wanted > rest.len() + hidden) {
        return None;
    }
    let bytes = if is_cut { whole_characters(bytes) } else { bytes };
    let client_id = Arc::from(String::from_utf8_lossy(bytes));
    Some(ClientName { client_id, is_cut, keep_alive, level })
}

/// A length in one to four bytes, seven bits in each, the lowest first (MQTT 5 section 1.5.5).
fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let [byte] = take(rest)?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

/// Bytes behind their number (section 1.5.4).
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(u16::from_be_bytes(take(rest)?));
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

/// `bytes` without a character at the end of which only the beginning is there.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What a client may say, and its packet.
    #[derive(Clone, Debug)]
    struct Connect {
        level: u8,
        is_bridge: bool,
        keep_alive: u16,
        properties: Vec<u8>,
        client_id: String,
        after: Vec<u8>,
    }

    fn length(mut length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = (length & 0x7f) as u8;
            length >>= 7;
            bytes.push(if length > 0 { low | 0x80 } else { low });
            if length == 0 {
                return bytes;
            }
        }
    }

    fn text(text: &[u8]) -> Vec<u8> {
        [&u16::try_from(text.len()).expect("short").to_be_bytes(), text].concat()
    }

    impl Connect {
        /// The packet, and where its client id begins.
        fn write(&self) -> (Vec<u8>, usize) {
            let name: &[u8] = if self.level == 3 { b"MQIsdp" } else { b"MQTT" };
            let mut body = text(name);
            body.push(self.level | if self.is_bridge { BRIDGE } else { 0 });
            body.push(0b10);
            body.extend(self.keep_alive.to_be_bytes());
            if self.level == 5 {
                body.extend(length(self.properties.len()));
                body.extend(&self.properties);
            }
            let before_id = body.len() + 2;
            body.extend(text(self.client_id.as_bytes()));
            body.extend(text(b"user"));
            let head = [vec![CONNECT], length(body.len())].concat();
            ([&head[..], &body, &self.after].concat(), head.len() + before_id)
        }

        fn name(&self) -> ClientName {
            ClientName {
                client_id: self.client_id.as_str().into(),
                is_cut: false,
                keep_alive: self.keep_alive,
                level: self.level,
            }
        }
    }

    fn connects() -> impl Strategy<Value = Connect> {
        let parts = (3u8..=5, any::<bool>(), any::<u16>(), vec(any::<u8>(), 0..300));
        (parts, "\\PC{0,200}", vec(any::<u8>(), 0..20)).prop_map(
            |((level, is_bridge, keep_alive, properties), client_id, after)| Connect {
                level,
                is_bridge,
                keep_alive,
                properties,
                client_id,
                after,
            },
        )
    }

    fn simple(client_id: &str) -> Connect {
        Connect {
            level: 4,
            is_bridge: false,
            keep_alive: 60,
            properties: Vec::new(),
            client_id: client_id.to_owned(),
            after: Vec::new(),
        }
    }

    #[test]
    fn a_packet_of_mqtt_js_is_read() {
        // Its first packet, as strace shows it.
        let bytes = b"\x10\x18\0\x04MQTT\x04\x02\0\x3c\0\x0cdevice-00001";
        let name = parse(bytes).expect("a CONNECT");
        assert_eq!((&*name.client_id, name.is_cut), ("device-00001", false));
        assert_eq!((name.keep_alive, name.level), (60, 4));
    }

    #[test]
    fn an_empty_client_id_is_one_and_one_that_has_not_begun_is_none() {
        let (bytes, at) = simple("").write();
        let name = parse(&bytes).expect("a CONNECT");
        assert_eq!((&*name.client_id, name.is_cut), ("", false));
        assert_eq!(parse(&bytes[..at]).map(|it| it.is_cut), Some(false));
        let (bytes, at) = simple("device").write();
        assert_eq!(parse(&bytes[..at]), None);
    }

    #[test]
    fn long_packets_have_long_lengths() {
        for (id, length) in [(60_000, 3), (100, 1), (200, 2)] {
            let (bytes, at) = simple(&"x".repeat(id)).write();
            assert_eq!(at, 1 + length + 10 + 2, "{id}");
            let name = parse(&bytes[..256.min(bytes.len())]).expect("a CONNECT");
            assert_eq!((name.client_id.len(), name.is_cut), (id.min(256 - at), id > 200), "{id}");
        }
    }

    #[test]
    fn what_is_no_connect_has_no_name() {
        let (good, at) = simple("device").write();
        assert!(parse(&good).is_some());
        let change = |index: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[index] = byte;
            bytes
        };
        let cases = [
            ("another packet", change(0, 0x30)),
            ("reserved flags", change(0, 0x11)),
            ("another protocol", change(4, b'X')),
            ("a name of another length", change(3, 3)),
            ("level 3 with the name of 4", change(8, 3)),
            ("a level to come", change(8, 6)),
            ("level 4 with the name of 3", b"\x10\x0f\0\x06MQIsdp\x04\x02\0\x3c\0\x01d".to_vec()),
            ("a client id longer than the packet", change(at - 1, 200)),
            ("a packet that ends before its client id", change(1, 11)),
            ("a length without an end", [&[0x10, 0x80, 0x80, 0x80, 0x80][..], &good[2..]].concat()),
            ("nothing", Vec::new()),
        ];
        for (what, bytes) in cases {
            assert_eq!(parse(&bytes), None, "{what}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_no_character_is_cut_in_two() {
        let (mut bytes, at) = simple("device").write();
        bytes[at + 1] = 0xff;
        assert_eq!(&*parse(&bytes).expect("a CONNECT").client_id, "d\u{fffd}vice");
        let (bytes, at) = simple("dé").write();
        let name = parse(&bytes[..at + 2]).expect("a beginning");
        assert_eq!((&*name.client_id, name.is_cut), ("d", true));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(connect in connects()) {
            let (bytes, _) = connect.write();
            prop_assert_eq!(parse(&bytes), Some(connect.name()));
        }

        #[test]
        fn a_cut_packet_gives_the_beginning_or_nothing(connect in connects(), cut in 0usize..600) {
            let (bytes, at) = connect.write();
            let end = at + connect.client_id.len();
            let seen = &bytes[..cut.min(bytes.len())];
            let name = parse(seen);
            if seen.len() >= end {
                prop_assert_eq!(name, Some(connect.name()));
            } else if seen.len() <= at {
                prop_assert_eq!(name, None);
            } else {
                let name = name.expect("it has begun");
                prop_assert!(name.is_cut);
                prop_assert!(connect.client_id.starts_with(&*name.client_id));
                // At most three bytes of a character are left out.
                prop_assert!(name.client_id.len() + 3 >= seen.len() - at);
                prop_assert_eq!(name.keep_alive, connect.keep_alive);
            }
        }

        #[test]
        fn any_bytes_give_a_name_or_nothing(bytes in vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
            let _ = parse(&[&b"\x10\xff\x01\0\x04MQTT\x05"[..], &bytes].concat());
        }
    }
}
