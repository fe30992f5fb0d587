//! The workload: connections on loopback, opened and closed one after the other.

use super::child::{Running, talking};
use super::schedstat;
use crate::failure::{Failure, OrFail as _, Result};
use std::io::{self, BufRead as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

/// The hidden verb of the process that does the work.
pub(crate) const VERB: &str = "bench-loop";

const READY: &str = "ready";
const READY_PATIENCE: Duration = Duration::from_secs(10);
/// A hundred times what the cycles of one call need.
const WORK_PATIENCE: Duration = Duration::from_secs(120);
const NEXT: &str = "look for the message of the loop above, then report a bug";

/// The process that does the work: a number of cycles for each line of its input.
pub(crate) fn serve() -> Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).or_fail("bind", NEXT)?;
    let port = listener.local_addr().or_fail("the port of the listener", NEXT)?.port();
    let mut addresses = (0..).map(destination);
    println!("{READY}");
    for line in io::stdin().lock().lines() {
        let cycles: u32 = line.or_fail("stdin", NEXT)?.parse().or_fail("a number", NEXT)?;
        let before = schedstat::own_cpu_time()?;
        for address in addresses.by_ref().take(cycles as usize) {
            cycle(&listener, address, port).or_fail(format!("{address}:{port}"), NEXT)?;
        }
        println!("{}", (schedstat::own_cpu_time()? - before).as_nanos());
    }
    Ok(())
}

/// Ten changes of state: connect, accept, close by the client, close by the server.
fn cycle(listener: &TcpListener, address: Ipv4Addr, port: u16) -> io::Result<()> {
    let client = TcpStream::connect((address, port))?;
    let (server, _) = listener.accept()?;
    drop(client);
    drop(server);
    Ok(())
}

/// One of the addresses of loopback, another one each time: with a single one, all ports of the
/// client would soon be in TIME_WAIT, and the search for a free one would be most of the work.
fn destination(number: u32) -> Ipv4Addr {
    const NET: u32 = 127 << 24;
    const HOSTS: u32 = (1 << 24) - 2;
    Ipv4Addr::from_bits(NET | (number % HOSTS + 1))
}

/// The workload as the benchmark sees it.
pub(super) struct Cycles(Running);

impl Cycles {
    /// Starts the process; it does nothing before [`Self::run`].
    pub(super) fn start() -> Result<Self> {
        let program = std::env::current_exe().or_fail("xtask's own path", NEXT)?;
        let running = Running::start("the loop", talking(Command::new(program).arg(VERB)))?;
        let line = running.line(READY_PATIENCE)?;
        if line == READY {
            return Ok(Self(running));
        }
        Err(Failure::new(format!("the loop says `{line}`"), NEXT))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Does the work; returns the CPU time that the process needed for it.
    pub(super) fn run(&mut self, cycles: u32) -> Result<Duration> {
        self.0.tell(&cycles.to_string())?;
        let line = self.0.line(WORK_PATIENCE)?;
        match line.parse() {
            Ok(nanoseconds) if nanoseconds > 0 => Ok(Duration::from_nanos(nanoseconds)),
            _ => Err(Failure::new(format!("the loop used `{line}` ns of CPU"), NEXT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_destination_is_on_loopback_and_neither_its_network_nor_its_broadcast() {
        assert_eq!(destination(0), Ipv4Addr::new(127, 0, 0, 1));
        assert_eq!(destination(255), Ipv4Addr::new(127, 0, 1, 0));
        assert_eq!(destination((1 << 24) - 3), Ipv4Addr::new(127, 255, 255, 254));
        assert_eq!(destination((1 << 24) - 2), Ipv4Addr::new(127, 0, 0, 1));
    }

    #[test]
    fn a_cycle_opens_and_closes_a_connection() {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("invariant: loopback");
        let port = listener.local_addr().expect("invariant: it is bound").port();
        for number in [0, 300] {
            cycle(&listener, destination(number), port).expect("invariant: loopback is up");
        }
    }
}
