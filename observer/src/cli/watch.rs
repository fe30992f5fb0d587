//! `sockwarden watch`: the live stream.

use std::{io, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, sleep_until},
};

use super::{Failure, duration, exit};
use crate::{
    clock::WallClock,
    config::{self, LoadError},
    correlate::Config,
    detect::Kind,
    kernel,
    linger::HookHolder,
    observer::{Observer, ObserverError, Options},
    probe::{self, Layers},
    selection::{Selection, ended},
    sinks::{
        Palette, Sink,
        human::Human,
        json::Json,
        output::{Dropped, Output},
    },
    stacks::Wanted,
    trends::Fleet,
};

/// How often the processes given by number are looked for.
const ENDED_INTERVAL: Duration = Duration::from_secs(1);

/// Streams socket transitions and leak findings of processes, live.
///
/// Exit codes: 0 no finding is open at the end, 1 one is, 64 wrong usage, 69 this kernel cannot be
/// watched, 77 no permission.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Watch the process with this number (repeatable).
    #[arg(long, value_name = "N", help_heading = "What to watch")]
    pid: Vec<u32>,
    /// Watch processes of this name, those that start later too (repeatable).
    ///
    /// The name is the kernel's, at most 15 bytes: `ps -o comm`.
    #[arg(long, value_name = "NAME", help_heading = "What to watch")]
    comm: Vec<String>,
    /// Watch the processes of this cgroup and of those below it.
    #[arg(long, value_name = "PATH", help_heading = "What to watch")]
    cgroup: Option<PathBuf>,
    /// Show only sockets with this local or remote port (repeatable).
    #[arg(long, value_name = "N", help_heading = "What to watch")]
    port: Vec<u16>,
    /// Watch every process of this host.
    #[arg(long, help_heading = "What to watch")]
    all: bool,
    /// Watch the descendants of the watched processes too.
    #[arg(long, help_heading = "What to watch")]
    children: bool,
    /// End after this time: 500ms, 10s, 1m30s.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// One JSON object a line (docs/json.md).
    #[arg(long)]
    json: bool,
    /// Show with each finding that opens what happened to its socket before, and the call stack
    /// that opened it.
    #[arg(long)]
    explain: bool,
    /// Take the call stack of each connect and accept from the start.
    ///
    /// Without this they are taken of a process from its first finding on.
    #[arg(long)]
    stacks: bool,
    /// Do not show the single changes of state.
    #[arg(long)]
    no_transitions: bool,
    /// Print the table of sockets at the end, and on SIGUSR1.
    #[arg(long)]
    sockets: bool,
    /// How long a state may last before it is a finding (repeatable).
    ///
    /// The kinds and their defaults are in docs/findings.md, for example close-wait 10s,
    /// stuck-connect 30s, overgrowth 10s.
    #[arg(long, value_name = "KIND=DURATION", value_parser = parse_budget, help_heading = "Tuning")]
    budget: Vec<(Kind, Duration)>,
    /// How many devices there are at a broker (repeatable): a process with more connections to it
    /// is reported.
    #[arg(long, value_name = "ADDR:PORT=N", help_heading = "Tuning")]
    fleet: Vec<Fleet>,
    /// Take [budgets], [thresholds] and [[rules]] from this config of the daemon, and nothing else;
    /// the options above come on top.
    #[arg(long, value_name = "FILE", help_heading = "Tuning")]
    config: Option<PathBuf>,
    /// How much of the kernel to hook: a, transitions; ab, descriptors too. Default: the most that
    /// this host allows.
    #[arg(long, value_enum, help_heading = "Tuning")]
    layers: Option<LayersArg>,
    /// Longest time between two snapshots.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_interval, help_heading = "Tuning")]
    snapshot_interval: Duration,
    /// Size of the ring of records: a power of two, at least 4096.
    #[arg(long, value_name = "BYTES", default_value = "8388608", value_parser = parse_ring, help_heading = "Tuning")]
    ring_size: u32,
    /// Most sockets that are kept in the table.
    #[arg(long, value_name = "N", default_value = "65536", value_parser = clap::value_parser!(u32).range(1..=4_194_304), help_heading = "Tuning")]
    max_sockets: u32,
    /// Type information of the kernel from another file.
    #[arg(long, value_name = "FILE", hide = true)]
    btf: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayersArg {
    A,
    Ab,
}

/// What wakes the loop.
enum Event {
    /// Time to look at the ring, or a deadline of the core.
    Tick,
    /// The ring is half full.
    Filling,
    /// The person or the service manager wants it to end, or `--for` is over.
    Stop,
    /// SIGUSR1.
    Dump,
    /// Time to look whether the named processes live.
    Ended,
}

