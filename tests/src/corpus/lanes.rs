//! Who may go on: two processors carry forty programs that wait, but not many that work.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// So many at once, in the order in which they came.
#[derive(Debug)]
pub(super) struct Lanes {
    queue: Mutex<Queue>,
    moved: Condvar,
}

#[derive(Debug)]
struct Queue {
    /// Who comes next gets this number.
    last: u64,
    /// Who goes on next has this number.
    next: u64,
    free: usize,
}

/// The right to go on, given back when dropped.
#[derive(Debug)]
pub(super) struct Lane<'a>(&'a Lanes);

impl Lanes {
    pub(super) fn new(count: usize) -> Self {
        let queue = Queue { last: 0, next: 0, free: count };
        Self { queue: Mutex::new(queue), moved: Condvar::new() }
    }

    /// Waits until there is one.
    pub(super) fn enter(&self) -> Lane<'_> {
        let mut queue = self.queue();
        let number = queue.last;
        queue.last += 1;
        let waits = |queue: &mut Queue| queue.next != number || queue.free == 0;
        let queue = self.moved.wait_while(queue, waits);
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        queue.next += 1;
        queue.free -= 1;
        self.moved.notify_all();
        Lane(self)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A case that panicked gave its lane back all the same.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.0.queue().free += 1;
        self.0.moved.notify_all();
    }
}
