//! Processes that hold many TCP descriptors and do nothing.

use super::child::{Running, talking};
use crate::failure::{Failure, OrFail as _, Result};
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

/// The hidden verb of such a process.
pub(crate) const VERB: &str = "bench-hold";

/// What one process may open is often 1,024, and not every root may raise that. Even, for a
/// connection has two ends.
const MOST_PER_PROCESS: u32 = 900;
const READY: &str = "ready";
const READY_PATIENCE: Duration = Duration::from_secs(30);
const NEXT: &str = "look for the message of the holder above; it opens 900 files (`ulimit -n`)";

/// Hold this many TCP descriptors until the end of input.
#[derive(clap::Args)]
pub(crate) struct Args {
    descriptors: u32,
}

/// The process itself.
pub(crate) fn serve(args: &Args) -> Result {
    let _held = open(args.descriptors / 2).or_fail("loopback connections", NEXT)?;
    println!("{READY}");
    io::stdin().read_to_end(&mut Vec::new()).map(drop).or_fail("stdin", NEXT)
}

/// Both ends of each connection.
fn open(connections: u32) -> io::Result<Vec<(TcpStream, TcpStream)>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let pair = |_| Ok((TcpStream::connect(address)?, listener.accept()?.0));
    (0..connections).map(pair).collect()
}

/// Starts as many processes as it takes; dropping what is returned ends them.
pub(super) fn start(descriptors: u32) -> Result<Vec<Running>> {
    shares(descriptors).map(start_one).collect()
}

fn shares(descriptors: u32) -> impl Iterator<Item = u32> {
    let starts = (0..descriptors).step_by(MOST_PER_PROCESS as usize);
    starts.map(move |start| MOST_PER_PROCESS.min(descriptors - start))
}

fn start_one(descriptors: u32) -> Result<Running> {
    let program = std::env::current_exe().or_fail("xtask's own path", NEXT)?;
    let mut command = Command::new(program);
    let holder =
        Running::start("the holder", talking(command.arg(VERB).arg(descriptors.to_string())))?;
    let line = holder.line(READY_PATIENCE)?;
    if line == READY {
        return Ok(holder);
    }
    Err(Failure::new(format!("the holder says `{line}`"), NEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_process_holds_more_than_it_may_and_together_they_hold_all() {
        assert_eq!(shares(5_000).collect::<Vec<_>>(), [900, 900, 900, 900, 900, 500]);
        assert_eq!(shares(900).collect::<Vec<_>>(), [900]);
        assert_eq!(shares(0).count(), 0);
    }

    #[test]
    fn every_connection_is_held_at_both_ends() {
        let held = open(3).expect("invariant: loopback is up");
        assert_eq!(held.len(), 3);
        for (client, server) in &held {
            assert_eq!(client.peer_addr().ok(), server.local_addr().ok());
        }
    }
}
