//! A stock of dials that is filled up again in fixed windows, in the meaning of Bottleneck 2.19.5
//! (`lib/LocalDatastore.js`).
//!
//! - The windows count from the creation of the limiter. A heartbeat of 250 ms looks whether one is
//!   over, so each lasts for a multiple of that.
//! - A refresh *sets* the stock to `refresh_amount`: what was left is lost.
//! - A dial is taken out of the stock when it is *registered*, which is as soon as there is a place
//!   for it among those in flight, and before it waits for `min_interval`. So up to a window full
//!   of dials can be carried over a refresh.
//!
//! Ours registers places and not devices: who goes is decided when the dial begins, so that a
//! device of higher priority, or one that was cancelled, still counts.

use crate::policy::Reservoir as Settings;
use std::time::{Duration, Instant};

/// Bottleneck's, without a cluster.
const HEARTBEAT: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Reservoir {
    settings: Settings,
    stock: usize,
    /// Taken out of the stock, not begun yet.
    registered: usize,
    next_refresh: Instant,
    /// As it was when the limiter last changed: what a refresh since then had before it.
    demand: Demand,
}

/// Who could be registered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    /// How many more may be in flight.
    pub(super) places: usize,
    /// How many wait and are due.
    pub(super) waiting: usize,
}

impl Reservoir {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        let mut reservoir = Self {
            settings,
            stock: settings.amount as usize,
            registered: 0,
            next_refresh: now,
            demand: Demand::default(),
        };
        reservoir.next_refresh = after(now, reservoir.period());
        reservoir
    }

    /// Begins anew when the settings changed, as Bottleneck's `updateSettings` does; who is
    /// registered stays so.
    pub(super) fn set(&mut self, settings: Settings, now: Instant) {
        if settings != self.settings {
            let Self { registered, demand, .. } = *self;
            *self = Self { registered, demand, ..Self::new(settings, now) };
        }
    }

    /// Catches up with the refreshes until `now`. To be called before anything else changes.
    pub(super) fn refresh(&mut self, now: Instant) {
        while now >= self.next_refresh {
            self.stock = self.settings.refresh_amount as usize;
            let before = self.registered;
            self.register(self.demand);
            let period = self.period();
            if self.registered == before {
                // Whatever refreshes there were besides this one changed nothing.
                let behind = now.duration_since(self.next_refresh).as_nanos() % period.as_nanos();
                let rest = period.saturating_sub(Duration::from_nanos_u128(behind));
                self.next_refresh = after(now, rest);
                return;
            }
            self.next_refresh = after(self.next_refresh, period);
        }
    }

    /// Registers whom it can. Of those who are registered and have gone away, it takes back the
    /// dials, but never beyond a full stock.
    pub(super) fn register(&mut self, demand: Demand) {
        self.demand = demand;
        if self.registered > demand.waiting {
            let unused = self.registered - demand.waiting;
            let full = (self.settings.refresh_amount as usize).max(self.stock);
            self.stock = (self.stock + unused).min(full);
            self.registered = demand.waiting;
        }
        let more = demand.places.min(demand.waiting).saturating_sub(self.registered);
        let more = more.min(self.stock);
        self.stock -= more;
        self.registered += more;
    }

    /// When there may be a dial to begin; `None` says as soon as somebody wants one.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.registered == 0 && self.stock == 0).then_some(self.next_refresh)
    }

    /// One of the registered dials begins.
    pub(super) fn begin(&mut self) {
        self.registered = self.registered.saturating_sub(1);
    }

    /// What is left until the next refresh.
    pub(super) fn stock(&self) -> usize {
        self.stock
    }

    fn period(&self) -> Duration {
        let beats = self.settings.refresh_interval.as_nanos().div_ceil(HEARTBEAT.as_nanos());
        HEARTBEAT.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX).max(1))
    }
}

