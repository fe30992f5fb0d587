//! A real systemd-journald for one scenario, in a mount namespace of its own: it has its own
//! sockets, files, machine id and catalog, and the journal of the host never hears of it. Written
//! for systemd 252, Debian 12's.

use crate::wait;
use crate::watch::signal_process;
use rustix::process::Signal;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Journald's own namespace, systemd-journald.service(8): an instance that is not the main one
/// leaves the kernel's messages and audit alone.
const NAME: &str = "sockwarden";

/// Where Debian and others put it.
const PROGRAM: &str = "/lib/systemd/systemd-journald";

/// Makes the namespace. All in it is in memory and goes with the last process that is there.
const ROOM: &str = "set -e
    mount -t tmpfs room /run
    mkdir -p /run/systemd/journal.$1
    cp /etc/passwd /etc/group /run
    mount -t tmpfs room /etc
    mv /run/passwd /run/group /etc
    tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id
    mount -t tmpfs room /var/log
    mkdir /var/log/journal
    mount -t tmpfs room /var/lib/systemd
    mount -t tmpfs room /usr/lib/systemd/catalog
    exec python3 -c \"$KEEPER\" \"$@\"";

/// What systemd is to journald: starts it, and may keep its socket while it is not there
/// (sd_listen_fds(3)). Its arguments: the namespace, the program, `keep` or `leave`.
const KEEPER: &str = r#"
import os, signal, socket, sys
name, program, habit = sys.argv[1:]
kept = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
if habit == "keep":
    kept.bind(f"/run/systemd/journal.{name}/socket")
print("ready", flush=True)
pid = None
for order in sys.stdin:
    if pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        pid = None
    if order == "start\n":
        pid = os.fork()
        if pid == 0:
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            if habit == "keep":
                os.dup2(kept.fileno(), 3)
                os.set_inheritable(3, True)
                os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
            # Else it complains to the kernel's log.
            os.environ["SYSTEMD_LOG_TARGET"] = "console"
            os.execvp("setpriv", ["setpriv", "--pdeathsig", "KILL", program, name])
    print(pid or 0, flush=True)
"#;

/// The fields of an entry.
pub type Fields = BTreeMap<String, String>;

/// A running journald; it and all it has written are gone when dropped.
#[derive(Debug)]
pub struct Journald {
    keeper: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pid: Option<u32>,
}

