//! PURE. The config as it is written: each key has its own field. And back.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use jiff::Timestamp;

use super::{Api, Config, Credentials, Fleet, Pool, Privileges, Profile, Sinks, Tls, Watch};
use crate::{
    detect::{Budgets, Kind},
    trends::Thresholds,
    tuning::{Act, ContainerGlob, Destination, Glob, Rule, UnitGlob},
};

/// What the keys say, each by itself.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) watch: Watch,
    /// In the order of [`Kind::ALL`].
    pub(super) budgets: [Duration; Kind::ALL.len()],
    pub(super) thresholds: Thresholds,
    pub(super) rules: Vec<WrittenRule>,
    /// The one of them that is being read or written.
    pub(super) rule: WrittenRule,
    pub(super) pool: WrittenPool,
    pub(super) fleet: Fleet,
    pub(super) sinks: Sinks,
    pub(super) api: Api,
    pub(super) privileges: Privileges,
}

#[derive(Clone, Debug)]
pub(super) struct WrittenPool {
    pub(super) broker: Option<pool::Broker>,
    pub(super) tls: Tls,
    pub(super) version: pool::Version,
    pub(super) limits: WrittenLimits,
    pub(super) keep_alive: Duration,
    pub(super) clean_start: bool,
    pub(super) session_expiry: Duration,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) sources: Vec<IpAddr>,
    pub(super) redirects: Vec<String>,
    pub(super) timeouts: pool::Timeouts,
    pub(super) buffers: pool::Buffers,
    pub(super) descriptor_headroom: Option<u64>,
}

/// A rule with all its keys; one that is right has either `budget`, or `ignore` and `until`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WrittenRule {
    pub(super) kinds: Vec<Kind>,
    pub(super) comm: Option<Glob>,
    pub(super) unit: Option<UnitGlob>,
    pub(super) container: Option<ContainerGlob>,
    pub(super) destination: Option<Destination>,
    pub(super) budget: Option<Duration>,
    pub(super) ignore: Option<String>,
    pub(super) until: Option<Timestamp>,
}

/// A profile and what is changed in it; `None` is what the profile has.
#[derive(Clone, Debug, Default)]
pub(super) struct WrittenLimits {
    pub(super) profile: Profile,
    pub(super) min_interval: Option<Duration>,
    pub(super) max_in_flight: Option<usize>,
    /// 0 for no reservoir.
    pub(super) reservoir_amount: Option<u32>,
    pub(super) reservoir_refresh_amount: Option<u32>,
    pub(super) reservoir_refresh_interval: Option<Duration>,
    /// 0 for a number in flight that does not follow the broker.
    pub(super) adaptive_initial: Option<usize>,
    pub(super) adaptive_tolerance: Option<f64>,
    pub(super) connect_spacing: Option<Duration>,
}

impl Default for Written {
    fn default() -> Self {
        Self::from(&Config::default())
    }
}

impl Default for WrittenPool {
    fn default() -> Self {
        // Nobody ever connects to it: only what else the pool's defaults say is taken.
        let broker = pool::Broker::parse("mqtt://localhost").expect("invariant: a fixed address");
        let pool = Self::from(&Pool::new(broker));
        Self { broker: None, limits: WrittenLimits::default(), ..pool }
    }
}

impl From<&Config> for Written {
    fn from(config: &Config) -> Self {
        let pool = config.pool.as_ref().map(WrittenPool::from).unwrap_or_default();
        let config = config.clone();
        Self {
            watch: config.watch,
            budgets: Kind::ALL.map(|kind| config.budgets.get(kind)),
            thresholds: config.thresholds,
            rules: config.rules.into_iter().map(WrittenRule::from).collect(),
            rule: WrittenRule::default(),
            pool,
            fleet: config.fleet,
            sinks: config.sinks,
            api: config.api,
            privileges: config.privileges,
        }
    }
}

