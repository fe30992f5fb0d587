//! The offsets of the running kernel.

use std::{io, path::Path};

use observer_ebpf::offsets::{FIELDS, Offsets};

use super::{
    btf::{BtfError, TypeInfo},
    error::ProbeError,
};

/// Where the kernel shows its own types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the program needs to know of the kernel's structs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) offsets: Offsets,
    /// What to add to the kernel's reference counter of a file to get the number of references.
    pub(super) refs_bias: u32,
}

/// Reads the BTF. One read of the whole file: sysfs hands out 4 KiB at a time.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ProbeError> {
    std::fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ProbeError::NoBtf { path: path.to_owned() },
        _ => ProbeError::Unreadable { path: path.to_owned(), error },
    })
}

/// Finds every field, or names the first that is missing.
pub(super) fn resolve(btf: &[u8]) -> Result<Layout, BtfError> {
    let info = TypeInfo::parse(btf)?;
    let mut values = [0; FIELDS.len()];
    let mut refs_bias = 0;
    for (value, (structure, path)) in values.iter_mut().zip(FIELDS) {
        let (offset, alternative) = info.offset(structure, path)?;
        *value = offset;
        // Since 6.13 `file.f_ref` holds one less than there are references (`FILE_REF_ONEREF` is
        // 0, include/linux/file_ref.h); `f_count` before held them all.
        if path.starts_with("f_ref.") && alternative == 0 {
            refs_bias = 1;
        }
    }
    Ok(Layout { offsets: Offsets::from_array(values), refs_bias })
}
