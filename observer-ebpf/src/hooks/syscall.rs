//! Reading the context of a syscall tracepoint.
//!
//! It is `struct syscall_trace_enter` or `struct syscall_trace_exit` (kernel/trace/trace.h): the
//! common fields (8 bytes), the syscall's number (padded to 8), then the arguments, or the return
//! value, as 8 bytes each.

use aya_ebpf::{EbpfContext as _, programs::TracePointContext};

/// Offset of the first argument, and of the return value.
const FIRST_VALUE: usize = 16;

/// First argument of a `sys_enter_*` context.
#[inline(always)]
pub(crate) fn argument(ctx: &TracePointContext) -> u64 {
    first_value(ctx)
}

/// Return value of a `sys_exit_*` context.
#[inline(always)]
pub(crate) fn result(ctx: &TracePointContext) -> i64 {
    first_value(ctx) as i64
}

#[inline(always)]
fn first_value(ctx: &TracePointContext) -> u64 {
    // A direct load; `read_at` would call bpf_probe_read_kernel and double the cost of the hook.
    // SAFETY: The verifier checks the offset against the size of the context.
    unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u8>().add(FIRST_VALUE).cast()) }
}
