//! When a process said something: what it stands by, and how old its newest word is.

use std::{collections::VecDeque, time::Duration};

use crate::model::MonoTime;

/// Into how many parts a budget is cut: words within one part count as one, the newest. Chosen: a
/// finding is a sixteenth of its budget late at the most, and the list stays short.
const PARTS: u32 = 16;

/// The times of the statements of the last budget, and the newest one from before.
#[derive(Debug, Default)]
pub(super) struct Said {
    times: VecDeque<MonoTime>,
}

impl Said {
    /// It said something, received at `now`. Times come in order.
    pub(super) fn push(&mut self, now: MonoTime, budget: Duration) {
        let count = self.times.len();
        if count >= 2 && now.since(self.times[count - 2]) < budget / PARTS {
            self.times[count - 1] = now;
        } else {
            self.times.push_back(now);
        }
        while self.times.len() >= 2 && self.times[1].after(budget) <= now {
            self.times.pop_front();
        }
    }

    /// The newest statement.
    pub(super) fn last(&self) -> Option<MonoTime> {
        self.times.back().copied()
    }

    /// The newest statement that was made a budget ago or earlier.
    pub(super) fn settled(&self, now: MonoTime, budget: Duration) -> Option<MonoTime> {
        self.times.iter().rev().copied().find(|time| time.after(budget) <= now)
    }

    /// When the next one will be a budget old.
    pub(super) fn next_settled(&self, now: MonoTime, budget: Duration) -> Option<MonoTime> {
        self.times.iter().map(|time| time.after(budget)).find(|due| *due > now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: Duration = Duration::from_nanos(1_600);

    proptest! {
        #[test]
        fn the_newest_settled_word_is_known_to_a_sixteenth(
            pauses in proptest::collection::vec(0_u64..2_000, 1..200),
            wait in 0_u64..4_000,
        ) {
            let (mut said, mut all, mut now) = (Said::default(), Vec::new(), MonoTime::from_nanos(10_000));
            for pause in pauses {
                now = MonoTime::from_nanos(now.nanos() + pause);
                said.push(now, BUDGET);
                all.push(now);
            }
            prop_assert!(said.times.len() <= 2 * PARTS as usize + 3);
            prop_assert_eq!(said.last(), all.last().copied());
            let then = MonoTime::from_nanos(now.nanos() + wait);
            let truth = all.iter().rev().copied().find(|time| time.after(BUDGET) <= then);
            let found = said.settled(then, BUDGET);
            // Never too new, and late by a part at the most.
            prop_assert!(found <= truth);
            prop_assert!(found.is_none_or(|found| all.contains(&found)));
            if let Some(truth) = truth {
                let earlier = all.iter().rev().copied().find(|time| truth.since(*time) >= BUDGET / PARTS);
                prop_assert!(found >= earlier, "{found:?} {truth:?}");
            }
            // With time each word settles.
            prop_assert_eq!(said.settled(now.after(BUDGET), BUDGET), all.last().copied());
            match said.next_settled(then, BUDGET) {
                Some(due) => prop_assert!(due > then && said.settled(due, BUDGET) > found),
                None => prop_assert_eq!(found, said.last()),
            }
        }
    }
}