impl From<Written> for Config {
    fn from(written: Written) -> Self {
        let mut budgets = Budgets::default();
        for (kind, budget) in Kind::ALL.into_iter().zip(written.budgets) {
            budgets.set(kind, budget);
        }
        Self {
            watch: written.watch,
            budgets,
            thresholds: written.thresholds,
            rules: written.rules.into_iter().filter_map(WrittenRule::rule).collect(),
            pool: written.pool.into(),
            fleet: written.fleet,
            sinks: written.sinks,
            api: written.api,
            privileges: written.privileges,
        }
    }
}

impl From<Rule<Timestamp>> for WrittenRule {
    fn from(rule: Rule<Timestamp>) -> Self {
        let Rule { kinds, comm, unit, container, destination, act } = rule;
        let (budget, ignore, until) = match act {
            Act::Budget(budget) => (Some(budget), None, None),
            Act::Ignore { reason, until } => (None, Some(reason.to_string()), Some(until)),
        };
        Self { kinds, comm, unit, container, destination, budget, ignore, until }
    }
}

impl WrittenRule {
    fn rule(self) -> Option<Rule<Timestamp>> {
        let Self { kinds, comm, unit, container, destination, budget, ignore, until } = self;
        let act = match (budget, ignore, until) {
            (Some(budget), _, _) => Act::Budget(budget),
            (None, Some(reason), Some(until)) => Act::Ignore { reason: reason.into(), until },
            _ => return None,
        };
        Some(Rule { kinds, comm, unit, container, destination, act })
    }
}

impl From<&Pool> for WrittenPool {
    fn from(pool: &Pool) -> Self {
        let pool = pool.clone();
        let credentials = pool.credentials;
        Self {
            broker: Some(pool.broker),
            tls: pool.tls,
            version: pool.version,
            limits: WrittenLimits::new(pool.profile, &pool.limits),
            keep_alive: pool.keep_alive,
            clean_start: pool.clean_start,
            session_expiry: pool.session_expiry,
            username: credentials.as_ref().map(|it| it.username.clone()),
            password_file: credentials.and_then(|it| it.password_file),
            sources: pool.sources,
            redirects: pool.redirects,
            timeouts: pool.timeouts,
            buffers: pool.buffers,
            descriptor_headroom: pool.descriptor_headroom,
        }
    }
}

impl From<WrittenPool> for Option<Pool> {
    fn from(written: WrittenPool) -> Self {
        Some(Pool {
            broker: written.broker?,
            tls: written.tls,
            version: written.version,
            profile: written.limits.profile,
            limits: written.limits.limits(),
            keep_alive: written.keep_alive,
            clean_start: written.clean_start,
            session_expiry: written.session_expiry,
            credentials: written
                .username
                .map(|username| Credentials { username, password_file: written.password_file }),
            sources: written.sources,
            redirects: written.redirects,
            timeouts: written.timeouts,
            buffers: written.buffers,
            descriptor_headroom: written.descriptor_headroom,
        })
    }
}

impl WrittenLimits {
    pub(super) fn new(profile: Profile, limits: &pool::Limits) -> Self {
        let (reservoir, adaptive) = (limits.reservoir, limits.adaptive);
        Self {
            profile,
            min_interval: Some(limits.min_interval),
            max_in_flight: Some(limits.max_in_flight),
            reservoir_amount: Some(reservoir.map_or(0, |it| it.amount)),
            reservoir_refresh_amount: reservoir.map(|it| it.refresh_amount),
            reservoir_refresh_interval: reservoir.map(|it| it.refresh_interval),
            adaptive_initial: Some(adaptive.map_or(0, |it| it.initial)),
            adaptive_tolerance: adaptive.map(|it| it.tolerance),
            connect_spacing: Some(limits.connect_spacing),
        }
    }

    /// The profile with the changes.
    pub(super) fn limits(&self) -> pool::Limits {
        let profile = self.profile.limits();
        let max_in_flight = self.max_in_flight.unwrap_or(profile.max_in_flight);
        pool::Limits {
            min_interval: self.min_interval.unwrap_or(profile.min_interval),
            max_in_flight,
            reservoir: self.reservoir(profile.reservoir),
            adaptive: self.adaptive(profile.adaptive, max_in_flight),
            connect_spacing: self.connect_spacing.unwrap_or(profile.connect_spacing),
        }
    }

