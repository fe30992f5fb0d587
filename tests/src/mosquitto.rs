//! Eclipse Mosquitto as a broker of one scenario: a process with a configuration, a directory and
//! ports of its own. Written for 2.0.11, Debian 12's.

use crate::TempDir;
use crate::logged::{self, Log};
use crate::wait;
use crate::watch::signal_process;
use rustix::process::Signal;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

/// Ports to try: below the range that the kernel hands out (32,768 to 60,999), and above those
/// that services have.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How often a start that met another program's port is tried again.
const STARTS: u32 = 10;

/// How a broker is configured.
#[derive(Debug)]
pub struct Builder {
    directory: TempDir,
    listeners: Vec<Vec<String>>,
    has_passwords: bool,
}

/// A running broker, gone when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    builder: Builder,
    ports: Vec<u16>,
    child: Child,
    log: Log,
}

impl Builder {
    /// A line of the configuration, behind the listener that was added last. The first one, plain
    /// TCP, is there from the start.
    pub fn option(mut self, line: &str) -> Self {
        self.listeners.last_mut().expect("invariant: there is a first").push(line.to_owned());
        self
    }

    /// One more listener. What it speaks is told by the options that follow.
    pub fn listener(mut self) -> Self {
        self.listeners.push(Vec::new());
        self
    }

    /// A user of the listener that was added last; nobody is let in without a password then.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        let file = self.directory.join("passwords");
        let mut command = Command::new("mosquitto_passwd");
        if !self.has_passwords {
            command.arg("-c");
        }
        self.has_passwords = true;
        let made = command.arg("-b").arg(file).args([name, password]).status();
        assert!(made.is_ok_and(|status| status.success()), "mosquitto_passwd makes a user");
        self
    }

    /// A file in the broker's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Mosquitto {
        for _ in 0..STARTS {
            let ports: Vec<u16> = self.listeners.iter().map(|_| free_port()).collect();
            self.write(&ports);
            let (mut child, log) = self.spawn();
            match await_start(&mut child, &log) {
                Ok(()) => return Mosquitto { builder: self, ports, child, log },
                Err(said) => {
                    // Another program was faster; libwebsockets does not say so in these words.
                    let taken = ["in use", "websockets listener", "listening sockets"];
                    assert!(
                        taken.iter().any(|it| said.contains(it)),
                        "mosquitto does not start (installed? `cargo xtask setup`): {said}"
                    );
                }
            }
        }
        panic!("no free port in {STARTS} attempts");
    }

    fn new() -> Self {
        Self { directory: TempDir::new(), listeners: vec![Vec::new()], has_passwords: false }
    }

    fn write(&self, ports: &[u16]) {
        let mut lines = vec![
            // Started as root, it would become a user who may not read our files.
            "user root".to_owned(),
            "log_dest stderr".to_owned(),
            "log_type error".to_owned(),
            "log_type warning".to_owned(),
            "log_type notice".to_owned(),
            // Says when it is running.
            "log_type information".to_owned(),
            "connection_messages false".to_owned(),
            "set_tcp_nodelay true".to_owned(),
            "persistence false".to_owned(),
            format!("allow_anonymous {}", !self.has_passwords),
        ];
        if self.has_passwords {
            lines.push(format!("password_file {}", self.path("passwords").display()));
        }
        for (options, port) in self.listeners.iter().zip(ports) {
            lines.push(format!("listener {port} 127.0.0.1"));
            // Without this, a listener for WebSocket takes every address of the host.
            lines.push("socket_domain ipv4".to_owned());
            lines.extend(options.iter().cloned());
        }
        fs::write(self.path("conf"), lines.join("\n")).expect("it is our directory");
    }

    fn spawn(&self) -> (Child, Log) {
        logged::spawn(program(), |command| {
            command.arg("-c").arg(self.path("conf"));
        })
    }
}

impl Mosquitto {
    /// How to configure one.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// One that lets everybody in, over plain TCP.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// The port of the first listener.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The port of a listener.
    pub fn port_of(&self, listener: usize) -> u16 {
        self.ports[listener]
    }

    /// The address of the first listener.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port())
    }

    /// Everything it has said since its last start.
    pub fn log(&self) -> String {
        self.log.read()
    }

    /// Stops it in the middle of whatever it does: the kernel goes on answering for it.
    pub fn freeze(&self) {
        signal_process(self.child.id(), Signal::STOP);
        wait::until_true("the broker to stand still", || self.state() == Some('T'));
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal_process(self.child.id(), Signal::CONT);
    }

    /// Ends it without any chance to say goodbye.
    pub fn kill(&mut self) {
        // Fails when it has ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }

    /// Starts it again on the same ports, after [`Mosquitto::kill`].
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        (self.child, self.log) = self.builder.spawn();
        if let Err(said) = await_start(&mut self.child, &self.log) {
            panic!("mosquitto does not start again: {said}");
        }
    }

    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Debian puts it where the search path of most users does not lead.
fn program() -> &'static str {
    let path = "/usr/sbin/mosquitto";
    if Path::new(path).is_file() { path } else { "mosquitto" }
}

/// Waits until it listens on all ports, or says why it has ended.
#[track_caller]
fn await_start(child: &mut Child, log: &Log) -> Result<(), String> {
    wait::until("mosquitto to listen", || {
        if log.read().contains(" running") {
            return Ok(Ok(()));
        }
        match child.try_wait() {
            Ok(Some(_status)) => {
                // What it said last may still be in the pipe.
                thread::sleep(Duration::from_millis(50));
                Ok(Err(log.read()))
            }
            _ => Err(log.read()),
        }
    })
}

/// A port that nobody uses at the moment, and that this process has not given out yet.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    // Test programs that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(61) % u32::from(span);
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = (begin + step) % u32::from(span);
        let port = PORTS.start + u16::try_from(offset).expect("invariant: less than the span");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
