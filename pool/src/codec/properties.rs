//! The properties that a server of MQTT 5 may send (§2.2.2.2): which packet may carry which, how
//! often, and with what values.

use super::frame::Kind;
use super::guard::Walk;
use crate::error::ProtocolError;

/// Which properties were there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(u64);

impl Seen {
    pub(super) fn has(self, id: u8) -> bool {
        self.0 & bit(id) != 0
    }
}

pub(super) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
pub(super) const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;

/// Walks over the properties of a packet, and their length before them.
pub(super) fn check(kind: Kind, walk: &mut Walk<'_>) -> Result<Seen, ProtocolError> {
    let mut seen = Seen::default();
    let length = walk.variable_integer("length of properties")?;
    if length == 0 {
        return Ok(seen);
    }
    let mut part = walk.part(length, "properties")?;
    while !part.is_empty() {
        let id = next(kind, &mut part)?;
        if seen.has(id) && !matches!(id, USER_PROPERTY | SUBSCRIPTION_IDENTIFIER) {
            return Err(part.malformed(format!("property {id:#04x} twice")));
        }
        seen.0 |= bit(id);
    }
    Ok(seen)
}

/// Walks over one property and gives its number.
pub(super) fn next(kind: Kind, walk: &mut Walk<'_>) -> Result<u8, ProtocolError> {
    let id = walk.one("property")?;
    match (kind, id) {
        (Kind::Publish, 0x01) => at_most_1(walk, "payload format indicator")?,
        (Kind::Publish, 0x02) => walk.four("message expiry interval").map(drop)?,
        (Kind::Publish, 0x03) => walk.string("content type").map(drop)?,
        (Kind::Publish, 0x08) => {
            if walk.topic("response topic")?.is_empty() {
                return Err(walk.malformed("an empty response topic"));
            }
        }
        (Kind::Publish, 0x09) => walk.binary("correlation data").map(drop)?,
        (Kind::Publish, SUBSCRIPTION_IDENTIFIER) => {
            let value = walk.variable_integer("subscription identifier")?;
            not_0(walk, "subscription identifier", value)?;
        }
        (Kind::Publish, TOPIC_ALIAS) => walk.two("topic alias").map(drop)?,
        // Forbidden to a server in DISCONNECT (MQTT-3.14.2-2), but why it ends matters more.
        (Kind::ConnAck | Kind::Disconnect, 0x11) => {
            walk.four("session expiry interval").map(drop)?
        }
        (Kind::ConnAck, 0x12) => walk.string("assigned client identifier").map(drop)?,
        (Kind::ConnAck, 0x13) => walk.two("server keep alive").map(drop)?,
        (Kind::ConnAck, 0x15) => walk.string("authentication method").map(drop)?,
        (Kind::ConnAck, 0x16) => walk.binary("authentication data").map(drop)?,
        (Kind::ConnAck, 0x1A) => walk.string("response information").map(drop)?,
        (Kind::ConnAck | Kind::Disconnect, 0x1C) => walk.string("server reference").map(drop)?,
        (Kind::ConnAck, 0x21) => {
            let value = walk.two("receive maximum")?;
            not_0(walk, "receive maximum", value.into())?;
        }
        (Kind::ConnAck, 0x22) => walk.two("topic alias maximum").map(drop)?,
        (Kind::ConnAck, 0x24) => at_most_1(walk, "maximum QoS")?,
        (Kind::ConnAck, 0x25) => at_most_1(walk, "retain available")?,
        (Kind::ConnAck, 0x27) => {
            let value = walk.four("maximum packet size")?;
            not_0(walk, "maximum packet size", usize::try_from(value).unwrap_or(usize::MAX))?;
        }
        (Kind::ConnAck, 0x28) => at_most_1(walk, "wildcard subscription available")?,
        (Kind::ConnAck, 0x29) => at_most_1(walk, "subscription identifiers available")?,
        (Kind::ConnAck, 0x2A) => at_most_1(walk, "shared subscription available")?,
        (kind, 0x1F) if kind != Kind::Publish => walk.string("reason string").map(drop)?,
        (_, USER_PROPERTY) => {
            walk.string("name of a user property")?;
            walk.string("value of a user property")?;
        }
        (_, other) => return Err(walk.malformed(format!("property {other:#04x} in it"))),
    }
    Ok(id)
}

