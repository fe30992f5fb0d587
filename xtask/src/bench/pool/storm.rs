//! 4,000 devices are kicked at once: how long until all are back.
//!
//! The fleet is stopped (SIGSTOP) while another program takes its sessions over and leaves, so it
//! finds 4,000 dead connections in one moment. Otherwise both would connect at the same time, and
//! the storm would be as long as the kick.

use super::Setting;
use super::broker::Broker;
use super::fleet::{Fleet, Plan, Recovery};
use super::overlap::Looker;
use super::programs::{self, Who};
use super::said::Said;
use crate::bench::figure::Figure;
use crate::clock;
use crate::failure::{Failure, Result};
use crate::sh;
use std::thread;
use std::time::Duration;

const DEVICES: u32 = 4_000;
/// A session that is younger counts as a failed connect, and its device waits: `stable_after` of
/// the pool's backoff is 20 s.
const STABLE: Duration = Duration::from_secs(22);
/// Chosen: enough to see an overlap that lasts, and few enough to disturb little.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// One window of the article's limits may have begun long before the storm: 10 s of 192.
const LEAST_SHARE: f64 = 0.94;
const PROGRESS: Duration = Duration::from_secs(20);
/// Half more than the slowest needs.
const PATIENCE: Duration = Duration::from_secs(300);

const ADAPTIVE_REPS: u32 = 3;
const ADAPTIVE_BAR: f64 = 1.5;
const ADAPTIVE_IN_FLIGHT: u32 = 80;
/// One every 10 ms.
const PACED_SECONDS: f64 = 40.0;
const PACED_BAR_SECONDS: f64 = 40.8;
/// 19 refreshes of 10 s after the first 200, and 2.4 s for the last: measured with Bottleneck.
const ARTICLE_SECONDS: f64 = 192.4;
const ARTICLE_BAR_SECONDS: f64 = 196.2;
/// With [`STABLE`] three windows of 10 s, so that the storm begins with a full one: in the middle
/// of a window it would find the same 200, and the next ones sooner.
const ARTICLE_LEAD: Duration = Duration::from_secs(8);

/// As fast as the broker takes them, over what a bare loop of connects needs for as many.
pub(super) fn adaptive(setting: &Setting) -> Result<Vec<Figure>> {
    let reps = setting.reps(ADAPTIVE_REPS);
    eprintln!("» A storm of {DEVICES}, adaptive: {reps} runs, and one to look at the sockets.");
    let mut scene = Scene::new(setting, Who::Ours)?;
    scene.fleet.limits("adaptive")?;
    let mut ratios = Vec::new();
    for rep in 1..=reps {
        let ours = scene.storm(None)?;
        let floor = scene.floor()?;
        let (ours, floor) = (ours.as_secs_f64(), floor.as_secs_f64());
        eprintln!("  {rep}/{reps}: {ours:.2} s, floor {floor:.2} s");
        ratios.push(ours / floor);
    }
    scene.storm(Some(Duration::ZERO))?;
    scene.fleet.quit()?;

    let mut rival = Scene::new(setting, Who::Rumqttc)?;
    let rumqttc = rival.storm(None)?.as_secs_f64() / rival.floor()?.as_secs_f64();
    rival.fleet.quit()?;
    let figure = Figure::new("pool.storm_adaptive_ratio", "x", Some(ADAPTIVE_BAR), ratios)?;
    Ok(vec![figure.with_rival(Who::Rumqttc.name(), &[rumqttc])])
}

/// What the article promised.
pub(super) fn paced(setting: &Setting) -> Result<Vec<Figure>> {
    let (expected, bar) = (PACED_SECONDS, PACED_BAR_SECONDS);
    timed(setting, &Timed { profile: "paced", expected, bar, lead: Duration::ZERO, look: None })
}

/// What the article's limits give. There is time between the batches to look at the sockets.
pub(super) fn article(setting: &Setting) -> Result<Vec<Figure>> {
    let (expected, bar) = (ARTICLE_SECONDS, ARTICLE_BAR_SECONDS);
    let (lead, look) = (ARTICLE_LEAD, Some(LOOK_EVERY));
    timed(setting, &Timed { profile: "article", expected, bar, lead, look })
}

/// A storm whose length is known.
struct Timed {
    profile: &'static str,
    expected: f64,
    bar: f64,
    /// How long to wait besides, before the kick.
    lead: Duration,
    /// How often to look at the sockets.
    look: Option<Duration>,
}

