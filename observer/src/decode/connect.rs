//! PURE and total: the MQTT CONNECT with which a client begins (MQTT 3.1, 3.1.1 and 5, section 3.1).

use std::sync::Arc;

use observer_ebpf::connect::CONNECT;

use crate::model::ClientName;

/// Names of the protocol, with the levels that go with each.
const PROTOCOLS: [(&[u8], &[u8]); 2] = [(b"MQTT", &[4, 5]), (b"MQIsdp", &[3])];

/// Bridges of Mosquitto set the highest bit of the level, to tell a broker what they are.
const BRIDGE: u8 = 0x80;

/// What bytes come to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parsed {
    /// Who sends it.
    Whole(ClientName),
    /// The bytes end too early; this is known so far. There is a name if a byte of it is there.
    Cut(Option<ClientName>),
    /// It is no CONNECT.
    Broken,
}

/// Why a field cannot be read.
enum Stop {
    /// What is there ends before it.
    Short,
    /// The packet itself ends before it, or it says what it must not.
    Broken,
}

/// Who sends the CONNECT that begins with the bytes `seen`, which may be cut anywhere. An empty
/// client id is one: the broker chooses another for the client then (section 3.1.3.1).
pub(super) fn parse(seen: &[u8]) -> Parsed {
    match read(&mut Rest { bytes: seen, hidden: usize::MAX }) {
        Ok(name) if name.is_cut => Parsed::Cut(Some(name)),
        Ok(name) => Parsed::Whole(name),
        Err(Stop::Short) => Parsed::Cut(None),
        Err(Stop::Broken) => Parsed::Broken,
    }
}

/// Whether `seen` has the name of the protocol: so that it is a CONNECT, though perhaps a broken one.
pub(super) fn names_protocol(seen: &[u8]) -> bool {
    levels(&mut Rest { bytes: seen, hidden: usize::MAX }).is_ok()
}

fn read(rest: &mut Rest<'_>) -> Result<ClientName, Stop> {
    let levels = levels(rest)?;
    let [level, _flags] = rest.take()?;
    let level = level & !BRIDGE;
    if !levels.contains(&level) {
        return Err(Stop::Broken);
    }
    let keep_alive = u16::from_be_bytes(rest.take()?);
    if level == 5 {
        let properties = rest.length()?;
        rest.many(properties)?;
    }
    let wanted = usize::from(u16::from_be_bytes(rest.take()?));
    let (bytes, is_cut) = match rest.many(wanted) {
        Ok(bytes) => (bytes, false),
        Err(Stop::Short) if !rest.bytes.is_empty() => (whole_characters(rest.bytes), true),
        Err(stop) => return Err(stop),
    };
    let client_id = Arc::from(String::from_utf8_lossy(bytes));
    Ok(ClientName { client_id, is_cut, keep_alive, level })
}

/// What stands before the level, and the levels that may follow.
fn levels(rest: &mut Rest<'_>) -> Result<&'static [u8], Stop> {
    let [CONNECT] = rest.take()? else { return Err(Stop::Broken) };
    let length = rest.length()?;
    // What follows the packet is another one.
    rest.bytes = &rest.bytes[..length.min(rest.bytes.len())];
    rest.hidden = length - rest.bytes.len();
    let name_length = u16::from_be_bytes(rest.take()?);
    let protocol = rest.many(usize::from(name_length))?;
    let known = PROTOCOLS.iter().find(|(name, _)| *name == protocol);
    known.map(|(_, levels)| *levels).ok_or(Stop::Broken)
}

/// The part of a packet that was not read yet.
struct Rest<'a> {
    bytes: &'a [u8],
    /// Bytes that follow in the packet and were not seen.
    hidden: usize,
}

impl<'a> Rest<'a> {
    fn many(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let Some((bytes, after)) = self.bytes.split_at_checked(count) else {
            let is_there = count <= self.bytes.len().saturating_add(self.hidden);
            return Err(if is_there { Stop::Short } else { Stop::Broken });
        };
        self.bytes = after;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let bytes = self.many(N)?;
        Ok(*bytes.first_chunk().expect("invariant: as many as asked for"))
    }

    /// A length in one to four bytes, seven bits in each, the lowest first (MQTT 5 section 1.5.5).
    fn length(&mut self) -> Result<usize, Stop> {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let [byte] = self.take()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(length);
            }
        }
        Err(Stop::Broken)
    }
}

/// `bytes` without a character at the end of which only the beginning is there.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{parse as parsed, *};

    /// The name, as far as it is known.
    fn parse(seen: &[u8]) -> Option<ClientName> {
        match parsed(seen) {
            Parsed::Whole(name) => Some(name),
            Parsed::Cut(name) => name.inspect(|name| assert!(name.is_cut)),
            Parsed::Broken => None,
        }
    }

    /// What a client may say, and its packet.
    #[derive(Clone, Debug)]
    pub(in crate::decode) struct Connect {
        level: u8,
        is_bridge: bool,
        keep_alive: u16,
        properties: Vec<u8>,
        pub(in crate::decode) client_id: String,
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
        pub(in crate::decode) fn write(&self) -> (Vec<u8>, usize) {
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

        pub(in crate::decode) fn name(&self) -> ClientName {
            ClientName {
                client_id: self.client_id.as_str().into(),
                is_cut: false,
                keep_alive: self.keep_alive,
                level: self.level,
            }
        }
    }

    pub(in crate::decode) fn connects() -> impl Strategy<Value = Connect> {
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

    pub(in crate::decode) fn simple(client_id: &str) -> Connect {
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
            let expected = if bytes.is_empty() { Parsed::Cut(None) } else { Parsed::Broken };
            assert_eq!(parsed(&bytes), expected, "{what}");
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
                prop_assert_eq!(parsed(seen), Parsed::Cut(None));
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
