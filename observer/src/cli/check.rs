//! `sockwarden check`: whether this host and this process can do the work, row by row.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit};
use serde::Serialize;

use super::{Failure, exit};
use crate::{
    config::Privileges,
    escape,
    life::{instance::Instance, privileges::Remaining},
    probe::{self, Layers, ProbeError},
    sinks::Palette,
};

/// First kernel whose programs have all that ours need (docs/kernel.md).
const OLDEST: (u32, u32) = (5, 15);

/// Descriptors for 12,000 sessions, a storm of replacements among them, and the daemon's own.
const DESCRIPTORS: u64 = 16_384;

/// Shows what this host and this process can do, and what to change.
///
/// Exit codes: 0 no row is red, 1 one is.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// One JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Where the daemon keeps its lock.
    #[arg(long, value_name = "DIR", default_value_os_t = Privileges::default().runtime_directory)]
    runtime_directory: PathBuf,
}

/// How a row is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Green,
    /// It works, and could be better.
    Yellow,
    /// It does not work.
    Red,
}

/// The row about the layer without which nothing works.
const LAYER_A: &str = "privileges, layer A";

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    what: &'static str,
    value: String,
    bar: String,
    verdict: Verdict,
    /// What to do; empty where nothing is.
    remedy: String,
}

impl Row {
    fn new(what: &'static str, value: impl Into<String>, bar: impl Into<String>) -> Self {
        Self {
            what,
            value: value.into(),
            bar: bar.into(),
            verdict: Verdict::Green,
            remedy: String::new(),
        }
    }

    fn but(self, verdict: Verdict, remedy: impl Into<String>) -> Self {
        Self { verdict, remedy: remedy.into(), ..self }
    }
}

impl Check {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let daemon = Instance::holder(&self.runtime_directory).map_err(Failure::unable)?;
        let rows = rows(daemon);
        let palette = Palette::for_stream(&io::stdout());
        let text = if self.json { json(&rows) } else { table(&rows, palette) };
        match io::stdout().lock().write_all(text.as_bytes()) {
            // Whoever read our output has seen enough (`| head`).
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(Failure::unable(format!("the output cannot be written: {error}")));
            }
            _ => {}
        }
        let red = rows.iter().any(|row| row.verdict == Verdict::Red);
        Ok(if red { exit::FINDING } else { exit::OK })
    }
}

/// EDGE: looks at the host. `daemon`: the process that runs already.
fn rows(daemon: Option<u32>) -> Vec<Row> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let number = |path| fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    let mut rows = vec![
        kernel(&release),
        btf(Path::new(probe::KERNEL_BTF).exists()),
        tracefs(probe::TRACEFS.iter().map(|place| (*place, fs::read_dir(place).map(drop)))),
        jit(number("/proc/sys/net/core/bpf_jit_enable")),
        statistics(number("/proc/sys/kernel/bpf_stats_enabled")),
        descriptors(getrlimit(Resource::Nofile)),
    ];
    let has_daemon = daemon.is_some();
    let layers = [
        (LAYER_A, "CAP_BPF and CAP_PERFMON", probe::may_observe(Layers::A)),
        ("privileges, layer B", "and CAP_DAC_READ_SEARCH", probe::may_observe(Layers::Ab)),
        ("privileges, layer C", "and CAP_NET_ADMIN", probe::may_see_names()),
    ];
    let is_needed = |what| what == LAYER_A && !has_daemon;
    let privileges = |(what, bar, answer)| privileges(what, bar, is_needed(what), &answer);
    rows.extend(layers.map(privileges));
    rows.push(match daemon {
        None => Row::new("daemon", "does not run", "any"),
        Some(pid) => running(pid, &Remaining::of_process(pid)),
    });
    rows
}

fn kernel(release: &str) -> Row {
    let row = Row::new("kernel", escape::short(release, 64), format!("{}.{}", OLDEST.0, OLDEST.1));
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => row,
        (Some(Ok(_)), Some(Ok(_))) => row.but(Verdict::Red, "boot a newer kernel"),
        _ => row.but(Verdict::Yellow, "sockwarden cannot read this number; try `watch --all`"),
    }
}

