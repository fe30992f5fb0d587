//! How many local ports a connect can choose from, as the system says.

use crate::budget::TimeWaitReuse;
use std::fs;
use std::path::Path;

/// The local ports of this network namespace (ip(7), Documentation/networking/ip-sysctl.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalPorts {
    /// net.ipv4.ip_local_port_range. For IPv6 too.
    pub(crate) first: u16,
    /// The last one is among them.
    pub(crate) last: u16,
    /// How many within the range are never chosen (net.ipv4.ip_local_reserved_ports).
    pub(crate) reserved: u32,
    /// net.ipv4.tcp_tw_reuse: whether a port in TIME_WAIT can be used again after a second.
    pub(crate) reuse: TimeWaitReuse,
}

impl LocalPorts {
    /// Reads them from /proc; what is not there (in some containers) is the kernel's default.
    pub(crate) fn read() -> Self {
        Self::read_from(Path::new("/proc/sys/net/ipv4"))
    }

    /// How many connections one source address can have to one destination address and port.
    pub(crate) fn available(&self) -> u32 {
        (u32::from(self.last) + 1)
            .saturating_sub(u32::from(self.first))
            .saturating_sub(self.reserved)
    }

    fn read_from(directory: &Path) -> Self {
        let read = |name| fs::read_to_string(directory.join(name)).unwrap_or_default();
        let (first, last) = parse_range(&read("ip_local_port_range")).unwrap_or((32_768, 60_999));
        let reserved = count_within(&read("ip_local_reserved_ports"), first, last);
        Self { first, last, reserved, reuse: parse_reuse(&read("tcp_tw_reuse")) }
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    let (first, last) = (numbers.next()??, numbers.next()??);
    (first <= last).then_some((first, last))
}

/// The list has the form "8080,9148-9150", in order and without overlap (proc_do_large_bitmap,
/// kernel/sysctl.c). What cannot be read counts as nothing.
fn count_within(text: &str, first: u16, last: u16) -> u32 {
    let part = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse::<u16>().ok()?, to.trim().parse::<u16>().ok()?);
        let (from, to) = (from.max(first), to.min(last));
        (from <= to).then(|| u32::from(to - from) + 1)
    };
    text.split(',').filter_map(part).sum()
}

fn parse_reuse(text: &str) -> TimeWaitReuse {
    match text.trim() {
        "0" => TimeWaitReuse::Never,
        "1" => TimeWaitReuse::Always,
        _ => TimeWaitReuse::Loopback,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_two_numbers_in_order() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        for text in ["", "1", "a b", "1 70000", "2 1"] {
            assert_eq!(parse_range(text), None, "{text}");
        }
    }

    #[track_caller]
    fn check_reserved(text: &str, expected: u32) {
        assert_eq!(count_within(text, 100, 200), expected, "{text}");
    }

    #[test]
    fn reserved_ports_count_within_the_range_only() {
        check_reserved("", 0);
        check_reserved("\n", 0);
        check_reserved("99,100,150-152,200-300", 5);
        check_reserved("0-65535", 101);
        check_reserved("152-150,x,1-,-", 0);
    }

    #[test]
    fn without_proc_the_defaults_of_the_kernel_hold() {
        let ports = LocalPorts::read_from(Path::new("/nonexistent"));
        assert_eq!(ports.available(), 28_232);
        assert_eq!(ports.reuse, TimeWaitReuse::Loopback);
    }

    #[test]
    fn this_host_has_ports() {
        let ports = LocalPorts::read();
        assert!(ports.first <= ports.last);
        assert!(ports.available() > 0, "{ports:?}");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_more_is_reserved_than_there_is(
            text in "[0-9,\\- ]{0,40}", first: u16, last: u16,
        ) {
            // The kernel's list has no overlaps, so only single parts can be checked for the sum.
            for part in text.split(',') {
                let reserved = count_within(part, first, last);
                prop_assert!(reserved <= (u32::from(last) + 1).saturating_sub(u32::from(first)));
                let ports = LocalPorts { first, last, reserved, reuse: parse_reuse(&text) };
                let _any = ports.available();
            }
        }
    }
}
