//! Servers that scenarios start: their log is kept, and they go with the thread that started them,
//! should the test be killed.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What a server has said on stderr so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// All lines.
    pub fn read(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts `program` through setpriv(1), with the arguments that `add` adds.
#[track_caller]
pub fn spawn(program: &str, add: impl FnOnce(&mut Command)) -> (Child, Log) {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    add(&mut command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv is there: it is essential to Debian");
    let stderr = child.stderr.take().expect("invariant: stderr is a pipe");
    let log = Log::default();
    let said = log.clone();
    // Ends with the program.
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut said = said.0.lock().unwrap_or_else(PoisonError::into_inner);
            said.push_str(&line);
            said.push('\n');
        }
    });
    (child, log)
}
