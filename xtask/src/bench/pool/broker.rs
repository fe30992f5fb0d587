//! Mosquitto, on a free port of loopback, for as long as it is needed.

use super::authority::{self, Authority};
use super::{kernel, programs};
use crate::bench::child::{self, Running};
use crate::clock;
use crate::failure::{Failure, OrFail as _, Result};
use crate::sh;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const START_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// A thousand clients that leave are gone after a few milliseconds.
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);
/// What it holds besides its clients: the listener, epoll, its output.
const OWN_DESCRIPTORS: usize = 50;
/// Somebody may take a port between our question and mosquitto's start.
const ATTEMPTS: usize = 5;
const NEXT: &str = "start it by hand with the file in target/bench/broker and look";

/// A running broker; dropping this ends it.
pub(super) struct Broker {
    running: Running,
    port: u16,
    authority: Option<Authority>,
}

impl Broker {
    /// One that takes everybody.
    pub(super) fn start() -> Result<Self> {
        Self::with(None)
    }

    /// The same over TLS.
    pub(super) fn start_with_tls() -> Result<Self> {
        Self::with(Some(authority::make()?))
    }

    fn with(authority: Option<Authority>) -> Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match attempt(authority.as_ref()) {
                Ok((running, port)) => return Ok(Self { running, port, authority }),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.expect("invariant: there is an attempt"))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What a client has to be told to come here.
    pub(super) fn options(&self) -> Vec<String> {
        let scheme = if self.authority.is_some() { "mqtts" } else { "mqtt" };
        let mut options =
            vec!["--broker".to_owned(), format!("{scheme}://127.0.0.1:{}", self.port)];
        if let Some(authority) = &self.authority {
            options.extend(["--ca".to_owned(), authority.certificate.display().to_string()]);
        }
        options
    }

    /// Waits until it has taken leave of all its clients, which otherwise slows the next ones.
    pub(super) fn settle(&self) -> Result {
        let deadline = clock::now() + SETTLE_PATIENCE;
        while kernel::descriptors(self.running.pid()) > OWN_DESCRIPTORS {
            if clock::now() > deadline {
                return Err(Failure::new("mosquitto still holds connections", NEXT));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

fn attempt(authority: Option<&Authority>) -> Result<(Running, u16)> {
    let port = free_port()?;
    let file = programs::scratch("broker")?.join("mosquitto.conf");
    fs::write(&file, configuration(port, authority)).or_fail(file.display(), NEXT)?;
    let missing = || Failure::new("mosquitto is missing", "run `cargo xtask setup --with bench`");
    let mosquitto = sh::find("mosquitto").ok_or_else(missing)?;
    // It never raises its own limit of descriptors.
    let mut command = child::mortal("sh");
    command.args(["-c", r#"ulimit -S -n "$(ulimit -H -n)"; exec "$0" -c "$1""#]);
    command.arg(mosquitto).arg(&file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let running = Running::start("mosquitto", &mut command)?;
    let deadline = clock::now() + START_PATIENCE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if clock::now() > deadline || kernel::descriptors(running.pid()) == 0 {
            let said = running.complaints().join("; ");
            return Err(Failure::new(format!("mosquitto did not start: {said}"), NEXT));
        }
        thread::sleep(POLL);
    }
    Ok((running, port))
}

fn free_port() -> Result<u16> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    Ok(address.or_fail("no free port", NEXT)?.port())
}

/// As root it would otherwise become another user, who cannot read our files.
fn configuration(port: u16, authority: Option<&Authority>) -> String {
    let mut text = format!(
        "listener {port} 127.0.0.1\n\
         allow_anonymous true\n\
         persistence false\n\
         max_connections -1\n\
         set_tcp_nodelay true\n\
         connection_messages false\n\
         log_dest stderr\n\
         log_type error\n\
         user root\n"
    );
    if let Some(authority) = authority {
        let (certificate, key) = (&authority.server_certificate, &authority.server_key);
        writeln!(text, "certfile {}\nkeyfile {}", certificate.display(), key.display())
            .expect("invariant: a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_with_tls_has_a_certificate_and_one_without_has_none() {
        assert!(!configuration(1, None).contains("certfile"));
        let authority = Authority {
            certificate: "/a/ca.pem".into(),
            server_certificate: "/a/server.pem".into(),
            server_key: "/a/server.key".into(),
        };
        let text = configuration(1, Some(&authority));
        assert!(text.starts_with("listener 1 127.0.0.1\n"), "{text}");
        assert!(text.ends_with("certfile /a/server.pem\nkeyfile /a/server.key\n"), "{text}");
    }
}
