//! `sockwarden demo`: real leaks in processes of our own, watched as any other would be.
//!
//! Each child leaks in one way, on loopback, when it is told to, and says when the leak began. One
//! child behaves. The observer gets their numbers and nothing else.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    process::{self, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use crate::{
    clock::{self, WallClock},
    correlate::Config,
    detect::{Budgets, Kind},
    model::MonoTime,
    observer::{Observer, ObserverError, Options},
    probe,
    selection::Selection,
    sinks::{Report, Sink},
    stacks::Wanted,
};

pub mod child;
pub mod report;

use child::Way;
use report::{Opened, Outcome, Planted};

/// How long a child may take to leak, and a finding to clear once its process is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long findings are waited for after the last budget has run out: 20 times the bar, so that
/// a late finding is told from a missing one.
const GRACE: Duration = Duration::from_secs(2);

/// Why the demonstration could not be held.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The observer did not start or stopped.
    #[error(transparent)]
    Observer(#[from] ObserverError),
    /// A child did not start or did not leak.
    #[error("the child that shows `{way}` failed: {reason}")]
    Child {
        /// What it was to show.
        way: &'static str,
        /// What went wrong.
        reason: String,
    },
}

/// Plants every leak with `budget` for each kind and watches. `progress` is told the share done.
///
/// # Errors
///
/// When the observer cannot run here, or a child fails.
pub fn run(budget: Duration, progress: &mut dyn FnMut(&str, f64)) -> Result<Outcome, DemoError> {
    progress("starting children", 0.0);
    let mut children =
        Way::ALL.iter().map(|way| Leaker::spawn(*way)).collect::<Result<Vec<_>, _>>()?;
    let pids: Vec<u32> = children.iter().map(|child| child.process.id()).collect();
    progress("attaching to the kernel", 0.05);
    let (mut observer, degraded) = Observer::start(options(&pids, budget))?;
    let mut sink = Collector::default();
    observer.pump(&mut sink)?;
    for child in &mut children {
        child.tell_to_leak()?;
    }
    let mut planted: Vec<Planted> = Vec::new();
    let patience = clock::now().after(PATIENCE);
    while planted.len() < children.len() {
        turn(&mut observer, &mut sink)?;
        for child in &mut children {
            planted.extend(child.planted()?);
        }
        if clock::now() > patience {
            let late =
                children.iter().find(|child| !child.done).expect("invariant: one is missing");
            return Err(late.failed("it did not leak in time"));
        }
    }
    let begun = clock::now();
    let end = planted.iter().map(|leak| leak.at).max().unwrap_or(begun).after(budget + GRACE);
    let expected = planted.iter().filter(|leak| leak.kind.is_some()).count();
    loop {
        let now = clock::now();
        let due = planted.iter().map(|leak| leak.at.after(budget)).max().unwrap_or(now);
        // Everything is found and nothing more can be invented by the planted budgets.
        let complete = now > due.after(GRACE / 4) && sink.opened.len() >= expected;
        if now >= end || complete {
            break;
        }
        let share = now.since(begun).as_secs_f64() / due.since(begun).as_secs_f64().max(0.001);
        let text = format!("{} of {expected} leaks found", sink.opened.len().min(expected));
        progress(&text, 0.1 + 0.8 * share.min(1.0));
        turn(&mut observer, &mut sink)?;
    }
    progress("ending the children: every finding has to clear", 0.95);
    drop(children);
    let patience = clock::now().after(PATIENCE);
    while observer.core().open_incidents().next().is_some() && clock::now() < patience {
        turn(&mut observer, &mut sink)?;
    }
    let summary = observer.report_summary(&mut sink)?;
    progress("done", 1.0);
    Ok(Outcome {
        planted,
        opened: sink.opened,
        still_open: summary.open.values().sum(),
        transitions: summary.transitions,
        lost: summary.lost,
        layers: observer.layers().name(),
        degraded,
        budget,
    })
}

fn options(pids: &[u32], budget: Duration) -> Options {
    let mut budgets = Budgets::default();
    for kind in Kind::OF_SOCKETS {
        budgets.set(kind, budget);
    }
    Options {
        selection: Selection { pids: pids.to_vec(), children: true, ..Selection::default() },
        ports: Vec::new(),
        probe: probe::Options {
            watch_ports: false,
            layers: None,
            watch_all: false,
            quiet: false,
            ring_bytes: 8 << 20,
            btf: None,
            stacks: false,
        },
        core: Config { budgets, boot_offset: clock::boot_offset(), ..Config::default() },
        stacks: Wanted::Never,
    }
}

fn turn(observer: &mut Observer, sink: &mut Collector) -> Result<(), DemoError> {
    std::thread::sleep(observer.idle_time().min(Duration::from_millis(20)));
    Ok(observer.pump(sink)?)
}

/// A child process and what it said. It ends when this is dropped.
struct Leaker {
    way: Way,
    process: process::Child,
    lines: mpsc::Receiver<String>,
    done: bool,
}

impl Leaker {
    fn spawn(way: Way) -> Result<Self, DemoError> {
        let failed =
            |error: io::Error| DemoError::Child { way: way.name(), reason: error.to_string() };
        let program = std::env::current_exe().map_err(failed)?;
        let mut process = Command::new(program)
            .args(["demo-child", way.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let output = process.stdout.take().expect("invariant: it is piped");
        let (sender, lines) = mpsc::channel();
        // Ends with the child's output.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { way, process, lines, done: false })
    }

    fn tell_to_leak(&mut self) -> Result<(), DemoError> {
        let input = self.process.stdin.as_mut().expect("invariant: it is piped");
        input.write_all(b"go\n").map_err(|error| self.failed(&error.to_string()))
    }

    /// What it planted, once.
    fn planted(&mut self) -> Result<Option<Planted>, DemoError> {
        if self.done {
            return Ok(None);
        }
        let line = match self.lines.try_recv() {
            Ok(line) => line,
            Err(mpsc::TryRecvError::Empty) => return Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => return Err(self.failed("it ended too early")),
        };
        let mut words = line.split_whitespace();
        let (Some("planted"), Some(at), Some(holder)) = (words.next(), words.next(), words.next())
        else {
            return Err(self.failed(&line));
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| self.failed(&line));
        let (at, holder) = (number(at)?, number(holder)?);
        self.done = true;
        Ok(Some(Planted {
            kind: self.way.kind(),
            pid: self.process.id(),
            holder: u32::try_from(holder).unwrap_or(0),
            at: MonoTime::from_nanos(at),
        }))
    }

    fn failed(&self, reason: &str) -> DemoError {
        DemoError::Child { way: self.way.name(), reason: reason.to_owned() }
    }
}

impl Drop for Leaker {
    fn drop(&mut self) {
        // It is ours, and not reaped before `wait`, so the number cannot be another's.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps the findings.
#[derive(Default)]
struct Collector {
    opened: Vec<Opened>,
}

impl Sink for Collector {
    fn report(&mut self, report: Report<'_>, _clock: WallClock) -> io::Result<()> {
        if let Report::Finding(finding) = report
            && finding.event == crate::incident::FindingEvent::Opened
        {
            self.opened.push(Opened {
                kind: finding.kind,
                pid: finding.process.pid,
                at: clock::now(),
                message: finding.message.clone(),
            });
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
