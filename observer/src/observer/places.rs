//! Where processes run, remembered: a finding about a process that has just ended should still say
//! which unit or container it was.

use std::{collections::HashMap, time::Duration};

use super::Observer;
use crate::{
    cgroup::Place,
    model::{MonoTime, ProcessKey},
    procs,
};

/// Processes that are remembered. Chosen: far more than have findings at one time. When there is no
/// room, all are forgotten and looked at again; only what has ended is then told without its place.
const REMEMBERED: usize = 4_096;

/// How long a place is believed. Service managers start a process in their own group and move it
/// within milliseconds; moved later is hardly any.
const BELIEVED: Duration = Duration::from_secs(10);

impl Observer {
    /// Tells the core where the processes run about which rules decide by that.
    pub(super) fn tell_places(&mut self, now: MonoTime) {
        for process in self.correlator.take_places_wanted() {
            let place = self.places.of(process, now);
            self.correlator.handle_place(process, place);
        }
    }
}

/// Places by life of process.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: HashMap<ProcessKey, (MonoTime, Place)>,
}

impl Places {
    /// Where a process runs, or ran when it was last looked at.
    pub(super) fn of(&mut self, process: ProcessKey, now: MonoTime) -> Place {
        self.look(process, now, procs::place)
    }

    fn look(
        &mut self,
        process: ProcessKey,
        now: MonoTime,
        look: impl FnOnce(ProcessKey) -> Option<Place>,
    ) -> Place {
        if let Some((looked_at, place)) = self.known.get_mut(&process) {
            if now.since(*looked_at) >= BELIEVED {
                *looked_at = now;
                *place = look(process).unwrap_or_else(|| place.clone());
            }
            return place.clone();
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let place = look(process).unwrap_or_default();
        self.known.insert(process, (now, place.clone()));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: ProcessKey = ProcessKey { pid: 7, start_ns: 1 };

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(seconds * 1_000_000_000)
    }

    fn unit(name: &str) -> Option<Place> {
        Some(Place { unit: Some(name.into()), container: None })
    }

    #[test]
    fn a_place_is_looked_at_now_and_then_and_outlives_its_process() {
        let mut places = Places::default();
        let never = |_| panic!("it is known");
        assert_eq!(Some(places.look(PROCESS, at(1), |_| unit("a"))), unit("a"));
        assert_eq!(Some(places.look(PROCESS, at(10), never)), unit("a"));
        assert_eq!(Some(places.look(PROCESS, at(11), |_| unit("b"))), unit("b"));
        assert_eq!(Some(places.look(PROCESS, at(30), |_| None)), unit("b"));
        assert_eq!(Some(places.look(PROCESS, at(39), never)), unit("b"));
        // Another life of the number.
        let later = ProcessKey { start_ns: 2, ..PROCESS };
        assert_eq!(places.look(later, at(39), |_| None), Place::default());
    }

    #[test]
    fn places_are_bounded() {
        let mut places = Places::default();
        for pid in 0..10_000 {
            places.look(ProcessKey { pid, start_ns: 1 }, at(1), |_| None);
            assert!(places.known.len() <= REMEMBERED);
        }
    }
}
