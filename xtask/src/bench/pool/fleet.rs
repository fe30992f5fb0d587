//! A fleet that runs, from the moment all its devices are online.

use super::broker::Broker;
use super::programs::{Programs, Who};
use super::said::Said;
use super::{Setting, kernel};
use crate::bench::child::{Running, talking};
use crate::clock;
use crate::failure::{Failure, Result};
use crate::sh;
use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

/// The slowest is mqtt.js on a busy host; TLS at 700 handshakes a second comes next.
const ONLINE_PATIENCE: Duration = Duration::from_secs(120);
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
const QUIT_PATIENCE: Duration = Duration::from_secs(30);
const STOP_PATIENCE: Duration = Duration::from_secs(5);
const NEXT: &str = "start this fleet by hand, with the options shown by --help, and look";

/// What a fleet is told when it starts.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) who: Who,
    pub(super) devices: u32,
    /// How many may connect at once.
    pub(super) in_flight: u32,
    pub(super) subscribe: Option<u8>,
}

/// A running fleet; dropping this ends it.
pub(super) struct Fleet {
    name: &'static str,
    running: Running,
    devices: u32,
    /// What it said while something else was waited for.
    inbox: VecDeque<Said>,
    rss_at_start: f64,
    /// From the first dial until all were online.
    pub(super) online_after: Duration,
}

/// How things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) online: u64,
    pub(super) disconnects: u64,
    pub(super) messages: u64,
    rss_bytes: u64,
}

/// The end of a storm. A fleet sees its losses one by one and may be complete in between, so the
/// end comes in parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recovery {
    missing: u64,
    first_loss: Option<Instant>,
}

impl Recovery {
    pub(super) fn of(lost: u32) -> Self {
        Self { missing: lost.into(), first_loss: None }
    }

    /// So many are back, so long after the first of them was lost. Once all are: the time from
    /// the first loss of all.
    fn add(&mut self, back: u64, after: Duration, now: Instant) -> Option<Duration> {
        let first_loss = *self.first_loss.get_or_insert(now - after);
        self.missing = self.missing.saturating_sub(back);
        (self.missing == 0).then(|| now - first_loss)
    }
}

impl Plan {
    /// Devices without subscriptions that connect at 50 at once.
    pub(super) fn of(who: Who, devices: u32) -> Self {
        Self { who, devices, in_flight: 50, subscribe: None }
    }

    fn options(&self) -> Vec<String> {
        let mut options = vec![
            format!("--devices={}", self.devices),
            format!("--max-in-flight={}", self.in_flight),
            // Their ids differ, so that nobody takes another one's session over.
            format!("--prefix={}", self.prefix()),
            "--keep-alive=60".to_owned(),
            "--json".to_owned(),
        ];
        options.extend(self.subscribe.map(|qos| format!("--subscribe={qos}")));
        if self.who == Who::Ours {
            // A fixed number at once and no pauses, as the others have it.
            options.extend(["--profile=paced".to_owned(), "--min-interval=0".to_owned()]);
        }
        options
    }

    pub(super) fn prefix(&self) -> &'static str {
        match self.who {
            Who::Ours => "dev-",
            Who::Floor => "floor-",
            Who::Rumqttc => "rumqttc-",
            Who::MqttJs => "mqttjs-",
        }
    }
}

impl Fleet {
    /// Starts it, and returns when all are online.
    pub(super) fn start(setting: &Setting, broker: &Broker, plan: &Plan) -> Result<Self> {
        let launch = || Self::launch(&setting.programs, &broker.options(), plan);
        match plan.who {
            Who::Ours => setting.ledger.watch_listener(broker.port(), launch),
            Who::Floor | Who::MqttJs | Who::Rumqttc => launch(),
        }
    }

