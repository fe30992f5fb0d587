//! What the kernel of this host knows: counters, descriptors, states of processes.

use crate::failure::{Failure, OrFail as _, Result};
use crate::sh;
use std::fs;
use std::process::Command;

/// What a broker needs for 12,000 clients, and a fleet for itself.
const DESCRIPTORS: u64 = 12_100;

/// Fails where 12,000 connections are not possible.
pub(super) fn require_descriptors() -> Result {
    let next = "raise the hard limit of open files: `ulimit -Hn` in the shell that starts this";
    let file = "/proc/self/limits";
    let hard = parse_descriptor_limit(&fs::read_to_string(file).or_fail(file, next)?);
    match hard {
        Some(hard) if hard < DESCRIPTORS => {
            let what = format!("a process may open {hard} files, and needs {DESCRIPTORS}");
            Err(Failure::new(what, next))
        }
        _ => Ok(()),
    }
}

/// How many connects the listener on this port could not take, for its queue was full. The
/// kernel's `ListenOverflows` is the same of all listeners, so also of those of others.
pub(super) fn listen_overflows(port: u16) -> Result<u64> {
    let next = "run `cargo xtask setup --with bench`: this needs ss";
    let listener = format!("sport = :{port}");
    let answer = sh::output(Command::new("ss").args(["-Hltnm", &listener]), next)?;
    parse_drops(&answer).ok_or("no listener with a counter").or_fail("ss", next)
}

/// How many descriptors a process holds; none once it is gone.
pub(super) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Whether every thread of a process is stopped.
pub(super) fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let stat = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("stat")).ok();
    threads.flatten().filter_map(stat).all(|stat| parse_state(&stat) == Some('T'))
}

/// `Max open files  SOFT  HARD  files`; nothing where it is unlimited.
fn parse_descriptor_limit(limits: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The last field of `skmem:(r0,rb131072,..,d7)` in ss(8).
fn parse_drops(answer: &str) -> Option<u64> {
    let (_, memory) = answer.split_once("skmem:(")?;
    let (fields, _) = memory.split_once(')')?;
    fields.split(',').find_map(|field| field.strip_prefix('d')?.parse().ok())
}

/// The third field; the second is a name that may have spaces and parentheses.
fn parse_state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_is_the_second_number() {
        let limits = "Max processes             95986                95986                processes\n\
                      Max open files            1024                 20000                files\n";
        assert_eq!(parse_descriptor_limit(limits), Some(20_000));
        assert_eq!(parse_descriptor_limit("Max open files  1024  unlimited  files"), None);
    }

    #[test]
    fn the_drops_of_a_listener_are_read() {
        let answer = "LISTEN 4  3  127.0.0.1:54165 0.0.0.0:*\n\t \
                      skmem:(r0,rb131072,t0,tb16384,f0,w0,o0,bl0,d6)\n";
        assert_eq!(parse_drops(answer), Some(6));
        assert_eq!(parse_drops(""), None);
    }

    #[test]
    fn the_state_follows_the_name() {
        assert_eq!(parse_state("7 (a) b) T 1 7"), Some('T'));
        assert_eq!(parse_state(""), None);
    }

    #[test]
    fn this_process_runs_and_holds_descriptors() {
        assert!(!is_stopped(std::process::id()));
        assert!(descriptors(std::process::id()) >= 3);
    }
}
