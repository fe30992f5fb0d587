//! The observer as an external process: how it is started, what it says, how it ends.

mod builder;
mod finished;

pub use builder::Builder;
pub use finished::Finished;

use crate::line::{Event, Finding, Line, Ready, Socket, Transition};
use crate::{clock, wait};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::io::{BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The budget that scenarios use. Chosen: far above the noise of a busy machine, far below
/// anybody's patience.
pub const BUDGET: Duration = Duration::from_millis(500);

/// Kinds that a budget can be given for.
pub const KINDS: [&str; 5] = ["close-wait", "dead-fd", "stuck-connect", "undrained", "inherited"];

/// Loading and verifying the programs, on two busy cores.
const START: Duration = Duration::from_secs(30);

/// The program under test.
pub fn binary() -> PathBuf {
    let path = env::var_os("SOCKWARDEN_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/release/sockwarden"),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing: `cargo xtask build` makes it, `cargo xtask test` makes and tests it",
        path.display()
    );
    path
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<Line>,
    /// When each of them had come.
    heard: Vec<Timestamp>,
    raw: Vec<String>,
    broken: Vec<String>,
    over: bool,
}

/// A running observer.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
    complaints: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Watch {
    /// How to start one.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Watches `pid` with the budget of all scenarios and frequent snapshots.
    #[track_caller]
    pub fn of(pid: u32) -> Self {
        Self::builder().pid(pid).budgets(BUDGET).args(["--snapshot-interval", "200ms"]).start()
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let stdout = child.stdout.take().expect("invariant: stdout is a pipe");
        let mut stderr = child.stderr.take().expect("invariant: stderr is a pipe");
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let complaints = Arc::new(Mutex::new(String::new()));
        let (to_said, to_complaints) = (Arc::clone(&said), Arc::clone(&complaints));
        let readers = vec![
            thread::spawn(move || listen(BufReader::new(stdout), &to_said)),
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                    locked(&to_complaints).push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            }),
        ];
        Self { child, said, complaints, readers }
    }

    /// The process number of the observer.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the programs are attached and the first snapshot is in.
    #[track_caller]
    pub fn ready(&self) -> Ready {
        self.wait_within(START, "the observer to be ready", |line| match line {
            Line::Ready(ready) => Some(ready.clone()),
            _ => None,
        })
    }

    /// Waits for a line that `pick` takes; lines that came before count.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, pick: impl FnMut(&Line) -> Option<T>) -> T {
        self.wait_within(wait::PATIENCE, what, pick)
    }

    /// Waits for a finding about `pid` to open.
    #[track_caller]
    pub fn opened(&self, kind: &str, pid: u32) -> Finding {
        self.wait_for(&format!("{kind} of process {pid} to open"), |line| match line {
            Line::Finding(finding)
                if finding.event == Event::Opened && finding.kind == kind && finding.pid == pid =>
            {
                Some(finding.clone())
            }
            _ => None,
        })
    }

    /// Waits for a finding about the socket `cookie` to open.
    #[track_caller]
    pub fn opened_on(&self, kind: &str, cookie: u64) -> Finding {
        self.wait_for(&format!("{kind} of socket {cookie} to open"), |line| match line {
            Line::Finding(finding)
                if finding.event == Event::Opened
                    && finding.kind == kind
                    && finding.cookie == cookie =>
            {
                Some(finding.clone())
            }
            _ => None,
        })
    }

    /// Waits for this very finding to clear.
    #[track_caller]
    pub fn cleared(&self, opened: &Finding) -> Finding {
        self.wait_for(&format!("finding {} to clear", opened.id), |line| match line {
            Line::Finding(finding)
                if finding.event == Event::Cleared && finding.id == opened.id =>
            {
                assert_eq!((&finding.kind, finding.cookie), (&opened.kind, opened.cookie));
                Some(finding.clone())
            }
            _ => None,
        })
    }

    /// Waits for a transition of `pid` into `new`.
    #[track_caller]
    pub fn transition(&self, pid: u32, new: &str) -> Transition {
        self.wait_for(&format!("process {pid} to enter {new}"), |line| match line {
            Line::Transition(transition)
                if transition.pid == Some(pid) && transition.new == new =>
            {
                Some(transition.clone())
            }
            _ => None,
        })
    }

    /// Lets `duration` pass and asserts that no finding was opened, then or before.
    #[track_caller]
    pub fn no_finding_for(&self, duration: Duration) {
        thread::sleep(duration);
        let found = self.findings();
        assert!(found.is_empty(), "nothing leaks, but: {found:#?}\n{}", self.report());
    }

    /// Lets `duration` pass and asserts that `old` is the only finding that was ever opened.
    #[track_caller]
    pub fn no_finding_but(&self, duration: Duration, old: &Finding) {
        thread::sleep(duration);
        let mut found = self.findings();
        found.retain(|finding| finding.id != old.id);
        assert!(found.is_empty(), "nothing new leaks, but: {found:#?}\n{}", self.report());
    }

    /// All findings so far.
    pub fn findings(&self) -> Vec<Finding> {
        let said = self.said();
        let findings = said.lines.iter().filter_map(|line| match line {
            Line::Finding(finding) => Some(finding.clone()),
            _ => None,
        });
        findings.collect()
    }

    /// All findings so far, and when each of them had come.
    #[track_caller]
    pub fn findings_heard(&self) -> Vec<(Timestamp, Finding)> {
        let said = self.said();
        assert!(said.broken.is_empty(), "lines that nobody documented: {:#?}", said.broken);
        let all = said.heard.iter().zip(&said.lines);
        let findings = all.filter_map(|(heard, line)| match line {
            Line::Finding(finding) => Some((*heard, finding.clone())),
            _ => None,
        });
        findings.collect()
    }

    /// Everything printed so far, by line.
    pub fn raw(&self) -> Vec<String> {
        self.said().raw.clone()
    }

    /// Everything on stderr so far.
    pub fn stderr(&self) -> String {
        locked(&self.complaints).clone()
    }

    /// The table, after a fresh snapshot.
    #[track_caller]
    pub fn table(&self) -> Vec<Socket> {
        let begin = self.said().lines.len();
        self.signal(Signal::USR1);
        let mut rows = Vec::new();
        let mut line_number = 0;
        let count = self.wait_for("the table", |line| {
            line_number += 1;
            match line {
                Line::Socket(socket) if line_number > begin => rows.push(socket.clone()),
                Line::Sockets(end) if line_number > begin => return Some(end.count),
                _ => {}
            }
            None
        });
        assert_eq!(count, rows.len() as u64, "the table says how long it is");
        assert!(rows.is_sorted_by_key(|row| row.cookie), "the table is ordered by cookie");
        rows
    }

    /// The sockets of the table that `pid` holds.
    #[track_caller]
    pub fn held_by(&self, pid: u32) -> Vec<Socket> {
        self.table().into_iter().filter(|socket| socket.is_held_by(pid)).collect()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        signal_process(self.child.id(), signal);
    }

    /// Ends it by SIGINT.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.signal(Signal::INT);
        self.finish()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let begin = clock::now();
        let deadline = begin + START;
        let status = loop {
            match self.child.try_wait().expect("invariant: it is our child") {
                Some(status) => break status,
                None if clock::now() > deadline => {
                    panic!("the observer does not end\n{}", self.report())
                }
                // Shorter than elsewhere: this one is measured.
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let took = begin.elapsed();
        for reader in self.readers.drain(..) {
            reader.join().expect("invariant: readers do not panic");
        }
        let mut said = self.said();
        let (stdout, lines) = (std::mem::take(&mut said.raw), std::mem::take(&mut said.lines));
        drop(said);
        Finished { status, took, stdout, lines, stderr: self.stderr() }
    }

    #[track_caller]
    fn wait_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut pick: impl FnMut(&Line) -> Option<T>,
    ) -> T {
        let deadline = clock::now() + patience;
        let mut next = 0;
        let mut said = self.said();
        loop {
            assert!(said.broken.is_empty(), "lines that nobody documented: {:#?}", said.broken);
            while let Some(line) = said.lines.get(next) {
                next += 1;
                if let Some(value) = pick(line) {
                    return value;
                }
            }
            let left = deadline.saturating_duration_since(clock::now());
            if said.over || left.is_zero() {
                let over = if said.over { "it ended" } else { "too long" };
                drop(said);
                panic!("waited for {what}: {over}\n{}", self.report());
            }
            said = self.said.1.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        locked(&self.said.0)
    }

    /// What a failed test wants to show.
    pub fn report(&self) -> String {
        let said = self.said();
        let last = said.raw.len().saturating_sub(40);
        format!(
            "--- last of {} lines on stdout\n{}\n--- stderr\n{}",
            said.raw.len(),
            said.raw[last..].join("\n"),
            self.stderr()
        )
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub fn signal_process(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("invariant: a process number");
    kill_process(pid, signal).expect("the process is there");
}

fn listen(stdout: impl BufRead, said: &(Mutex<Said>, Condvar)) {
    for text in stdout.lines().map_while(Result::ok) {
        let mut said_now = locked(&said.0);
        match serde_json::from_str(&text) {
            Ok(line) => {
                said_now.lines.push(line);
                said_now.heard.push(clock::wall());
            }
            Err(error) => said_now.broken.push(format!("{error}: {text}")),
        }
        said_now.raw.push(text);
        said.1.notify_all();
    }
    locked(&said.0).over = true;
    said.1.notify_all();
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A failed assertion may poison it; what was said is still true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
