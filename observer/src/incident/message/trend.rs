//! The sentences about processes and where they connect to.

use super::{LONGEST_NAME, name, peer, short};
use crate::{
    escape,
    incident::{ClearReason, Detail, Finding, Growing, Named},
    model::Lack,
};

/// Client ids that are named before the rest is only counted.
const NAMED: usize = 3;

/// What a process does that it should not.
pub(in super::super) fn trend(finding: &Finding) -> String {
    let who = name(&finding.comm, finding.process);
    let peer = peer(finding);
    let age = short(finding.age());
    match &finding.detail {
        Some(Detail::Buildup { sockets, oldest }) => format!(
            "{who} has {sockets} sockets in CLOSE_WAIT, the oldest for {}, and had too many for \
             {age}",
            short(*oldest)
        ),
        Some(Detail::Exhausted { call, lacks, refused, open, limit }) => {
            let what = match lacks {
                Lack::Descriptors => "has no descriptor left",
                Lack::HostDescriptors => "gets no descriptor, for the host has none left",
                Lack::Ports => "finds no free local port",
            };
            let times = if *refused == 1 { "once".to_owned() } else { format!("{refused} times") };
            let (call, error) = (call.name(), lacks.error());
            format!(
                "{who} {what}: refused {times}, last in {call}(2) with {error}{}",
                had(*lacks, *open, *limit)
            )
        }
        Some(Detail::Limit { limit, connections, hard_limit }) => {
            let hard = if hard_limit > limit {
                format!(" (it could raise that to {})", amount(*hard_limit))
            } else {
                String::new()
            };
            format!(
                "{who} has {connections} TCP sockets, and may have only {limit} descriptors{hard}: a \
                 reconnect storm, which doubles the sockets for a moment, can exhaust them"
            )
        }
        Some(Detail::Pressure { open, limit, exhausted_in, growing, .. }) => {
            let percent = open.saturating_mul(100) / (*limit).max(1);
            let until = match exhausted_in {
                Some(left) => format!(", and at this pace none is left in {}", short(*left)),
                None => String::new(),
            };
            format!(
                "{who} uses {open} of {limit} descriptors ({percent} %){until}{}",
                grows(growing)
            )
        }
        Some(Detail::Overgrowth { sockets, expected, declared, closed, twins, .. }) => {
            let than = if *declared { "the fleet has" } else { "it had before it began to climb" };
            let like = match twins.first() {
                Some((older, newer)) => format!(
                    ", as {} beside {}",
                    escape::short(newer, LONGEST_NAME),
                    escape::short(older, LONGEST_NAME)
                ),
                None => String::new(),
            };
            format!(
                "{who} has {sockets} live connections to {peer}, {} more than {than}, and has \
                 closed {closed} in that time{like}",
                sockets.saturating_sub(*expected)
            )
        }
        Some(Detail::Ports { source, in_use, time_wait, of_process, half, range }) => {
            let waiting = match time_wait {
                0 => String::new(),
                _ => format!(", {time_wait} of them in TIME_WAIT"),
            };
            let whose = match of_process {
                0 => format!("{who} had most of the sockets"),
                _ => format!("{who} has most of the sockets, {of_process}"),
            };
            format!(
                "{in_use} of the {range} local ports from {source} to {peer} are in use{waiting}: \
                 connect(2) tries {half} of them first and is slow beyond; {whose}"
            )
        }
        Some(Detail::Storm { connections, window, destination }) => {
            let to = destination.map(|it| format!(", most of them to {it}")).unwrap_or_default();
            format!("{who} has opened {connections} connections in {}{to}", short(*window))
        }
        Some(Detail::Generations { generations, stale, live }) => format!(
            "{who} keeps opening connections to {peer} and forgets the old ones: {stale} of {live}, \
             from {generations} generations, are silent or half-closed"
        ),
        Some(Detail::Duel { takeovers, window, median_life, client_ids, client_id_count }) => {
            let whose = duellists(client_ids, *client_id_count);
            format!(
                "{who} fights for sessions at {peer}: {takeovers} were taken over in {}, the \
                 connections live for {}{whose}",
                short(*window),
                short(*median_life)
            )
        }
        _ => format!("{who}: {} for {age}", finding.kind),
    }
}

/// That it is over.
pub(in super::super) fn subsided(finding: &Finding, reason: ClearReason) -> String {
    let who = name(&finding.comm, finding.process);
    let age = short(finding.age());
    let what = match finding.remote() {
        Some(remote) => format!("{} of {who} to {remote}", finding.kind),
        None => format!("{} of {who}", finding.kind),
    };
    match reason {
        ClearReason::Exited => format!("cleared: {what}: the process exited, after {age}"),
        _ => format!("cleared: {what} is over, after {age}"),
    }
}

/// What it had, where that says something about the refusal.
fn had(lacks: Lack, open: Option<u64>, limit: Option<u64>) -> String {
    match (lacks, open, limit) {
        (Lack::Descriptors | Lack::HostDescriptors, Some(open), Some(limit)) => {
            format!("; when last seen it had {open} of {}", amount(limit))
        }
        _ => String::new(),
    }
}

/// A limit of descriptors.
fn amount(limit: u64) -> String {
    if limit == u64::MAX { "any number".to_owned() } else { limit.to_string() }
}

/// What grows the fastest.
fn grows(growing: &[Growing]) -> String {
    let Some(Growing { what, per_minute, .. }) = growing.first() else { return String::new() };
    let what = match what.as_str() {
        "tcp" => "TCP sockets that others connected or nobody closed",
        "sockets" => "sockets other than TCP",
        "pipes" => "pipes",
        "files" => "files",
        "others" => "epoll, event and other descriptors",
        destination => {
            return format!(
                "; what grows fastest are the connections to {destination}, by {per_minute} a minute"
            );
        }
    };
    format!("; what grows fastest are {what}, by {per_minute} a minute")
}

fn duellists(named: &[Named], count: u64) -> String {
    if named.is_empty() {
        return String::new();
    }
    let list: Vec<_> = named
        .iter()
        .take(NAMED)
        .map(|named| escape::short(&named.client_id, LONGEST_NAME).into_owned())
        .collect();
    let more = count.saturating_sub(list.len() as u64);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("; client ids {}{more}", list.join(", "))
}
