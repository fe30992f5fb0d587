//! How many connections there were, and when.

use crate::model::MonoTime;

/// Changes that are kept. Chosen: a leak is judged by what came after its first generations, so
/// the past may be coarse.
const MOST: usize = 64;

/// A number over time. When it is full, two neighbours become one, with the higher number at the
/// earlier time: a number that is too high makes growth look smaller and never larger.
#[derive(Debug, Default)]
pub(super) struct History {
    changes: Vec<(MonoTime, u64)>,
}

impl History {
    /// The number is `count` at `time`, later than all before.
    pub(super) fn note(&mut self, time: MonoTime, count: u64) {
        if self.changes.last().is_some_and(|(_, last)| *last == count) {
            return;
        }
        if self.changes.len() >= MOST {
            let merge = |pair: &[(MonoTime, u64)]| {
                let highest = pair.iter().map(|(_, count)| *count).max().unwrap_or_default();
                (pair[0].0, highest)
            };
            self.changes = self.changes.chunks(2).map(merge).collect();
        }
        self.changes.push((time, count));
    }

    /// The number before `time`, if that is known.
    pub(super) fn before(&self, time: MonoTime) -> Option<u64> {
        let later = self.changes.partition_point(|(at, _)| *at < time);
        self.changes[..later].last().map(|(_, count)| *count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prop_assert, proptest};

    use super::*;

    #[test]
    fn the_number_before_a_time() {
        let mut history = History::default();
        history.note(MonoTime::from_nanos(10), 3);
        history.note(MonoTime::from_nanos(20), 3);
        history.note(MonoTime::from_nanos(30), 5);
        let cases = [(10, None), (11, Some(3)), (30, Some(3)), (31, Some(5)), (99, Some(5))];
        for (time, expected) in cases {
            assert_eq!(history.before(MonoTime::from_nanos(time)), expected, "{time}");
        }
    }

    proptest! {
        #![proptest_config(crate::trends::world::settings())]

        #[test]
        fn it_is_bounded_and_never_too_low(counts in vec(0_u64..40, 1..600)) {
            let mut history = History::default();
            for (time, count) in (1..).zip(&counts) {
                history.note(MonoTime::from_nanos(time), *count);
                prop_assert!(history.changes.len() <= MOST);
            }
            for (time, count) in (1..).zip(&counts) {
                let found = history.before(MonoTime::from_nanos(time + 1));
                prop_assert!(found.is_some_and(|found| found >= *count), "{time}: {found:?}");
            }
        }
    }
}