impl Journald {
    /// One that runs and listens. Its socket ends with it.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with("leave")
    }

    /// One whose socket is kept by the process that started it, as systemd does.
    #[track_caller]
    pub fn start_with_kept_socket() -> Self {
        Self::start_with("keep")
    }

    /// Its native socket, as this process sees it.
    pub fn socket(&self) -> PathBuf {
        self.path(&format!("run/systemd/journal.{NAME}/socket"))
    }

    /// Its native socket, as whoever is behind [`Journald::wrapper`] sees it.
    pub fn socket_inside(&self) -> PathBuf {
        PathBuf::from(format!("/run/systemd/journal.{NAME}/socket"))
    }

    /// The words before a program that shall reach it without being root.
    pub fn wrapper(&self) -> Vec<String> {
        let pid = self.keeper.id().to_string();
        ["nsenter", "--target", &pid, "--mount", "--"].map(str::to_owned).to_vec()
    }

    /// Starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.pid = Some(self.order("start"));
        wait::until("journald to listen (is the package systemd installed?)", || {
            let connect = || -> io::Result<()> {
                UnixDatagram::unbound()?.connect(self.socket())?;
                // Where `journalctl --sync` asks; it comes last.
                let varlink = format!("run/systemd/journal.{NAME}/io.systemd.journal");
                UnixStream::connect(self.path(&varlink)).map(drop)
            };
            connect().map_err(|error| error.to_string())
        });
    }

    /// Ends it in the middle of whatever it does.
    #[track_caller]
    pub fn kill(&mut self) {
        self.order("kill");
        self.pid = None;
    }

    /// Stops it in the middle of whatever it does: its socket is there, and nobody reads it.
    pub fn freeze(&self) {
        let pid = self.pid();
        signal_process(pid, Signal::STOP);
        wait::until_true("journald to stand still", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        });
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal_process(self.pid(), Signal::CONT);
    }

    /// The entries that have all of `matches` (`FIELD=value`), in order, with what was sent and not
    /// yet read if it runs.
    #[track_caller]
    pub fn entries(&self, matches: &[&str]) -> Vec<Fields> {
        if self.pid.is_some() {
            self.journalctl(&["--sync"]);
        }
        let arguments = [&["--all", "--output=json"], matches].concat();
        let text = self.journalctl(&arguments);
        text.lines().map(|line| fields(serde_json::from_str(line).expect("JSON lines"))).collect()
    }

    /// What `journalctl ARGUMENTS` prints.
    #[track_caller]
    pub fn journalctl(&self, arguments: &[&str]) -> String {
        let output = self
            .inside("journalctl")
            .args(["--namespace", NAME, "--no-pager", "--quiet"])
            .args(arguments)
            .output()
            .expect("setpriv is there: it is essential to Debian");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "journalctl {arguments:?}: {complaint}");
        String::from_utf8(output.stdout).expect("journalctl prints UTF-8")
    }

    /// Makes `text` the only catalog that journalctl knows here.
    #[track_caller]
    pub fn install_catalog(&self, text: &str) {
        let path = self.path("usr/lib/systemd/catalog/sockwarden.catalog");
        fs::write(path, text).expect("the directory is ours");
        self.journalctl(&["--update-catalog"]);
    }

    #[track_caller]
    fn start_with(habit: &str) -> Self {
        crate::require_root();
        let mut keeper = lifelong("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", ROOM, "sh"])
            .args([NAME, PROGRAM, habit])
            .env("KEEPER", KEEPER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv is there: it is essential to Debian");
        let orders = keeper.stdin.take().expect("invariant: stdin is a pipe");
        let stdout = keeper.stdout.take().expect("invariant: stdout is a pipe");
        let mut journald = Self { keeper, orders, answers: BufReader::new(stdout), pid: None };
        let answer = journald.answer();
        assert_eq!(answer, "ready", "no namespace: is the package systemd installed?");
        journald.restart();
        journald
    }

    /// The process number that the keeper answers with.
    #[track_caller]
    fn order(&mut self, order: &str) -> u32 {
        writeln!(self.orders, "{order}").expect("the keeper is there");
        let answer = self.answer();
        answer.parse().unwrap_or_else(|_| panic!("the keeper answers {answer:?}"))
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a pipe can be read");
        line.trim_end().to_owned()
    }

    fn pid(&self) -> u32 {
        self.pid.expect("invariant: it runs")
    }

    /// A path in the namespace, proc(5) on `/proc/PID/root`.
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/{name}", self.keeper.id()))
    }

    /// A program that runs in the namespace.
    fn inside(&self, program: &str) -> Command {
        let mut command = lifelong("nsenter");
        command.args(["--target", &self.keeper.id().to_string(), "--mount", "--", program]);
        command
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        // Journald goes with its keeper.
        let _ended = self.keeper.kill();
        let _status = self.keeper.wait();
    }
}

/// A program that goes with the thread that started it, should the test be killed.
fn lifelong(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Values that journalctl does not take for text, those with a newline among them, are lists of
/// bytes.
fn fields(entry: Map<String, Value>) -> Fields {
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Array(bytes) => {
            let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
            let bytes: Option<Vec<u8>> = bytes.iter().map(byte).collect();
            String::from_utf8(bytes.expect("a field that is there once")).expect("UTF-8")
        }
        other => panic!("no value of a field: {other}"),
    };
    entry.into_iter().map(|(name, value)| (name, text(value))).collect()
}
