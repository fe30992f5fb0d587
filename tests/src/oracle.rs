//! The second opinion: at rest, the observer's table and `ss` agree socket by socket, and they
//! differ by exactly what `ss` cannot see.

use crate::line::Socket;
use crate::netns::Netns;
use crate::ss::{self, Row};
use crate::{Watch, wait};
use std::collections::BTreeMap;
use std::fs;

/// Asserts that table and `ss` agree about what the processes `pids` hold, and returns the sockets
/// that only the table has: those in CLOSE.
#[track_caller]
pub fn assert_agrees(watch: &Watch, pids: &[u32]) -> Vec<Socket> {
    compare(watch, pids, ss::rows)
}

/// The same for processes in another network namespace.
#[track_caller]
pub fn assert_agrees_in(netns: &Netns, watch: &Watch, pids: &[u32]) -> Vec<Socket> {
    compare(watch, pids, || ss::rows_in(netns))
}

#[track_caller]
fn compare(watch: &Watch, pids: &[u32], rows: impl Fn() -> Vec<Row>) -> Vec<Socket> {
    wait::until("the table and ss to agree", || {
        let all = rows();
        let before = held(&all, pids);
        let table = watch.table();
        if held(&rows(), pids) != before {
            return Err("the sockets are not at rest".to_owned());
        }
        unheld(&all, &table, pids)?;
        difference(&before, table, pids)
    })
}

/// What `pids` hold, by cookie.
fn held(rows: &[Row], pids: &[u32]) -> BTreeMap<u64, Row> {
    rows.iter()
        .filter(|row| row.holders.iter().any(|(pid, _)| pids.contains(pid)))
        .map(|row| (row.cookie.expect("ss shows the cookie of a held socket"), row.clone()))
        .collect()
}

/// What `pids` have closed and the kernel has not finished: no number to compare, but the state.
fn unheld(rows: &[Row], table: &[Socket], pids: &[u32]) -> Result<(), String> {
    for socket in table.iter().filter(|socket| socket.holders.is_empty()) {
        if !socket.pid.is_some_and(|pid| pids.contains(&pid)) {
            continue;
        }
        match rows.iter().find(|row| row.cookie == Some(socket.cookie)) {
            Some(row) if row.state == socket.state => {}
            row => return Err(format!("nobody holds {socket:?}, but ss has {row:?}")),
        }
    }
    Ok(())
}

fn difference(
    seen: &BTreeMap<u64, Row>,
    table: Vec<Socket>,
    pids: &[u32],
) -> Result<Vec<Socket>, String> {
    let mut complaints = Vec::new();
    let mut missing = seen.clone();
    let mut unseen = Vec::new();
    for socket in table.into_iter().filter(|socket| pids.iter().any(|pid| socket.is_held_by(*pid)))
    {
        match missing.remove(&socket.cookie) {
            Some(row) => complaints.extend(differs(&row, &socket)),
            None if socket.state == "CLOSE" && is_true(&socket) => unseen.push(socket),
            None => complaints.push(format!("ss does not have {socket:?}")),
        }
    }
    complaints.extend(missing.values().map(|row| format!("the table does not have {row:?}")));
    if complaints.is_empty() { Ok(unseen) } else { Err(complaints.join("\n")) }
}

fn differs(row: &Row, socket: &Socket) -> Option<String> {
    let ours = (&socket.state, &socket.local, &socket.remote, socket.holders());
    let theirs = (&row.state, &row.local, &row.remote, row.holders.clone());
    (ours != theirs).then(|| format!("ss has {row:?}\n  the table {socket:?}"))
}

/// Whether each holder really has a socket under that number.
fn is_true(socket: &Socket) -> bool {
    socket.holders().iter().all(|(pid, fd)| {
        fs::read_link(format!("/proc/{pid}/fd/{fd}"))
            .is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
    })
}
