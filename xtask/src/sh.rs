//! Running other programs: what runs is shown with its reason, and a failure names the next step.

use crate::failure::{Failure, OrFail as _, Result};
use crate::paths;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Shows the command with its reason, runs it, and fails when it fails.
pub(crate) fn run(command: &mut Command, why: &str, next: &str) -> Result {
    let status = status(command, why, next)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`{}` {}", show(command), outcome(status)), next))
}

/// Like [`run`], but the exit status is the caller's to judge.
pub(crate) fn status(command: &mut Command, why: &str, next: &str) -> Result<ExitStatus> {
    eprintln!("» {why}\n  $ {}", show(command));
    command.status().or_fail(format!("`{}` did not start", show(command)), next)
}

/// The standard output of a command that must succeed; it runs without being shown.
pub(crate) fn output(command: &mut Command, next: &str) -> Result<String> {
    let shown = show(command);
    let done =
        command.stdin(Stdio::null()).output().or_fail(format!("`{shown}` did not start"), next)?;
    if !done.status.success() {
        let stderr = String::from_utf8_lossy(&done.stderr);
        let what = format!("`{shown}` {}: {}", outcome(done.status), stderr.trim());
        return Err(Failure::new(what, next));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The standard output of a question whose failure is an answer too.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let answer = done.status.success().then_some(done.stdout)?;
    Some(String::from_utf8_lossy(&answer).trim().to_owned())
}

/// Cargo, in the workspace, as if it was called by hand.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root()).env("CARGO_TARGET_DIR", paths::target());
    // `cargo run` describes xtask in these. Left in place they differ from a call by hand, and
    // build scripts that watch them run again.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
}

/// A command that needs root: by itself if we are root, else through sudo.
pub(crate) fn as_root(program: impl AsRef<OsStr>, args: &[&str]) -> Result<Command> {
    let program = program.as_ref();
    if is_root() {
        let mut command = Command::new(program);
        command.args(args);
        return Ok(command);
    }
    let mut command = Command::new("sudo");
    command.arg(program).args(args);
    if find("sudo").is_none() {
        let by_hand = format!("{} {}", program.display(), args.join(" "));
        return Err(Failure::new(
            format!("`{by_hand}` needs root, and there is no sudo"),
            format!("run this as root, then call xtask again: {by_hand}"),
        ));
    }
    eprintln!("  Only this step needs root, so it goes through sudo.");
    Ok(command)
}

pub(crate) fn is_root() -> bool {
    // The files of a process belong to its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// Looks for a program on PATH, then where cargo installs programs, then where only root looks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let fallback = [cargo_bin(), Some("/usr/sbin".into()), Some("/sbin".into())];
    env::split_paths(&path)
        .chain(fallback.into_iter().flatten())
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

/// PATH with `first` in front of it.
pub(crate) fn path_with(first: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(first.to_path_buf()).chain(env::split_paths(&path));
    env::join_paths(dirs).unwrap_or(path)
}

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .map(|cargo| cargo.join("bin"))
}

/// The command as one would type it; PATH is left out, for it is long and says little.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = match program.file_name() {
        Some(name) if name == "cargo" => name.to_string_lossy(),
        _ => program.to_string_lossy(),
    };
    let own = |name: &OsStr| name != "PATH" && name != "CARGO_TARGET_DIR";
    let envs = command.get_envs().filter(|(name, _)| own(name)).filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quote(&value?.to_string_lossy())))
    });
    let args = command.get_args().map(|arg| quote(&arg.to_string_lossy()));
    envs.chain(std::iter::once(program.into_owned())).chain(args).collect::<Vec<_>>().join(" ")
}

/// "exited with 3" or "was killed by signal 9".
pub(crate) fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended without a status".to_owned(),
    }
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|it| it.is_file() && it.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/opt/bin/cargo");
        command.args(["build", "two words"]).env("PATH", "/x").env("RUSTC_BOOTSTRAP", "1");
        assert_eq!(show(&command), "RUSTC_BOOTSTRAP=1 cargo build 'two words'");
    }

    #[test]
    fn a_failing_command_names_itself_its_exit_code_and_the_next_step() {
        let failure = run(Command::new("sh").args(["-c", "exit 3"]), "a test", "do better")
            .expect_err("invariant: the command exits with 3");
        let text = failure.to_string();
        assert!(text.contains("`sh -c 'exit 3'` exited with 3"), "{text}");
        assert!(text.contains("next: do better"), "{text}");
    }
}
