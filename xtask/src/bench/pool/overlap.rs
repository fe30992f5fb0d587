//! More sockets than devices: destroy-before-replace was broken.

use super::fleet::{self, Fleet};
use super::ledger::Overlap;
use crate::bench::child::{self, Running, talking};
use crate::failure::{OrFail as _, Result};
use std::collections::HashSet;
use std::fs;
use std::net::Ipv4Addr;

const FILE: &str = "/proc/net/tcp";

/// Looks at the sockets of one fleet.
///
/// The fleet is stopped for that moment: the kernel lists sockets one after the other, and a device
/// that is replaced meanwhile would be there twice.
pub(super) struct Looker {
    /// Sends the signals that it is told; a new process for each would take longer than a storm.
    shell: Running,
    pid: u32,
    port: u16,
    devices: usize,
}

impl Looker {
    /// For a fleet of so many devices that connects to this port on 127.0.0.1.
    pub(super) fn new(fleet: &Fleet, port: u16, devices: u32) -> Result<Self> {
        let pid = fleet.pid();
        let mut shell = child::mortal("sh");
        shell.args(["-c", r#"while read -r it; do kill -"$it" "$0"; done"#, &pid.to_string()]);
        let shell = Running::start("the shell that signals", talking(&mut shell))?;
        Ok(Self { shell, pid, port, devices: devices as usize })
    }

    /// Lets the fleet go on that was stopped.
    pub(super) fn go_on(&mut self) -> Result {
        self.shell.tell("CONT")
    }

    /// Counts the sockets once.
    pub(super) fn look(&mut self) -> Result<Overlap> {
        self.shell.tell("STOP")?;
        fleet::await_stop(self.pid)?;
        let table = fs::read_to_string(FILE);
        self.go_on()?;
        let sockets = count(&table.or_fail(FILE, "mount /proc")?, self.port);
        Ok(Overlap { samples: 1, with_overlap: u64::from(sockets > self.devices) })
    }
}

/// The sockets on 127.0.0.1 towards this port that somebody holds, each once: the kernel hands
/// the list out in pieces, and where a bucket changes between two, a socket comes in both.
///
/// Columns: number, local, remote, state, queues, timer, retransmits, user, timeout, inode. What
/// nobody holds any more (TIME_WAIT, orphans) has the inode 0.
fn count(table: &str, port: u16) -> usize {
    let here = format!("{:08X}", u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets()));
    let (local, remote) = (format!("{here}:"), format!("{here}:{port:04X}"));
    let inode_of_ours = |line| {
        let mut columns = str::split_whitespace(line).skip(1);
        let is_ours = columns.next().is_some_and(|it| it.starts_with(&local))
            && columns.next() == Some(&remote);
        columns.nth(6).filter(|inode| is_ours && *inode != "0")
    };
    table.lines().filter_map(inode_of_ours).collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::count;
    use std::fs;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn only_held_sockets_towards_the_port_count() {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("invariant: loopback");
        let port = listener.local_addr().expect("invariant: it is bound").port();
        let here = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let _held = [here(), here(), TcpStream::connect(("127.0.0.2", port))];
        // Closed first: in TIME_WAIT or on the way there, and nobody's.
        drop(here().expect("invariant: the listener has room"));
        let table = fs::read_to_string("/proc/net/tcp").expect("invariant: Linux");
        assert_eq!(count(&table, port), 2, "{table}");
    }

    #[test]
    fn sockets_of_another_address_are_not_of_the_fleet() {
        let hex = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let here = hex([127, 0, 0, 1]);
        let row = |local| format!("  0: {local}:8001 {here}:075B 01 0:0 00:0 0 0 0 77 1\n");
        let table = [row(here.clone()), row(here.clone()), row(hex([127, 0, 0, 9]))].concat();
        assert_eq!(count(&table, 0x075B), 1, "{table}");
    }
}
