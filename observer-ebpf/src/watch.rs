//! Which sockets are watched.
//!
//! Most changes of state run in a softirq, where the current process says nothing about the
//! owner. So the socket itself has to be known: by its cookie, from connect(2), listen(2), a
//! watched listener or the snapshot until its end.

use observer_ebpf::counter::Counter;

use crate::{
    atomic,
    emit::count,
    maps::{
        LISTENERS, Listener, MARK_SETS, MARK_WAYS, MARKS, MARKS_OVERFLOW, OVERFLOWED, PORTS, config,
    },
};

/// Whether what happens to the socket with this cookie is reported.
#[inline(always)]
pub(crate) fn is_reported(cookie: u64) -> bool {
    config!(watch_all) != 0 || is_marked(cookie)
}

/// Watches the socket with this cookie. False, and counted, if there is no room.
#[inline(always)]
pub(crate) fn mark(cookie: u64) -> bool {
    if let Some(set) = set(cookie) {
        for way in 0..MARK_WAYS {
            // SAFETY: `way` is inside the set, which is an element of the map.
            if unsafe { atomic::set_if_zero((*set).as_mut_ptr().add(way), cookie) } {
                return true;
            }
        }
    }
    // Told before it is so: whoever sees the hash empty for a moment looks in vain, no more.
    if let Some(overflowed) = OVERFLOWED.get_ptr_mut(0) {
        // SAFETY: An element of the map, only ever set.
        unsafe { *overflowed = 1 };
    }
    let has_room = MARKS_OVERFLOW.insert(&cookie, &1, 0).is_ok();
    if !has_room {
        count(Counter::MarkFailed);
    }
    has_room
}

/// Ends the watch of a socket: it is over.
#[inline(always)]
pub(crate) fn unmark(cookie: u64) {
    let Some(set) = set(cookie) else { return };
    // SAFETY: An element of the map; each way is read and written whole.
    let ways = unsafe { &mut *set };
    // All of them: a snapshot and a change of state may have marked it at the same moment.
    for way in ways {
        if *way == cookie {
            *way = 0;
        }
    }
    if has_overflowed() {
        let _ = MARKS_OVERFLOW.remove(&cookie);
    }
}

/// What is accepted at this place is watched from now on.
#[inline(always)]
pub(crate) fn listen(at: Listener) {
    if let Some(listeners) = LISTENERS.get_ptr_mut(&at) {
        // SAFETY: An aligned element of the map.
        unsafe { atomic::add(listeners, 1) };
    } else if LISTENERS.insert(&at, &1, 0).is_err() {
        count(Counter::MarkFailed);
    }
}

/// What is accepted at this place is watched, if it was not so far.
#[inline(always)]
pub(crate) fn keep_listening(netns: u32, port: u16) {
    let at = Listener { netns, port: u32::from(port) };
    if !is_listening(at) {
        listen(at);
    }
}

/// One listener at this place is gone.
#[inline(always)]
pub(crate) fn unlisten(at: Listener) {
    if let Some(listeners) = LISTENERS.get_ptr_mut(&at) {
        // SAFETY: An aligned element of the map.
        if unsafe { *listeners } <= 1 {
            let _ = LISTENERS.remove(&at);
        } else {
            // SAFETY: As above.
            unsafe { atomic::add(listeners, u64::MAX) };
        }
    }
}

/// Whether a watched listener listens at this place.
#[inline(always)]
pub(crate) fn is_listening(at: Listener) -> bool {
    LISTENERS.get_ptr(&at).is_some()
}

/// Whether a socket is watched for one of its ports.
#[inline(always)]
pub(crate) fn is_on_port(local: u16, remote: u16) -> bool {
    config!(ports) != 0
        && (PORTS.get_ptr(&u32::from(local)).is_some()
            || PORTS.get_ptr(&u32::from(remote)).is_some())
}

#[inline(always)]
fn is_marked(cookie: u64) -> bool {
    let Some(set) = set(cookie) else { return false };
    // SAFETY: An element of the map; each way is read whole.
    let ways = unsafe { &*set };
    for way in ways {
        if *way == cookie {
            return true;
        }
    }
    has_overflowed() && MARKS_OVERFLOW.get_ptr(&cookie).is_some()
}

/// Whether a set was ever full. It may have room again; what overflowed stays where it is.
#[inline(always)]
fn has_overflowed() -> bool {
    // SAFETY: An element of the map.
    OVERFLOWED.get_ptr(0).is_some_and(|overflowed| unsafe { *overflowed } != 0)
}

#[inline(always)]
fn set(cookie: u64) -> Option<*mut [u64; MARK_WAYS]> {
    // Cookies that follow each other, as those of new sockets do, share a cache line.
    MARKS.get_ptr_mut((cookie / MARK_WAYS as u64) as u32 & (MARK_SETS - 1))
}
