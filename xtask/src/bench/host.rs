//! How quiet the host is: noise of others is measured as if it was ours.

use super::bpf;
use crate::clock;
use std::time::Duration;
use std::{fs, thread};

/// Chosen: above it, somebody else computes.
const BUSY_LOAD: f64 = 0.5;
/// The kernel lets a socket wait for 60 s (`TCP_TIMEWAIT_LEN`, include/net/tcp.h).
const TIME_WAIT: Duration = Duration::from_secs(65);
/// Chosen: a snapshot that walks over these does not notice.
const FEW_SOCKETS: u64 = 100;
const POLL: Duration = Duration::from_millis(500);

/// Warns of what spoils the figures.
pub(super) fn warn_if_busy() {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or_default();
    if load > BUSY_LOAD {
        eprintln!("  This host is busy (load {load}): expect wide spreads.");
    }
    let programs = bpf::tracing_programs().unwrap_or_default();
    if !programs.is_empty() {
        let programs = Vec::from_iter(programs);
        eprintln!("  Others trace this host too, and slow the loop: {}.", programs.join(", "));
    }
}

/// Waits until sockets in TIME_WAIT are gone, for a snapshot walks over them too.
pub(super) fn settle() {
    let deadline = clock::now() + TIME_WAIT;
    let mut is_told = false;
    while waiting() > FEW_SOCKETS && clock::now() < deadline {
        if !is_told {
            eprintln!("  Up to a minute until {} sockets have left TIME_WAIT.", waiting());
            is_told = true;
        }
        thread::sleep(POLL);
    }
}

fn waiting() -> u64 {
    parse_waiting(&fs::read_to_string("/proc/net/sockstat").unwrap_or_default()).unwrap_or_default()
}

fn parse_waiting(sockstat: &str) -> Option<u64> {
    let mut words = sockstat.lines().find(|line| line.starts_with("TCP:"))?.split(' ');
    words.find(|word| *word == "tw")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_waiting;

    #[test]
    fn the_number_of_waiting_sockets_is_read() {
        let sockstat = "sockets: used 10\nTCP: inuse 1 orphan 0 tw 35 alloc 1 mem 34\nUDP: inuse 0";
        assert_eq!(parse_waiting(sockstat), Some(35));
        assert_eq!(parse_waiting(""), None);
    }
}
