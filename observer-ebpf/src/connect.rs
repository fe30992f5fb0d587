//! The beginning of an MQTT CONNECT, as far as the program in the kernel has to know it (MQTT 3.1,
//! 3.1.1 and 5, section 3.1). It is the same code here and there, so that it can be tested.

/// First byte of a CONNECT (section 3.1.1).
pub const CONNECT: u8 = 0x10;

/// Length and first two letters of the protocol's name, `MQTT` and `MQIsdp` (MQTT 3.1).
const MQTT: u32 = u32::from_le_bytes([0, 4, b'M', b'Q']);
const MQISDP: u32 = u32::from_le_bytes([0, 6, b'M', b'Q']);

/// Whether the bytes after the first one are those of a CONNECT, or may become so: the length of the
/// rest, one to four bytes of which all but the last have the highest bit, and the name of the
/// protocol. `bytes` has the first `known` of them, at most 8, the first in the lowest byte, and 0
/// above.
#[inline(always)]
pub fn may_begin(bytes: u64, known: u32) -> bool {
    let digits = digits(bytes);
    if digits >= known {
        return true;
    }
    let letters = if known - digits > 4 { 4 } else { known - digits };
    let mask = u32::MAX >> (32 - 8 * letters);
    let after = (bytes >> (8 * digits)) as u32 & mask;
    after == MQTT & mask || after == MQISDP & mask
}

/// How many bytes the packet has, its first one included, if that can be known already.
#[inline(always)]
pub fn length(bytes: u64, known: u32) -> Option<u32> {
    let digits = digits(bytes);
    if digits > known {
        return None;
    }
    let b = bytes as u32;
    // Bytes above the last digit are none of it.
    let b = b & (u32::MAX >> (32 - 8 * digits));
    let rest = b & 0x7f | (b >> 8 & 0x7f) << 7 | (b >> 16 & 0x7f) << 14 | (b >> 24 & 0x7f) << 21;
    Some(1 + digits + rest)
}

/// Bytes that the length takes.
#[inline(always)]
fn digits(bytes: u64) -> u32 {
    if bytes & 0x80 == 0 {
        1
    } else if bytes & 0x8000 == 0 {
        2
    } else if bytes & 0x80_0000 == 0 {
        3
    } else {
        4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `bytes` says after its first byte, at most `known` of it.
    fn word(bytes: &[u8], known: usize) -> u64 {
        let mut word = [0; 8];
        word[..known].copy_from_slice(&bytes[1..=known]);
        u64::from_le_bytes(word)
    }

    #[test]
    fn every_beginning_of_a_connect_may_become_one() {
        let packets: [(&[u8], u32); 5] = [
            (b"\x10\x18\0\x04MQTT\x04\x02", 26),
            (b"\x10\x80\x01\0\x04MQTT\x04", 131),
            (b"\x10\xff\xff\x7f\0\x04MQTT", 2_097_155),
            (b"\x10\xff\xff\xff\x7f\0\x04MQTT", 268_435_460),
            (b"\x10\x1a\0\x06MQIsdp\x03\x02", 28),
        ];
        for (packet, total) in packets {
            for known in 0..=8 {
                let bytes = word(packet, known);
                let known = known as u32;
                assert!(may_begin(bytes, known), "{packet:?} {known}");
                let digits = packet.iter().skip(1).position(|byte| byte & 0x80 == 0);
                let digits = digits.expect("a last digit") + 1;
                let expected = (known as usize >= digits).then_some(total);
                assert_eq!(length(bytes, known), expected, "{packet:?} {known}");
            }
        }
    }

    #[test]
    fn what_is_none_is_seen_at_its_first_wrong_byte() {
        let good = b"\x10\x18\0\x04MQTT\x04";
        for at in 2..=5 {
            let mut packet = *good;
            packet[at] = b'X';
            for known in 0..=8usize {
                let expected = known < at;
                assert_eq!(may_begin(word(&packet, known), known as u32), expected, "{at} {known}");
            }
        }
    }
}