    fn reservoir(&self, profile: Option<pool::Reservoir>) -> Option<pool::Reservoir> {
        let amount = self.reservoir_amount.or(profile.map(|it| it.amount));
        let amount = amount.filter(|amount| *amount > 0)?;
        // A profile without one says nothing about its windows; the article's are the only known.
        let interval = profile.or(pool::Limits::article().reservoir)?.refresh_interval;
        Some(pool::Reservoir {
            amount,
            refresh_amount: self.reservoir_refresh_amount.unwrap_or(match profile {
                Some(it) if self.reservoir_amount.is_none() => it.refresh_amount,
                _ => amount,
            }),
            refresh_interval: self.reservoir_refresh_interval.unwrap_or(interval),
        })
    }

    fn adaptive(
        &self,
        profile: Option<pool::Adaptive>,
        max_in_flight: usize,
    ) -> Option<pool::Adaptive> {
        // Nobody who lowers the window alone should have to know where it begins.
        let first = profile.map(|it| it.initial.min(max_in_flight));
        let initial = self.adaptive_initial.or(first).filter(|initial| *initial > 0)?;
        let usual = profile.or(pool::Limits::adaptive().adaptive)?.tolerance;
        Some(pool::Adaptive { initial, tolerance: self.adaptive_tolerance.unwrap_or(usual) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_with_changes() {
        let article = WrittenLimits { profile: Profile::Article, ..WrittenLimits::default() };
        let fast = WrittenLimits { profile: Profile::Adaptive, ..WrittenLimits::default() };
        let seconds = Duration::from_secs;
        let reservoir = |amount, refresh_amount, window| {
            Some(pool::Reservoir {
                amount,
                refresh_amount,
                refresh_interval: Duration::from_secs(window),
            })
        };
        for (written, limits) in [
            (WrittenLimits::default(), pool::Limits::paced()),
            (article.clone(), pool::Limits::article()),
            (fast.clone(), pool::Limits::adaptive()),
            (
                WrittenLimits { reservoir_amount: Some(0), ..article.clone() },
                pool::Limits { reservoir: None, ..pool::Limits::article() },
            ),
            (
                WrittenLimits { reservoir_amount: Some(5), ..WrittenLimits::default() },
                pool::Limits { reservoir: reservoir(5, 5, 10), ..pool::Limits::paced() },
            ),
            (
                WrittenLimits { reservoir_refresh_interval: Some(seconds(3)), ..article.clone() },
                pool::Limits { reservoir: reservoir(200, 200, 3), ..pool::Limits::article() },
            ),
            (
                WrittenLimits { reservoir_amount: Some(5), ..article.clone() },
                pool::Limits { reservoir: reservoir(5, 5, 10), ..pool::Limits::article() },
            ),
            (
                WrittenLimits { reservoir_refresh_amount: Some(7), ..article },
                pool::Limits { reservoir: reservoir(200, 7, 10), ..pool::Limits::article() },
            ),
            (
                WrittenLimits { adaptive_initial: Some(0), ..fast.clone() },
                pool::Limits { adaptive: None, ..pool::Limits::adaptive() },
            ),
            (
                WrittenLimits { max_in_flight: Some(4), adaptive_tolerance: Some(3.0), ..fast },
                pool::Limits {
                    max_in_flight: 4,
                    adaptive: Some(pool::Adaptive { initial: 4, tolerance: 3.0 }),
                    ..pool::Limits::adaptive()
                },
            ),
            (
                WrittenLimits {
                    adaptive_initial: Some(3),
                    min_interval: Some(seconds(1)),
                    connect_spacing: Some(seconds(2)),
                    ..WrittenLimits::default()
                },
                pool::Limits {
                    min_interval: seconds(1),
                    connect_spacing: seconds(2),
                    adaptive: Some(pool::Adaptive { initial: 3, tolerance: 2.0 }),
                    ..pool::Limits::paced()
                },
            ),
        ] {
            assert_eq!(written.limits(), limits, "{written:?}");
            assert_eq!(WrittenLimits::new(written.profile, &limits).limits(), limits);
        }
    }
}
