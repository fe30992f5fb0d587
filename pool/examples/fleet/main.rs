//! N devices against a broker, with storms on demand and live numbers.
//!
//! ```sh
//! cargo run --release -p sockwarden-pool --example fleet -- --broker mqtt://127.0.0.1:1883 --devices 1000
//! ```
//!
//! Enter starts a storm: a third of the fleet is replaced. `--json` prints one object a line and
//! takes commands on stdin instead: `status`, `storm COUNT`, `publish COUNT SIZE QOS`, `quit`.

mod args;
mod commands;
mod process;
mod report;

use args::Args;
use clap::Parser as _;
use commands::Command;
use pool::{
    Device, Error, Event, Events, Next, Pool, Publish, QoS, ReconnectOptions, Subscription,
};
use report::Report;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the fleet is looked at to find the moment when all are online.
const LOOK_EVERY: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("invariant: the system has threads");
    match runtime.block_on(run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// What the loop remembers between two looks.
struct Fleet<'a> {
    args: &'a Args,
    pool: Pool,
    report: Report,
    received: Arc<AtomicU64>,
    /// All subscriptions are made.
    subscribed: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    /// Since when not all are online, and whether they ever were.
    dark_since: Option<Instant>,
    /// Sessions that had ended when all were online last.
    ended: u64,
    was_online: bool,
}

async fn run(args: &Args) -> Result<(), Error> {
    let report = Report::new(args.json);
    report.start();
    let pool = args.pool()?;
    let received = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(count_messages(pool.clone(), Arc::clone(&received)));
    if !args.json {
        tasks.spawn(tell_of_trouble(pool.clone()));
    }
    let mut fleet = Fleet {
        args,
        pool,
        report,
        received,
        subscribed: Arc::default(),
        tasks,
        dark_since: Some(Instant::now()),
        ended: 0,
        was_online: false,
    };
    fleet.add_devices()?;
    let outcome = fleet.run().await;
    fleet.pool.shutdown().await;
    fleet.tasks.shutdown().await;
    outcome
}

impl Fleet<'_> {
    fn add_devices(&mut self) -> Result<(), Error> {
        let mut subscriptions = Vec::new();
        for number in 0..self.args.devices {
            let name = self.args.name(number);
            self.pool.add(Device::new(&name)?)?;
            if let Some(qos) = self.args.subscribe {
                let subscription = Subscription::new(format!("{name}/in"), qos)?;
                subscriptions.push(self.pool.subscribe(&name, subscription)?);
            }
        }
        let subscribed = Arc::clone(&self.subscribed);
        self.tasks.spawn(async move {
            for subscription in subscriptions {
                if let Err(error) = subscription.await {
                    report::complain(&error);
                }
            }
            subscribed.store(true, Ordering::Relaxed);
        });
        Ok(())
    }

    async fn run(&mut self) -> Result<(), Error> {
        let mut commands = commands::read();
        // Only while all are online: then the first event says that this is over. In a storm they
        // would be many, and nobody needs them.
        let mut events = None;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lines = interval(Duration::from_secs(1));
        let mut storms = self.args.storm_every.map(|every| interval(every.max(LOOK_EVERY)));
        if let Some(storms) = &mut storms {
            storms.tick().await;
        }
        loop {
            tokio::select! {
                _ = looks.tick(), if self.dark_since.is_some() => {
                    self.look();
                    if self.dark_since.is_none() {
                        events = Some(self.pool.events());
                        // Something may have happened in between.
                        self.look();
                    }
                }
                _ = next_of(&mut events), if self.dark_since.is_none() => {
                    self.look();
                    if self.dark_since.is_some() {
                        events = None;
                    }
                }
                _ = lines.tick(), if !self.args.json => {
                    self.report.line(&self.pool.status(), &self.pool.metrics());
                }
                _ = async { storms.as_mut().expect("invariant: it is some").tick().await },
                    if storms.is_some() => self.storm(self.args.devices / 3)?,
                command = commands.recv() => match command {
                    Some(Ok(Command::Quit)) | None => return Ok(()),
                    Some(Ok(command)) => self.obey(command).await?,
                    Some(Err(complaint)) => self.report.refuse(&complaint),
                },
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    }

    async fn obey(&self, command: Command) -> Result<(), Error> {
        match command {
            Command::Status => self.status(),
            Command::Storm(count) => self.storm(count.unwrap_or(self.args.devices / 3))?,
            Command::Publish { count, size, qos } => self.publish(count, size, qos).await?,
            Command::Limits(name, limits) => {
                self.pool.set_limits(limits)?;
                self.report.limits(&name);
            }
            Command::Quit => {}
        }
        Ok(())
    }

    /// Notices when the fleet is complete, and when it no longer is.
    fn look(&mut self) {
        let status = self.pool.status();
        let complete = status.online == status.devices
            && status.devices > 0
            && self.subscribed.load(Ordering::Relaxed);
        match self.dark_since {
            None if !complete => self.dark_since = Some(Instant::now()),
            Some(since) if complete => {
                let seconds = since.elapsed().as_secs_f64();
                let ended: u64 = self.pool.metrics().ended.iter().sum();
                if self.was_online {
                    self.report.recovered(ended - self.ended, seconds);
                } else {
                    self.report.online(status.devices, seconds);
                }
                self.ended = ended;
                self.was_online = true;
                self.dark_since = None;
            }
            Some(_) | None => {}
        }
    }

    fn status(&self) {
        let received = self.received.load(Ordering::Relaxed);
        self.report.status(&self.pool.status(), &self.pool.metrics(), received);
    }

    fn storm(&self, count: u32) -> Result<(), Error> {
        for number in 0..count.min(self.args.devices) {
            let name = self.args.name(number);
            self.pool.request_reconnect(&name, ReconnectOptions::default())?;
        }
        Ok(())
    }

    /// Publishes on the first device, as fast as the acknowledgements come.
    async fn publish(&self, count: u64, size: usize, qos: QoS) -> Result<(), Error> {
        let device = self.args.name(0);
        let publish = Publish::new(format!("{device}/up"), qos, vec![b'x'; size])?;
        let started = Instant::now();
        let mut under_way = VecDeque::new();
        for _ in 0..count {
            if under_way.len() >= args::OUTBOX {
                let oldest = under_way.pop_front().expect("invariant: it is not empty");
                Box::pin(oldest).await?;
            }
            under_way.push_back(self.pool.publish(&device, publish.clone())?);
        }
        for delivery in under_way {
            delivery.await?;
        }
        self.report.published(count, started.elapsed().as_secs_f64());
        Ok(())
    }
}

async fn next_of(events: &mut Option<Events>) {
    match events {
        Some(events) => drop(events.next().await),
        None => std::future::pending().await,
    }
}

async fn count_messages(pool: Pool, received: Arc<AtomicU64>) {
    let Ok(mut messages) = pool.messages() else { return };
    // The handle would keep the pool alive.
    drop(pool);
    while messages.next().await.is_some() {
        received.fetch_add(1, Ordering::Relaxed);
    }
}

async fn tell_of_trouble(pool: Pool) {
    let mut events = pool.events();
    drop(pool);
    while let Some(next) = events.next().await {
        match next {
            Next::Event(Event::Ended { device, cause, .. }) if report::is_trouble(&cause) => {
                report::complain(&format!("{device}: {cause}"));
            }
            Next::Event(Event::Quarantined { device, period }) => {
                report::complain(&format!(
                    "{device}: another client uses its id; stays away for {period:?}"
                ));
            }
            Next::Event(_) => {}
            Next::Gap(lost) => report::complain(&format!("{lost} events were too many to show")),
        }
    }
}
