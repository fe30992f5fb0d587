//! PURE. Which findings are written: openings and clearings always, updates now and then.

use std::{collections::BTreeMap, time::Duration};

use crate::{incident::FindingEvent, model::MonoTime};

/// Incidents whose last entry is remembered, at most. Chosen: as many as there are sockets in the
/// table by default; an entry takes some 40 bytes.
const MOST: usize = 65_536;

/// When each incident was last written.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    interval: Duration,
    last: BTreeMap<u64, Last>,
    suppressed: u64,
}

/// The last entry about an incident.
#[derive(Clone, Copy, Debug)]
struct Last {
    written: MonoTime,
    suppressed: u64,
}

impl Pace {
    /// At most one update for each incident in `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, last: BTreeMap::new(), suppressed: 0 }
    }

    /// Another interval from now on, for the incidents that are open too.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Whether what happened to incident `id` is written: if so, how many updates of it were not
    /// written since its last entry.
    pub(super) fn admit(&mut self, event: FindingEvent, id: u64, now: MonoTime) -> Option<u64> {
        let known = self.last.get_mut(&id);
        if event == FindingEvent::Updated
            && let Some(last) = known
            && now.since(last.written) < self.interval
        {
            last.suppressed += 1;
            self.suppressed += 1;
            return None;
        }
        let suppressed = self.last.remove(&id).map_or(0, |last| last.suppressed);
        if event != FindingEvent::Cleared {
            self.last.insert(id, Last { written: now, suppressed: 0 });
        }
        if self.last.len() > MOST {
            // The oldest incident: its next update is written at once, without its count.
            self.last.pop_first();
        }
        Some(suppressed)
    }

    /// Updates that were not written, of all incidents since the start.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FindingEvent::{Cleared, Opened, Updated};
    use proptest::prelude::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(seconds * 1_000_000_000)
    }

    fn pace() -> Pace {
        Pace::new(Duration::from_secs(60))
    }

    #[test]
    fn updates_wait_for_the_interval_and_are_counted() {
        let mut pace = pace();
        let story = [
            (0, Opened, Some(0)),
            (1, Updated, None),
            (59, Updated, None),
            (60, Updated, Some(2)),
            (119, Updated, None),
            (120, Updated, Some(1)),
            (121, Updated, None),
            (122, Cleared, Some(1)),
        ];
        for (second, event, expected) in story {
            assert_eq!(pace.admit(event, 7, at(second)), expected, "{event:?} at {second} s");
        }
        assert_eq!(pace.suppressed(), 4);
        assert!(pace.last.is_empty(), "what is cleared is forgotten");
    }

    #[test]
    fn incidents_do_not_wait_for_each_other() {
        let mut pace = pace();
        assert_eq!(pace.admit(Opened, 1, at(0)), Some(0));
        assert_eq!(pace.admit(Opened, 2, at(1)), Some(0));
        assert_eq!(pace.admit(Updated, 1, at(60)), Some(0));
        assert_eq!(pace.admit(Updated, 2, at(60)), None);
    }

    #[test]
    fn an_incident_that_was_open_before_is_written() {
        let mut pace = pace();
        assert_eq!(pace.admit(Updated, 1, at(5)), Some(0));
        assert_eq!(pace.admit(Updated, 1, at(6)), None);
        assert_eq!(pace.admit(Cleared, 2, at(6)), Some(0));
        assert_eq!(pace.last.len(), 1);
    }

    #[test]
    fn a_new_interval_counts_at_once() {
        let mut pace = pace();
        pace.admit(Opened, 1, at(0));
        pace.set_interval(Duration::from_secs(5));
        assert_eq!(pace.admit(Updated, 1, at(5)), Some(0));
        pace.set_interval(Duration::ZERO);
        assert_eq!(pace.admit(Updated, 1, at(5)), Some(0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pace = pace();
        for id in 0..=MOST as u64 {
            assert_eq!(pace.admit(Opened, id, at(0)), Some(0));
        }
        assert_eq!(pace.last.len(), MOST);
        assert_eq!(pace.admit(Updated, 0, at(1)), Some(0), "the oldest was forgotten");
        assert_eq!(pace.admit(Updated, MOST as u64, at(1)), None);
    }

    proptest! {
        #[test]
        fn every_update_is_written_or_counted(
            steps in prop::collection::vec((0_u64..30, 0_u64..3, 0_u8..8), 0..200)
        ) {
            let mut pace = pace();
            let (mut now, mut updates, mut written, mut told) = (0, 0, 0, 0);
            for (wait, id, event) in steps {
                now += wait;
                let event = match event { 0 => Opened, 1 => Cleared, _ => Updated };
                let admitted = pace.admit(event, id, at(now));
                prop_assert!(event == Updated || admitted.is_some());
                updates += u64::from(event == Updated);
                written += u64::from(event == Updated && admitted.is_some());
                told += admitted.unwrap_or(0);
            }
            prop_assert_eq!(updates, written + pace.suppressed());
            let open: u64 = pace.last.values().map(|last| last.suppressed).sum();
            prop_assert_eq!(pace.suppressed(), told + open);
        }
    }
}
