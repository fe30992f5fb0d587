//! `cargo xtask test`: everything that can be tested on this machine.

use crate::failure::{Failure, OrFail as _, Result};
use crate::{build, paths, setup, sh};
use serde_json::Value;
use std::env;
use std::process::Stdio;

/// The package whose tests load eBPF programs.
const KERNEL_PACKAGE: &str = "sockwarden-tests";
const NEXT: &str =
    "read the failed test above; one test alone: `cargo xtask test NAME -- --nocapture`";

/// Set up, build, and run all tests.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Arguments of `cargo test`: names of tests, options.
    #[arg(allow_hyphen_values = true)]
    cargo: Vec<String>,
    /// Arguments of the tests themselves.
    #[arg(last = true)]
    harness: Vec<String>,
}

impl Args {
    /// The arguments of cargo, and those of the tests.
    fn split(&self) -> (&[String], Vec<&String>) {
        // Behind another argument, clap takes `--` for one more of the same kind.
        let dashes = self.cargo.iter().position(|arg| arg == "--");
        let (cargo, harness) = self.cargo.split_at(dashes.unwrap_or(self.cargo.len()));
        (cargo, harness.iter().skip(1).chain(&self.harness).collect())
    }
}

pub(crate) fn run(args: &Args) -> Result {
    setup::ensure(&[setup::Extra::Test])?;
    build::run()?;
    cargo_test(args)
}

/// Runs the tests against the release binary that is there.
pub(crate) fn cargo_test(args: &Args) -> Result {
    let (for_cargo, for_tests) = args.split();
    if sh::is_root() {
        let mut cargo = sh::cargo();
        cargo.args(["test", "--release", "--workspace"]).args(for_cargo);
        cargo.arg("--").args(&for_tests).envs(environment());
        return sh::run(&mut cargo, "All tests; as root, so those of the real kernel too.", NEXT);
    }
    let mut cargo = sh::cargo();
    cargo.args(["test", "--release", "--workspace", "--exclude", KERNEL_PACKAGE]);
    cargo.args(&args.cargo).arg("--").args(&args.harness).envs(environment());
    sh::run(&mut cargo, "The tests that need no root.", NEXT)?;
    kernel_tests_through_sudo(for_cargo, &for_tests)
}

/// What the tests are told: the binary under test, and whether a missing kernel feature is an error.
fn environment() -> Vec<(&'static str, String)> {
    let mut told = vec![("SOCKWARDEN_BIN", paths::release_binary().display().to_string())];
    // A developer's kernel may be old; the one of CI must not silently skip anything.
    if env::var("CI").is_ok_and(|ci| ci == "true") {
        told.push(("SOCKWARDEN_REQUIRE_KERNEL", "1".to_owned()));
    }
    told
}

/// Compiles as the user and runs only the finished test programs as root, so that no file of the
/// target directory ends up owned by root.
fn kernel_tests_through_sudo(for_cargo: &[String], for_tests: &[&String]) -> Result {
    let mut cargo = sh::cargo();
    cargo.args(["test", "--release", "-p", KERNEL_PACKAGE, "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let messages = sh::output(&mut cargo, "read the compiler's message above")?;

    let path = format!("PATH={}", env::var("PATH").unwrap_or_default());
    let told: Vec<String> =
        environment().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut failed = Vec::new();
    for program in executables(&messages)? {
        let mut test = sh::as_root("env", &[&path])?;
        // Options of cargo mean nothing to a test program; names of tests do.
        let names = for_cargo.iter().filter(|arg| !arg.starts_with('-'));
        test.args(&told).arg(&program).args(names).args(for_tests);
        test.current_dir(paths::root().join("tests"));
        if !sh::status(&mut test, "Tests of the real kernel need root.", NEXT)?.success() {
            failed.push(program);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("tests failed in {}", failed.join(", ")), NEXT))
}

/// The test programs that cargo names in its messages.
fn executables(messages: &str) -> Result<Vec<String>> {
    let mut programs = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value =
            serde_json::from_str(line).or_fail("a message of cargo", "report a bug of xtask")?;
        let is_test = message["profile"]["test"].as_bool() == Some(true);
        if let Some(program) = message["executable"].as_str().filter(|_| is_test) {
            programs.push(program.to_owned());
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// The verb without its name.
    #[derive(Parser)]
    struct Verb {
        #[command(flatten)]
        args: Args,
    }

    #[track_caller]
    fn check(line: &str, for_cargo: &[&str], for_tests: &[&str]) {
        let words = std::iter::once("test").chain(line.split(' '));
        let verb = Verb::try_parse_from(words).expect("invariant: hyphens are allowed");
        let (cargo, tests) = verb.args.split();
        assert_eq!(cargo, for_cargo, "{line}");
        assert_eq!(tests, for_tests, "{line}");
    }

    #[test]
    fn arguments_keep_their_side_of_the_dashes() {
        check("name", &["name"], &[]);
        check("-p x name", &["-p", "x", "name"], &[]);
        check("-p x name -- --nocapture", &["-p", "x", "name"], &["--nocapture"]);
        check("-- --nocapture", &[], &["--nocapture"]);
    }

    #[test]
    fn only_test_programs_are_taken_from_the_messages_of_cargo() {
        let messages = r#"
{"reason":"compiler-artifact","profile":{"test":false},"executable":"/t/sockwarden"}
{"reason":"compiler-artifact","profile":{"test":true},"executable":"/t/leaks-1"}
{"reason":"compiler-artifact","profile":{"test":true},"executable":null}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages).expect("invariant: the messages are well-formed");
        assert_eq!(found, ["/t/leaks-1"]);
    }
}