fn btf(there: bool) -> Row {
    if there {
        Row::new("kernel types (BTF)", "there", "there")
    } else {
        Row::new("kernel types (BTF)", "missing", "there")
            .but(Verdict::Red, "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y")
    }
}

/// `places`: where tracefs may be, and whether it can be listed.
fn tracefs(places: impl Iterator<Item = (&'static str, io::Result<()>)>) -> Row {
    let mut forbidden = None;
    for (place, listed) in places {
        match listed {
            Ok(()) if Path::new(place).join("events").exists() => {
                return Row::new("tracefs", place, "readable");
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                forbidden.get_or_insert(place);
            }
            _ => {}
        }
    }
    match forbidden {
        Some(place) => Row::new("tracefs", format!("{place} is not ours to read"), "readable").but(
            Verdict::Yellow,
            "grant CAP_DAC_READ_SEARCH, or ask as root: without it descriptors are known late",
        ),
        None => Row::new("tracefs", "not mounted", "readable")
            .but(Verdict::Yellow, "mount -t tracefs tracefs /sys/kernel/tracing"),
    }
}

fn jit(enabled: Option<u32>) -> Row {
    match enabled {
        Some(0) => Row::new("BPF compiler (JIT)", "off", "on").but(
            Verdict::Yellow,
            "sysctl net.core.bpf_jit_enable=1: interpreted programs cost every process more",
        ),
        Some(_) => Row::new("BPF compiler (JIT)", "on", "on"),
        None => Row::new("BPF compiler (JIT)", "unknown", "on"),
    }
}

fn statistics(enabled: Option<u32>) -> Row {
    let value = match enabled {
        Some(0) => "off",
        Some(_) => "on: costs some ns at each event",
        None => "unknown",
    };
    Row::new("BPF statistics", value, "any")
}

fn descriptors(limit: Rlimit) -> Row {
    let number = |limit: Option<u64>| limit.map_or_else(|| "unlimited".into(), |it| it.to_string());
    let value = format!("{} soft, {} hard", number(limit.current), number(limit.maximum));
    let row = Row::new("descriptors", value, format!("{DESCRIPTORS} hard"));
    // The daemon raises the soft one by itself.
    if limit.maximum.is_none_or(|hard| hard >= DESCRIPTORS) {
        row
    } else {
        row.but(
            Verdict::Yellow,
            format!("`LimitNOFILE={DESCRIPTORS}` or `ulimit -Hn` for 12,000 sessions"),
        )
    }
}

/// `is_needed`: nothing works without this layer, and no daemon that has the privileges runs.
fn privileges(
    what: &'static str,
    bar: &'static str,
    is_needed: bool,
    answer: &Result<(), ProbeError>,
) -> Row {
    let verdict = if is_needed { Verdict::Red } else { Verdict::Yellow };
    match answer {
        Ok(()) => Row::new(what, "enough", bar),
        Err(ProbeError::NotPermitted { missing }) => {
            let remedy = "run it as root, or by its systemd unit";
            Row::new(what, format!("missing: {missing}"), bar).but(verdict, remedy)
        }
        Err(error) => Row::new(what, "not enough", bar).but(verdict, error.to_string()),
    }
}

fn running(pid: u32, remaining: &io::Result<Remaining>) -> Row {
    let bar = "no capabilities";
    match remaining {
        Err(error) => Row::new("daemon", format!("process {pid}, hidden: {error}"), bar)
            .but(Verdict::Yellow, "ask as root: /proc hides it (hidepid)"),
        Ok(remaining) => {
            let row = Row::new("daemon", format!("process {pid}, {remaining}"), bar);
            if remaining.uid == 0 || !remaining.capabilities().is_empty() {
                let remedy = "wait until it is ready; a ready one that kept them is a fault";
                row.but(Verdict::Yellow, remedy)
            } else {
                row
            }
        }
    }
}

fn json(rows: &[Row]) -> String {
    #[derive(Serialize)]
    struct Answer<'a> {
        rows: &'a [Row],
    }
    let mut line = serde_json::to_string(&Answer { rows })
        .expect("invariant: text and names only, which JSON can hold");
    line.push('\n');
    line
}

