//! PURE and total. Names of code that a runtime made while it ran: `/tmp/perf-PID.map`.
//!
//! A line each: start and size in hexadecimal, then the name to the end of the line
//! (tools/perf/Documentation/jit-interface.txt). Node writes it with `--perf-basic-prof`, CPython
//! with `-X perf`, a JVM with its agent. Code moves, so that a later line counts more.

use std::collections::BTreeMap;

/// Functions that are kept. Chosen: five times what a large Node program writes in a day; what is
/// beyond has no name.
const MOST: usize = 500_000;

/// Longest name that is kept, bytes.
const LONGEST: usize = 400;

/// Functions by their start: size and name.
#[derive(Clone, Debug, Default)]
pub struct PerfMap {
    functions: BTreeMap<u64, (u64, Box<str>)>,
}

impl PerfMap {
    /// From the bytes of the file. Lines that are none of its form are left out: the last one may
    /// be half written.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut functions = BTreeMap::new();
        for (start, size, name) in bytes.split(|byte| *byte == b'\n').filter_map(line) {
            if functions.len() < MOST || functions.contains_key(&start) {
                functions.insert(start, (size, name));
            }
        }
        Self { functions }
    }

    /// The function at `address`.
    pub fn name(&self, address: u64) -> Option<&str> {
        let (start, (size, name)) = self.functions.range(..=address).next_back()?;
        (address - start < *size).then_some(&**name)
    }
}

fn line(bytes: &[u8]) -> Option<(u64, u64, Box<str>)> {
    let mut parts = bytes.splitn(3, |byte| *byte == b' ');
    let mut number = || {
        let text = std::str::from_utf8(parts.next()?).ok()?;
        u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let name = parts.next()?;
    let name = String::from_utf8_lossy(name.get(..LONGEST).unwrap_or(name));
    (size > 0 && !name.is_empty()).then(|| (start, size, name.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_function_is_found_by_any_address_in_it() {
        let map = PerfMap::parse(
            b"3ef414c0 398 RegExp:[{(]\n\
              7f00 10 JS:~lease /app/a b.js:3:1\n\
              bad line\n\
              7f20 0 nothing\n\
              8000 20 old\n\
              8000 8 new\n\
              0x9000 0x4 prefixed\n\
              a000 10 half",
        );
        let cases = [
            (0x3ef4_14c0, Some("RegExp:[{(]")),
            (0x7eff, None),
            (0x7f00, Some("JS:~lease /app/a b.js:3:1")),
            (0x7f0f, Some("JS:~lease /app/a b.js:3:1")),
            (0x7f10, None),
            (0x7f20, None),
            (0x8007, Some("new")),
            (0x8008, None),
            (0x9003, Some("prefixed")),
            (0xa000, Some("half")),
            (0, None),
            (u64::MAX, None),
        ];
        for (address, expected) in cases {
            assert_eq!(map.name(address), expected, "{address:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_map(bytes in prop::collection::vec(any::<u8>(), 0..400), at: u64) {
            let _name = PerfMap::parse(&bytes).name(at);
        }

        #[test]
        fn lines_of_its_form_are_found_again(start: u64, size in 1u64.., name in "[a-z][ -~]{0,40}") {
            let map = PerfMap::parse(format!("{start:x} {size:x} {name}\n").as_bytes());
            prop_assert_eq!(map.name(start), Some(&*name));
            prop_assert_eq!(map.name(start.saturating_add(size - 1)), Some(&*name));
        }
    }
}
