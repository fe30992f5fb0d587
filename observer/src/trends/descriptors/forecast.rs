//! PURE. When the descriptors of a process run out, if that can be said in good faith.
//!
//! A forecast is made from the present climb alone, and only if it is a climb beyond doubt: it goes
//! on, it does not flatten, it reaches what the process never had, and it is no start.

use std::time::Duration;

use super::history::{History, Sample};
use crate::model::MonoTime;

/// The least that a forecast rests on. Chosen: the shortest time in which a pace is one.
const LEAST_SPAN: Duration = Duration::from_secs(60);

/// A forecast reaches so many times as far into the future as its samples into the past. Chosen:
/// with the whole history of 5 minutes it reaches 15, which is the horizon: whoever is on call can
/// act within it.
const REACH: u32 = 3;

/// The least growth: this, or a twentieth of the limit. Chosen: fewer come with any burst of work.
const LEAST_GROWN: u64 = 50;

/// A process that comes up grows for so long at the most. Chosen: a fleet of 12,000 that connects
/// at the slowest pace in use (20 a second) needs 10 minutes.
const START: Duration = Duration::from_secs(900);

/// Over which time the present pace is measured where a forecast stands already.
const PRESENT: Duration = Duration::from_secs(100);

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Forecast {
    /// How many more there are every second.
    pub(super) per_second: f64,
    /// How long until there is none left.
    pub(super) left: Duration,
}

/// When a process that has `open` of `limit` descriptors has none left; `None` unless it climbs
/// beyond doubt. `started` is when the process was started, at the latest: the kernel says it by
/// another clock, which runs ahead by the time spent suspended, so it may look younger than it is.
pub(super) fn forecast(
    history: &History,
    open: u64,
    limit: u64,
    started: MonoTime,
    now: MonoTime,
) -> Option<Forecast> {
    let (climb, highest) = history.climb();
    let (first, last) = (climb.first()?, climb.last()?);
    let span = last.time.since(first.time);
    let grown = last.open.saturating_sub(first.open);
    let is_enough = span >= LEAST_SPAN && grown >= LEAST_GROWN.min(limit / 20).max(1);
    let free = limit.saturating_sub(open);
    // Far off by any measure: most of what climbs needs no closer look.
    if free > grown.saturating_mul(2 * u64::from(REACH)) {
        return None;
    }
    let reaches_new_ground = 2 * last.open.saturating_sub(highest.max(first.open)) >= grown;
    if !is_enough || !reaches_new_ground || is_start(history, open, started, now) {
        return None;
    }
    if !goes_one_way(&climb) || !is_beyond_chance(&climb) {
        return None;
    }
    let whole = slope(&climb)?;
    let third = span / 3;
    let [early, lately] = [
        slope(&part(&climb, |it| it.time.since(first.time) <= third))?,
        slope(&part(&climb, |it| last.time.since(it.time) <= third))?,
    ];
    if lately < whole / 2.0 || comes(early, lately, third) < free as f64 {
        return None;
    }
    // What slows down goes on as it lately did.
    let per_second = whole.min(lately);
    let left = until_full(open, limit, per_second)?;
    (left <= span * REACH).then_some(Forecast { per_second, left })
}

/// How it goes on at the pace of the last moments, with no question of how sure that is: for what
/// has been forecast already.
pub(super) fn at_present_pace(history: &History, open: u64, limit: u64) -> Option<Forecast> {
    let per_second = slope(&history.last(PRESENT))?;
    Some(Forecast { per_second, left: until_full(open, limit, per_second)? })
}

/// How many more there are every second: the median of the slopes between all pairs (Theil and
/// Sen), which a fourth of wild samples does not move.
fn slope(samples: &[Sample]) -> Option<f64> {
    let mut slopes: Vec<f64> = pairs(samples)
        .map(|(older, newer)| {
            (newer.open as f64 - older.open as f64) / newer.time.since(older.time).as_secs_f64()
        })
        .collect();
    let middle = slopes.len() / 2;
    if slopes.is_empty() {
        return None;
    }
    Some(*slopes.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// How many more come before it stands still, if the pace goes on falling from third to third of
/// the climb as it has fallen between the first and the last.
fn comes(early: f64, lately: f64, third: Duration) -> f64 {
    let kept = (lately / early).max(0.0).sqrt();
    // The sum of a geometric series.
    if kept < 1.0 { lately * third.as_secs_f64() * kept / (1.0 - kept) } else { f64::INFINITY }
}

fn part(samples: &[Sample], is_in: impl Fn(&Sample) -> bool) -> Vec<Sample> {
    samples.iter().copied().filter(is_in).collect()
}

fn until_full(open: u64, limit: u64, per_second: f64) -> Option<Duration> {
    let seconds = limit.saturating_sub(open) as f64 / per_second;
    // A pace of zero or less has no end; nor has one that takes longer than time can say.
    (per_second > 0.0).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

/// Whether a process may still be coming up: from little or nothing to twice as many and more, or
/// soon after its start without having been level since. So does a fleet whose broker is back.
fn is_start(history: &History, open: u64, started: MonoTime, now: MonoTime) -> bool {
    let from = history.climbs_from();
    let has_come_from_level = history.has_been_level() || now.since(started) >= START;
    let is_on_top = open < 2 * from.open && has_come_from_level;
    !is_on_top && now.since(from.time) < START
}

/// All falls together are a fifth of the rises at the most: a sawtooth is no climb.
fn goes_one_way(samples: &[Sample]) -> bool {
    let steps = || samples.iter().zip(samples.iter().skip(1));
    let rises: u64 = steps().map(|(older, newer)| newer.open.saturating_sub(older.open)).sum();
    let falls: u64 = steps().map(|(older, newer)| older.open.saturating_sub(newer.open)).sum();
    5 * falls <= rises
}

/// Whether the samples are in an order that chance does not make: Kendall's rank correlation with
/// time is four standard deviations or more from none. The variance of its sum over n samples is
/// n (n - 1) (2 n + 5) / 18 (M. G. Kendall, Rank Correlation Methods, 1948). Chosen: with three,
/// one of 300 reconnect storms that begin from a level looks like a climb; ten samples are the
/// least that reach four.
fn is_beyond_chance(samples: &[Sample]) -> bool {
    let sum: i64 = pairs(samples)
        .map(|(older, newer)| match newer.open.cmp(&older.open) {
            std::cmp::Ordering::Greater => 1,
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Less => -1,
        })
        .sum();
    let count = samples.len() as i64;
    sum > 0 && 18 * sum * sum >= 16 * count * (count - 1) * (2 * count + 5)
}

/// All pairs of an older and a newer sample: 1,830 at the most.
fn pairs(samples: &[Sample]) -> impl Iterator<Item = (&Sample, &Sample)> {
    samples
        .iter()
        .enumerate()
        .flat_map(|(index, older)| samples.iter().skip(index + 1).map(move |newer| (older, newer)))
}

#[cfg(test)]
mod tests;
