//! The local ports that can run out.

use std::fs;

/// Where the kernel shows them: those of the reader's own network namespace (ip-sysctl.rst).
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What the kernel has if nobody changed it (`inet_init_net`, net/ipv4/af_inet.c).
const USUAL: (u16, u16) = (32_768, 60_999);

/// Ports on one route from which on it is told of. Chosen: a hundredth of what makes it a finding
/// with the usual range, and more than all but a few routes of a host ever have.
const MANY: u32 = 100;

/// First and last local port that the kernel gives to connect(2).
pub(super) fn range() -> (u16, u16) {
    match fs::read_to_string(RANGE) {
        Ok(text) => parse(&text).unwrap_or(USUAL),
        Err(error) => {
            log::debug!("{RANGE} cannot be read: {error}");
            USUAL
        }
    }
}

/// So many ports on one route are worth telling: few enough of a small range as well.
pub(super) fn many((first, last): (u16, u16)) -> u32 {
    let all = u32::from(last.saturating_sub(first)) + 1;
    (all / 16).clamp(1, MANY)
}

fn parse(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last)), None) if 0 < first && first <= last => {
            Some((first, last))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_two_numbers_in_order() {
        let cases = [
            ("32768\t60999\n", Some((32_768, 60_999))),
            ("1024 65535", Some((1_024, 65_535))),
            ("5000 5000", Some((5_000, 5_000))),
            ("60999 32768", None),
            ("0 1", None),
            ("32768", None),
            ("1 2 3", None),
            ("1 65536", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_small_range_is_told_of_before_it_is_used_up() {
        let cases = [(USUAL, 100), ((40_000, 40_099), 6), ((5_000, 5_000), 1), ((1, 65_535), 100)];
        for (range, expected) in cases {
            assert_eq!(many(range), expected, "{range:?}");
        }
    }
}
