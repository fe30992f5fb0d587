//! `cargo xtask ci`: every check that a change must pass, in an order that shows failures early.

use crate::failure::{Failure, Result};
use crate::{build, build_ebpf, clock, sh, table, test, tidy, vm};

const DENY_VERSION: &str = "0.20.2";

/// Run every check; all steps run, even after one failed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the tests to `cargo xtask test`.
    #[arg(long)]
    skip_tests: bool,
    /// Install cargo-deny when it is missing; takes minutes.
    #[arg(long)]
    install_deny: bool,
}

/// One check.
struct Step {
    name: &'static str,
    /// Without these it has nothing to work on.
    needs: &'static [&'static str],
    run: fn(&Args) -> Result<Verdict>,
}

/// How a step ended.
enum Verdict {
    Passed,
    Failed(Failure),
    /// Not run, and why that is all right or not the fault of this step.
    Skipped(String),
}

/// Clippy comes after the eBPF object, for the observer embeds it and does not compile without.
const STEPS: &[Step] = &[
    Step { name: "fmt", needs: &[], run: |_| format() },
    Step { name: "build-ebpf", needs: &[], run: |_| passed(build_ebpf::run(&Default::default())) },
    Step { name: "clippy", needs: &["build-ebpf"], run: |_| clippy() },
    Step { name: "build", needs: &["build-ebpf"], run: |_| passed(build::release()) },
    Step { name: "tidy", needs: &[], run: |_| passed(tidy::run(&Default::default())) },
    Step { name: "deny", needs: &[], run: deny },
    Step { name: "vm", needs: &["build"], run: |_| passed(vm::run(&Default::default())) },
    Step { name: "test", needs: &["build"], run: tests },
];

pub(crate) fn run(args: &Args) -> Result {
    let mut done: Vec<(&Step, Verdict, f64)> = Vec::new();
    for step in STEPS {
        println!("\n== {} ==", step.name);
        let begin = clock::now();
        let broken = step.needs.iter().find(|need| {
            let failed = |(it, verdict, _): &(&Step, Verdict, f64)| {
                it.name == **need && !matches!(verdict, Verdict::Passed)
            };
            done.iter().any(failed)
        });
        let verdict = match broken {
            Some(need) => Verdict::Skipped(format!("needs {need}, which failed")),
            None => (step.run)(args).unwrap_or_else(Verdict::Failed),
        };
        if let Verdict::Failed(failure) = &verdict {
            eprintln!("{failure}");
        }
        done.push((step, verdict, begin.elapsed().as_secs_f64()));
    }

    println!();
    let rows: Vec<[String; 3]> = done
        .iter()
        .map(|(step, verdict, seconds)| {
            [step.name.to_owned(), format!("{seconds:6.1} s"), verdict.to_string()]
        })
        .collect();
    table::print(&rows);
    let failed = done.iter().filter(|(_, verdict, _)| matches!(verdict, Verdict::Failed(_)));
    let failed: Vec<&str> = failed.map(|(step, ..)| step.name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let what = format!("{} failed", failed.join(", "));
    Err(Failure::new(what, "look for `xtask:` above: each failed step says what to do"))
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("ok"),
            Self::Failed(_) => f.write_str("FAILED"),
            Self::Skipped(why) => write!(f, "not run: {why}"),
        }
    }
}

fn passed(result: Result) -> Result<Verdict> {
    result.map(|()| Verdict::Passed)
}

fn format() -> Result<Verdict> {
    passed(sh::run(
        sh::cargo().args(["fmt", "--all", "--check"]),
        "The format.",
        "run `cargo fmt --all` (rustup: `rustup component add rustfmt`)",
    ))
}

fn clippy() -> Result<Verdict> {
    let mut cargo = sh::cargo();
    // The release profile shares macros and build scripts with the build that follows.
    cargo.args(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let next = "correct what clippy names (rustup: `rustup component add clippy`)";
    passed(sh::run(&mut cargo, "The lints; the eBPF program has its own compiler.", next))
}

fn deny(args: &Args) -> Result<Verdict> {
    if sh::find("cargo-deny").is_none() {
        if !args.install_deny {
            let why = "no cargo-deny (--install-deny); tidy checked licences and sources";
            return Ok(Verdict::Skipped(why.to_owned()));
        }
        sh::run(
            sh::cargo().args(["install", "--locked", "cargo-deny", "--version", DENY_VERSION]),
            "cargo-deny also checks bans and duplicate versions.",
            "read the message above; without --install-deny this step is left out",
        )?;
    }
    passed(sh::run(
        sh::cargo().args(["deny", "check", "licenses", "bans", "sources"]),
        "The dependency policy of deny.toml.",
        "choose another crate, or argue for it in deny.toml",
    ))
}

fn tests(args: &Args) -> Result<Verdict> {
    if args.skip_tests {
        return Ok(Verdict::Skipped("--skip-tests".to_owned()));
    }
    passed(test::cargo_test(&Default::default()))
}
