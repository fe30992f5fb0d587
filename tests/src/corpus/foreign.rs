//! Servers that are not ours.

use crate::mosquitto::free_port;
use crate::watch::signal_process;
use crate::{TempDir, wait};
use rustix::process::Signal;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::process::{Child, Command, Stdio};

/// A user without any right, on every Debian: PostgreSQL refuses to be root.
const NOBODY: u32 = 65_534;

/// A server that listens.
#[derive(Debug)]
pub struct Foreign {
    pub(super) child: Child,
    pub(super) port: u16,
    /// How it is told to end at once, its children included.
    end: Signal,
    /// Removed after its process has ended.
    _directory: TempDir,
}

impl Foreign {
    #[track_caller]
    fn start(port: u16, end: Signal, directory: TempDir, words: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("setpriv is there: it is essential to Debian");
        let foreign = Self { child, port, end, _directory: directory };
        wait::until_true(&format!("{words:?} to listen (installed? `cargo xtask setup`)"), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        foreign
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal_process(self.child.id(), self.end);
        }
        let _status = self.child.wait();
    }
}

/// nginx with two workers and a page of a few bytes.
pub(super) fn nginx(_server: Option<u16>) -> Foreign {
    let (directory, port) = (TempDir::new(), free_port());
    let conf = directory.join("nginx.conf");
    let at = directory.join("");
    let at = at.display();
    let text = format!(
        "daemon off; worker_processes 2; pid {at}pid; error_log {at}error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; client_body_temp_path {at}a; proxy_temp_path {at}b;\n\
         fastcgi_temp_path {at}c; uwsgi_temp_path {at}d; scgi_temp_path {at}e;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 fine; }} }} }}\n"
    );
    fs::write(&conf, text).expect("it is our directory");
    let conf = conf.to_string_lossy().into_owned();
    Foreign::start(port, Signal::TERM, directory, &["nginx", "-c", &conf])
}

/// Redis that keeps nothing on disk.
pub(super) fn redis(_server: Option<u16>) -> Foreign {
    let (directory, port) = (TempDir::new(), free_port());
    let words = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--port"];
    let mut words = words.to_vec();
    let text = port.to_string();
    words.push(&text);
    Foreign::start(port, Signal::TERM, directory, &words)
}

/// PostgreSQL with a cluster of its own.
pub(super) fn postgres(_server: Option<u16>) -> Foreign {
    let (directory, port) = (TempDir::new(), free_port());
    let own = directory.join("");
    chown(&own, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    let data = directory.join("data").to_string_lossy().into_owned();
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let made = Command::new("setpriv")
        .args(as_nobody)
        .arg(postgres_program("initdb"))
        .args(["--no-sync", "-A", "trust", "-U", "postgres", "-D", &data])
        .output()
        .expect("setpriv is there: it is essential to Debian");
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    let (program, text) = (postgres_program("postgres"), port.to_string());
    let own = own.to_string_lossy().into_owned();
    let mut words = as_nobody.to_vec();
    words.extend([&program[..], "-D", &data, "-k", &own, "-h", "127.0.0.1", "-p", &text]);
    words.extend(["-c", "fsync=off"]);
    // A fast shutdown, which takes the sessions along.
    Foreign::start(port, Signal::INT, directory, &words)
}

/// socat between its own port and `server`: it passes on that one half is closed.
pub(super) fn socat(server: Option<u16>) -> Foreign {
    let port = free_port();
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr");
    let connect = format!("TCP:127.0.0.1:{}", server.expect("invariant: a proxy has a server"));
    // It waits so many seconds for the other half.
    let words = ["socat", "-t", "300", &listen, &connect];
    Foreign::start(port, Signal::TERM, TempDir::new(), &words)
}

/// Where Debian puts the programs of the newest PostgreSQL: most of them not in the search path.
pub(super) fn postgres_program(name: &str) -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<_> = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name)))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop().map_or(name.to_owned(), |path| path.to_string_lossy().into_owned())
}
