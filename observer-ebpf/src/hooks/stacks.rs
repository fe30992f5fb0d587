//! Where in its program a process connects or accepts a socket: part of other hooks, and only of
//! processes of which it is wanted.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_USER_STACK, BPF_RB_AVAIL_DATA},
    helpers::generated::{bpf_get_stack, bpf_probe_read_user},
};
use observer_ebpf::{
    counter::Counter,
    record::{STACK_DEPTH, STACK_WORDS, StackTaken, kind},
};

use crate::{
    emit::{count, header, submit},
    maps::{RING, config},
    process::{current_start_ns, user_stack_pointer},
};

/// Bytes of the return addresses.
const FRAMES: u32 = (STACK_DEPTH * size_of::<u64>()) as u32;

/// Bytes of the words.
const WORDS: u32 = (STACK_WORDS * size_of::<u64>()) as u32;

/// Reports the user's stack of the running thread, which has made the socket `cookie` its own.
///
/// The kernel walks it by frame pointers (`get_perf_callchain`). Stacks get the first quarter of the
/// ring: what a storm leaves is for records that the table needs, and half of it for the time that a
/// reader takes to wake up.
#[inline(always)]
pub(crate) fn take(ctx: &impl EbpfContext, tgid: u32, cookie: u64) {
    if RING.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(config!(wake_bytes) / 2) {
        count(Counter::StackNotTaken);
        return;
    }
    let Some(mut slot) = RING.reserve::<StackTaken>(0) else {
        count(Counter::StackNotTaken);
        return;
    };
    let header = header(kind::STACK, tgid);
    let stack_pointer = user_stack_pointer();
    let record = slot.as_mut_ptr();
    // SAFETY: The record's place in the ring, all of which is written: the helpers fill what they do
    // not know with zeros. They fail rather than wait for a page that is not there.
    let bytes = unsafe {
        let frames = (&raw mut (*record).frames).cast();
        let bytes = bpf_get_stack(ctx.as_ptr(), frames, FRAMES, u64::from(BPF_F_USER_STACK));
        let words = (&raw mut (*record).words).cast();
        let unread = bpf_probe_read_user(words, WORDS, stack_pointer as *const _) != 0;
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).cookie).write(cookie);
        (&raw mut (*record).start_ns).write(current_start_ns());
        (&raw mut (*record).stack_pointer).write(stack_pointer);
        (&raw mut (*record).depth).write(bytes as u32 / size_of::<u64>() as u32);
        (&raw mut (*record).word_count).write(if unread { 0 } else { STACK_WORDS as u32 });
        bytes
    };
    if bytes <= 0 {
        slot.discard(0);
        count(Counter::StackNotTaken);
        return;
    }
    submit(slot, header.time_ns);
}
