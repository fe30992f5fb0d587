//! Two atomic instructions. `core` has none for this target, which says that it lacks
//! compare-and-exchange; the instruction set has it since version 3 (Linux 5.12).

use core::arch::asm;

/// Writes `new` if the value is 0; says whether it was.
///
/// # Safety
///
/// `value` points to 8 aligned bytes of a map.
#[inline(always)]
pub(crate) unsafe fn set_if_zero(value: *mut u64, new: u64) -> bool {
    let mut old = 0u64;
    // SAFETY: One instruction on the memory that the caller vouches for; the verifier checks it.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({value} + 0, r0, {new})",
            value = in(reg) value,
            new = in(reg) new,
            inout("r0") old,
            options(nostack),
        );
    }
    old == 0
}

/// Adds `number`, which may be the two's complement of a negative one.
///
/// # Safety
///
/// `value` points to 8 aligned bytes of a map.
#[inline(always)]
pub(crate) unsafe fn add(value: *mut u64, number: u64) {
    // SAFETY: As above.
    unsafe {
        asm!(
            "lock *(u64 *)({value} + 0) += {number}",
            value = in(reg) value,
            number = in(reg) number,
            options(nostack),
        );
    }
}
