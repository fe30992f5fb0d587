//! `sockwarden demo`: see it find real leaks.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use super::{Failure, duration, exit};
use crate::{
    demo::{
        DemoError,
        report::{LATENCY_BAR, Outcome},
        run,
    },
    linger::HookHolder,
    sinks::{Palette, is_screen},
};

/// Leaks descriptors in processes of its own, in five ways, and shows that they are found.
///
/// Everything happens on loopback and is over in some seconds. Exit codes: 0 all found and none
/// invented, 1 otherwise, 69 this kernel cannot be watched, 77 no permission.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// With budgets of one second instead of three.
    #[arg(long, conflicts_with = "budget")]
    quick: bool,
    /// Budget of every kind of finding.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration::parse)]
    budget: Duration,
    /// One JSON object a line (docs/json.md).
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let budget = if self.quick { Duration::from_secs(1) } else { self.budget };
        let holder = HookHolder::start();
        let mut progress = Progress { shown: !self.json && is_screen(&io::stderr()) };
        let outcome = run(budget, &mut |text, share| progress.show(text, share));
        progress.clear();
        drop(holder);
        let outcome = outcome.map_err(|error| match error {
            DemoError::Observer(error) => Failure::from(error),
            child @ DemoError::Child { .. } => Failure::unable(child),
        })?;
        let written = if self.json { write_json(&outcome) } else { write_table(&outcome) };
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::unable(format!("the output cannot be written: {error}")))
            }
            _ => Ok(if outcome.is_right() { exit::OK } else { exit::FINDING }),
        }
    }
}

fn write_table(outcome: &Outcome) -> io::Result<()> {
    let out = io::stdout();
    let palette = Palette::for_stream(&out);
    let mut out = out.lock();
    if let Some(reason) = &outcome.degraded {
        writeln!(out, "{}\n", palette.caution(&format!("Only layer A: {reason}")))?;
    }
    let heading =
        format!("{:<14} {:<7} {:>20}   {}", "PLANTED", "FOUND", "AFTER ITS BUDGET", "WHAT IT SAYS");
    writeln!(out, "{}", palette.strong(&heading))?;
    for row in outcome.rows() {
        let kind = format!("{:<14}", row.kind.code());
        let (Some(found), Some(latency)) = (row.found, row.latency) else {
            writeln!(out, "{kind} {}", palette.alarm("MISSED"))?;
            continue;
        };
        let text = format!("{:>17.1} ms", latency.as_secs_f64() * 1e3);
        let text = if latency <= LATENCY_BAR { text } else { palette.alarm(&text) };
        writeln!(out, "{kind} {} {text}   {}", palette.good("yes    "), found.message)?;
    }
    let invented = outcome.invented();
    let none = palette.good("0");
    let count = if invented.is_empty() { none } else { palette.alarm(&invented.len().to_string()) };
    writeln!(
        out,
        "\nfalse findings: {count}, beside a process that behaves and closes late on purpose"
    )?;
    for finding in invented {
        writeln!(out, "  {} {}", palette.alarm(finding.kind.code()), finding.message)?;
    }
    let still = match outcome.still_open {
        0 => palette.good("every finding cleared when its process ended"),
        open => palette.alarm(&format!("{open} findings did not clear")),
    };
    writeln!(
        out,
        "{still}; {} changes of state seen, {} lost, layers {}, budget {:?}",
        outcome.transitions, outcome.lost, outcome.layers, outcome.budget
    )
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Leak {
        kind: &'a str,
        found: bool,
        latency_ms: Option<f64>,
        message: Option<&'a str>,
    },
    Invented {
        kind: &'a str,
        message: &'a str,
    },
    Demo {
        planted: usize,
        found: usize,
        invented: usize,
        still_open: u64,
        lost: u64,
        worst_latency_ms: Option<f64>,
        layers: &'a str,
    },
}

fn write_json(outcome: &Outcome) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let millis = |latency: Duration| latency.as_secs_f64() * 1e3;
    let rows = outcome.rows();
    let invented = outcome.invented();
    let mut lines: Vec<_> = rows
        .iter()
        .map(|row| Line::Leak {
            kind: row.kind.code(),
            found: row.found.is_some(),
            latency_ms: row.latency.map(millis),
            message: row.found.map(|found| found.message.as_str()),
        })
        .collect();
    lines.extend(
        invented
            .iter()
            .map(|finding| Line::Invented { kind: finding.kind.code(), message: &finding.message }),
    );
    lines.push(Line::Demo {
        planted: rows.len(),
        found: rows.iter().filter(|row| row.found.is_some()).count(),
        invented: invented.len(),
        still_open: outcome.still_open,
        lost: outcome.lost,
        worst_latency_ms: outcome.worst_latency().map(millis),
        layers: outcome.layers,
    });
    for line in lines {
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// A bar on stderr that replaces itself.
struct Progress {
    shown: bool,
}

impl Progress {
    const WIDTH: usize = 30;

    #[expect(clippy::print_stderr, reason = "progress is for the person at the terminal")]
    fn show(&mut self, text: &str, share: f64) {
        if self.shown {
            let full = (share.clamp(0.0, 1.0) * Self::WIDTH as f64) as usize;
            let bar = "█".repeat(full) + &"░".repeat(Self::WIDTH - full);
            eprint!("\r\x1b[K{bar} {text}");
        }
    }

    #[expect(clippy::print_stderr, reason = "progress is for the person at the terminal")]
    fn clear(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
