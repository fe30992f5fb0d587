//! A program that runs while we measure, and that never outlives us.

use crate::clock;
use crate::failure::{Failure, OrFail as _, Result};
use crate::sh;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often we look whether a program has ended; the resolution of what we say about its end.
const POLL: Duration = Duration::from_millis(1);
const END_PATIENCE: Duration = Duration::from_secs(10);
const NEXT: &str = "look for its own message above";

/// A program that runs; dropping this ends it.
pub(super) struct Running {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// A command that the kernel kills when we die, in whatever way, so that nothing stays attached.
pub(super) fn mortal(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Running {
    /// Starts the program; the streams that the command makes pipes can be read or written.
    pub(super) fn start(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        let name = name.into();
        let mut child =
            command.spawn().or_fail(format!("`{}` did not start", sh::show(command)), NEXT)?;
        let stdout = Lines::of(child.stdout.take());
        let stderr = Lines::of(child.stderr.take());
        Ok(Self { name, child, stdout, stderr })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    pub(super) fn line(&self, patience: Duration) -> Result<String> {
        self.line_within(patience)?.ok_or_else(|| {
            let what = format!("{} said nothing for {} s", self.name, patience.as_secs());
            Failure::new(what, NEXT)
        })
    }

    /// The next line, if it prints one in time.
    pub(super) fn line_within(&self, patience: Duration) -> Result<Option<String>> {
        match self.stdout.0.recv_timeout(patience) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Failure::new(format!("{} ended instead of answering", self.name), NEXT))
            }
        }
    }

    /// The lines that it has printed since the last call of this or of [`Self::line`].
    pub(super) fn lines(&self) -> Vec<String> {
        self.stdout.0.try_iter().collect()
    }

    /// The lines that it has printed to stderr since the last call.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.stderr.0.try_iter().collect()
    }

    /// Writes a line to its stdin.
    pub(super) fn tell(&mut self, line: &str) -> Result {
        let stdin = self.child.stdin.as_mut().expect("invariant: the command pipes its stdin");
        writeln!(stdin, "{line}").or_fail(format!("{} does not listen", self.name), NEXT)
    }

    /// Waits for its end; returns how it ended, and how long that took.
    pub(super) fn wait(mut self, begin: Instant, patience: Duration) -> Result<Ended> {
        loop {
            if let Some(status) = self.child.try_wait().or_fail(&self.name, NEXT)? {
                return Ok(Ended { status, after: clock::now() - begin });
            }
            if clock::now() - begin > patience {
                let what = format!("{} did not end within {} s", self.name, patience.as_secs());
                return Err(Failure::new(what, "report a bug"));
            }
            thread::sleep(POLL);
        }
    }

    /// Interrupts it as Ctrl-C does, and waits for its end.
    pub(super) fn interrupt(self) -> Result<Ended> {
        let begin = clock::now();
        self.signal("INT")?;
        self.wait(begin, END_PATIENCE)
    }

    /// Sends a signal, named as kill(1) does.
    pub(super) fn signal(&self, name: &str) -> Result {
        let kill = format!("kill -{name} {}", self.pid());
        // The shell has it built in, and needs a millisecond to start.
        sh::output(Command::new("sh").args(["-c", &kill]), "look for why it ended by itself")
            .map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What ends by itself at the end of its input does so; both fail if it has ended already.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) after: Duration,
}

/// The lines of a stream, read by a thread of their own so that no program ever waits for us.
struct Lines(Receiver<String>);

impl Lines {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let (sender, receiver) = channel();
        if let Some(stream) = stream {
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(|line| line.ok()) {
                    // Nobody wants to know any more; the program may still want to speak.
                    let _ = sender.send(line);
                }
            });
        }
        Self(receiver)
    }
}

/// Pipes for a program that we talk with.
pub(super) fn talking(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn cat() -> Running {
        Running::start("cat", talking(&mut mortal("cat"))).expect("invariant: cat is there")
    }

    #[test]
    fn a_program_is_told_and_answers() {
        let mut cat = cat();
        cat.tell("hello").expect("invariant: cat listens");
        assert_eq!(cat.line(PATIENCE).expect("invariant: cat answers"), "hello");
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let cat = cat();
        let proc = format!("/proc/{}", cat.pid());
        assert!(Path::new(&proc).exists());
        drop(cat);
        assert!(!Path::new(&proc).exists());
    }

    #[test]
    fn an_interrupt_ends_it_and_the_time_is_taken() {
        let mut cat = cat();
        cat.tell("so it runs, and is no setpriv any more").expect("invariant: cat listens");
        cat.line(PATIENCE).expect("invariant: cat answers");
        let ended = cat.interrupt().expect("invariant: cat does not ignore the signal");
        assert!(!ended.status.success());
        assert!(ended.after < PATIENCE);
    }

    #[test]
    fn silence_names_the_program() {
        let failure =
            cat().line(Duration::from_millis(1)).expect_err("invariant: cat was not told");
        assert!(failure.to_string().contains("cat said nothing for"), "{failure}");
    }
}
