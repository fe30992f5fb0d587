//! What one storm is made of, all drawn from its seed.

use super::trouble::{Kind, Trouble};
use crate::message::QoS;
use crate::packet::{ServerLimits, Version};
use crate::policy::{Adaptive, BackoffPolicy, Limits, Reservoir, TakeoverPolicy, Timeouts};
use fastrand::Rng;
use std::fmt;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// In the pool from the start.
    pub(super) devices: usize,
    /// Those that join in the middle.
    pub(super) newcomers: usize,
    pub(super) version: Version,
    pub(super) profile: &'static str,
    pub(super) limits: Limits,
    pub(super) backoff: BackoffPolicy,
    pub(super) takeover: TakeoverPolicy,
    pub(super) timeouts: Timeouts,
    pub(super) keep_alive: Duration,
    pub(super) inflight: u16,
    pub(super) outbox: usize,
    pub(super) broker: ServerLimits,
    pub(super) latency: Duration,
    /// How late the pool's own timers are.
    pub(super) lag: Duration,
    /// Messages that find no space at the application at first.
    pub(super) blocked: f64,
    /// Publishes of each device, and messages to it, at most.
    pub(super) messages: usize,
    /// In which time they come.
    pub(super) span: Duration,
    pub(super) troubles: Vec<Trouble>,
}

impl Plan {
    /// No load and no trouble, and a network of a data centre.
    pub(super) fn calm(seed: u64, devices: usize, profile: &'static str) -> Self {
        Self {
            seed,
            devices,
            newcomers: 0,
            version: Version::V311,
            profile,
            limits: Limits::named(profile).unwrap_or_default(),
            backoff: BackoffPolicy::default(),
            takeover: TakeoverPolicy::default(),
            timeouts: Timeouts::default(),
            keep_alive: SECOND * 600,
            inflight: 16,
            outbox: 100,
            broker: ServerLimits::default(),
            latency: Duration::from_micros(100),
            lag: Duration::ZERO,
            blocked: 0.0,
            messages: 0,
            span: SECOND,
            troubles: Vec::new(),
        }
    }

    pub(super) fn draw(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        // Most are small, for a thousand of them have to be played in seconds.
        let devices = if random.u8(..10) == 0 { random.usize(100..=200) } else { 0 };
        let devices = devices.max(random.usize(50..=80));
        let profile = ["article", "paced", "adaptive", "custom"][random.usize(..4)];
        let mut plan = Self::calm(seed, devices, profile);
        plan.version = if random.bool() { Version::V311 } else { Version::V5 };
        if profile == "custom" {
            plan.limits = custom_limits(&mut random);
        }
        if random.bool() {
            let base = Duration::from_millis(random.u64(50..2_000));
            let max = base * random.u32(1..20);
            let stable_after = SECOND * random.u32(0..30);
            plan.backoff = BackoffPolicy { base, max, stable_after };
        }
        if random.bool() {
            let quarantine = SECOND * random.u32(1..30);
            plan.takeover = TakeoverPolicy {
                early: Duration::from_millis(random.u64(0..4_000)),
                times: random.u32(2..5),
                within: SECOND * random.u32(5..90),
                quarantine,
                max_quarantine: quarantine * random.u32(1..5),
            };
        }
        plan.timeouts.receipt = Duration::from_millis(random.u64(10..2_000));
        plan.timeouts.connect = Duration::from_millis(random.u64(2_500..12_000));
        plan.timeouts.close = Duration::from_millis(random.u64(0..500));
        plan.keep_alive = SECOND * random.u32(120..600);
        plan.inflight = random.u16(1..20);
        plan.outbox = random.usize(3..60);
        if plan.version == Version::V5 && random.bool() {
            plan.broker.receive_maximum = random.u16(1..12);
        }
        plan.latency = Duration::from_micros(random.u64(50..30_000));
        plan.lag = Duration::from_micros(random.u64(0..1_500).saturating_sub(500));
        plan.blocked = f64::from(random.u8(0..10).saturating_sub(6)) / 20.0;
        plan.messages = random.usize(1..8);
        plan.span = SECOND * random.u32(5..60);
        plan.draw_troubles(&mut random);
        plan
    }

    /// Which quality of service the next message has.
    pub(super) fn qos(random: &mut Rng) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce][random.usize(..4)]
    }

    /// When the last trouble is over, from the beginning of the storm.
    pub(super) fn duration(&self) -> Duration {
        let ends = self.troubles.iter().map(|trouble| trouble.begin + trouble.lasts);
        // A little longer, for what is published around the end of the last one.
        ends.max().unwrap_or_default().max(self.span) + SECOND
    }

    /// For how long after the last trouble a device may still be away.
    pub(super) fn patience(&self) -> Duration {
        let rare = self.limits.reservoir.map_or(SECOND, |it| it.refresh_interval);
        let all = u32::try_from(self.devices + self.newcomers).unwrap_or(u32::MAX);
        let turns = self.limits.min_interval.max(rare) * all / 10;
        // A second try may be needed, after a connect that began in the last moment.
        (self.backoff.max + self.takeover.max_quarantine + self.keep_alive * 2 + turns) * 2
            + SECOND * 60
    }

    fn draw_troubles(&mut self, random: &mut Rng) {
        let mut kinds = Kind::ALL.to_vec();
        random.shuffle(&mut kinds);
        kinds.truncate(random.usize(1..=3));
        for kind in kinds {
            let begin = Duration::from_millis(random.u64(0..20_000));
            let lasts = Duration::from_millis(random.u64(100..40_000));
            match kind {
                // Only then is there somebody who looks often enough to find it out.
                Kind::Silence => self.keep_alive = SECOND * random.u32(3..20),
                Kind::Loss => self.keep_alive = SECOND * random.u32(3..90),
                Kind::Churn => self.newcomers = random.usize(1..10),
                _ => {}
            }
            let share = [0.1, 0.5, 1.0][random.usize(..3)];
            self.troubles.push(Trouble { kind, begin, lasts, share });
        }
    }
}

pub(super) fn custom_limits(random: &mut Rng) -> Limits {
    let max_in_flight = random.usize(1..=80);
    let reservoir = random.bool().then(|| {
        let refresh_interval = Duration::from_millis(random.u64(10..5_000));
        let (amount, refresh_amount) = (random.u32(1..100), random.u32(10..100));
        Reservoir { amount, refresh_amount, refresh_interval }
    });
    let adaptive = random.bool().then(|| {
        let initial = random.usize(1..=max_in_flight);
        Adaptive { initial, tolerance: 1.0 + random.f64() * 4.0 }
    });
    Limits {
        min_interval: Duration::from_micros(random.u64(0..30_000).saturating_sub(10_000)),
        max_in_flight,
        reservoir,
        adaptive,
        connect_spacing: Duration::from_millis(random.u64(0..3_000).saturating_sub(1_000)),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} devices and {} newcomers, {:?}, profile {}, {:?}",
            self.devices, self.newcomers, self.version, self.profile, self.limits
        )?;
        writeln!(f, "{:?}\n{:?}\n{:?}", self.backoff, self.takeover, self.timeouts)?;
        writeln!(
            f,
            "keep-alive {:?}, inflight {}, outbox {}, latency {:?}, lag {:?}, blocked {}, \
             {} messages in {:?}, broker {:?}",
            self.keep_alive,
            self.inflight,
            self.outbox,
            self.latency,
            self.lag,
            self.blocked,
            self.messages,
            self.span,
            self.broker
        )?;
        for trouble in &self.troubles {
            writeln!(f, "{trouble:?}")?;
        }
        Ok(())
    }
}