impl Watch {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let options = self.options()?;
        let unable =
            |error: io::Error| Failure::unable(format!("the output cannot start: {error}"));
        let out = Output::start(io::stdout()).map_err(unable)?;
        let dropped = out.dropped();
        let transitions = !self.no_transitions;
        let mut sink: Box<dyn Sink> = if self.json {
            Box::new(Json::new(out, transitions).explain(self.explain))
        } else {
            let human = Human::new(out, Palette::for_stream(&io::stdout()), transitions);
            Box::new(human.explain(self.explain))
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::unable(format!("the runtime cannot start: {error}")))?;
        let result = runtime.block_on(self.watch(options, sink.as_mut(), &dropped));
        match result {
            // Whoever read our output has seen enough (`| head`).
            Err(ObserverError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Ok(exit::OK)
            }
            Err(error) => Err(error.into()),
            Ok(code) => Ok(code),
        }
    }

    async fn watch(
        self,
        options: Options,
        sink: &mut dyn Sink,
        dropped: &Dropped,
    ) -> Result<u8, ObserverError> {
        // Signals are caught before anything is attached, so that none can end us half way.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut dump = signal(SignalKind::user_defined1())?;
        let mut pids = self.pid.clone();
        let _holder = HookHolder::start();
        let (mut observer, degraded) = Observer::start(options)?;
        if let Some(reason) = degraded {
            log::warn!(
                "only layer A is observed: descriptors are known after the next snapshot and not \
                 at once, because {reason}"
            );
        }
        observer.pump(sink)?;
        observer.report_ready(sink)?;
        let ring = kernel::wait_on(observer.ring_fd()?)?;
        let end = self.duration.map(|duration| Instant::now() + duration);
        let mut ended_check = tokio::time::interval(ENDED_INTERVAL);
        loop {
            let event = tokio::select! {
                biased;
                _ = interrupt.recv() => Event::Stop,
                _ = terminate.recv() => Event::Stop,
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => Event::Stop,
                _ = dump.recv() => Event::Dump,
                _ = ended_check.tick(), if !pids.is_empty() => Event::Ended,
                ready = ring.readable() => {
                    ready?.clear_ready();
                    Event::Filling
                }
                () = sleep(observer.idle_time()) => Event::Tick,
            };
            match event {
                Event::Tick | Event::Filling => {
                    observer.pump(sink)?;
                    observer.report_dropped(dropped.take(), sink)?;
                }
                Event::Stop => break,
                Event::Dump => observer.report_sockets(sink)?,
                Event::Ended => note_ended(&mut pids),
            }
        }
        observer.pump(sink)?;
        if self.sockets {
            observer.report_sockets(sink)?;
        }
        let summary = observer.report_summary(sink)?;
        let open: u64 = summary.open.values().sum();
        Ok(if open == 0 { exit::OK } else { exit::FINDING })
    }

    fn options(&self) -> Result<Options, LoadError> {
        let tuning =
            self.config.as_deref().map(config::Config::load).transpose()?.unwrap_or_default();
        let wall = WallClock::read();
        let mut core = Config {
            budgets: tuning.budgets,
            thresholds: tuning.thresholds,
            rules: tuning.rules.into_iter().map(|rule| rule.timed(wall)).collect(),
            socket_capacity: self.max_sockets as usize,
            snapshot_interval: self.snapshot_interval,
            boot_offset: crate::clock::boot_offset(),
            ..Config::default()
        };
        for (kind, budget) in &self.budget {
            core.budgets.set(*kind, *budget);
        }
        for fleet in &self.fleet {
            core.thresholds.fleets.retain(|it| it.broker != fleet.broker);
            core.thresholds.fleets.push(*fleet);
        }
        let named = !self.pid.is_empty() || !self.comm.is_empty() || self.cgroup.is_some();
        Ok(Options {
            selection: Selection {
                all: self.all || !named && !self.port.is_empty(),
                pids: self.pid.clone(),
                comms: self.comm.clone(),
                cgroups: self.cgroup.iter().cloned().collect(),
                units: Vec::new(),
                ports: Vec::new(),
                children: self.children,
            },
            ports: self.port.clone(),
            probe: probe::Options {
                layers: self.layers.map(|layers| match layers {
                    LayersArg::A => Layers::A,
                    LayersArg::Ab => Layers::Ab,
                }),
                watch_all: false,
                watch_ports: false,
                quiet: self.no_transitions && !self.sockets,
                ring_bytes: self.ring_size,
                btf: self.btf.clone(),
                stacks: false,
            },
            core,
            stacks: if self.stacks { Wanted::Always } else { Wanted::OnDemand },
        })
    }
}

fn note_ended(pids: &mut Vec<u32>) {
    let gone = ended(pids);
    pids.retain(|pid| !gone.contains(pid));
    for pid in gone {
        log::warn!("process {pid} has ended; what others hold of its sockets is still watched");
    }
}

fn parse_budget(text: &str) -> Result<(Kind, Duration), String> {
    let judged = |kind: &Kind| !Kind::OF_REGISTRY.contains(kind);
    let kinds = || {
        let judged = Kind::ALL.into_iter().filter(judged);
        judged.map(Kind::code).collect::<Vec<_>>().join(", ")
    };
    let (code, value) = text.split_once('=').ok_or("write KIND=DURATION, as in close-wait=5s")?;
    let kind = Kind::from_code(code)
        .filter(judged)
        .ok_or_else(|| format!("`{code}` is no kind of finding; there are {}", kinds()))?;
    Ok((kind, duration::parse(value)?))
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    let least = Duration::from_millis(100);
    // Shorter ones would cost more than all of the events together.
    if interval < least { Err("the least is 100ms".to_owned()) } else { Ok(interval) }
}

fn parse_ring(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| "a number of bytes is needed".to_owned())?;
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    let fits = bytes.is_power_of_two() && bytes >= page && bytes <= 1 << 30;
    if fits {
        Ok(bytes)
    } else {
        Err(format!("a power of two from {page} to {} is needed", 1 << 30))
    }
}
