//! What happened while a snapshot was walking.

use std::collections::VecDeque;

use crate::model::MonoTime;

/// The newest endings (of descriptors, sockets or processes), so that an older row of a snapshot
/// cannot bring the dead back. Bounded: `forgotten` says up to when it is incomplete.
#[derive(Debug)]
pub(super) struct Recent<T> {
    entries: VecDeque<(MonoTime, T)>,
    capacity: usize,
    forgotten: Option<MonoTime>,
}

impl<T> Recent<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity: capacity.max(1), forgotten: None }
    }

    pub(super) fn push(&mut self, time: MonoTime, what: T) {
        if self.entries.len() >= self.capacity
            && let Some((oldest, _)) = self.entries.pop_front()
        {
            self.forgotten = self.forgotten.max(Some(oldest));
        }
        self.entries.push_back((time, what));
    }

    /// Whether everything since `time` is still here.
    pub(super) fn is_complete_since(&self, time: MonoTime) -> bool {
        self.forgotten.is_none_or(|forgotten| forgotten < time)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(MonoTime, T)> {
        self.entries.iter()
    }

    pub(super) fn drop_before(&mut self, time: MonoTime) {
        self.entries.retain(|(at, _)| *at >= time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_when_it_had_to_forget() {
        let mut recent = Recent::new(2);
        for time in 1..=3 {
            recent.push(MonoTime::from_nanos(time), time);
        }
        assert!(!recent.is_complete_since(MonoTime::from_nanos(1)));
        assert!(recent.is_complete_since(MonoTime::from_nanos(2)));
        recent.drop_before(MonoTime::from_nanos(3));
        assert_eq!(recent.iter().map(|(_, what)| *what).collect::<Vec<_>>(), [3]);
    }
}