fn at_most_1(walk: &mut Walk<'_>, field: &'static str) -> Result<(), ProtocolError> {
    match walk.one(field)? {
        0 | 1 => Ok(()),
        value => Err(walk.malformed(format!("{field} {value}, 0 or 1 are allowed"))),
    }
}

fn not_0(walk: &Walk<'_>, field: &'static str, value: usize) -> Result<(), ProtocolError> {
    if value > 0 { Ok(()) } else { Err(walk.malformed(format!("{field} 0"))) }
}

/// Numbers go up to 42. Those from 64 on are refused before they are counted.
fn bit(id: u8) -> u64 {
    1_u64.checked_shl(id.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_block(kind: Kind, block: &[u8], wanted: Result<&[u8], &str>) {
        let found = check(kind, &mut Walk::new("TEST", block));
        match wanted {
            Ok(ids) => {
                let bits = ids.iter().fold(0, |bits, &id| bits | bit(id));
                assert_eq!(found, Ok(Seen(bits)));
            }
            Err(problem) => {
                let error = found.expect_err("invariant: it is malformed");
                assert_eq!(error.to_string(), format!("malformed TEST: {problem}"));
            }
        }
    }

    #[test]
    fn properties_end_where_their_length_says() {
        check_block(Kind::Publish, &[0, 0x26], Ok(&[]));
        check_block(Kind::Publish, &[2, 0x01, 1, 0xFF], Ok(&[0x01]));
        check_block(
            Kind::Publish,
            &[1, 0x01, 1],
            Err("1 bytes too short for its payload format indicator"),
        );
        check_block(Kind::Publish, &[3, 0x01, 1], Err("1 bytes too short for its properties"));
        check_block(Kind::Publish, &[0x80], Err("it ends within its length of properties"));
        check_block(Kind::Publish, &[], Err("it ends within its length of properties"));
    }

    #[test]
    fn only_some_may_come_twice() {
        check_block(Kind::Publish, &[4, 0x01, 1, 0x01, 1], Err("property 0x01 twice"));
        check_block(Kind::Publish, &[4, 0x0B, 1, 0x0B, 2], Ok(&[0x0B]));
        let pair = [0x26, 0, 1, b'a', 0, 1, b'b'];
        let pairs = [&[14][..], &pair, &pair].concat();
        check_block(Kind::PubAck, &pairs, Ok(&[0x26]));
    }

    #[test]
    fn each_packet_carries_only_its_own() {
        check_block(Kind::Publish, &[4, 0x1F, 0, 1, b'a'], Err("property 0x1f in it"));
        check_block(Kind::PubRel, &[4, 0x1F, 0, 1, b'a'], Ok(&[0x1F]));
        check_block(Kind::ConnAck, &[2, 0x01, 1], Err("property 0x01 in it"));
        check_block(Kind::Disconnect, &[4, 0x1C, 0, 1, b'a'], Ok(&[0x1C]));
        check_block(Kind::SubAck, &[4, 0x1C, 0, 1, b'a'], Err("property 0x1c in it"));
        check_block(Kind::ConnAck, &[1, 0xFF], Err("property 0xff in it"));
    }

    #[test]
    fn values_are_in_their_range() {
        check_block(
            Kind::Publish,
            &[2, 0x01, 2],
            Err("payload format indicator 2, 0 or 1 are allowed"),
        );
        check_block(Kind::ConnAck, &[2, 0x24, 2], Err("maximum QoS 2, 0 or 1 are allowed"));
        check_block(Kind::ConnAck, &[3, 0x21, 0, 0], Err("receive maximum 0"));
        check_block(Kind::ConnAck, &[5, 0x27, 0, 0, 0, 0], Err("maximum packet size 0"));
        check_block(Kind::Publish, &[2, 0x0B, 0], Err("subscription identifier 0"));
        check_block(Kind::Publish, &[3, 0x08, 0, 0], Err("an empty response topic"));
    }
}
