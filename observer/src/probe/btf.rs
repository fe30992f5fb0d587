//! Offsets of struct members out of a kernel's BTF.
//!
//! PURE and total: any bytes give an answer or an error. aya reads BTF too, but keeps the members
//! of structs to itself. Format: Documentation/bpf/btf.rst; include/uapi/linux/btf.h.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// Anonymous structs and typedefs inside each other: the kernel has fewer than ten.
const MAX_DEPTH: u32 = 32;

/// Why an offset could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The bytes are no BTF.
    #[error("the kernel's type information (BTF) is damaged: {0}")]
    Malformed(&'static str),
    /// The kernel has no such struct or no such member of it.
    #[error("this kernel's struct {structure} has no field `{path}`")]
    NoField {
        /// Name of the struct.
        structure: String,
        /// Dotted path of the member.
        path: String,
    },
}

/// An index over the BTF of one kernel.
pub(super) struct TypeInfo<'a> {
    /// Start of each type's record in `types`; type 0 is void and has none.
    records: Vec<usize>,
    types: &'a [u8],
    strings: &'a [u8],
    structs: HashMap<&'a [u8], Vec<u32>>,
}

impl<'a> TypeInfo<'a> {
    /// Reads the headers of all types.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let malformed = BtfError::Malformed;
        let magic = bytes.get(..2).ok_or(malformed("no header"))?;
        if u16::from_ne_bytes([magic[0], magic[1]]) != MAGIC {
            return Err(malformed("wrong magic number"));
        }
        let header = |index: usize| word(bytes, 4 + 4 * index).ok_or(malformed("short header"));
        let (start, type_off, type_len) = (header(0)?, header(1)?, header(2)?);
        let (str_off, str_len) = (header(3)?, header(4)?);
        let section = |offset: u32, len: u32| {
            let from = (start as usize).checked_add(offset as usize)?;
            bytes.get(from..from.checked_add(len as usize)?)
        };
        let types = section(type_off, type_len).ok_or(malformed("types cut off"))?;
        let strings = section(str_off, str_len).ok_or(malformed("strings cut off"))?;
        let mut info = Self { records: vec![usize::MAX], types, strings, structs: HashMap::new() };
        info.index()?;
        Ok(info)
    }

    /// Offset in bytes of the member `path` (dotted) of struct `structure`. `|` separates
    /// alternatives, the first that exists counts; the second result tells which one.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Result<(u32, usize), BtfError> {
        let candidates = self.structs.get(structure.as_bytes()).map_or(&[][..], Vec::as_slice);
        for (index, alternative) in path.split('|').enumerate() {
            for id in candidates {
                if let Some(bits) = self.walk(*id, alternative) {
                    return Ok((bits / 8, index));
                }
            }
        }
        Err(BtfError::NoField { structure: structure.to_owned(), path: path.to_owned() })
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let (Some(name), Some(info)) = (word(self.types, at), word(self.types, at + 4)) else {
                return Err(BtfError::Malformed("a type is cut off"));
            };
            let (kind, len) = (kind(info), info & 0xffff);
            let id = self.records.len() as u32;
            self.records.push(at);
            if kind == KIND_STRUCT {
                let name = self.string(name).ok_or(BtfError::Malformed("a name is cut off"))?;
                self.structs.entry(name).or_default().push(id);
            }
            at += 12 + extra_bytes(kind, len).ok_or(BtfError::Malformed("an unknown kind"))?;
        }
        Ok(())
    }

    /// Offset in bits of a dotted path below type `id`.
    fn walk(&self, id: u32, path: &str) -> Option<u32> {
        let (mut id, mut total) = (id, 0u32);
        for name in path.split('.') {
            let (bits, member_type) = self.member(id, name.as_bytes(), 0)?;
            total = total.checked_add(bits)?;
            id = member_type;
        }
        (total % 8 == 0).then_some(total)
    }

    /// Offset in bits and type of a member, anonymous structs and unions looked through.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH {
            return None;
        }
        let at = self.resolve(id)?;
        let info = word(self.types, at + 4)?;
        if !matches!(kind(info), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for index in 0..(info & 0xffff) as usize {
            let record = at + 12 + 12 * index;
            let member_name = self.string(word(self.types, record)?)?;
            let member_type = word(self.types, record + 4)?;
            let offset = word(self.types, record + 8)?;
            // With the flag the upper byte is the width of a bit field.
            let bits = if info >> 31 == 1 { offset & 0x00ff_ffff } else { offset };
            if member_name == name {
                return Some((bits, member_type));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = self.member(member_type, name, depth + 1)
            {
                return Some((bits.checked_add(inner)?, found));
            }
        }
        None
    }

    /// The record of type `id`, typedefs and qualifiers looked through.
    fn resolve(&self, id: u32) -> Option<usize> {
        let mut id = id;
        for _ in 0..MAX_DEPTH {
            let at = *self.records.get(id as usize).filter(|_| id != 0)?;
            // 8 typedef, 9 volatile, 10 const, 11 restrict, 18 type tag.
            if !matches!(kind(word(self.types, at + 4)?), 8..=11 | 18) {
                return Some(at);
            }
            id = word(self.types, at + 8)?;
        }
        None
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(offset as usize..)?;
        Some(&rest[..rest.iter().position(|byte| *byte == 0)?])
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes after the common 12 of a type of `kind` with `len` members.
fn extra_bytes(kind: u32, len: u32) -> Option<usize> {
    let len = len as usize;
    Some(match kind {
        // int, var, declaration tag
        1 | 14 | 17 => 4,
        KIND_ARRAY => 12,
        // struct, union, section, enum64
        KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * len,
        // enum, function prototype
        6 | 13 => 8 * len,
        // pointer, forward, typedef, qualifiers, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().expect("invariant: a slice of 4 bytes")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct outer { int a; struct { int b; }; typedef struct inner { int c; } i; };`
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0i\0inner\0c\0int\0inner_t\0";
        let name = |text: &str| {
            let at = strings.windows(text.len() + 2).position(|w| {
                w[0] == 0 && &w[1..=text.len()] == text.as_bytes() && w[text.len() + 1] == 0
            });
            at.expect("in the table") as u32 + 1
        };
        let info = |kind: u32, len: u32| kind << 24 | len;
        let types: Vec<u32> = [
            vec![name("int"), info(1, 0), 4, 32], // 1
            vec![name("outer"), info(4, 3), 12, name("a"), 1, 0, 0, 3, 32, name("i"), 5, 64], // 2
            vec![0, info(4, 1), 4, name("b"), 1, 0], // 3
            vec![name("inner"), info(4, 1), 4, name("c"), 1, 0], // 4
            vec![name("inner_t"), info(8, 0), 4], // 5
        ]
        .concat();
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        let types_len = 4 * types.len() as u32;
        for word in [24, 0, types_len, types_len, strings.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_through_anonymous_structs_and_typedefs() {
        let bytes = sample();
        let info = TypeInfo::parse(&bytes).expect("valid");
        let cases: [(&str, Option<(u32, usize)>); 6] = [
            ("a", Some((0, 0))),
            ("b", Some((4, 0))),
            ("i.c", Some((8, 0))),
            ("gone|b", Some((4, 1))),
            ("i.gone", None),
            ("gone", None),
        ];
        for (path, expected) in cases {
            assert_eq!(info.offset("outer", path).ok(), expected, "{path}");
        }
        let missing = info.offset("outer", "gone").expect_err("no such field");
        assert_eq!(missing.to_string(), "this kernel's struct outer has no field `gone`");
    }

    #[test]
    fn the_running_kernel_has_every_field() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            panic!("this kernel has no BTF; sockwarden cannot be tested here");
        };
        let info = TypeInfo::parse(&bytes).expect("valid");
        for (structure, path) in observer_ebpf::offsets::FIELDS {
            info.offset(structure, path).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_give_an_error_or_an_answer(
            at in 0usize..200, value: u8, cut in 0usize..200, raw in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let mut bytes = sample();
            let (at, len) = (at % bytes.len(), bytes.len());
            bytes[at] = value;
            bytes.truncate(len - cut % len);
            for bytes in [&bytes, &raw] {
                if let Ok(info) = TypeInfo::parse(bytes) {
                    let _ = info.offset("outer", "i.c|b");
                }
            }
        }
    }
}
