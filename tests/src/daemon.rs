//! The daemon as an external process: `sockwarden run` with a config of the scenario's own.

use crate::events::Events;
use crate::http::{Answer, Place};
use crate::journald::Journald;
use crate::watch::binary;
use crate::{TempDir, clock, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

/// Loading and verifying the programs, and the fleet, on two busy cores.
const START: Duration = Duration::from_secs(60);

/// A user without any right, on every Debian.
const USER: (&str, u32, u32) = ("nobody", 65_534, 65_534);

/// How a daemon is started.
#[derive(Debug)]
pub struct Builder {
    sections: Vec<(String, Vec<String>)>,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
    program: PathBuf,
    dir: TempDir,
}

impl Builder {
    /// A line of `section` in the config, as in TOML, in the place of one for the same key.
    pub fn set(mut self, section: &str, line: impl Into<String>) -> Self {
        let line = line.into();
        let key = |line: &str| line.split_once(" =").map(|(key, _)| key.to_owned());
        match self.sections.iter_mut().find(|(name, _)| name == section) {
            Some((_, lines)) => {
                lines.retain(|it| key(it).is_none() || key(it) != key(&line));
                lines.push(line);
            }
            None => self.sections.push((section.to_owned(), vec![line])),
        }
        self
    }

    /// The same budget for these kinds.
    pub fn budgets(self, budget: Duration, kinds: &[&str]) -> Self {
        let line = |builder: Self, kind: &&str| {
            builder.set("budgets", format!("{kind} = \"{}ms\"", budget.as_millis()))
        };
        kinds.iter().fold(self, line)
    }

    /// A fleet of devices with these names, from a file, towards `broker`.
    pub fn fleet<'a>(self, broker: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let path = self.path("devices.csv");
        let lines: String = names.into_iter().map(|name| format!("{name}\n")).collect();
        fs::write(&path, format!("id\n{lines}")).expect("the fleet's file can be written");
        self.set("pool", format!("broker = \"{broker}\""))
            .set("fleet", format!("file = \"{}\"", path.display()))
    }

    /// A variable of the daemon's environment.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the daemon through another program, such as `setpriv`.
    pub fn through(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Another copy of the program.
    pub fn binary(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Its findings go to `journald`.
    pub fn journal(self, journald: &Journald) -> Self {
        let wrapper = journald.wrapper();
        let line = format!("journal_socket = \"{}\"", journald.socket_inside().display());
        self.through(&wrapper.iter().map(String::as_str).collect::<Vec<_>>()).set("sinks", line)
    }

    /// A path in the daemon's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Daemon {
        let daemon = self.spawn();
        daemon.await_ready();
        daemon
    }

    /// Starts it.
    #[track_caller]
    pub fn spawn(self) -> Daemon {
        for name in ["run", "state"] {
            let path = self.dir.join(name);
            if !path.exists() {
                fs::create_dir(&path).expect("a directory can be made");
                chown(&path, Some(USER.1), Some(USER.2)).expect("root may give it away");
            }
        }
        let config = self.dir.join("config.toml");
        fs::write(&config, self.config()).expect("the config can be written");
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).expect("it is ours");
        let log = self.dir.join("stderr");
        let child = self.command(&config, &log).spawn().expect("the daemon can be started");
        Daemon { builder: self, child, log, ended: None }
    }

    /// The whole config.
    pub fn config(&self) -> String {
        let own = [
            ("api", "listen = \"127.0.0.1:0\"".to_owned()),
            ("api", format!("socket = \"{}\"", self.dir.join("run/api.sock").display())),
            ("fleet", format!("store = \"{}\"", self.dir.join("state/devices.redb").display())),
            ("privileges", format!("user = \"{}\"", USER.0)),
            ("privileges", format!("runtime_directory = \"{}\"", self.dir.join("run").display())),
            ("sinks", format!("journal_socket = \"{}\"", self.dir.join("no-journal").display())),
        ];
        let mut sections = self.sections.clone();
        let has_pool = sections.iter().any(|(name, _)| name == "pool");
        for (section, line) in own {
            // Devices without a pool are a mistake.
            if section == "fleet" && !has_pool {
                continue;
            }
            let place = match sections.iter().position(|(name, _)| name == section) {
                Some(place) => place,
                None => {
                    sections.push((section.to_owned(), Vec::new()));
                    sections.len() - 1
                }
            };
            let lines = &mut sections[place].1;
            if !lines.iter().any(|other| key(other) == key(&line)) {
                lines.push(line);
            }
        }
        let section =
            |(name, lines): &(String, Vec<String>)| format!("[{name}]\n{}\n\n", lines.join("\n"));
        sections.iter().map(section).collect()
    }

    fn command(&self, config: &Path, log: &Path) -> Command {
        let mut words: Vec<&Path> = self.prefix.iter().map(Path::new).collect();
        words.push(&self.program);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("run").arg("--config").arg(config);
        let errors = File::options().create(true).append(true).open(log);
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.expect("the log can be written"));
        command
    }
}