    /// The same; `broker` are the options that say where it is.
    pub(super) fn launch(programs: &Programs, broker: &[String], plan: &Plan) -> Result<Self> {
        let mut command = programs.fleet(plan.who);
        command.args(broker).args(plan.options());
        let running = Running::start(plan.who.name(), talking(&mut command))?;
        let mut fleet = Self {
            name: plan.who.name(),
            running,
            devices: plan.devices,
            inbox: VecDeque::new(),
            rss_at_start: 0.0,
            online_after: Duration::ZERO,
        };
        fleet.rss_at_start = fleet.hear("start", ANSWER_PATIENCE)?.number("rss_bytes")?;
        let online = fleet.hear("online", ONLINE_PATIENCE)?;
        fleet.online_after = seconds(&online)?;
        Ok(fleet)
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(super) fn status(&mut self) -> Result<Status> {
        self.running.tell("status")?;
        let said = self.hear("status", ANSWER_PATIENCE)?;
        Ok(Status {
            online: said.count("online")?,
            disconnects: said.count("disconnects")?,
            messages: said.count("messages")?,
            rss_bytes: said.count("rss_bytes")?,
        })
    }

    /// Memory that each session added; fails unless all are online and always were.
    pub(super) fn rss_per_session(&mut self) -> Result<f64> {
        let status = self.status()?;
        if status.online != u64::from(self.devices) || status.disconnects > 0 {
            let what = format!("{} lost sessions while nothing happened: {status:?}", self.name);
            return Err(Failure::new(what, NEXT));
        }
        Ok((status.rss_bytes as f64 - self.rss_at_start) / f64::from(self.devices))
    }

    /// Other limits from now on; only the pool's fleet can do this.
    pub(super) fn limits(&mut self, profile: &str) -> Result {
        self.running.tell(&format!("limits {profile}"))?;
        self.hear("limits", ANSWER_PATIENCE).map(drop)
    }

    /// Messages over the first device's connection, and how long they took.
    pub(super) fn publish(&mut self, count: u32, size: u32, qos: u8) -> Result<Duration> {
        self.running.tell(&format!("publish {count} {size} {qos}"))?;
        seconds(&self.hear("published", ONLINE_PATIENCE)?)
    }

    /// Stops it as if the machine had stopped: what comes meanwhile, it finds all at once.
    pub(super) fn stop(&self) -> Result {
        self.running.signal("STOP")?;
        await_stop(self.pid())
    }

    pub(super) fn go_on(&self) -> Result {
        self.running.signal("CONT")
    }

    /// Listens for a while for the devices that come back; once all are, how long that took.
    pub(super) fn hear_recovery(
        &mut self,
        recovery: &mut Recovery,
        patience: Duration,
    ) -> Result<Option<Duration>> {
        let Some(said) = self.hear_within("recovered", patience)? else {
            return Ok(None);
        };
        Ok(recovery.add(said.count("devices")?, seconds(&said)?, clock::now()))
    }

    /// Lets it end.
    pub(super) fn quit(mut self) -> Result {
        self.running.tell("quit")?;
        let ended = self.running.wait(clock::now(), QUIT_PATIENCE)?;
        if ended.status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("{} {}", self.name, sh::outcome(ended.status)), NEXT))
    }

    fn hear(&mut self, kind: &str, patience: Duration) -> Result<Said> {
        self.hear_within(kind, patience)?.ok_or_else(|| {
            let seconds = patience.as_secs();
            Failure::new(format!("{} said no `{kind}` for {seconds} s", self.name), NEXT)
        })
    }

    /// The next line of that kind, if it comes in time; others are kept for whoever wants them.
    fn hear_within(&mut self, kind: &str, patience: Duration) -> Result<Option<Said>> {
        if let Some(at) = self.inbox.iter().position(|said| said.is(kind)) {
            return Ok(self.inbox.remove(at));
        }
        let deadline = clock::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            let Some(line) = self.running.line_within(left)? else {
                return Ok(None);
            };
            let said = Said::parse(&line)?;
            if said.is(kind) {
                return Ok(Some(said));
            }
            self.inbox.push_back(said);
        }
    }
}

/// Waits until every thread of a process that was sent SIGSTOP has stopped.
pub(super) fn await_stop(pid: u32) -> Result {
    let deadline = clock::now() + STOP_PATIENCE;
    while !kernel::is_stopped(pid) {
        if clock::now() > deadline {
            return Err(Failure::new(format!("process {pid} does not stop"), NEXT));
        }
        thread::yield_now();
    }
    Ok(())
}

fn seconds(said: &Said) -> Result<Duration> {
    let seconds = said.number("seconds")?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| Failure::new(format!("{seconds} seconds: {error}"), NEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_in_parts_counts_from_the_first_loss() {
        let begin = clock::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let mut recovery = Recovery::of(10);
        assert_eq!(recovery.add(3, seconds(1), at(5)), None);
        assert_eq!(recovery.add(6, seconds(1), at(7)), None);
        assert_eq!(recovery.add(1, seconds(2), at(10)), Some(seconds(6)));
    }

    #[test]
    fn only_the_fleet_of_the_pool_has_a_profile() {
        let has_profile = |who| Plan::of(who, 1).options().iter().any(|it| it.contains("profile"));
        assert!(has_profile(Who::Ours));
        assert!(
            !has_profile(Who::Floor) && !has_profile(Who::Rumqttc) && !has_profile(Who::MqttJs)
        );
    }
}