fn timed(setting: &Setting, timed: &Timed) -> Result<Vec<Figure>> {
    let (profile, expected, reps) = (timed.profile, timed.expected, setting.reps(1));
    eprintln!("» A storm of {DEVICES}, {profile}: {reps} runs of some {expected} s.");
    let one = |_| {
        let mut scene = Scene::new(setting, Who::Ours)?;
        scene.fleet.limits(profile)?;
        thread::sleep(timed.lead);
        let seconds = scene.storm(timed.look)?.as_secs_f64();
        let deviation = (seconds / expected - 1.0) * 100.0;
        eprintln!("  {seconds:.1} s, {deviation:+.1} % from {expected} s");
        scene.fleet.quit()?;
        limited(profile, seconds, expected)
    };
    let samples = (0..reps).map(one).collect::<Result<_>>()?;
    Ok(vec![Figure::new(format!("pool.storm_{profile}_s"), "s", Some(timed.bar), samples)?])
}

/// Passes on the seconds of a storm that was limited at all: one that is over too soon keeps the
/// bar, but no promise.
fn limited(profile: &str, seconds: f64, expected: f64) -> Result<f64> {
    if seconds >= expected * LEAST_SHARE {
        return Ok(seconds);
    }
    let what =
        format!("under the limits `{profile}` {DEVICES} took {seconds:.1} s, not {expected}");
    Err(Failure::new(what, "look whether the fleet's order `limits` reaches the pool"))
}

/// A broker and a fleet of one size.
struct Scene<'a> {
    setting: &'a Setting,
    broker: Broker,
    plan: Plan,
    fleet: Fleet,
}

impl<'a> Scene<'a> {
    fn new(setting: &'a Setting, who: Who) -> Result<Self> {
        let broker = Broker::start()?;
        let plan = Plan { in_flight: ADAPTIVE_IN_FLIGHT, ..Plan::of(who, DEVICES) };
        let fleet = Fleet::start(setting, &broker, &plan)?;
        Ok(Self { setting, broker, plan, fleet })
    }

    /// Kicks all, and waits until all are back. With `look_every`, looks at the sockets meanwhile.
    fn storm(&mut self, look_every: Option<Duration>) -> Result<Duration> {
        self.kick()?;
        match self.plan.who {
            Who::Ours => {
                let port = self.broker.port();
                self.setting.ledger.watch_listener(port, || self.recover(look_every))
            }
            Who::Floor | Who::MqttJs | Who::Rumqttc => self.recover(look_every),
        }
    }

    fn recover(&mut self, look_every: Option<Duration>) -> Result<Duration> {
        let new_looker = |_| Looker::new(&self.fleet, self.broker.port(), DEVICES);
        let mut looker = look_every.map(new_looker).transpose()?;
        let begin = clock::now();
        match &mut looker {
            Some(looker) => looker.go_on()?,
            None => self.fleet.go_on()?,
        }
        let mut recovery = Recovery::of(DEVICES);
        let mut next_progress = PROGRESS;
        loop {
            if let Some(looker) = &mut looker {
                self.setting.ledger.add_overlap(looker.look()?);
            }
            let pause = look_every.unwrap_or(PROGRESS);
            if let Some(after) = self.fleet.hear_recovery(&mut recovery, pause)? {
                return Ok(after);
            }
            if begin.elapsed() < next_progress {
                continue;
            }
            next_progress += PROGRESS;
            let online = self.fleet.status()?.online;
            if begin.elapsed() > PATIENCE {
                let what = format!("only {online} of {DEVICES} are online {PATIENCE:?} later");
                return Err(Failure::new(what, "kick the fleet by hand and look"));
            }
            eprintln!("  {online} of {DEVICES} are online after {:.0?}", begin.elapsed());
        }
    }

    /// The fleet is stopped afterwards, and all its connections are dead.
    fn kick(&self) -> Result {
        thread::sleep(STABLE);
        self.fleet.stop()?;
        let mut kicker = programs::helper("kicker");
        kicker.args(self.broker.options()).arg(format!("--devices={DEVICES}"));
        // Its ports are on an address of its own, and stay in TIME_WAIT there.
        kicker.args(["--json", "--source=127.0.0.9", "--prefix", self.plan.prefix()]);
        let said = sh::output(&mut kicker, "start the kicker by hand and look")?;
        if Said::parse(said.trim())?.is("kicked") {
            return Ok(());
        }
        Err(Failure::new(format!("the kicker says `{said}`"), "report a bug"))
    }

    /// A bare loop of as many connects.
    fn floor(&self) -> Result<Duration> {
        let plan = Plan { in_flight: ADAPTIVE_IN_FLIGHT, ..Plan::of(Who::Floor, DEVICES) };
        let floor = Fleet::start(self.setting, &self.broker, &plan)?;
        let after = floor.online_after;
        floor.quit()?;
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_that_is_over_too_soon_was_not_limited() {
        assert_eq!(limited("paced", 39.99, PACED_SECONDS).ok(), Some(39.99));
        assert_eq!(limited("article", 182.5, ARTICLE_SECONDS).ok(), Some(182.5));
        assert!(limited("paced", 0.4, PACED_SECONDS).is_err());
    }
}