/// A daemon that runs, or ran.
#[derive(Debug)]
pub struct Daemon {
    builder: Builder,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// How to start one.
    pub fn builder() -> Builder {
        Builder {
            sections: Vec::new(),
            environment: Vec::new(),
            prefix: Vec::new(),
            program: binary(),
            dir: TempDir::new(),
        }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.builder.path(name)
    }

    /// Its API, by the Unix socket.
    pub fn api(&self) -> Place {
        Place::Unix(self.path("run/api.sock"))
    }

    /// Where it can be scraped, by the kernel: with a journal, stderr does not say it. Not by `ss`,
    /// which is slow on a busy host and confused by names with line breaks.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let links = fs::read_dir(proc.join("fd")).expect("it runs, and this is root");
        let inodes: Vec<String> = links
            .filter_map(|link| fs::read_link(link.ok()?.path()).ok())
            .filter_map(|to| {
                let name = to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
                Some(name.to_owned())
            })
            .collect();
        let table = fs::read_to_string(proc.join("net/tcp")).expect("it runs");
        let port = table.lines().find_map(|line| {
            // proc_pid_net(5): state 0A is LISTEN, field 10 the inode.
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_it = fields.get(3) == Some(&"0A") && inodes.iter().any(|it| it == fields[9]);
            let (_, port) = fields.get(1).filter(|_| is_it)?.split_once(':')?;
            u16::from_str_radix(port, 16).ok()
        });
        ([127, 0, 0, 1], port.expect("it listens on TCP")).into()
    }

    /// Its API, by TCP.
    #[track_caller]
    pub fn tcp(&self) -> Place {
        Place::Tcp(self.address())
    }

    /// What a verb that asks it answers: `sockwarden WORDS --socket PATH`.
    #[track_caller]
    pub fn verb(&self, words: &[&str]) -> Output {
        let mut command = Command::new(&self.builder.program);
        command.args(words).arg("--socket").arg(self.path("run/api.sock"));
        command.output().expect("the program can be started")
    }

    /// The events from now on, as one object a line or as server-sent events.
    #[track_caller]
    pub fn events(&self, place: &Place, accept: &str) -> Events {
        Events::follow(place, accept)
    }

    /// How many descriptors it has.
    pub fn descriptors(&self) -> usize {
        let list = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        list.expect("it runs, and this is root").count()
    }

    /// What it said on stderr.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn await_ready(&self) {
        wait::within(START, "the daemon to be ready", || {
            assert!(!self.has_ended(), "it has ended: {}", self.stderr());
            let answer = self.try_get("/readyz").ok_or_else(|| self.stderr())?;
            if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
        });
    }

    /// Whether it has ended and was not waited for.
    fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    }

    /// An answer of the API; `None` if nobody is there.
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        let mut connection = self.api().try_connect().ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        connection.send(request.as_bytes()).ok()?;
        connection.answer()
    }

    /// The open findings.
    pub fn findings(&self) -> Vec<serde_json::Value> {
        let answer = self.api().get("/api/v1/findings").json();
        answer["findings"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for an open finding that `pick` takes.
    #[track_caller]
    pub fn await_finding(
        &self,
        what: &str,
        pick: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        wait::until(what, || {
            let findings = self.findings();
            let found = findings.iter().find(|finding| pick(finding)).cloned();
            found.ok_or_else(|| format!("{findings:#?}\n{}", self.stderr()))
        })
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        self.api().get("/metrics").text()
    }

    /// The value of the series that begins with `series` in `/metrics`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics();
        let line = text.lines().find(|line| {
            line.strip_prefix(series).is_some_and(|rest| rest.starts_with([' ', '{']))
                || line.rsplit_once(' ').is_some_and(|(name, _)| name == series)
        })?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    /// All devices, by name: page after page.
    #[track_caller]
    pub fn devices(&self) -> Vec<serde_json::Value> {
        self.pages("/api/v1/devices?limit=1000", "devices")
    }

    /// All sockets that the daemon knows of itself, by cookie.
    #[track_caller]
    pub fn sockets(&self) -> Vec<serde_json::Value> {
        self.pages(&format!("/api/v1/sockets?limit=1000&pid={}", self.pid()), "sockets")
    }

    /// Waits until it has said this so often on stderr.
    #[track_caller]
    pub fn await_said(&self, text: &str, times: usize) {
        wait::until(&format!("the daemon to say `{text}`"), || {
            let said = self.stderr();
            if said.matches(text).count() >= times { Ok(()) } else { Err(said) }
        });
    }

    /// How many devices are online, by the metrics.
    pub fn online(&self) -> u64 {
        self.metric("sockwarden_pool_sessions{state=\"online\"}").unwrap_or_default() as u64
    }

    /// Waits until so many devices are online, and says how long that took.
    #[track_caller]
    pub fn await_online(&self, devices: u64, patience: Duration) -> Duration {
        let began = clock::now();
        wait::within(patience, &format!("{devices} devices to be online"), || {
            let online = self.online();
            if online == devices {
                return Ok(());
            }
            // Each question costs the daemon something, and it shall work now.
            thread::sleep(Duration::from_millis(50));
            Err(format!("{online} are"))
        });
        began.elapsed()
    }

    /// Findings that were ever opened, of all kinds.
    #[track_caller]
    pub fn findings_opened(&self) -> Vec<String> {
        let text = self.metrics();
        let lines =
            text.lines().filter(|line| line.starts_with("sockwarden_findings_opened_total"));
        let lines: Vec<&str> = lines.collect();
        assert!(!lines.is_empty(), "the family is missing in:\n{text}");
        let opened = lines.into_iter().filter(|line| !line.ends_with(" 0"));
        opened.map(str::to_owned).collect()
    }

    /// Asserts that no finding was ever opened, and that no record was lost.
    #[track_caller]
    pub fn expect_no_finding(&self) {
        let lost = self.metrics();
        let lost = lost.lines().filter(|it| it.starts_with("sockwarden_records_lost_total"));
        let lost: Vec<&str> = lost.filter(|line| !line.ends_with(" 0")).collect();
        assert!(lost.is_empty(), "records were lost: {lost:#?}");
        let opened = self.findings_opened();
        assert!(opened.is_empty(), "nothing leaks, but: {opened:#?}");
    }

    /// Its memory at this moment.
    #[track_caller]
    pub fn memory(&self) -> Memory {
        Memory::of(self.pid())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the daemon is there");
    }

    #[track_caller]
    fn pages(&self, path: &str, list: &str) -> Vec<serde_json::Value> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.api().get(&format!("{path}{after}")).json();
            let serde_json::Value::Array(rows) = page[list].take() else {
                panic!("no list `{list}`: {page}");
            };
            all.extend(rows);
            match &page["next"] {
                serde_json::Value::Null => return all,
                serde_json::Value::String(next) => after = format!("&after={next}"),
                next => after = format!("&after={next}"),
            }
        }
    }

    /// Ends it as a service manager does, and says how it ended and how long that took.
    #[track_caller]
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let began = clock::now();
        self.signal(Signal::TERM);
        let status = self.await_end();
        (status, began.elapsed())
    }

    /// Waits for its end.
    #[track_caller]
    pub fn await_end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = wait::within(Duration::from_secs(60), "the daemon to end", || {
            child.try_wait().expect("it is our child").ok_or_else(|| "it runs".to_owned())
        });
        self.ended = Some(status);
        status
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        let _ended_already = self.child.kill();
        self.ended = self.child.wait().ok();
    }

    /// Starts it again after its end, on the same directory.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.ended.take().is_some(), "it runs");
        let config = self.path("config.toml");
        let mut command = self.builder.command(&config, &self.log);
        self.child = command.spawn().expect("the daemon can be started");
        self.await_ready();
    }

    /// Writes another config and tells the daemon.
    #[track_caller]
    pub fn reload(&mut self, change: impl FnOnce(Builder) -> Builder) {
        let builder = std::mem::replace(&mut self.builder, Self::builder());
        self.builder = change(builder);
        fs::write(self.path("config.toml"), self.builder.config()).expect("it is ours");
        self.signal(Signal::HUP);
    }
}

