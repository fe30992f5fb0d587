//! The names of return codes (MQTT 3.1.1 §3.2.2.3) and reason codes (MQTT 5 §2.4).

use crate::packet::Version;

/// The name of a code, or "unknown". 0x80 of 3.1.1 is what a SUBACK says.
///
/// For the code of a CONNACK ask [`refusal_name`]: a broker that does not speak MQTT 5 answers
/// with a code of 3.1.1, and the same numbers mean something else in MQTT 5.
pub(crate) fn reason_name(version: Version, code: u8) -> &'static str {
    match version {
        Version::V311 => match code {
            0x00 => "accepted",
            0x01 => "unacceptable protocol version",
            0x02 => "identifier rejected",
            0x03 => "server unavailable",
            0x04 => "bad user name or password",
            0x05 => "not authorized",
            0x80 => "failure",
            _ => "unknown",
        },
        Version::V5 => match code {
            0x00 => "success",
            0x01 => "granted QoS 1",
            0x02 => "granted QoS 2",
            0x04 => "disconnect with will message",
            0x10 => "no matching subscribers",
            0x11 => "no subscription existed",
            0x18 => "continue authentication",
            0x19 => "re-authenticate",
            0x80 => "unspecified error",
            0x81 => "malformed packet",
            0x82 => "protocol error",
            0x83 => "implementation specific error",
            0x84 => "unsupported protocol version",
            0x85 => "client identifier not valid",
            0x86 => "bad user name or password",
            0x87 => "not authorized",
            0x88 => "server unavailable",
            0x89 => "server busy",
            0x8A => "banned",
            0x8B => "server shutting down",
            0x8C => "bad authentication method",
            0x8D => "keep alive timeout",
            0x8E => "session taken over",
            0x8F => "topic filter invalid",
            0x90 => "topic name invalid",
            0x91 => "packet identifier in use",
            0x92 => "packet identifier not found",
            0x93 => "receive maximum exceeded",
            0x94 => "topic alias invalid",
            0x95 => "packet too large",
            0x96 => "message rate too high",
            0x97 => "quota exceeded",
            0x98 => "administrative action",
            0x99 => "payload format invalid",
            0x9A => "retain not supported",
            0x9B => "QoS not supported",
            0x9C => "use another server",
            0x9D => "server moved",
            0x9E => "shared subscriptions not supported",
            0x9F => "connection rate exceeded",
            0xA0 => "maximum connect time",
            0xA1 => "subscription identifiers not supported",
            0xA2 => "wildcard subscriptions not supported",
            _ => "unknown",
        },
    }
}

/// The name of a CONNACK's code. Codes below 0x80 are of 3.1.1 whatever we speak, and some brokers
/// answer with those of MQTT 5 on a session of 3.1.1.
pub(crate) fn refusal_name(code: u8) -> &'static str {
    reason_name(if code < 0x80 { Version::V311 } else { Version::V5 }, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_codes_of_the_standards_have_a_name_and_no_others() {
        let named = |version| (0..=u8::MAX).filter(move |&c| reason_name(version, c) != "unknown");
        assert_eq!(named(Version::V311).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 0x80]);
        let of_5: Vec<u8> =
            [0, 1, 2, 4, 0x10, 0x11, 0x18, 0x19].into_iter().chain(0x80..=0xA2).collect();
        assert_eq!(named(Version::V5).collect::<Vec<_>>(), of_5);
    }

    #[test]
    fn a_refusal_is_named_by_the_standard_that_its_number_is_of() {
        assert_eq!(refusal_name(1), "unacceptable protocol version");
        assert_eq!(refusal_name(5), "not authorized");
        assert_eq!(refusal_name(0x89), "server busy");
        assert_eq!(refusal_name(0x42), "unknown");
    }
}
