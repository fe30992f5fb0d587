//! A rule: what it is about, and what it does.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{ContainerGlob, Destination, Glob, UnitGlob};
use crate::{cgroup::Place, clock::WallClock, detect::Kind, model::MonoTime};

/// Most rules. Chosen: 500 open findings that each ask all of them cost less than a millisecond.
pub const MOST_RULES: usize = 100;

/// A rule. Everything that is given must hold. `T` is how its end is told: by the wall clock in the
/// config, by the clock of the kernel's records where findings are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<T = MonoTime> {
    /// Of these kinds; empty for all.
    pub kinds: Vec<Kind>,
    /// By processes of these names: of the process that the finding names.
    pub comm: Option<Glob>,
    /// Of processes in these systemd units.
    pub unit: Option<UnitGlob>,
    /// Of processes in these containers.
    pub container: Option<ContainerGlob>,
    /// Where the other end is one of these. What has no other end does not match.
    pub destination: Option<Destination>,
    /// What then.
    pub act: Act<T>,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act<T = MonoTime> {
    /// So long it may last.
    Budget(Duration),
    /// It is no finding.
    Ignore {
        /// Why, for people.
        reason: Arc<str>,
        /// The first moment at which it is one again.
        until: T,
    },
}

impl<T> Rule<T> {
    /// Whether it may be about `kind`.
    pub fn is_of(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Whether it names a unit or a container.
    pub fn has_place(&self) -> bool {
        self.unit.is_some() || self.container.is_some()
    }

    /// Whether it is about processes that run there. What has no unit or no container is not met by
    /// a rule that names one.
    pub fn is_at(&self, place: &Place) -> bool {
        let Place { unit, container } = place;
        let is_in = |it: &UnitGlob| unit.as_ref().is_some_and(|unit| it.matches(unit));
        let inside = |it: &ContainerGlob| container.as_ref().is_some_and(|name| it.matches(name));
        self.unit.as_ref().is_none_or(is_in) && self.container.as_ref().is_none_or(inside)
    }

    /// Whether it is about a process of the name `comm` towards `remote`, wherever it may run.
    pub fn matches(&self, comm: &str, remote: Option<SocketAddr>) -> bool {
        let reaches = |it: &Destination| remote.is_some_and(|remote| it.contains(remote));
        self.destination.as_ref().is_none_or(reaches)
            && self.comm.as_ref().is_none_or(|it| it.matches(comm))
    }

    /// The budget that it gives, if it gives one.
    pub fn budget(&self) -> Option<Duration> {
        match self.act {
            Act::Budget(budget) => Some(budget),
            Act::Ignore { .. } => None,
        }
    }

    /// Why it ignores; empty for a rule with a budget.
    pub fn reason(&self) -> &str {
        match &self.act {
            Act::Budget(_) => "",
            Act::Ignore { reason, .. } => reason,
        }
    }
}

impl Rule<Timestamp> {
    /// Whether it ignores nothing any more at `now`.
    pub fn is_over(&self, now: Timestamp) -> bool {
        matches!(self.act, Act::Ignore { until, .. } if until <= now)
    }

    /// The rule with its end on the clock of the kernel's records. That clock stands still while
    /// the host is suspended: a rule lasts longer by such times.
    pub fn timed(self, clock: WallClock) -> Rule {
        let Self { kinds, comm, unit, container, destination, act } = self;
        let act = match act {
            Act::Budget(budget) => Act::Budget(budget),
            Act::Ignore { reason, until } => Act::Ignore { reason, until: clock.moment(until) },
        };
        Rule { kinds, comm, unit, container, destination, act }
    }
}
