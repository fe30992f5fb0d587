//! PURE. What grows: which destination, and which kind of descriptor.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use super::super::connections::Connections;
use crate::{
    incident::Growing,
    model::{MonoTime, OpenFiles, ProcessKey},
};

/// Destinations of a process that are remembered, those with the most connections. Chosen: what
/// grows is soon among the largest, and five are reported.
const DESTINATIONS: usize = 16;

/// What grows and is reported at the most.
const REPORTED: usize = 5;

/// Marks of a process: with one a minute they reach as far back as its samples.
const MARKS: usize = 6;

/// A shorter time says nothing of a pace.
const LEAST: Duration = Duration::from_secs(10);

/// What a process had at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    time: MonoTime,
    open: OpenFiles,
    destinations: Vec<(SocketAddr, u64)>,
    /// What a destination has at the most that is not among these.
    others: u64,
    /// Connections to all destinations.
    connections: u64,
}

impl Mark {
    /// What a process with `open` descriptors has at `time`. `destinations` are all of it.
    pub(super) fn new(
        time: MonoTime,
        open: OpenFiles,
        mut destinations: Vec<(SocketAddr, u64)>,
    ) -> Self {
        let connections = destinations.iter().map(|(_, live)| live).sum();
        destinations.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let others = destinations.get(DESTINATIONS).map_or(0, |(_, live)| *live);
        destinations.truncate(DESTINATIONS);
        destinations.shrink_to_fit();
        Self { time, open, destinations, others, connections }
    }

    /// Descriptors by what they are for. TCP sockets that are no live connection of the process
    /// are accepted ones, listeners, and what nobody has closed.
    fn counts(&self) -> impl Iterator<Item = (String, u64)> {
        let OpenFiles { tcp, sockets, pipes, files, others } = self.open;
        let tcp = u64::from(tcp).saturating_sub(self.connections);
        let kinds = [("sockets", sockets), ("pipes", pipes), ("files", files), ("others", others)];
        let kinds = kinds.map(|(what, open)| (what.to_owned(), u64::from(open)));
        let named = self.destinations.iter().map(|(remote, live)| (remote.to_string(), *live));
        named.chain([("tcp".to_owned(), tcp)]).chain(kinds)
    }

    /// How many there were of what is called `what`, at the most.
    fn count(&self, what: &str) -> u64 {
        let found = self.counts().find(|(name, _)| name == what);
        found.map_or(self.others, |(_, open)| open)
    }
}

/// Adds a mark, and lets go of one that is too old.
pub(super) fn remember(marks: &mut VecDeque<Mark>, mark: Mark) {
    if marks.len() == MARKS {
        marks.pop_front();
    }
    marks.push_back(mark);
}

/// What has grown since the oldest mark, the fastest first, at most five.
pub(super) fn growing(marks: &VecDeque<Mark>, now: &Mark) -> Vec<Growing> {
    let Some(then) = marks.front() else { return Vec::new() };
    let passed = now.time.since(then.time);
    if passed < LEAST {
        return Vec::new();
    }
    let mut growing: Vec<_> = now
        .counts()
        .filter_map(|(what, open)| {
            let grown = open.checked_sub(then.count(&what))?;
            let per_minute = (grown as f64 * 60.0 / passed.as_secs_f64()).round() as i64;
            (per_minute > 0).then_some(Growing { what, open, per_minute })
        })
        .collect();
    growing.sort_by(|a, b| b.per_minute.cmp(&a.per_minute).then_with(|| a.what.cmp(&b.what)));
    growing.truncate(REPORTED);
    growing
}

/// The destinations of those processes that are asked for, in one pass over all connections.
pub(super) fn destinations(
    connections: &Connections,
    is_wanted: impl Fn(ProcessKey) -> bool,
) -> HashMap<ProcessKey, Vec<(SocketAddr, u64)>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for (process, remote, destination) in connections.destinations() {
        if is_wanted(process) {
            found.entry(process).or_default().push((remote, destination.live));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn at(second: u64) -> MonoTime {
        MonoTime::from_nanos(second * 1_000_000_000)
    }

    fn told(growing: &[Growing]) -> Vec<String> {
        let line = |it: &Growing| format!("{} {} +{}", it.what, it.open, it.per_minute);
        growing.iter().map(line).collect()
    }

    #[test]
    fn the_fastest_comes_first_and_what_shrinks_is_left_out() {
        let open = OpenFiles { tcp: 110, sockets: 5, pipes: 8, files: 40, others: 3 };
        let then = Mark::new(at(0), open, vec![(remote(1), 60), (remote(2), 40)]);
        let open = OpenFiles { tcp: 400, sockets: 5, pipes: 28, files: 30, others: 4 };
        let now = Mark::new(at(120), open, vec![(remote(1), 260), (remote(2), 30), (remote(3), 6)]);
        // 104 TCP sockets that are no connections, 10 of them then; one more of the others in two
        // minutes is half a one in a minute, rounded up.
        assert_eq!(
            told(&growing(&VecDeque::from([then]), &now)),
            [
                "10.0.0.1:1 260 +100",
                "tcp 104 +47",
                "pipes 28 +10",
                "10.0.0.1:3 6 +3",
                "others 4 +1"
            ]
        );
    }

    #[test]
    fn at_most_five_are_told() {
        let then = Mark::new(at(0), OpenFiles::default(), Vec::new());
        let open = OpenFiles { tcp: 90, sockets: 50, pipes: 50, files: 50, others: 50 };
        let now = Mark::new(at(60), open, (1..9).map(|port| (remote(port), 10)).collect());
        assert_eq!(growing(&VecDeque::from([then]), &now).len(), 5);
    }

    #[test]
    fn ten_seconds_are_the_least() {
        for (seconds, count) in [(9, 0), (10, 1)] {
            let then = Mark::new(at(0), OpenFiles::default(), Vec::new());
            let open = OpenFiles { pipes: 50, ..OpenFiles::default() };
            let now = Mark::new(at(seconds), open, Vec::new());
            assert_eq!(growing(&VecDeque::from([then]), &now).len(), count, "{seconds}");
        }
    }

    #[test]
    fn a_destination_that_was_not_remembered_is_not_overstated() {
        let many: Vec<_> = (1..=20).map(|port| (remote(port), u64::from(100 - port))).collect();
        let open = OpenFiles { tcp: 1_790, ..OpenFiles::default() };
        let then = Mark::new(at(0), open, many.clone());
        assert_eq!(then.destinations.len(), DESTINATIONS);
        // Port 20 had 80; all that is known is that it had no more than 83, the 17th.
        let mut more = many;
        more[19].1 = 143;
        let open = OpenFiles { tcp: 1_853, ..OpenFiles::default() };
        let now = Mark::new(at(60), open, more);
        assert_eq!(told(&growing(&VecDeque::from([then]), &now)), ["10.0.0.1:20 143 +60"]);
    }

    #[test]
    fn marks_are_bounded() {
        let mut marks = VecDeque::new();
        for minute in 0..100 {
            remember(&mut marks, Mark::new(at(minute * 60), OpenFiles::default(), Vec::new()));
        }
        assert_eq!(marks.len(), MARKS);
        assert_eq!(marks.front().map(|mark| mark.time), Some(at(94 * 60)));
    }
}
