//! PURE. Of which processes call stacks are taken on demand.

use std::{collections::BTreeMap, time::Duration};

use crate::model::{MonoTime, ProcessKey};

/// Processes that are armed at one time. Chosen: each costs a microsecond a connect, and a host
/// with more leaking programs has another trouble first. One more is armed when another is calm.
const MOST: usize = 64;

/// How long a process without findings stays armed. Chosen: a leak that comes back within minutes
/// is the same leak, and its next socket should have a stack at once.
const CALM: Duration = Duration::from_secs(600);

/// The armed processes.
#[derive(Clone, Debug, Default)]
pub struct Armed {
    /// Each with the last time at which it had a finding.
    by_pid: BTreeMap<u32, (ProcessKey, MonoTime)>,
}

impl Armed {
    /// A finding about `process` opened: whether it is to be armed now.
    pub fn opened(&mut self, process: ProcessKey, now: MonoTime) -> bool {
        let known = self.by_pid.get(&process.pid).is_some_and(|(it, _)| *it == process);
        if !known && self.by_pid.len() >= MOST && !self.by_pid.contains_key(&process.pid) {
            return false;
        }
        self.by_pid.insert(process.pid, (process, now));
        !known
    }

    /// Whether stacks of this process are taken.
    pub fn has(&self, process: ProcessKey) -> bool {
        self.by_pid.get(&process.pid).is_some_and(|(it, _)| *it == process)
    }

    /// `with_findings` have findings that are open: says who is to be disarmed.
    pub fn tend(
        &mut self,
        with_findings: impl Iterator<Item = ProcessKey>,
        now: MonoTime,
    ) -> Vec<u32> {
        for process in with_findings {
            if let Some((armed, last)) = self.by_pid.get_mut(&process.pid)
                && *armed == process
            {
                *last = now;
            }
        }
        let is_calm = |last: MonoTime| now.since(last) >= CALM;
        let calm = self.by_pid.iter().filter(|(_, (_, last))| is_calm(*last));
        let calm: Vec<u32> = calm.map(|(pid, _)| *pid).collect();
        self.by_pid.retain(|pid, _| !calm.contains(pid));
        calm
    }

    /// A process has ended: the kernel's side has forgotten it by itself.
    pub fn exited(&mut self, process: ProcessKey) {
        if self.has(process) {
            self.by_pid.remove(&process.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ns: 1 }
    }

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_process_is_armed_once_and_disarmed_when_it_is_calm() {
        let mut armed = Armed::default();
        assert!(armed.opened(process(7), at(0)));
        assert!(!armed.opened(process(7), at(1)));
        assert!(armed.tend([process(7)].into_iter(), at(600)).is_empty());
        assert!(armed.tend([].into_iter(), at(1_199)).is_empty());
        assert!(armed.has(process(7)));
        assert_eq!(armed.tend([].into_iter(), at(1_200)), [7]);
        assert!(!armed.has(process(7)));
        assert!(armed.opened(process(7), at(1_201)));
    }

    #[test]
    fn another_life_of_a_number_is_another_process() {
        let mut armed = Armed::default();
        let later = ProcessKey { pid: 7, start_ns: 2 };
        assert!(armed.opened(process(7), at(0)));
        assert!(!armed.has(later));
        armed.exited(later);
        assert!(armed.has(process(7)));
        assert!(armed.opened(later, at(1)));
        assert_eq!(armed.tend([process(7)].into_iter(), at(601)), [7]);
    }

    #[test]
    fn they_are_bounded_and_an_end_makes_room() {
        let mut armed = Armed::default();
        for pid in 0..64 {
            assert!(armed.opened(process(pid), at(0)));
        }
        assert!(!armed.opened(process(64), at(0)));
        armed.exited(process(3));
        assert!(armed.opened(process(64), at(0)));
    }
}
