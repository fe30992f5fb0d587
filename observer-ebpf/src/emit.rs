//! Handing records to userspace, and counting what could not be handed over.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
    maps::ring_buf::RingBufEntry,
};
use observer_ebpf::{
    counter::Counter,
    record::{Header, Record},
};

use crate::maps::{COUNTERS, RING, config};

/// Bits of a record's time that decide whether it looks at the fill of the ring: one record of 16
/// does, and above the mark one of 16 wakes the reader. Below half a microsecond the clock is as
/// good as a die.
const SAMPLE: u64 = 0xf << 5;

/// Writes one record to the ring. A full ring is counted under `cause`.
///
/// Nobody is woken: a wake-up costs more than all of our programs together, so userspace drains
/// the ring on a timer. Only when the ring fills up is it told at once.
#[inline(always)]
pub(crate) fn emit<T: Record + 'static>(cause: Counter, record: T) {
    let Some(mut slot) = RING.reserve::<T>(0) else {
        count(cause);
        return;
    };
    let time_ns = record.header().time_ns;
    slot.write(record);
    submit(slot, time_ns);
}

/// Hands over a record of `time_ns` that was written in its place.
#[inline(always)]
pub(crate) fn submit<T>(slot: RingBufEntry<T>, time_ns: u64) {
    let looks = time_ns & SAMPLE == 0;
    let wakes = looks && RING.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(config!(wake_bytes));
    let flags = if wakes { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    slot.submit(u64::from(flags));
}

/// A header of `kind` for now and `tgid`.
#[inline(always)]
pub(crate) fn header(kind: u32, tgid: u32) -> Header {
    // SAFETY: A helper without arguments.
    Header { kind, tgid, time_ns: unsafe { bpf_ktime_get_ns() } }
}

/// Adds one to `counter` on this CPU.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: The pointer is to this CPU's slot. A program that preempts this one between the
        // load and the store can lose one count of many; it never makes a loss read as none.
        unsafe { *value = (*value).wrapping_add(1) };
    }
}
