//! How many connections a process has to one destination, over time.

use std::{sync::Arc, time::Duration};

use super::level::Level;
use crate::model::MonoTime;

/// A climb is one of at least so many connections, and of at least one in [`SHARE`]. Chosen: ten
/// lost descriptors are worth a look, and a large fleet changes by a tenth only for a reason.
const LEAST: u64 = 10;

/// See [`LEAST`].
const SHARE: u64 = 10;

/// Of so many that were opened one may have been closed, or it is a reconnect and no leak.
const CLOSED_SHARE: u64 = 20;

/// A leak makes one connection for each device and second at most, for clients wait that long
/// before they connect again; and where there are few devices, no more than so many a second. What
/// climbs faster than that is a fleet that starts beside the connections that were there.
const FEW_DEVICES: u64 = 5;

/// Client ids that look like one device's: the older and the newer.
pub(super) type Twins = Vec<(Arc<str>, Arc<str>)>;

/// The number of live connections and what is known of its level.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) live: u64,
    /// One connection is one device: a client id was seen, or the port says so.
    pub(super) is_mqtt: bool,
    declared: Option<u64>,
    level: Level,
    /// The level at which it stood first, or after the last finding.
    plateau: Option<u64>,
    /// A finding is over: the next level counts too.
    measures_anew: bool,
    climb: Option<Climb>,
}

/// More connections than there should be.
#[derive(Debug)]
pub(super) struct Climb {
    pub(super) began: MonoTime,
    pub(super) opened: u64,
    pub(super) closed: u64,
    /// Since when there are too many.
    over: Option<MonoTime>,
    /// It has been a finding.
    stands: bool,
    /// Records are missing.
    pub(super) is_doubtful: bool,
    pub(super) twins: Twins,
}

/// There are too many.
#[derive(Debug)]
pub(super) struct Excess<'a> {
    pub(super) since: MonoTime,
    pub(super) due: MonoTime,
    pub(super) expected: u64,
    pub(super) declared: bool,
    /// It has become a finding just now.
    pub(super) is_new: bool,
    pub(super) climb: &'a mut Climb,
}

impl Course {
    pub(super) fn new(is_mqtt: bool, now: MonoTime) -> Self {
        Self {
            live: 0,
            is_mqtt,
            declared: None,
            level: Level::new(0, now),
            plateau: None,
            measures_anew: false,
            climb: None,
        }
    }

    /// Whether anything is known of it that is worth keeping while there is no connection.
    pub(super) fn is_worth_keeping(&self) -> bool {
        self.live > 0 || self.is_mqtt && self.plateau.is_some()
    }

    /// connect(2) was called.
    pub(super) fn attempt(&mut self, now: MonoTime) {
        self.pass(now);
        self.level.attempt(self.live, now);
    }

    /// Records are missing.
    pub(super) fn lose(&mut self) {
        if let Some(climb) = &mut self.climb {
            climb.is_doubtful = true;
        }
    }

    /// How many devices there are, if that was declared.
    pub(super) fn declare(&mut self, devices: Option<u64>, now: MonoTime) {
        if self.declared != devices {
            self.declared = devices;
            self.climb = None;
            self.take(self.live, 0, 0, now);
        }
    }

    /// The number is `live` now, after so many were opened and closed.
    pub(super) fn take(&mut self, live: u64, opened: u64, closed: u64, now: MonoTime) {
        self.pass(now);
        self.live = live;
        self.level.moved(live, now);
        if self.expected().is_none_or(|expected| live <= expected) {
            self.subside(now);
            self.climb = None;
            return;
        }
        let climb = self.climb.get_or_insert_with(|| Climb::new(now));
        climb.opened += opened;
        climb.closed += closed;
        if !is_too_many(live, self.declared, self.plateau) {
            self.subside(now);
        } else if climb.stands || self.declared.is_some() || climb.is_one_way() {
            climb.over.get_or_insert(now);
        } else {
            climb.over = None;
        }
    }

    /// What is wrong now, or will be.
    pub(super) fn judge(&mut self, now: MonoTime, budget: Duration) -> Option<Excess<'_>> {
        let expected = self.expected()?;
        let declared = self.declared.is_some();
        let climb = self.climb.as_mut()?;
        let since = climb.over?;
        if !declared && !self.is_mqtt {
            return None;
        }
        let due = since.after(budget);
        let is_new = due <= now && !climb.stands;
        if is_new && !declared && climb.is_start(expected, now) {
            self.plateau = None;
            self.climb = None;
            self.level = Level::new(self.live, now);
            return None;
        }
        climb.stands |= is_new;
        self.climb.as_mut().map(|climb| Excess { since, due, expected, declared, is_new, climb })
    }

    /// Nothing has changed until `now`.
    fn pass(&mut self, now: MonoTime) {
        let is_over = self.climb.as_ref().is_some_and(|climb| climb.over.is_some());
        if let Some(level) = self.level.pass(now)
            && !is_over
            && (self.plateau.is_none() || self.measures_anew)
        {
            // Half a fleet may be away for long: what has stood once is no climb when it returns.
            self.plateau = self.plateau.max(Some(level));
            self.measures_anew = false;
        }
    }

    /// There are not too many any more.
    fn subside(&mut self, now: MonoTime) {
        let Some(climb) = &mut self.climb else { return };
        climb.over = None;
        if std::mem::take(&mut climb.stands) {
            self.measures_anew = true;
            self.level = Level::new(self.live, now);
        }
    }

    fn expected(&self) -> Option<u64> {
        self.declared.or(self.plateau)
    }
}

impl Climb {
    fn new(now: MonoTime) -> Self {
        Self {
            began: now,
            opened: 0,
            closed: 0,
            over: None,
            stands: false,
            is_doubtful: false,
            twins: Vec::new(),
        }
    }

    fn is_one_way(&self) -> bool {
        self.closed.saturating_mul(CLOSED_SHARE) <= self.opened
    }

    /// Whether so many more cannot be those that were there before.
    fn is_start(&self, devices: u64, now: MonoTime) -> bool {
        let seconds = now.since(self.began).as_secs() + 1;
        self.opened > devices.max(FEW_DEVICES).saturating_mul(seconds)
    }
}

fn is_too_many(live: u64, declared: Option<u64>, plateau: Option<u64>) -> bool {
    match (declared, plateau) {
        (Some(devices), _) => live > devices,
        (None, Some(level)) => live >= level + LEAST && live - level >= level.div_ceil(SHARE),
        (None, None) => false,
    }
}
