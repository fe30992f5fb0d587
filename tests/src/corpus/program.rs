//! A program of the corpus as a process.

use super::foreign::Foreign;
use super::{Start, servers};
use crate::TempDir;
use rustix::process::{Pid, Signal, kill_process_group};
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Interpreters and their packages, on two busy cores.
const START: Duration = Duration::from_secs(60);

/// Debian's interpreter: it has the packages that the programs use, another `python3` may not.
const PYTHON: &str = "/usr/bin/python3";

/// A running program, gone with all its children when dropped.
#[derive(Debug)]
pub(super) enum Program {
    /// One that speaks our words.
    Own { child: Child, stdin: ChildStdin, words: Receiver<String>, port: u16, _made: TempDir },
    /// One that does not.
    Foreign(Foreign),
}

/// What a program says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The mistake is made.
    Leaked,
    /// The other end has to do something, and then it is.
    Act,
}

impl Program {
    /// Starts it and waits until it can be watched.
    #[track_caller]
    pub(super) fn start(start: Start, server: Option<u16>) -> Self {
        let made = TempDir::new();
        let mut command = match start {
            Start::Node(script, arguments) => {
                let mut command = mortal(Path::new("node"));
                command.env("NODE_PATH", node_modules());
                command.arg(servers::sources().join("node").join(script)).arg(text(server));
                command.args(arguments);
                command
            }
            Start::Python(script) => {
                let mut command = mortal(Path::new(PYTHON));
                // No files beside the sources.
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command.arg(servers::sources().join("python").join(script)).arg(text(server));
                command
            }
            Start::C(source) => {
                let mut command = mortal(&compile(source, &made));
                command.arg(text(server));
                command
            }
            Start::Rust(name) => {
                let mut command = mortal(&binary(name));
                command.arg(text(server));
                command
            }
            Start::Foreign(start) => return Self::Foreign(start(server)),
        };
        // Its children are ended with it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("setpriv is there: it is essential to Debian");
        let stdin = child.stdin.take().expect("invariant: stdin is a pipe");
        let stdout = child.stdout.take().expect("invariant: stdout is a pipe");
        let (to_case, words) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if to_case.send(line).is_err() {
                    return;
                }
            }
        });
        let mut port = 0;
        loop {
            let word = words.recv_timeout(START);
            let word = word.unwrap_or_else(|error| panic!("{start:?} does not start: {error}"));
            match word.split_once(' ') {
                Some(("port", number)) => port = number.parse().expect("a port"),
                _ if word == "ready" => break,
                _ => panic!("{start:?} said `{word}`"),
            }
        }
        Self::Own { child, stdin, words, port, _made: made }
    }

    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Own { child, .. } => child.id(),
            Self::Foreign(foreign) => foreign.child.id(),
        }
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Own { port, .. } => *port,
            Self::Foreign(foreign) => foreign.port,
        }
    }

    /// Lets it make its mistake.
    #[track_caller]
    pub(super) fn go(&mut self) {
        if let Self::Own { stdin, .. } = self {
            stdin.write_all(b"go\n").expect("the program runs");
        }
    }

    /// What it says within `patience`.
    ///
    /// # Panics
    ///
    /// When it has ended.
    #[track_caller]
    pub(super) fn word(&mut self, patience: Duration) -> Option<Word> {
        match self {
            Self::Own { words, .. } => match words.recv_timeout(patience) {
                Ok(word) if word == "leaked" => Some(Word::Leaked),
                Ok(word) if word == "act" => Some(Word::Act),
                Ok(word) => panic!("the program said `{word}`"),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => panic!("the program has ended"),
            },
            Self::Foreign(foreign) => {
                thread::sleep(patience);
                let ended = foreign.child.try_wait().expect("invariant: it is our child");
                assert!(ended.is_none(), "the server has ended: {ended:?}");
                None
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Self::Own { child, .. } = self {
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            // Nobody is left in it if all have ended.
            let _ended = group.map(|group| kill_process_group(group, Signal::KILL));
            let _status = child.wait();
        }
    }
}

/// A binary of this package, which cargo puts beside the directory of this test.
pub(super) fn binary(name: &str) -> PathBuf {
    target().join(profile()).join(name)
}

fn text(port: Option<u16>) -> String {
    port.unwrap_or(0).to_string()
}

/// A command that goes with the thread that starts it, should the test be killed.
fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

#[track_caller]
fn compile(source: &str, into: &TempDir) -> PathBuf {
    let program = into.join(source.trim_end_matches(".c"));
    let made = Command::new("cc")
        .args(["-O1", "-Wall", "-o"])
        .arg(&program)
        .arg(servers::sources().join("c").join(source))
        .output()
        .expect("a C compiler is there: it links this test");
    assert!(made.status.success(), "{source}: {}", String::from_utf8_lossy(&made.stderr));
    program
}

/// Where `cargo xtask setup` puts the packages of Node.js.
pub(crate) fn node_modules() -> PathBuf {
    target().join("corpus/node_modules")
}

/// Cargo's target directory: this test is `target/PROFILE/deps/TEST`.
fn target() -> PathBuf {
    test_directory().parent().expect("invariant: a profile is in a directory").to_owned()
}

fn profile() -> PathBuf {
    PathBuf::from(test_directory().file_name().expect("invariant: it has a name"))
}

fn test_directory() -> PathBuf {
    let test = env::current_exe().expect("a program knows where it is");
    test.ancestors().nth(2).expect("invariant: target/PROFILE/deps/TEST").to_owned()
}
