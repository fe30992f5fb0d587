//! What the file of a program or library says of itself: where its parts are loaded, and how its
//! functions keep their frames. Total: the file may be anything.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, LittleEndian, RegisterRule, UnwindContext,
    UnwindSection as _, X86_64,
};
use object::{Object as _, ObjectSection as _, ObjectSegment as _, ReadRef, read::elf::ElfFile64};

use super::unwind::{Register, Rule};

/// Largest unwind table that is read, bytes. Chosen: that of a browser has 40 MB.
const LARGEST_TABLE: u64 = 64 << 20;

/// Segments that are looked at. Chosen: linkers make some five that are loaded.
const MOST_SEGMENTS: usize = 64;

/// A program or library.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// File offset, size in the file and address of each part.
    segments: Vec<(u64, u64, u64)>,
    table: Option<Table>,
}

/// `.eh_frame` with its index (Linux Standard Base, Core, 10.6), which programs that are linked
/// statically do without.
#[derive(Clone, Debug)]
struct Table {
    frames: Vec<u8>,
    index: Option<Vec<u8>>,
    bases: BaseAddresses,
}

impl Image {
    /// From a file of 64 bits; of others nothing is known.
    pub fn read<'a, R: ReadRef<'a>>(data: R) -> Self {
        let Ok(file) = ElfFile64::<object::Endianness, R>::parse(data) else {
            return Self::default();
        };
        let segments = file.segments().take(MOST_SEGMENTS).map(|segment| {
            let (offset, size) = segment.file_range();
            (offset, size, segment.address())
        });
        let segments = segments.collect();
        let section = |name: &str| {
            let section = file.section_by_name(name)?;
            let is_fair = section.size() <= LARGEST_TABLE;
            let data = is_fair.then(|| section.data().ok()).flatten()?;
            Some((section.address(), data.to_vec()))
        };
        let (table, index) = (section(".eh_frame"), section(".eh_frame_hdr"));
        let is_ours = file.architecture() == object::Architecture::X86_64;
        let table = table.filter(|_| is_ours).map(|(frames_at, frames)| {
            let text = section_address(&file, ".text");
            let bases = BaseAddresses::default()
                .set_eh_frame(frames_at)
                .set_eh_frame_hdr(index.as_ref().map_or(0, |(at, _)| *at))
                .set_text(text);
            Table { frames, index: index.map(|(_, index)| index), bases }
        });
        Self { segments, table }
    }

    /// The address, as the file counts it, of what is at `offset` in the file.
    pub fn address(&self, offset: u64) -> Option<u64> {
        let holds = |(start, size, _): &&(u64, u64, u64)| {
            offset.checked_sub(*start).is_some_and(|inside| inside < *size)
        };
        let (start, _, address) = self.segments.iter().find(holds)?;
        Some(address.wrapping_add(offset - start))
    }

    /// How the function at `offset` in the file keeps its frame there.
    pub fn rule(&self, offset: u64) -> Option<Rule> {
        let address = self.address(offset)?;
        let Table { frames, index, bases } = self.table.as_ref()?;
        let frames = EhFrame::new(frames, LittleEndian);
        let find = EhFrame::cie_from_offset;
        let entry = match index {
            Some(index) => {
                let index = EhFrameHdr::new(index, LittleEndian).parse(bases, 8).ok()?;
                index.table()?.fde_for_address(&frames, bases, address, find).ok()?
            }
            // One after the other; such programs are small.
            None => frames.fde_for_address(bases, address, find).ok()?,
        };
        let mut context = UnwindContext::new();
        let row = entry.unwind_info_for_address(&frames, bases, &mut context, address).ok()?;
        // A signal handler's frame, or the first function of a thread, has another form.
        if !matches!(row.register(X86_64::RA), Some(RegisterRule::Offset(-8))) {
            return None;
        }
        let CfaRule::RegisterAndOffset { register, offset } = row.cfa() else { return None };
        let by = match *register {
            X86_64::RSP => Register::Stack,
            X86_64::RBP => Register::Base,
            _ => return None,
        };
        let saved_base = match row.register(X86_64::RBP) {
            Some(RegisterRule::Offset(offset)) => Some(offset),
            _ => None,
        };
        Some(Rule { by, cfa: *offset, saved_base })
    }
}

fn section_address<'a, R: ReadRef<'a>>(
    file: &ElfFile64<'a, object::Endianness, R>,
    name: &str,
) -> u64 {
    file.section_by_name(name).map_or(0, |section| section.address())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stacks::maps::Maps;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").expect("it is ours")
    }

    #[test]
    fn our_own_functions_have_a_rule_and_an_address() {
        let image = Image::read(&*own());
        let maps = Maps::parse(&std::fs::read("/proc/self/maps").expect("it is ours"));
        let here = our_own_functions_have_a_rule_and_an_address as fn() as usize as u64;
        let mapping = maps.find(here).expect("it runs");
        let offset = mapping.file_offset(here);
        assert!(image.address(offset).is_some());
        if cfg!(target_arch = "x86_64") {
            let rule = image.rule(offset).expect("our compiler writes tables");
            // At its first instruction a function has its return address on top.
            let entry = Rule { by: Register::Stack, cfa: 8, saved_base: None };
            assert_eq!(rule, entry);
        }
        assert_eq!(image.address(u64::MAX), None);
        assert_eq!(image.rule(u64::MAX), None);
    }

    #[test]
    fn what_is_no_program_has_nothing() {
        for bytes in [&b""[..], b"#!/bin/sh\n", &own()[..64], &[0x7f; 4_096]] {
            let image = Image::read(bytes);
            assert_eq!((image.address(0), image.rule(0)), (None, None));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_program_gives_an_answer(
            damage in prop::collection::vec((0usize..65_536, any::<u8>()), 1..200),
            offset: u64,
        ) {
            let mut bytes = own();
            bytes.truncate(256 << 10);
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            let image = Image::read(&*bytes);
            let _any = (image.address(offset), image.rule(offset));
        }
    }
}
