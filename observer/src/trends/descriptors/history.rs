//! PURE. How many descriptors a process had in the last minutes, and where it climbs from.

use std::{collections::VecDeque, time::Duration};

use crate::model::MonoTime;

/// Time between two samples, at the least. Chosen: half of the time between two snapshots that
/// nothing else asks for, so a process takes 1 KB at most.
const STEP: Duration = Duration::from_secs(5);

/// How far back samples go. Chosen: long enough for a pace, short enough to be the present one.
const WINDOW: Duration = Duration::from_secs(300);

/// Over which time a number is called level. Chosen: the shortest history of a forecast.
const LEVEL: Duration = Duration::from_secs(60);

/// A number that grows by less than this part of the limit in [`LEVEL`] is level. Chosen: at such a
/// pace and with 7 % left no forecast comes under its horizon of 15 minutes.
const LEVEL_PART: u64 = 200;

/// How many descriptors there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) time: MonoTime,
    pub(super) open: u64,
}

/// The last minutes of a process, and what is left of the time before.
#[derive(Clone, Debug)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    /// The most that it had before the samples.
    highest: u64,
    /// Where the present climb began: the last sample at which the number was level.
    climbs_from: Sample,
    /// Whether it has been level since it is known.
    has_been_level: bool,
}

impl History {
    pub(super) fn new(time: MonoTime, open: u64) -> Self {
        let first = Sample { time, open };
        Self {
            samples: VecDeque::from([first]),
            highest: 0,
            climbs_from: first,
            has_been_level: false,
        }
    }

    /// Takes in a number. Says whether there is a new sample.
    pub(super) fn push(&mut self, time: MonoTime, open: u64, limit: u64) -> bool {
        if self.samples.back().is_some_and(|last| time.since(last.time) < STEP) {
            return false;
        }
        let sample = Sample { time, open };
        let before = self.samples.iter().rev().find(|it| time.since(it.time) >= LEVEL);
        if let Some(before) = before
            && open.saturating_sub(before.open).saturating_mul(LEVEL_PART) <= limit
        {
            self.climbs_from = sample;
            self.has_been_level = true;
        }
        self.samples.push_back(sample);
        while let Some(first) = self.samples.front()
            && time.since(first.time) > WINDOW
        {
            self.highest = self.highest.max(first.open);
            self.samples.pop_front();
        }
        true
    }

    /// The samples of the present climb, and the most that there was before it.
    pub(super) fn climb(&self) -> (Vec<Sample>, u64) {
        let begins = self.samples.partition_point(|it| it.time < self.climbs_from.time);
        let before = self.samples.iter().take(begins).map(|it| it.open);
        let highest = before.max().unwrap_or(0).max(self.highest);
        (self.samples.iter().skip(begins).copied().collect(), highest)
    }

    /// Samples not older than `age`.
    pub(super) fn last(&self, age: Duration) -> Vec<Sample> {
        let Some(last) = self.samples.back() else { return Vec::new() };
        let recent = self.samples.iter().filter(|it| last.time.since(it.time) <= age);
        recent.copied().collect()
    }

    /// How many more there were every second, from the first sample to the last.
    pub(super) fn mean_growth(&self) -> Option<f64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.time.since(first.time).as_secs_f64();
        (seconds > 0.0).then(|| (last.open as f64 - first.open as f64) / seconds)
    }

    /// Where the present climb began.
    pub(super) fn climbs_from(&self) -> Sample {
        self.climbs_from
    }

    /// Whether the number has been level since the process is known.
    pub(super) fn has_been_level(&self) -> bool {
        self.has_been_level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> MonoTime {
        MonoTime::from_nanos((10_000 + second) * 1_000_000_000)
    }

    #[test]
    fn samples_are_thinned_and_bounded() {
        let mut history = History::new(at(0), 7);
        // Ten snapshots a second for half an hour.
        let mut taken = 0;
        for tick in 1..=18_000_u64 {
            let time = MonoTime::from_nanos(at(0).nanos() + tick * 100_000_000);
            taken += u64::from(history.push(time, 7, 1_000));
        }
        assert_eq!(taken, 360);
        assert_eq!(history.samples.len(), 61);
        assert_eq!(history.last(Duration::from_secs(60)).len(), 13);
    }

    #[test]
    fn a_climb_begins_where_it_was_level() {
        let mut history = History::new(at(0), 500);
        for second in (10..=200).step_by(10) {
            history.push(at(second), 500, 1_000);
        }
        for second in (210..=270).step_by(10) {
            history.push(at(second), 500 + (second - 200), 1_000);
        }
        // 10 in 60 s are 1 %: the first of them is a climb already.
        assert_eq!(history.climbs_from(), Sample { time: at(200), open: 500 });
        assert!(history.has_been_level());
        let (climb, highest) = history.climb();
        assert_eq!((climb.len(), highest), (8, 500));
    }

    #[test]
    fn growth_is_that_of_the_whole_window() {
        let mut history = History::new(at(0), 900);
        assert_eq!(history.mean_growth(), None);
        history.push(at(10), 100, 1_000);
        assert_eq!(history.mean_growth(), Some(-80.0));
        history.push(at(20), 1_000, 1_000);
        assert_eq!(history.mean_growth(), Some(5.0));
    }

    #[test]
    fn nothing_is_level_before_a_minute() {
        let mut history = History::new(at(0), 500);
        for second in (10..60).step_by(10) {
            history.push(at(second), 500, 1_000);
        }
        assert!(!history.has_been_level());
        assert_eq!(history.climbs_from().time, at(0));
        history.push(at(60), 500, 1_000);
        assert!(history.has_been_level());
    }

    #[test]
    fn what_left_the_window_is_remembered_by_its_height() {
        let mut history = History::new(at(0), 900);
        for second in (10..=600).step_by(10) {
            history.push(at(second), 100, 1_000);
        }
        assert_eq!(history.climb().1, 900);
    }
}
