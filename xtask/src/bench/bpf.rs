//! What the kernel says about BPF programs: whose they are, how often they ran, how long it took.

use crate::failure::{Failure, OrFail as _, Result};
use crate::sh;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

const NEXT: &str =
    "run `bpftool -j prog show` and look; `cargo xtask setup --with bench` brings it";
/// The types of programs that run when other programs do something.
const TRACING: &[&str] = &["kprobe", "tracepoint", "perf_event", "raw_tracepoint", "tracing"];

/// How often a program ran, and how long that took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) run_cnt: u64,
    pub(super) run_time_ns: u64,
}

impl Counter {
    /// What came on top of `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            run_cnt: self.run_cnt.saturating_sub(before.run_cnt),
            run_time_ns: self.run_time_ns.saturating_sub(before.run_time_ns),
        }
    }

    /// Nothing if it never ran.
    pub(super) fn ns_per_run(self) -> Option<f64> {
        (self.run_cnt > 0).then(|| self.run_time_ns as f64 / self.run_cnt as f64)
    }
}

/// The programs that the process holds, by name; those of one name are added up.
pub(super) fn counters_of(pid: u32) -> Result<BTreeMap<String, Counter>> {
    let held = held_by(pid)?;
    let mut counters = BTreeMap::<String, Counter>::new();
    for program in loaded()?.into_iter().filter(|program| held.contains(&program.id)) {
        let sum = counters.entry(program.name).or_default();
        sum.run_cnt += program.counter.run_cnt;
        sum.run_time_ns += program.counter.run_time_ns;
    }
    Ok(counters)
}

/// The names of the tracing programs that are loaded now, whoever loaded them.
pub(super) fn tracing_programs() -> Result<BTreeSet<String>> {
    let tracing = loaded()?.into_iter().filter(|it| TRACING.contains(&it.kind.as_str()));
    Ok(tracing.map(|program| program.name).collect())
}

/// One program as bpftool shows it.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    id: u64,
    kind: String,
    name: String,
    counter: Counter,
}

fn loaded() -> Result<Vec<Program>> {
    let bpftool = sh::find("bpftool").unwrap_or_else(|| "bpftool".into());
    parse(&sh::output(Command::new(bpftool).args(["-j", "prog", "show"]), NEXT)?)
}

fn parse(bpftool: &str) -> Result<Vec<Program>> {
    let list: Value = serde_json::from_str(bpftool).or_fail("the output of bpftool", NEXT)?;
    let programs = list.as_array();
    let programs = programs.ok_or_else(|| Failure::new("bpftool shows no list", NEXT))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let program = |it: &Value| {
        Some(Program {
            id: it["id"].as_u64()?,
            kind: text(&it["type"]),
            name: text(&it["name"]),
            // Left out as long as nothing was counted.
            counter: Counter {
                run_cnt: it["run_cnt"].as_u64().unwrap_or_default(),
                run_time_ns: it["run_time_ns"].as_u64().unwrap_or_default(),
            },
        })
    };
    Ok(programs.iter().filter_map(program).collect())
}

/// The numbers of the programs that a process has a descriptor of, or a link to.
///
/// bpftool can tell too, but not that of every distribution does.
fn held_by(pid: u32) -> Result<BTreeSet<u64>> {
    let dir = format!("/proc/{pid}/fdinfo");
    let infos = fs::read_dir(&dir).or_fail(&dir, "the process has ended: look for why above")?;
    // A descriptor may be closed between the two reads.
    let texts = infos.filter_map(|info| fs::read_to_string(info.ok()?.path()).ok());
    Ok(texts.filter_map(|text| program_id(&text)).collect())
}

fn program_id(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("prog_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BPFTOOL: &str = r#"[
        {"id":7,"type":"cgroup_device","tag":"e3dbd137be8d6168","gpl_compatible":true},
        {"id":1657,"type":"tracing","name":"state","run_time_ns":2000,"run_cnt":8,"btf_id":1010},
        {"id":1658,"type":"tracing","name":"exit"}]"#;

    #[test]
    fn programs_are_read_as_bpftool_writes_them() {
        let programs = parse(BPFTOOL).expect("invariant: this is JSON");
        let names: Vec<(u64, &str)> = programs.iter().map(|it| (it.id, it.name.as_str())).collect();
        assert_eq!(names, [(7, ""), (1657, "state"), (1658, "exit")]);
        assert_eq!(programs[1].counter, Counter { run_cnt: 8, run_time_ns: 2000 });
        assert_eq!(programs[2].counter, Counter::default());
    }

    #[test]
    fn an_error_of_bpftool_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse(r#"{"error":"permission denied"}"#).is_err());
    }

    #[test]
    fn the_program_of_a_descriptor_or_a_link_is_found() {
        assert_eq!(program_id("pos:\t0\nprog_type:\t26\nprog_id:\t2379\n"), Some(2379));
        assert_eq!(program_id("link_type:\tperf\nprog_tag:\t85\nprog_id:\t12\n"), Some(12));
        assert_eq!(program_id("pos:\t0\nflags:\t02\n"), None);
    }

    #[test]
    fn a_program_that_did_not_run_has_no_mean() {
        let before = Counter { run_cnt: 8, run_time_ns: 2000 };
        let after = Counter { run_cnt: 12, run_time_ns: 3000 };
        assert_eq!(after.since(before).ns_per_run(), Some(250.0));
        assert_eq!(before.since(before).ns_per_run(), None);
    }
}
