//! When a process said something: what it stands by, and how old its newest word is.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::model::MonoTime;

/// Into how many parts a budget is cut: words within one part count as one, the newest. Chosen: a
/// finding is a sixteenth of its budget late at the most, and the list stays short.
const PARTS: u32 = 16;

/// The statements of a process, as budgets ask for them: there is a list for each.
#[derive(Debug, Default)]
pub(super) struct Said {
    by_budget: BTreeMap<Duration, Times>,
}

impl Said {
    /// It said something, received at `now`. Times come in order. `budgets` are all that may be
    /// asked for: as many as there are rules, and one.
    pub(super) fn push(&mut self, now: MonoTime, budgets: &[Duration]) {
        for budget in budgets {
            if !self.by_budget.contains_key(budget) {
                // A reload brought it. The words of another list are true, if not all.
                let times = self.nearest(*budget).cloned().unwrap_or_default();
                self.by_budget.insert(*budget, times);
            }
        }
        self.by_budget.retain(|budget, _| budgets.contains(budget));
        for (budget, times) in &mut self.by_budget {
            times.push(now, *budget);
        }
    }

    /// The newest statement.
    pub(super) fn last(&self) -> Option<MonoTime> {
        self.by_budget.values().next().and_then(Times::last)
    }

    /// The newest statement that was made a budget ago or earlier.
    pub(super) fn settled(&self, now: MonoTime, budget: Duration) -> Option<MonoTime> {
        self.nearest(budget)?.settled(now, budget)
    }

    /// When the next one will be a budget old, whichever budget that is.
    pub(super) fn next_settled(&self, now: MonoTime) -> Option<MonoTime> {
        let dues = self.by_budget.iter().map(|(budget, times)| times.next_settled(now, *budget));
        dues.flatten().min()
    }

    /// The list for a budget, or one that has words of that time.
    fn nearest(&self, budget: Duration) -> Option<&Times> {
        let longer = self.by_budget.range(budget..).next();
        longer.or_else(|| self.by_budget.last_key_value()).map(|(_, times)| times)
    }
}

/// The times of the statements of the last budget, and the newest one from before.
#[derive(Clone, Debug, Default)]
struct Times(VecDeque<MonoTime>);

impl Times {
    fn push(&mut self, now: MonoTime, budget: Duration) {
        let count = self.0.len();
        if count >= 2 && now.since(self.0[count - 2]) < budget / PARTS {
            self.0[count - 1] = now;
        } else {
            self.0.push_back(now);
        }
        while self.0.len() >= 2 && self.0[1].after(budget) <= now {
            self.0.pop_front();
        }
    }

    fn last(&self) -> Option<MonoTime> {
        self.0.back().copied()
    }

    fn settled(&self, now: MonoTime, budget: Duration) -> Option<MonoTime> {
        self.0.iter().rev().copied().find(|time| time.after(budget) <= now)
    }

    fn next_settled(&self, now: MonoTime, budget: Duration) -> Option<MonoTime> {
        self.0.iter().map(|time| time.after(budget)).find(|due| *due > now)
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
            let (mut said, mut all, mut now) = (Times::default(), Vec::new(), MonoTime::from_nanos(10_000));
            for pause in pauses {
                now = MonoTime::from_nanos(now.nanos() + pause);
                said.push(now, BUDGET);
                all.push(now);
            }
            prop_assert!(said.0.len() <= 2 * PARTS as usize + 3);
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
