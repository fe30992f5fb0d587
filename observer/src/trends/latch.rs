//! PURE. Two bars in place of one: over the upper it begins, under the lower it ends.

use std::time::Duration;

use crate::model::MonoTime;

/// What begins again so soon after its end is one thing that comes and goes. Chosen: longer than
/// the cycle of any reconnect storm that was measured.
const RELAPSE: Duration = Duration::from_secs(300);

/// For how long what comes and goes has to be gone before it is over. Chosen: a wave with a shorter
/// pause would be reported again and again.
const CALM: Duration = Duration::from_secs(60);

/// Something that is over its bar, or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latch {
    since: Option<MonoTime>,
    /// When it last ended after it had become a finding.
    ended: Option<MonoTime>,
    /// It came back soon after it had ended.
    comes_and_goes: bool,
    calm_since: Option<MonoTime>,
}

impl Latch {
    /// Since when it lasts.
    pub(super) fn since(&self) -> Option<MonoTime> {
        self.since
    }

    /// Whether it lasts, or its end is not forgotten yet.
    pub(super) fn is_of_use(&self, now: MonoTime) -> bool {
        self.since.is_some() || self.ended.is_some_and(|ended| now.since(ended) < RELAPSE)
    }

    /// Its bars have moved: how it came and went before says nothing.
    pub(super) fn forgive(&mut self) {
        self.comes_and_goes = false;
        self.ended = None;
    }

    /// A look at `now`: whether it `begins` by itself, and whether it `lasts` if it has begun. It
    /// is a finding after `budget`: what ends earlier has never been one.
    pub(super) fn look(&mut self, begins: bool, lasts: bool, budget: Duration, now: MonoTime) {
        let Some(since) = self.since else {
            if begins {
                let relapsed = self.ended.is_some_and(|ended| now.since(ended) < RELAPSE);
                *self = Self { since: Some(now), comes_and_goes: relapsed, ..Self::default() };
            }
            return;
        };
        if begins || lasts {
            self.calm_since = None;
            return;
        }
        let was_finding = since.after(budget) <= now;
        let calm_since = *self.calm_since.get_or_insert(now);
        if was_finding && self.comes_and_goes && now.since(calm_since) < CALM {
            return;
        }
        *self = Self { ended: was_finding.then_some(now), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second: `+` begins, `=` lasts, `-` neither. The answer has a `#` where it is
    /// so.
    fn looks(budget: u64, story: &str) -> String {
        let mut latch = Latch::default();
        let mut now = MonoTime::from_nanos(1_000_000_000_000);
        story
            .chars()
            .map(|look| {
                now = now.after(Duration::from_secs(1));
                latch.look(look == '+', look != '-', Duration::from_secs(budget), now);
                if latch.since().is_some() { '#' } else { '.' }
            })
            .collect()
    }

    #[test]
    fn it_begins_over_the_upper_bar_and_ends_under_the_lower() {
        let cases = [
            ("-=+=-", "..##."),
            ("===", "..."),
            ("+-", "#."),
            // It comes back: now a pause does not end it.
            ("+-+--==-", "#.######"),
        ];
        for (story, expected) in cases {
            assert_eq!(looks(0, story), expected, "{story}");
        }
    }

    #[test]
    fn what_comes_and_goes_ends_after_a_minute_of_calm() {
        let story = format!("+-+{}", "-".repeat(70));
        let told = looks(0, &story);
        assert_eq!(told.find("#.#"), Some(0));
        assert_eq!(told[2..].find('.'), Some(61), "{told}");
    }

    #[test]
    fn a_relapse_after_minutes_is_a_new_one() {
        for (pause, is_held) in [(299, true), (301, false)] {
            let story = format!("+-{}+-", "-".repeat(pause - 1));
            assert_eq!(looks(0, &story).ends_with('#'), is_held, "{pause}");
        }
    }

    #[test]
    fn what_ends_before_its_budget_was_nothing() {
        assert_eq!(looks(3, "++-++-++-"), "##.##.##.");
        // The third `-` comes after the budget, and after a relapse of nothing.
        assert_eq!(looks(3, "++-+++++-+++++--"), "##.#####.#######");
        // A calm that began before the budget ran out is not held over it.
        assert_eq!(looks(3, "++++-++--"), "####.##..");
    }
}
