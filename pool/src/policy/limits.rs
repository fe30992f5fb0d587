use super::invalid;
use crate::error::CallerError;
use std::time::Duration;

/// How fast connects may begin. Held by one dispatcher for the whole pool, changeable at run time.
///
/// # Examples
///
/// ```
/// use pool::Limits;
/// use std::time::Duration;
///
/// // Twice as fast as the default, at most 20 at once.
/// let limits = Limits { min_interval: Duration::from_millis(5), max_in_flight: 20, ..Limits::paced() };
/// # limits.check().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The least time between two turns. 0 turns it off. At most 60 s. A device without a session
    /// dials at its turn; one that is replaced ends its session then, and dials when its socket is
    /// gone.
    pub min_interval: Duration,
    /// How many connects may be under way at once, from the dial to CONNACK or failure.
    /// 1 to 65,535. Keep it under the listen backlog of the broker: Mosquitto's is 100.
    pub max_in_flight: usize,
    /// How many dials may begin in each window of time; `None` turns it off.
    pub reservoir: Option<Reservoir>,
    /// Lets the number in flight follow what the broker can take, between 1 and `max_in_flight`;
    /// `None` holds it at `max_in_flight`.
    pub adaptive: Option<Adaptive>,
    /// The least time between two CONNECTs of one client id, as long as its device is in the pool.
    /// 0 turns it off. At most 1 hour.
    /// The default is 1 s: AWS IoT Core allows no more, and it ends any fight within the pool.
    pub connect_spacing: Duration,
}

/// A stock of dials that is filled up again in fixed windows: what is left of it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservoir {
    /// How many there are at first. 1 to 1,000,000.
    pub amount: u32,
    /// How many there are after each refresh. 1 to 1,000,000.
    pub refresh_amount: u32,
    /// How long a window lasts, counted from the pool's start. 10 ms to 1 hour.
    pub refresh_interval: Duration,
}

/// How the number of connects in flight follows the broker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// In flight at first. 1 to `max_in_flight`.
    pub initial: usize,
    /// How much longer than usual a connect may take before the window shrinks. 1.0 to 10.0.
    pub tolerance: f64,
}

impl Limits {
    /// The limits of the article this project answers, in Bottleneck's meaning: one dial per 10 ms,
    /// 100 at once, 200 in each 10 s. 4,000 devices take 192 s.
    pub fn article() -> Self {
        Self {
            min_interval: Duration::from_millis(10),
            max_in_flight: 100,
            reservoir: Some(Reservoir {
                amount: 200,
                refresh_amount: 200,
                refresh_interval: Duration::from_secs(10),
            }),
            adaptive: None,
            connect_spacing: Duration::from_secs(1),
        }
    }

    /// The default, and what the article promised: one dial per 10 ms, so 4,000 devices take 40 s.
    pub fn paced() -> Self {
        Self {
            min_interval: Duration::from_millis(10),
            max_in_flight: 80,
            reservoir: None,
            adaptive: None,
            connect_spacing: Duration::from_secs(1),
        }
    }

    /// As fast as the broker takes them without refusing one: the number in flight follows the
    /// time from dial to CONNACK, and stays under the listen backlog.
    pub fn adaptive() -> Self {
        Self {
            min_interval: Duration::ZERO,
            max_in_flight: 80,
            reservoir: None,
            adaptive: Some(Adaptive { initial: 16, tolerance: 2.0 }),
            connect_spacing: Duration::from_secs(1),
        }
    }

    /// A profile by its name: `article`, `paced` or `adaptive`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "article" => Some(Self::article()),
            "paced" => Some(Self::paced()),
            "adaptive" => Some(Self::adaptive()),
            _ => None,
        }
    }

    /// # Errors
    ///
    /// [`CallerError::InvalidField`] for the first value outside its range.
    pub fn check(&self) -> Result<(), CallerError> {
        if self.min_interval > Duration::from_secs(60) {
            return Err(invalid("min_interval", self.min_interval, "0 (off) to 60 s"));
        }
        if !(1..=65_535).contains(&self.max_in_flight) {
            return Err(invalid("max_in_flight", self.max_in_flight, "1 to 65,535"));
        }
        if self.connect_spacing > Duration::from_secs(3_600) {
            return Err(invalid("connect_spacing", self.connect_spacing, "0 (off) to 1 hour"));
        }
        if let Some(reservoir) = &self.reservoir {
            reservoir.check()?;
        }
        if let Some(adaptive) = &self.adaptive {
            if !(1..=self.max_in_flight).contains(&adaptive.initial) {
                return Err(invalid("adaptive.initial", adaptive.initial, "1 to max_in_flight"));
            }
            if !(1.0..=10.0).contains(&adaptive.tolerance) {
                return Err(invalid("adaptive.tolerance", adaptive.tolerance, "1.0 to 10.0"));
            }
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::paced()
    }
}

impl Reservoir {
    fn check(&self) -> Result<(), CallerError> {
        let amounts = 1..=1_000_000;
        if !amounts.contains(&self.amount) {
            return Err(invalid("reservoir.amount", self.amount, "1 to 1,000,000"));
        }
        if !amounts.contains(&self.refresh_amount) {
            return Err(invalid("reservoir.refresh_amount", self.refresh_amount, "1 to 1,000,000"));
        }
        let window = Duration::from_millis(10)..=Duration::from_secs(3_600);
        if !window.contains(&self.refresh_interval) {
            let given = self.refresh_interval;
            return Err(invalid("reservoir.refresh_interval", given, "10 ms to 1 hour"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_are_within_their_ranges() {
        for name in ["article", "paced", "adaptive"] {
            let limits = Limits::named(name).expect("invariant: listed");
            assert_eq!(limits.check(), Ok(()), "{name}");
        }
        assert_eq!(Limits::named("fast"), None);
    }

    #[test]
    fn absurd_values_are_named() {
        let cases = [
            (Limits { max_in_flight: 0, ..Limits::paced() }, "max_in_flight"),
            (Limits { min_interval: Duration::from_secs(61), ..Limits::paced() }, "min_interval"),
            (
                Limits { connect_spacing: Duration::from_secs(3_601), ..Limits::paced() },
                "connect_spacing",
            ),
            (
                Limits {
                    reservoir: Some(Reservoir {
                        amount: 0,
                        refresh_amount: 1,
                        refresh_interval: Duration::from_secs(1),
                    }),
                    ..Limits::paced()
                },
                "reservoir.amount",
            ),
            (
                Limits {
                    adaptive: Some(Adaptive { initial: 81, tolerance: 2.0 }),
                    ..Limits::paced()
                },
                "adaptive.initial",
            ),
        ];
        for (limits, field) in cases {
            let error = limits.check().expect_err("invariant: out of range").to_string();
            assert!(error.starts_with(&format!("invalid {field}: given ")), "{error}");
        }
    }
}
