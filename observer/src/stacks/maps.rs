//! PURE and total. What is mapped where in a process: `/proc/PID/maps` (proc_pid_maps(5)).

/// Mappings that are kept. Chosen: `vm.max_map_count` is 65,530 unless somebody raised it.
const MOST: usize = 262_144;

/// A mapping that code can run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// What part of the file it begins with.
    pub offset: u64,
    /// The file's inode number, 0 without a file.
    pub inode: u64,
    /// The file as the process names it, or what the kernel calls it (`[vdso]`); empty for memory
    /// without a file. The mark of a deleted file is left out. Untrusted text.
    pub path: String,
}

impl Mapping {
    /// Whether a file is behind it.
    pub fn has_file(&self) -> bool {
        self.inode != 0
    }

    /// Where in the file an address of it is.
    pub fn file_offset(&self, address: u64) -> u64 {
        address.wrapping_sub(self.start).wrapping_add(self.offset)
    }
}

/// The mappings that code can run in, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps(Vec<Mapping>);

impl Maps {
    /// From the bytes of the file. The kernel escapes line breaks in names, so that every line is a
    /// mapping; one that is not understood is left out.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut maps: Vec<Mapping> =
            bytes.split(|byte| *byte == b'\n').filter_map(mapping).take(MOST).collect();
        maps.sort_by_key(|mapping| mapping.start);
        Self(maps)
    }

    /// The mapping that an address is in.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        let after = self.0.partition_point(|mapping| mapping.start <= address);
        self.0[..after].last().filter(|mapping| address < mapping.end)
    }
}

/// `START-END PERMS OFFSET DEV INODE PATH`, the path after spaces; only where `x` is allowed.
fn mapping(line: &[u8]) -> Option<Mapping> {
    let line = String::from_utf8_lossy(line);
    let mut rest = &*line;
    let mut field = || {
        let (field, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        field
    };
    let (range, perms, offset, _dev, inode) = (field(), field(), field(), field(), field());
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = range.split_once('-')?;
    let path = rest.trim_start();
    let mapping = Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        inode: inode.parse().ok()?,
        path: path.strip_suffix(" (deleted)").unwrap_or(path).to_owned(),
    };
    (perms.as_bytes().get(2) == Some(&b'x')).then_some(mapping)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"\
55d0c0000000-55d0c0001000 r--p 00000000 fe:00 131 /usr/bin/m\n\
55d0c0001000-55d0c0002000 r-xp 00001000 fe:00 131                        /usr/bin/m\n\
7f0000000000-7f0000001000 rwxp 00000000 00:00 0 \n\
7f0000002000-7f0000003000 r-xp 00002000 fe:00 77   /tmp/a b\\012.so (deleted)\n\
nonsense\n\
7ffd0000-7ffe0000 r-xp 00000000 00:00 0          [vdso]\n";

    #[test]
    fn an_address_is_a_place_in_a_file() {
        let maps = Maps::parse(TEXT);
        let found = |address| {
            let mapping: Option<&Mapping> = maps.find(address);
            mapping.map(|it| (&*it.path, it.file_offset(address), it.has_file()))
        };
        let cases = [
            (0x55d0_c000_0fff, None),
            (0x55d0_c000_1000, Some(("/usr/bin/m", 0x1000, true))),
            (0x55d0_c000_1fff, Some(("/usr/bin/m", 0x1fff, true))),
            (0x55d0_c000_2000, None),
            (0x7f00_0000_0010, Some(("", 0x10, false))),
            (0x7f00_0000_2010, Some(("/tmp/a b\\012.so", 0x2010, true))),
            (0x7ffd_0000, Some(("[vdso]", 0, false))),
            (0, None),
            (u64::MAX, None),
        ];
        for (address, expected) in cases {
            assert_eq!(found(address), expected, "{address:#x}");
        }
    }

    #[test]
    fn our_own_code_is_found() {
        let maps = Maps::parse(&std::fs::read("/proc/self/maps").expect("it is ours"));
        let here = our_own_code_is_found as fn() as usize as u64;
        let mapping = maps.find(here).expect("it runs");
        let program = std::env::current_exe().expect("it has one");
        assert_eq!(mapping.path, program.to_string_lossy());
    }

    proptest! {
        #[test]
        fn any_bytes_are_maps(bytes in prop::collection::vec(any::<u8>(), 0..400), at: u64) {
            let maps = Maps::parse(&bytes);
            if let Some(mapping) = maps.find(at) {
                prop_assert!(mapping.start <= at && at < mapping.end);
            }
        }
    }
}
