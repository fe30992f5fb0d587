//! Where connections go: an address or a prefix of addresses, and perhaps a port.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// `10.0.0.1`, `10.0.0.0/8:5432`, `2001:db8::/32`, `[2001:db8::1]:1883` or `*:1883`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `None` for any address.
    prefix: Option<Prefix>,
    /// `None` for any port.
    port: Option<u16>,
}

/// The first bits of an address; the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    address: IpAddr,
    /// How many bits: 0 to 32, or to 128.
    bits: u8,
}

impl Destination {
    /// Whether `remote` is one of these. An IPv4 address is never in an IPv6 prefix, nor the other
    /// way round; the IPv4 addresses inside IPv6 sockets were written as IPv4 before.
    pub fn contains(&self, remote: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == remote.port())
            && self.prefix.is_none_or(|prefix| prefix.contains(remote.ip()))
    }
}

impl Prefix {
    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                first_bits(address, self.bits) == self.address
            }
            _ => false,
        }
    }

    fn is_one_address(self) -> bool {
        self.bits == width(self.address)
    }
}

/// `address` with all but its first `bits` set to 0.
fn first_bits(address: IpAddr, bits: u8) -> IpAddr {
    let rest = u32::from(width(address) - bits);
    match address {
        // A shift by the whole width overflows, and leaves nothing.
        IpAddr::V4(it) => {
            let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
            Ipv4Addr::from_bits(it.to_bits() & mask).into()
        }
        IpAddr::V6(it) => {
            let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
            Ipv6Addr::from_bits(it.to_bits() & mask).into()
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (prefix, port) = match (text.strip_prefix('['), text.matches(':').count()) {
            (Some(rest), _) => {
                let (inside, behind) = rest.split_once(']').ok_or("the ] is missing")?;
                let port = match behind {
                    "" => None,
                    _ => Some(behind.strip_prefix(':').ok_or("only :PORT may stand behind ]")?),
                };
                if !inside.contains(':') {
                    return Err("between [ and ] stands an IPv6 address".to_owned());
                }
                (inside, port)
            }
            (None, 0) => (text, None),
            (None, 1) => text.split_once(':').map_or((text, None), |(it, port)| (it, Some(port))),
            (None, _) => (text, None),
        };
        let port = port.map(parse_port).transpose()?;
        match (prefix, port) {
            ("*", None) => Err("* alone is every destination: leave it out".to_owned()),
            ("*", Some(_)) => Ok(Self { prefix: None, port }),
            _ => Ok(Self { prefix: Some(prefix.parse()?), port }),
        }
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| "this is no IP address or prefix".to_owned())?;
        if let IpAddr::V6(it) = address
            && let Some(inside) = it.to_ipv4_mapped()
        {
            return Err(format!("an IPv4 address inside IPv6 is shown as IPv4: write {inside}"));
        }
        let most = width(address);
        let bits = match bits {
            None => most,
            Some(bits) => number(bits)
                .and_then(|bits| u8::try_from(bits).ok())
                .filter(|bits| *bits <= most)
                .ok_or_else(|| format!("a prefix of this address has 0 to {most} bits"))?,
        };
        let network = first_bits(address, bits);
        if network != address {
            return Err(format!("bits behind the prefix are set: write {network}/{bits}"));
        }
        Ok(Self { address, bits })
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    number(text)
        .filter(|port| *port > 0)
        .ok_or_else(|| "a port is a number from 1 to 65,535".to_owned())
}

/// Digits and nothing else: `parse` alone would take `+1`.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.prefix, self.port) {
            (None, None) => f.write_str("*"),
            (None, Some(port)) => write!(f, "*:{port}"),
            (Some(prefix), None) => prefix.fmt(f),
            (Some(prefix), Some(port)) if prefix.address.is_ipv6() => {
                write!(f, "[{prefix}]:{port}")
            }
            (Some(prefix), Some(port)) => write!(f, "{prefix}:{port}"),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one_address() {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.bits)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_prefixes_and_ports() {
        for (text, yes, no) in [
            ("10.0.0.1", &["10.0.0.1:1", "10.0.0.1:65535"][..], &["10.0.0.2:1", "[::1]:1"][..]),
            ("10.0.0.1:1883", &["10.0.0.1:1883"], &["10.0.0.1:1884", "10.0.0.0:1883"]),
            ("10.0.0.0/8:5432", &["10.255.255.255:5432", "10.0.0.0:5432"], &["11.0.0.0:5432"]),
            ("10.0.0.0/8", &["10.1.2.3:9"], &["9.255.255.255:9", "11.0.0.0:9"]),
            ("10.128.0.0/9", &["10.128.0.0:9", "10.255.0.0:9"], &["10.127.255.255:9"]),
            ("0.0.0.0/0", &["255.1.1.1:9"], &["[::1]:9"]),
            ("255.255.255.255/32", &["255.255.255.255:9"], &["255.255.255.254:9"]),
            ("*:1883", &["10.0.0.1:1883", "[::1]:1883"], &["10.0.0.1:1884"]),
            ("::1", &["[::1]:1"], &["[::2]:1", "0.0.0.1:1"]),
            ("[::1]", &["[::1]:1"], &["[::2]:1"]),
            ("[::1]:1883", &["[::1]:1883"], &["[::1]:1884", "[::2]:1883"]),
            ("2001:db8::/32", &["[2001:db8:ffff::1]:1"], &["[2001:db9::]:1"]),
            ("[2001:db8::/33]:7", &["[2001:db8:7fff::]:7"], &["[2001:db8:8000::]:7"]),
            ("::/0", &["[::1]:1"], &["1.2.3.4:1"]),
        ] {
            let destination: Destination = text.parse().unwrap_or_else(|it| panic!("{text}: {it}"));
            for remote in yes {
                let remote = remote.parse().expect("invariant: an address");
                assert!(destination.contains(remote), "{text} {remote}");
            }
            for remote in no {
                let remote = remote.parse().expect("invariant: an address");
                assert!(!destination.contains(remote), "{text} {remote}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, problem) in [
            ("", "no IP address"),
            ("example.com", "no IP address"),
            ("10.0.0", "no IP address"),
            ("*", "leave it out"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/64", "write 2001:db8::/64"),
            ("10.0.0.0/33", "0 to 32 bits"),
            ("10.0.0.0/", "0 to 32 bits"),
            ("10.0.0.0/+8", "0 to 32 bits"),
            ("::/129", "0 to 128 bits"),
            ("::/65535", "0 to 128 bits"),
            ("10.0.0.1:0", "1 to 65,535"),
            ("10.0.0.1:65536", "1 to 65,535"),
            ("10.0.0.1:", "1 to 65,535"),
            ("10.0.0.1:+1", "1 to 65,535"),
            ("*:x", "1 to 65,535"),
            ("[::1", "] is missing"),
            ("[::1]1", "only :PORT"),
            ("[10.0.0.1]:1", "between [ and ]"),
            ("::ffff:10.0.0.1", "write 10.0.0.1"),
            ("fe80::1%eth0", "no IP address"),
        ] {
            let error = text.parse::<Destination>().expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|it| Ipv4Addr::from_bits(it).into()),
            any::<u128>().prop_map(|it| Ipv6Addr::from_bits(it).to_canonical())
        ]
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(
            address in any_address(),
            bits in 0..=128_u8,
            port in prop::option::of(1..=u16::MAX),
            anywhere in any::<bool>(),
        ) {
            let bits = bits.min(width(address));
            let prefix = Prefix { address: first_bits(address, bits), bits };
            let mapped = matches!(prefix.address, IpAddr::V6(it) if it.to_ipv4_mapped().is_some());
            prop_assume!(!mapped);
            let prefix = if anywhere && port.is_some() { None } else { Some(prefix) };
            let destination = Destination { prefix, port };
            prop_assert_eq!(destination.to_string().parse(), Ok(destination));
            let remote = SocketAddr::new(address, port.unwrap_or(9));
            prop_assert!(destination.contains(remote));
        }

        #[test]
        fn a_prefix_has_the_addresses_that_begin_so(one: u32, other: u32, bits in 0..=32_u8) {
            let address = |it| IpAddr::from(Ipv4Addr::from_bits(it));
            let prefix = Prefix { address: first_bits(address(one), bits), bits };
            let same = (one ^ other).leading_zeros() >= u32::from(bits);
            prop_assert_eq!(prefix.contains(address(other)), same);
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f:.*/\\[\\]%]{0,24}") {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse(), Ok(destination));
            }
        }
    }
}
