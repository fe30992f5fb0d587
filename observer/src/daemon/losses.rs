//! PURE. How often the journal hears of losses: a storm of them is one entry, and none is left out.

use std::{collections::BTreeMap, time::Duration};

use crate::model::MonoTime;

/// Least time between two entries of one cause. Chosen: long enough not to flood a journal, short
/// enough that a person who looks sees it go on.
const PAUSE: Duration = Duration::from_secs(10);

/// What was lost and not told yet, by cause.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<&'static str, Loss>);

#[derive(Debug, Default)]
struct Loss {
    told: Option<MonoTime>,
    untold: u64,
}

impl Losses {
    /// So much was lost.
    pub(super) fn add(&mut self, cause: &'static str, lost: u64) {
        self.0.entry(cause).or_default().untold += lost;
    }

    /// What is to be told now.
    pub(super) fn due(&mut self, now: MonoTime) -> Vec<(&'static str, u64)> {
        let due = |(cause, loss): (&&'static str, &mut Loss)| {
            let rests = loss.told.is_some_and(|told| now.since(told) < PAUSE);
            if loss.untold == 0 || rests {
                return None;
            }
            loss.told = Some(now);
            Some((*cause, std::mem::take(&mut loss.untold)))
        };
        self.0.iter_mut().filter_map(due).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_is_told_at_once_and_the_rest_in_sums() {
        let at = |seconds: u64| MonoTime::from_nanos(seconds * 1_000_000_000);
        let mut losses = Losses::default();
        losses.add("ring", 3);
        assert_eq!(losses.due(at(1)), [("ring", 3)]);
        losses.add("ring", 4);
        losses.add("ring", 5);
        losses.add("table", 1);
        assert_eq!(losses.due(at(2)), [("table", 1)]);
        assert_eq!(losses.due(at(10)), []);
        assert_eq!(losses.due(at(11)), [("ring", 9)]);
        assert_eq!(losses.due(at(60)), []);
    }
}
