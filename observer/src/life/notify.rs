//! EDGE: what the service manager is told (sd_notify(3)).
//!
//! The words are those of the crate `sd-notify`; the socket is ours. It is opened once, before the
//! privileges go, it knows abstract addresses, and it never blocks the loop that speaks: what the
//! manager does not take at once is dropped and counted.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use sd_notify::NotifyState;

use self::status::StatusLine;
use crate::model::MonoTime;

mod status;

/// Speaks to the service manager, or to nobody.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    status: StatusLine,
    dropped: u64,
}

/// The operator, or whoever started us: the address in `NOTIFY_SOCKET` leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error(
    "the service manager cannot be told: NOTIFY_SOCKET={address} cannot be reached ({error}). Start \
     sockwarden by systemd, or without that variable"
)]
pub struct NotifyError {
    /// What the variable says.
    pub address: String,
    /// Why.
    pub error: io::Error,
}

impl Notifier {
    /// To whom `NOTIFY_SOCKET` says; to nobody where it is not set.
    ///
    /// # Errors
    ///
    /// [`NotifyError`] when the variable is set and nobody listens there.
    pub fn from_environment() -> Result<Self, NotifyError> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(address) if !address.is_empty() => Self::to(&address),
            _ => Ok(Self::default()),
        }
    }

    /// To the socket at `address`: a path, or `@` and an abstract name.
    ///
    /// # Errors
    ///
    /// [`NotifyError`] when nobody listens there.
    pub fn to(address: &OsStr) -> Result<Self, NotifyError> {
        let socket = connect(address.as_bytes()).map_err(|error| NotifyError {
            address: crate::escape::short(&address.to_string_lossy(), 200).into_owned(),
            error,
        })?;
        Ok(Self { socket: Some(socket), ..Self::default() })
    }

    /// Whether anybody listens.
    pub fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// The first snapshot is in, or a reload is over.
    pub fn ready(&mut self, status: &str, now: MonoTime) {
        let line = self.status.show(status, now);
        self.send(&[NotifyState::Ready, NotifyState::Status(&line)]);
    }

    /// One line for people: `systemctl status`. It is sent when it is another than the last one and
    /// a second has passed since that; a line in between is kept, and goes with the next call or
    /// [`Notifier::handle_timeout`].
    pub fn status(&mut self, line: &str, now: MonoTime) {
        self.status.offer(line);
        self.handle_timeout(now);
    }

    /// When [`Notifier::handle_timeout`] has something to send.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.status.poll_timeout()
    }

    /// Sends the status line that waited.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        if let Some(line) = self.status.due(now) {
            self.send(&[NotifyState::Status(&line)]);
        }
    }

    /// SIGHUP was taken. [`Notifier::ready`] ends it. `MONOTONIC_USEC` is what `Type=notify-reload`
    /// (systemd 253) needs beside it; older managers skip it.
    pub fn reloading(&mut self, now: MonoTime) {
        let micros = i128::from(now.nanos() / 1_000);
        self.send(&[NotifyState::Reloading, NotifyState::MonotonicUsec(micros)]);
    }

    /// SIGTERM was taken.
    pub fn stopping(&mut self, status: &str, now: MonoTime) {
        let line = self.status.show(status, now);
        self.send(&[NotifyState::Stopping, NotifyState::Status(&line)]);
    }

    /// Every loop turns: see [`super::watchdog`].
    pub fn ping(&mut self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// Messages that the manager did not take.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn send(&mut self, words: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let lines: String = words.iter().map(|word| format!("{word}\n")).collect();
        if let Err(error) = socket.send(lines.as_bytes()) {
            self.dropped += 1;
            log::warn!("the service manager was not told `{}`: {error}", words[0]);
        }
    }
}

/// What the service manager waits for a ping, if it waits for ours: `WATCHDOG_USEC` and
/// `WATCHDOG_PID` (sd_watchdog_enabled(3)). Zero means that it does not.
pub fn watchdog_timeout() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero())
}

