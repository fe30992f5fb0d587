//! Other observers of TCP, from Debian's libbpf-tools: the same loop, the same measurement.

use super::child::{self, Running};
use crate::clock;
use crate::failure::{Failure, Result};
use crate::sh;
use std::process::Stdio;
use std::time::Duration;
use std::{fs, thread};

/// Both see every connection of the host, and print a line for each, or for each change of state.
pub(super) const RIVALS: [&str; 2] = ["tcplife", "tcpstates"];

/// Their hook is ours: `inet_sock_set_state`. The programs are named after it.
pub(super) const PROGRAM: &str = "set_state";

const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// What is between the last sign that we can see and the first read.
const SETTLING: Duration = Duration::from_millis(200);

/// Starts the rival and waits until it is attached.
pub(super) fn attach(name: &str) -> Result<Running> {
    let next = "run `cargo xtask setup --with bench`";
    let missing = || Failure::new(format!("{name} is missing"), next);
    let mut command = child::mortal(sh::find(name).ok_or_else(missing)?);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let rival = Running::start(name, &mut command)?;
    let deadline = clock::now() + PATIENCE;
    while !is_attached(&descriptors(rival.pid())) {
        if clock::now() > deadline {
            let said = rival.complaints().join("; ");
            let what = format!("{name} did not attach within {} s: {said}", PATIENCE.as_secs());
            return Err(Failure::new(what, "start it by hand and look"));
        }
        thread::sleep(POLL);
    }
    thread::sleep(SETTLING);
    Ok(rival)
}

/// The events that it lost since the last call, for its buffers were full: work that it did not do,
/// and that its figures therefore lack.
pub(super) fn lost_events(rival: &Running) -> u64 {
    rival.complaints().iter().filter_map(|line| parse_lost(line)).sum()
}

/// `lost 119 events on CPU #1`, in the words of both.
fn parse_lost(line: &str) -> Option<u64> {
    let (number, _) = line.strip_prefix("lost ")?.split_once(" events")?;
    number.parse().ok()
}

/// What the descriptors of a process refer to.
fn descriptors(pid: u32) -> Vec<String> {
    let Ok(links) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let targets = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
    targets.map(|target| target.to_string_lossy().into_owned()).collect()
}

/// First they attach, then they make an epoll to wait for their buffers.
fn is_attached(descriptors: &[String]) -> bool {
    let has = |what: &str| descriptors.iter().any(|it| it.contains(what));
    (has("bpf_link") || has("[perf_event]")) && has("[eventpoll]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_from_the_complaints() {
        assert_eq!(parse_lost("lost 119 events on CPU #1"), Some(119));
        assert_eq!(parse_lost("lost count of everything"), None);
        assert_eq!(parse_lost("failed to attach"), None);
    }

    #[test]
    fn a_rival_is_attached_once_it_waits_for_its_buffers() {
        let check = |targets: &[&str]| {
            is_attached(&targets.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
        };
        assert!(!check(&[]));
        assert!(!check(&["/dev/null", "anon_inode:bpf-prog", "anon_inode:bpf_link"]));
        assert!(check(&["anon_inode:bpf_link", "anon_inode:[eventpoll]"]));
        assert!(check(&["anon_inode:[perf_event]", "anon_inode:[eventpoll]"]));
    }
}