fn table(rows: &[Row], palette: Palette) -> String {
    let width = |cell: fn(&Row) -> &str, heading: &str| {
        let widest = rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or(0);
        widest.max(heading.len())
    };
    let what = width(|row| row.what, "WHAT");
    let value = width(|row| &row.value, "VALUE");
    let bar = width(|row| &row.bar, "BAR");
    let line = |cells: [&str; 5]| {
        let [a, b, c, d, e] = cells;
        format!("{a:<what$}  {b:<value$}  {c:<bar$}  {d}  {e}").trim_end().to_owned()
    };
    let heading = line(["WHAT", "VALUE", "BAR", "VERDICT", "REMEDY"]);
    let mut text = format!("{}\n", palette.strong(&heading));
    for row in rows {
        // As wide as the heading; padded before it is painted.
        let verdict = match row.verdict {
            Verdict::Green => palette.good("ok     "),
            Verdict::Yellow => palette.caution("caution"),
            Verdict::Red => palette.alarm("red    "),
        };
        text.push_str(&line([row.what, &row.value, &row.bar, &verdict, &row.remedy]));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: io::ErrorKind) -> io::Result<()> {
        Err(error.into())
    }

    #[test]
    fn each_row_is_judged() {
        use Verdict::{Green, Red, Yellow};
        let limit = |hard| Rlimit { current: Some(1_024), maximum: hard };
        let denied = io::ErrorKind::PermissionDenied;
        let not_permitted = || Err(ProbeError::NotPermitted { missing: "CAP_BPF".to_owned() });
        let place = "/no/such/place";
        let cases = [
            (kernel("6.1.0-18-amd64"), Green, ""),
            (kernel("5.15.0"), Green, ""),
            (kernel("5.14.21"), Red, "newer"),
            (kernel("4.19"), Red, "newer"),
            (kernel("odd"), Yellow, "watch"),
            (btf(true), Green, ""),
            (btf(false), Red, "CONFIG_DEBUG_INFO_BTF"),
            (tracefs([(place, refused(denied))].into_iter()), Yellow, "CAP_DAC_READ_SEARCH"),
            (tracefs([(place, refused(io::ErrorKind::NotFound))].into_iter()), Yellow, "mount"),
            (tracefs([(place, Ok(()))].into_iter()), Yellow, "mount"),
            (jit(Some(1)), Green, ""),
            (jit(Some(0)), Yellow, "bpf_jit_enable"),
            (jit(None), Green, ""),
            (statistics(Some(1)), Green, ""),
            (descriptors(limit(Some(DESCRIPTORS))), Green, ""),
            (descriptors(limit(None)), Green, ""),
            (descriptors(limit(Some(DESCRIPTORS - 1))), Yellow, "LimitNOFILE"),
            (privileges(LAYER_A, "", true, &Ok(())), Green, ""),
            (privileges(LAYER_A, "", true, &not_permitted()), Red, "root"),
            (privileges(LAYER_A, "", false, &not_permitted()), Yellow, "root"),
            (privileges(LAYER_A, "", true, &Err(ProbeError::PidNamespace)), Red, "--pid=host"),
            (running(7, &Err(denied.into())), Yellow, "root"),
        ];
        for (row, verdict, remedy) in cases {
            assert_eq!(row.verdict, verdict, "{row:?}");
            assert!(row.remedy.contains(remedy), "{row:?}");
            assert_eq!(row.remedy.is_empty(), verdict == Green, "{row:?}");
        }
    }

    #[test]
    fn columns_stand_below_their_headings() {
        let rows = [kernel("6.1"), btf(false)];
        let text = table(&rows, Palette::default());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = lines[0].find("VERDICT").expect("a heading");
        assert_eq!(&lines[1][column..], "ok");
        assert!(lines[2][column..].starts_with("red      boot"), "{text}");
    }

    #[test]
    fn json_has_every_row() {
        let line = json(&[btf(false)]);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["rows"][0]["verdict"], "red");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn this_host_has_an_answer_for_each_row() {
        let rows = rows(None);
        assert!(rows.len() >= 9);
        assert!(rows.iter().all(|row| !row.value.is_empty() && !row.bar.is_empty()), "{rows:?}");
    }
}