/// A time beyond what an `Instant` can hold never comes anyway: then `time` stays.
fn after(time: Instant, wait: Duration) -> Instant {
    time.checked_add(wait).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::simulation::origin;

    const MANY: Demand = Demand { places: usize::MAX, waiting: usize::MAX };

    fn settings(amount: u32, refresh_amount: u32, interval_ms: u64) -> Settings {
        let refresh_interval = Duration::from_millis(interval_ms);
        Settings { amount, refresh_amount, refresh_interval }
    }

    #[track_caller]
    fn check_period(interval_ms: u64, expected_ms: u64) {
        let origin = origin();
        let reservoir = Reservoir::new(settings(1, 1, interval_ms), origin);
        assert_eq!(reservoir.next_refresh - origin, Duration::from_millis(expected_ms));
    }

    #[test]
    fn a_window_ends_with_a_heartbeat() {
        check_period(10, 250);
        check_period(250, 250);
        check_period(251, 500);
        check_period(10_000, 10_000);
        check_period(10_001, 10_250);
    }

    #[test]
    fn a_refresh_sets_the_stock_and_the_rest_is_lost() {
        let origin = origin();
        let mut reservoir = Reservoir::new(settings(7, 3, 1_000), origin);
        assert_eq!(reservoir.stock(), 7);
        reservoir.refresh(origin + Duration::from_millis(999));
        assert_eq!(reservoir.stock(), 7);
        reservoir.refresh(origin + Duration::from_millis(1_000));
        assert_eq!(reservoir.stock(), 3);
        reservoir.refresh(origin + Duration::from_millis(7_400));
        assert_eq!(reservoir.stock(), 3);
        assert_eq!(reservoir.next_refresh, origin + Duration::from_secs(8), "not from the look");
    }

    #[test]
    fn a_place_is_needed_to_be_registered() {
        let mut reservoir = Reservoir::new(settings(10, 10, 1_000), origin());
        reservoir.register(Demand { places: 4, waiting: 20 });
        assert_eq!((reservoir.stock(), reservoir.next()), (6, None));
        for _ in 0..4 {
            reservoir.begin();
        }
        reservoir.register(Demand { places: 0, waiting: 16 });
        assert_eq!((reservoir.stock(), reservoir.registered), (6, 0));
    }

    #[test]
    fn only_an_empty_stock_waits_for_the_refresh() {
        let origin = origin();
        let mut reservoir = Reservoir::new(settings(2, 2, 1_000), origin);
        assert_eq!(reservoir.next(), None);
        reservoir.register(MANY);
        assert_eq!((reservoir.stock(), reservoir.next()), (0, None));
        reservoir.begin();
        reservoir.begin();
        assert_eq!(reservoir.next(), Some(origin + Duration::from_secs(1)));
    }

    #[test]
    fn who_goes_away_gives_the_dial_back_but_never_beyond_a_full_stock() {
        let origin = origin();
        let mut reservoir = Reservoir::new(settings(10, 10, 1_000), origin);
        reservoir.register(Demand { places: 8, waiting: 8 });
        reservoir.register(Demand { places: 8, waiting: 2 });
        assert_eq!((reservoir.stock(), reservoir.registered), (8, 2));
        reservoir.register(Demand { places: 8, waiting: 8 });
        reservoir.refresh(origin + Duration::from_secs(1));
        reservoir.register(Demand { places: 8, waiting: 0 });
        assert_eq!((reservoir.stock(), reservoir.registered), (10, 0));
    }

    #[test]
    fn each_of_several_missed_refreshes_gives_its_amount() {
        let origin = origin();
        let mut reservoir = Reservoir::new(settings(2, 2, 1_000), origin);
        reservoir.register(Demand { places: 5, waiting: 9 });
        reservoir.refresh(origin + Duration::from_millis(3_500));
        assert_eq!((reservoir.registered, reservoir.stock()), (5, 2));
        assert_eq!(reservoir.next_refresh, origin + Duration::from_secs(4));
    }

    #[test]
    fn absurd_settings_do_not_break_it() {
        let origin = origin();
        for interval in [Duration::ZERO, Duration::MAX] {
            let settings = Settings { amount: 0, refresh_amount: 0, refresh_interval: interval };
            let mut reservoir = Reservoir::new(settings, origin);
            reservoir.register(MANY);
            reservoir.refresh(origin + Duration::from_secs(1_000_000));
            assert_eq!(reservoir.stock(), 0);
        }
    }
}