fn connect(address: &[u8]) -> io::Result<UnixDatagram> {
    let address = match address {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// The other end, at an abstract address of its own.
    fn manager() -> (UnixDatagram, Notifier) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sockwarden-notify-{}-{next}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let manager = UnixDatagram::bind_addr(&address).expect("nobody else has this name");
        manager.set_nonblocking(true).expect("a socket");
        let notifier = Notifier::to(OsStr::new(&format!("@{name}"))).expect("somebody listens");
        (manager, notifier)
    }

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| {
            let length = manager.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
        .collect()
    }

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(1_000_000_000_000).after(Duration::from_millis(millis))
    }

    #[test]
    fn the_manager_hears_each_word_of_a_life() {
        let (manager, mut notifier) = manager();
        notifier.ready("watching", at(0));
        notifier.ping();
        notifier.reloading(at(5));
        notifier.ready("watching", at(6));
        notifier.stopping("draining 3 sessions", at(7));
        let expected = [
            "READY=1\nSTATUS=watching\n",
            "WATCHDOG=1\n",
            "RELOADING=1\nMONOTONIC_USEC=1000005000\n",
            "READY=1\nSTATUS=watching\n",
            "STOPPING=1\nSTATUS=draining 3 sessions\n",
        ];
        assert_eq!(heard(&manager), expected);
        assert_eq!(notifier.dropped(), 0);
    }

    #[test]
    fn a_status_line_goes_once_a_second_and_the_last_one_arrives() {
        let (manager, mut notifier) = manager();
        for millis in (0..3_000).step_by(10) {
            notifier.status(&format!("{millis}"), at(millis));
        }
        assert_eq!(heard(&manager), ["STATUS=0\n", "STATUS=1000\n", "STATUS=2000\n"]);
        assert_eq!(notifier.poll_timeout(), Some(at(3_000)));
        notifier.handle_timeout(at(3_000));
        assert_eq!(heard(&manager), ["STATUS=2990\n"]);
        assert_eq!(notifier.poll_timeout(), None);
    }

    #[test]
    fn a_line_from_outside_cannot_add_a_word() {
        let (manager, mut notifier) = manager();
        notifier.status("device a\nSTOPPING=1\nMAINPID=1", at(0));
        assert_eq!(heard(&manager), ["STATUS=device a\\u{a}STOPPING=1\\u{a}MAINPID=1\n"]);
    }

    #[test]
    fn a_manager_that_does_not_read_cannot_block_us_and_the_loss_is_counted() {
        let (manager, mut notifier) = manager();
        for _ in 0..10_000 {
            notifier.ping();
        }
        let heard = u64::try_from(heard(&manager).len()).expect("few");
        assert!(notifier.dropped() > 0);
        assert_eq!(heard + notifier.dropped(), 10_000);
    }

    #[test]
    fn a_manager_that_went_away_is_no_end() {
        let (manager, mut notifier) = manager();
        drop(manager);
        notifier.ready("watching", at(0));
        assert_eq!(notifier.dropped(), 1);
    }

    #[test]
    fn a_path_is_an_address_too_and_an_empty_one_leads_nowhere() {
        let path = std::env::temp_dir().join(format!("sockwarden-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).expect("nobody else has this path");
        let mut notifier = Notifier::to(path.as_os_str()).expect("somebody listens");
        notifier.ping();
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).expect("it was sent");
        std::fs::remove_file(&path).expect("it is ours");
        assert_eq!(&buffer[..length], b"WATCHDOG=1\n");

        let error = Notifier::to(path.as_os_str()).expect_err("it is gone");
        assert!(error.to_string().contains("NOTIFY_SOCKET="), "{error}");
    }

    #[test]
    fn nobody_listening_is_fine() {
        let mut notifier = Notifier::default();
        notifier.ready("watching", at(0));
        notifier.ping();
        assert!(!notifier.is_connected());
        assert_eq!(notifier.dropped(), 0);
    }
}
