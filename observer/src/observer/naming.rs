//! PURE. When layer C has nothing to do: nobody looks at packets then.

use std::time::Duration;

use crate::model::MonoTime;

/// How long after the last connection was begun, or answered, its CONNECT may come. Chosen: far longer
/// than programs take for it; a broker should close a connection on which none comes within a
/// reasonable time (MQTT 3.1.1 section 3.1.4).
const SETTLES: Duration = Duration::from_secs(30);

/// Whether a connection may be about to say who it is.
#[derive(Debug)]
pub(super) struct Naming {
    /// How many connections had begun, when that was last new.
    begun: Option<u64>,
    since: MonoTime,
    is_settled: bool,
}

impl Naming {
    /// Connections that nobody has counted may be about to.
    pub(super) fn new(now: MonoTime) -> Self {
        Self { begun: None, since: now, is_settled: false }
    }

    /// What the kernel is to be told, if anything: so many have begun, and all of them have had their
    /// time. What begins later makes the kernel look again by itself.
    pub(super) fn settled(&mut self, begun: u64, now: MonoTime) -> Option<u64> {
        if self.begun != Some(begun) {
            *self = Self { begun: Some(begun), since: now, is_settled: false };
        }
        let is_time = !self.is_settled && now.since(self.since) >= SETTLES;
        self.is_settled |= is_time;
        is_time.then_some(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn it_is_over_half_a_minute_after_the_last_connection_and_said_once() {
        let mut naming = Naming::new(s(100));
        let asked = [
            (100, 0, None),
            (129, 0, None),
            (130, 0, Some(0)),
            (131, 0, None),
            (140, 1, None),
            (169, 1, None),
            (169, 2, None),
            (198, 2, None),
            (199, 2, Some(2)),
            (1_000, 2, None),
        ];
        for (now, begun, expected) in asked {
            assert_eq!(naming.settled(begun, s(now)), expected, "{now} s");
        }
        let mut again = Naming::new(s(2_000));
        assert_eq!(again.settled(2, s(2_000)), None);
        assert_eq!(again.settled(2, s(2_029)), None);
        assert_eq!(again.settled(2, s(2_030)), Some(2));
    }
}
