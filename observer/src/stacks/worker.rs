//! EDGE: a thread that waits for names, so that the ring need not.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use super::{
    namer,
    namer::{Question, Reply},
    opener::Opener,
    traces::{Answer, Job},
};

/// Jobs that are under way, at most; the others wait in the traces. Chosen: each takes 100 µs, the
/// first of a program some 90 ms.
const MOST_JOBS: usize = 64;

/// How long a stack may take. Chosen: the largest programs take a second or two, the first time.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a namer without work stays, with what it remembers of files.
const IDLE: Duration = Duration::from_secs(60);

/// Longest answer that is read, bytes: what a namer says has at most half of that.
const LONGEST: u64 = 128 << 10;

/// Where stacks get their names. The thread starts with the first job, for privileges are dropped
/// by processes of one thread only.
#[derive(Debug)]
pub struct Worker {
    opener: Arc<Opener>,
    running: Option<(Sender<Job>, Receiver<Answer>)>,
    under_way: usize,
}

impl Worker {
    /// Starts the opener, with the privileges that this process has.
    ///
    /// # Errors
    ///
    /// When no process can be started.
    pub fn start() -> io::Result<Self> {
        Ok(Self { opener: Arc::new(Opener::start()?), running: None, under_way: 0 })
    }

    /// Whether another job may be given.
    pub fn has_room(&self) -> bool {
        self.under_way < MOST_JOBS
    }

    /// Gives a job.
    ///
    /// # Errors
    ///
    /// When there can be no thread; the job is not done then.
    pub fn give(&mut self, job: Job) -> io::Result<()> {
        if self.running.is_none() {
            self.running = Some(start(self.opener.clone())?);
        }
        let taken = self.running.as_ref().is_some_and(|(jobs, _)| jobs.send(job).is_ok());
        self.under_way += usize::from(taken);
        Ok(())
    }

    /// An answer, if there is one.
    pub fn poll(&mut self) -> Option<Answer> {
        let (_, answers) = self.running.as_ref()?;
        let answer = answers.try_recv().ok()?;
        self.under_way = self.under_way.saturating_sub(1);
        Some(answer)
    }
}

fn start(opener: Arc<Opener>) -> io::Result<(Sender<Job>, Receiver<Answer>)> {
    let (jobs, inbox) = mpsc::channel();
    let (outbox, answers) = mpsc::channel();
    thread::Builder::new().name("stacks".into()).spawn(move || work(&opener, &inbox, &outbox))?;
    Ok((jobs, answers))
}

fn work(opener: &Opener, jobs: &Receiver<Job>, answers: &Sender<Answer>) {
    let mut helper: Option<Helper> = None;
    let mut is_told = false;
    loop {
        let job = match jobs.recv_timeout(IDLE) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                helper = None;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // One that another file has ended, or that was ended by somebody, says so only now.
        let reply = match helper.as_mut().map(|helper| helper.ask(&job)) {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(_)) | None => {
                helper = None;
                opener.socket().and_then(Helper::start).and_then(|mut started| {
                    let reply = started.ask(&job)?;
                    helper = Some(started);
                    Ok(reply)
                })
            }
        };
        // That a reader hung or died may have been for once.
        let lasts = reply.is_ok();
        let reply = reply.unwrap_or_else(|error| {
            Reply::without(format!("the stack could not be named: {error}"))
        });
        if reply.is_refused && !std::mem::replace(&mut is_told, true) {
            log::warn!(
                "call stacks have no names: sockwarden was started without CAP_SYS_PTRACE and \
                 CAP_CHECKPOINT_RESTORE, or a security module is in the way"
            );
        }
        let answer = Answer { used: reply.used(), named: Arc::new(reply.named), lasts, job };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// A running namer.
struct Helper {
    process: Child,
    socket: BufReader<UnixStream>,
}

impl Helper {
    fn start(opener: OwnedFd) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.set_write_timeout(Some(PATIENCE))?;
        // This very program, though a newer one may have its name by now.
        let process = Command::new("/proc/self/exe")
            .arg0("sockwarden")
            .arg(namer::VERB)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(opener))
            .stderr(Stdio::null())
            .env_clear()
            .process_group(0)
            .spawn()?;
        Ok(Self { process, socket: BufReader::new(ours) })
    }

    fn ask(&mut self, job: &Job) -> io::Result<Reply> {
        let mut line = serde_json::to_vec(&Question::new(job))?;
        line.push(b'\n');
        self.socket.get_mut().write_all(&line)?;
        let mut reply = Vec::new();
        self.socket.by_ref().take(LONGEST).read_until(b'\n', &mut reply)?;
        if reply.is_empty() {
            return Err(io::Error::other("the program's file ended its reader"));
        }
        Ok(serde_json::from_slice(&reply)?)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may hang in a file; it is ours, and not waited for yet, so that the number is its own.
        let _it_has_ended = self.process.kill();
        let _it_has_ended = self.process.wait();
    }
}
