//! When to ask for a snapshot.

use std::time::Duration;

use crate::{correlate::SnapshotReason, model::MonoTime};

/// Rest after a snapshot, as a multiple of its own length: at most a fifth of a core goes into
/// snapshots, however many budgets run out.
const REST: u32 = 4;

/// Longest such rest. Chosen: half of the 100 ms within which a finding has to open.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// That a snapshot is wanted.
#[derive(Clone, Copy, Debug)]
struct Wish {
    reason: SnapshotReason,
    /// When it may begin at the earliest to be of use.
    need: MonoTime,
}

/// One snapshot at a time, no more often than the gap allows, at least once an interval.
#[derive(Debug)]
pub(super) struct Asking {
    interval: Duration,
    gap: Duration,
    /// Asked for and not answered yet.
    asked: Option<Wish>,
    /// To be asked for next.
    wanted: Option<Wish>,
    /// When the next may be asked for.
    allowed: MonoTime,
    /// When the next is wanted in any case.
    periodic: MonoTime,
}

impl Asking {
    pub(super) fn new(interval: Duration, gap: Duration, now: MonoTime) -> Self {
        Self {
            interval,
            gap,
            asked: None,
            wanted: None,
            allowed: now,
            periodic: now.after(interval),
        }
    }

    /// Another time between two snapshots that nothing else asks for, from the next one on.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// A snapshot that begins at `need` or later is wanted.
    pub(super) fn want(&mut self, reason: SnapshotReason, need: MonoTime) {
        self.wanted = Some(match self.wanted {
            Some(other) => Wish { reason: other.reason.min(reason), need: other.need.max(need) },
            None => Wish { reason, need },
        });
    }

    /// Whether to ask now, and why.
    pub(super) fn ask(&mut self, now: MonoTime) -> Option<SnapshotReason> {
        if self.asked.is_some() || now < self.allowed {
            return None;
        }
        let periodic = Wish { reason: SnapshotReason::Periodic, need: now };
        let periodic = (now >= self.periodic).then_some(periodic);
        self.asked = self.wanted.take().or(periodic);
        self.asked.map(|wish| wish.reason)
    }

    /// A snapshot came. One that began too early for a wish leaves it open.
    pub(super) fn answered(&mut self, began: MonoTime, ended: MonoTime) {
        let open = |wish: Option<Wish>| wish.filter(|wish| wish.need > began);
        self.wanted = open(self.wanted);
        if let Some(Wish { reason, need }) = open(self.asked.take()) {
            self.want(reason, need);
        }
        let rest = (ended.since(began) * REST).min(LONGEST_REST);
        self.allowed = ended.after(self.gap.max(rest));
        self.periodic = ended.after(self.interval);
    }

    /// When [`Self::ask`] is needed next.
    pub(super) fn next(&self) -> Option<MonoTime> {
        match (self.asked, self.wanted) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(self.allowed),
            (None, None) => Some(self.periodic.max(self.allowed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use SnapshotReason::{Loss, NewProcess, Periodic, Suspicion};

    use super::*;

    fn asking() -> Asking {
        Asking::new(Duration::from_nanos(100), Duration::from_nanos(10), MonoTime::from_nanos(0))
    }

    #[test]
    fn it_asks_once_until_it_is_answered() {
        let mut asking = asking();
        asking.want(NewProcess, MonoTime::from_nanos(1));
        assert_eq!(asking.ask(MonoTime::from_nanos(1)), Some(NewProcess));
        asking.want(Loss, MonoTime::from_nanos(2));
        assert_eq!(asking.ask(MonoTime::from_nanos(2)), None);
        assert_eq!(asking.next(), None);
    }

    #[test]
    fn a_snapshot_that_began_too_early_does_not_count() {
        let mut asking = asking();
        asking.want(NewProcess, MonoTime::from_nanos(1));
        asking.ask(MonoTime::from_nanos(1));
        asking.want(Suspicion, MonoTime::from_nanos(5));
        asking.answered(MonoTime::from_nanos(3), MonoTime::from_nanos(4));
        assert_eq!(asking.next(), Some(MonoTime::from_nanos(14)), "not before the gap is over");
        assert_eq!(asking.ask(MonoTime::from_nanos(13)), None);
        assert_eq!(asking.ask(MonoTime::from_nanos(14)), Some(Suspicion));
    }

    #[test]
    fn a_long_snapshot_is_followed_by_a_long_rest() {
        let mut asking = asking();
        asking.want(Suspicion, MonoTime::from_nanos(200));
        asking.answered(MonoTime::from_nanos(100), MonoTime::from_nanos(110));
        assert_eq!(asking.next(), Some(MonoTime::from_nanos(150)), "four times its length");
    }

    #[test]
    fn the_interval_begins_anew_with_each_snapshot() {
        let mut asking = asking();
        asking.answered(MonoTime::from_nanos(50), MonoTime::from_nanos(51));
        assert_eq!(asking.ask(MonoTime::from_nanos(100)), None);
        assert_eq!(asking.next(), Some(MonoTime::from_nanos(151)));
        assert_eq!(asking.ask(MonoTime::from_nanos(151)), Some(Periodic));
    }
}
