//! Watched programs: real processes that do to their descriptors what a scenario orders.

use crate::corpus::node_modules;
use crate::watch::signal_process;
use rustix::process::Signal;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use std::{env, fs, thread};

/// The longest order is a fleet of connections; everything else takes microseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program.
#[derive(Debug)]
pub struct App {
    child: Child,
    pid: u32,
    started: Option<u64>,
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl App {
    /// `apps/app.py`.
    #[track_caller]
    pub fn python() -> Self {
        Self::python_through(&[])
    }

    /// `apps/app.py`, run through another program.
    #[track_caller]
    pub fn python_through(wrapper: &[&str]) -> Self {
        let script = script("app.py");
        Self::spawn(wrapper, &[python().as_os_str(), script.as_os_str()])
    }

    /// `apps/app.py` by another name: `program` becomes a link to the interpreter.
    #[track_caller]
    pub fn python_as(program: &Path) -> Self {
        std::os::unix::fs::symlink(python(), program).expect("the link can be made");
        Self::spawn(&[], &[program.as_os_str(), script("app.py").as_os_str()])
    }

    /// `apps/app.js`.
    #[track_caller]
    pub fn node() -> Self {
        let script = script("app.js");
        Self::spawn(&[], &[OsStr::new("node"), script.as_os_str()])
    }

    /// `apps/app.js` by another name: `program` becomes a link to Node.
    #[track_caller]
    pub fn node_as(program: &Path) -> Self {
        Self::node_script_as(program, "app.js")
    }

    /// A script of `apps/` for Node, by another name: `program` becomes a link to Node.
    #[track_caller]
    pub fn node_script_as(program: &Path, name: &str) -> Self {
        let paths = env::var_os("PATH").unwrap_or_default();
        let node = env::split_paths(&paths).map(|path| path.join("node")).find(|it| it.is_file());
        let node = node.expect("node is installed: `cargo xtask setup`");
        std::os::unix::fs::symlink(node, program).expect("the link can be made");
        let packages = format!("NODE_PATH={}", node_modules().display());
        Self::spawn(&["env", &packages], &[program.as_os_str(), script(name).as_os_str()])
    }

    /// The Rust program.
    #[track_caller]
    pub fn rust() -> Self {
        Self::spawn(&[], &[holder().as_os_str()])
    }

    /// The Rust program with a first order and another name: `program` is a link to it.
    #[track_caller]
    pub fn rust_as(program: &Path, first: &[&str]) -> Self {
        std::os::unix::fs::symlink(holder(), program).expect("the link can be made");
        let mut words = vec![program.as_os_str()];
        words.extend(first.iter().map(OsStr::new));
        Self::spawn(&[], &words)
    }

    #[track_caller]
    fn spawn(wrapper: &[&str], program: &[&OsStr]) -> Self {
        let words: Vec<&OsStr> =
            wrapper.iter().map(OsStr::new).chain(program.iter().copied()).collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {words:?}: {error}"));
        let stdout = child.stdout.take().expect("invariant: stdout is a pipe");
        let (to_scenario, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if to_scenario.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        let mut app = Self { pid: child.id(), started: None, stdin, child, answers };
        let greeting = app.line();
        assert_eq!(greeting, "ready", "{words:?} did not start");
        app.is_now(innermost(app.pid));
        app
    }

    /// Another process goes on in its place.
    pub fn is_now(&mut self, pid: u32) {
        self.pid = pid;
        self.started = start_ticks(pid);
    }

    /// Its process number on the host.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its name, as the kernel knows it.
    pub fn comm(&self) -> String {
        let comm = fs::read_to_string(format!("/proc/{}/comm", self.pid)).expect("it is running");
        comm.trim_end().to_owned()
    }

    /// Gives an order and waits until it is carried out.
    #[track_caller]
    pub fn run(&mut self, order: &str) -> String {
        self.send(order);
        self.answer(order)
    }

    /// Gives an order whose answer is numbers.
    #[track_caller]
    pub fn numbers<T: FromStr>(&mut self, order: &str) -> Vec<T> {
        let answer = self.run(order);
        let numbers: Result<_, _> = answer.split_whitespace().map(str::parse).collect();
        numbers.unwrap_or_else(|_| panic!("`{order}` was answered with `{answer}`"))
    }

    /// Gives an order whose answer is a descriptor or process number.
    #[track_caller]
    pub fn number<T: FromStr>(&mut self, order: &str) -> T {
        let mut numbers = self.numbers(order);
        assert_eq!(numbers.len(), 1, "`{order}` has one answer");
        numbers.pop().expect("invariant: there is one")
    }

    /// Connects to `port` on `host`; the answer is the descriptor.
    #[track_caller]
    pub fn connect(&mut self, host: &str, port: u16) -> i32 {
        self.number(&format!("connect {host} {port}"))
    }

    /// As [`Self::connect`], with a socket that was never close-on-exec.
    #[track_caller]
    pub fn connect_open(&mut self, host: &str, port: u16) -> i32 {
        self.number(&format!("connect-open {host} {port}"))
    }

    /// Listens on `host`; the answer is the descriptor and the port.
    #[track_caller]
    pub fn listen(&mut self, host: &str) -> (i32, u16) {
        let numbers: Vec<u32> = self.numbers(&format!("listen {host} 4096"));
        let fd = i32::try_from(numbers[0]).expect("invariant: a descriptor");
        (fd, u16::try_from(numbers[1]).expect("invariant: a port"))
    }

    /// Gives an order and does not wait for the answer.
    #[track_caller]
    pub fn send(&mut self, order: &str) {
        let stdin = self.stdin.as_mut().expect("invariant: taken by drop only");
        writeln!(stdin, "{order}").unwrap_or_else(|error| panic!("`{order}`: {error}"));
    }

    /// Waits for the answer to an order that was sent.
    #[track_caller]
    pub fn answer(&mut self, order: &str) -> String {
        let answer = self.line();
        match answer.split_once(' ').unwrap_or((&answer, "")) {
            ("ok", value) => value.to_owned(),
            _ => panic!("`{order}`: {answer}"),
        }
    }

    /// Ends it by SIGKILL and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Lets it end by itself and waits until it is gone.
    #[track_caller]
    pub fn exit(mut self) {
        self.send("exit");
        self.child.wait().expect("invariant: it is our child");
    }

    #[track_caller]
    fn line(&mut self) -> String {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the program does not answer"),
            Err(RecvTimeoutError::Disconnected) => panic!("the program has ended"),
        }
    }

    fn end(&mut self) {
        // Behind a wrapper the program itself is not our child: its number may be another's by now.
        if start_ticks(self.pid).is_some_and(|ticks| Some(ticks) == self.started) {
            signal_process(self.pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.stdin.take());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.end();
    }
}

/// When a process started, which tells it from the next one with its number.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is the second field and may have spaces and parentheses; the start is the 22nd.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// The program behind wrappers that fork: `unshare --fork`.
fn innermost(pid: u32) -> u32 {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    match list.split_whitespace().next().and_then(|child| child.parse().ok()) {
        Some(child) => innermost(child),
        None => pid,
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(name)
}

/// The interpreter itself: `python3` may be a script that looks for it.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = Command::new("python3")
            .args(["-c", "import os, sys; print(os.path.realpath(sys.executable))"])
            .output()
            .expect("python3 is installed: `cargo xtask setup`");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// The Rust program, which cargo puts beside the directory of this test.
fn holder() -> PathBuf {
    let test = env::current_exe().expect("a program knows where it is");
    let directory = test.ancestors().nth(2).expect("invariant: target/PROFILE/deps/TEST");
    directory.join("holder")
}
