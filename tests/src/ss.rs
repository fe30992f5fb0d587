//! `ss -taneO`, the kernel's other window: inet_diag and `/proc`.

use crate::netns::Netns;
use std::process::Command;

/// One socket, as `ss` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The cookie; `None` where `ss` shows none.
    pub cookie: Option<u64>,
    /// The state, with the kernel's name.
    pub state: String,
    /// This end, v4-mapped addresses written as IPv4.
    pub local: String,
    /// The other end.
    pub remote: String,
    /// Process and descriptor of each holder, ordered.
    pub holders: Vec<(u32, i32)>,
}

/// All TCP sockets of this network namespace.
pub fn rows() -> Vec<Row> {
    run(Command::new("ss").arg("-p"))
}

/// The clients' ends of the connections to a port, TIME_WAIT included, without their holders:
/// quick, for nothing is read from `/proc`.
pub fn towards(port: u16) -> Vec<Row> {
    run(Command::new("ss").args(["dport", "=", &format!(":{port}")]))
}

/// All TCP sockets of another network namespace.
pub fn rows_in(netns: &Netns) -> Vec<Row> {
    run(netns.command().args(["ss", "-p"]))
}

impl Row {
    /// Whether a program can still use it: neither TIME_WAIT nor closed by the program.
    pub fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "ESTABLISHED" | "SYN_SENT" | "CLOSE_WAIT")
    }
}

fn run(command: &mut Command) -> Vec<Row> {
    let output = command.args(["-taneOH"]).output().expect("ss is installed: `cargo xtask setup`");
    assert!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(parse).collect()
}

/// `ESTAB 0 0 127.0.0.1:22 127.0.0.1:4711 users:(("sshd",pid=1,fd=4)) ino:12 sk:1f <->`
fn parse(line: &str) -> Row {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[state, _, _, local, remote, ..] = words.as_slice() else {
        panic!("ss printed `{line}`");
    };
    let cookie = words.iter().find_map(|word| word.strip_prefix("sk:"));
    Row {
        cookie: cookie.map(|hex| u64::from_str_radix(hex, 16).expect("a cookie is hexadecimal")),
        state: kernel_name(state).to_owned(),
        local: end(local),
        remote: end(remote),
        holders: holders(line),
    }
}

fn kernel_name(state: &str) -> &str {
    match state {
        "ESTAB" => "ESTABLISHED",
        "SYN-SENT" => "SYN_SENT",
        "SYN-RECV" => "SYN_RECV",
        "FIN-WAIT-1" => "FIN_WAIT1",
        "FIN-WAIT-2" => "FIN_WAIT2",
        "TIME-WAIT" => "TIME_WAIT",
        "UNCONN" => "CLOSE",
        "CLOSE-WAIT" => "CLOSE_WAIT",
        "LAST-ACK" => "LAST_ACK",
        other => other,
    }
}

fn end(text: &str) -> String {
    let (host, port) = text.rsplit_once(':').expect("ss prints host and port");
    let port = if port == "*" { "0" } else { port };
    let host = match host {
        "*" => "[::]",
        mapped => mapped
            .strip_prefix("[::ffff:")
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(mapped),
    };
    format!("{host}:{port}")
}

/// A name may have any character, but the numbers follow its closing quote.
fn holders(line: &str) -> Vec<(u32, i32)> {
    let mut holders: Vec<_> = line
        .split("\",pid=")
        .skip(1)
        .filter_map(|rest| {
            let (pid, rest) = rest.split_once(",fd=")?;
            let (fd, _) = rest.split_once(')')?;
            Some((pid.parse().ok()?, fd.parse().ok()?))
        })
        .collect();
    holders.sort_unstable();
    holders
}