/// Resident memory of a process, in KiB: proc_pid_status(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that is resident, now.
    pub rss: u64,
    /// The most that ever was.
    pub peak: u64,
    /// Private pages: heap and stacks.
    pub anon: u64,
    /// Pages of files: the program and its libraries.
    pub file: u64,
    /// Shared pages: maps of the kernel's programs, as the ring.
    pub shmem: u64,
}

impl Memory {
    #[track_caller]
    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let words = line.unwrap_or_else(|| panic!("no {name} in:\n{status}"));
            words.split_whitespace().next().and_then(|it| it.parse().ok()).expect("a number")
        };
        Self {
            rss: field("VmRSS:"),
            peak: field("VmHWM:"),
            anon: field("RssAnon:"),
            file: field("RssFile:"),
            shmem: field("RssShmem:"),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.kill();
        }
        if std::thread::panicking() {
            #[expect(
                clippy::print_stderr,
                reason = "what a failed scenario needs to be understood"
            )]
            {
                let said = self.stderr();
                let lines: Vec<&str> = said.lines().collect();
                let (first, last) = (&lines[..lines.len().min(50)], lines.len().saturating_sub(50));
                let last = &lines[last.max(first.len())..];
                eprintln!("the daemon said, in {} lines:\n{}", lines.len(), first.join("\n"));
                eprintln!("...\n{}", last.join("\n"));
            }
        }
    }
}

/// What a line of TOML is about.
fn key(line: &str) -> &str {
    line.split_once('=').map_or(line, |(key, _)| key).trim()
}
