//! The sentences for people.

mod trend;

use std::{fmt::Write, time::Duration};

pub(super) use self::trend::{subsided, trend};
use crate::{
    cgroup::{CONTAINER_ID, Place},
    detect::Kind,
    escape,
    incident::{ClearReason, Detail, DeviceFacts, Finding},
    model::{Comm, MonoTime, ProcessKey, TcpState},
    table::{ReleaseKind, Socket},
};

/// Characters of a device's name in a sentence; MQTT allows 65,535 bytes.
const LONGEST_NAME: usize = 64;

/// Digits of a container's id in a sentence: as many as `docker ps` shows.
const SHORT_ID: usize = 12;
/// Characters of the reason of a rule in a sentence.
const LONGEST_REASON: usize = 200;

/// Other holders that are named before the rest is only counted.
const NAMED: usize = 3;

/// What is wrong, who does it, and who else is in it.
pub(super) fn found(finding: &Finding, socket: &Socket) -> String {
    let who = name(&finding.comm, finding.process);
    let fd = fd(finding);
    let peer = peer(finding);
    let at_least = if socket.state_entered { "" } else { "at least " };
    let in_state = short(finding.time.since(socket.state_since));
    let age = short(finding.age());
    let mut message = match finding.kind {
        Kind::CloseWait => {
            let mut message = format!(
                "{who} holds {fd} to {peer}: the peer closed {at_least}{in_state} ago, the process \
                 has not"
            );
            if moved_since(finding.since, socket.state_since) {
                let _ = write!(message, ", and nothing has moved for {age}");
            }
            message
        }
        Kind::DeadFd => format!(
            "{who} still holds {fd} to {peer}, though the connection has been over for \
             {at_least}{in_state}"
        ),
        Kind::Inherited => format!("{who} still holds {fd} to {peer}, {}", left(finding, socket)),
        Kind::StuckConnect => format!(
            "{who} has been connecting {fd} to {peer} for {at_least}{in_state} without an answer"
        ),
        Kind::Undrained => format!(
            "{who} has not read {fd} from {peer} for {age}: {} waiting",
            match socket.unread() {
                1 => "1 byte is".to_owned(),
                bytes => format!("{bytes} bytes are"),
            }
        ),
        Kind::DuplicateClientId => duplicate(finding),
        Kind::SilentPeer => {
            let seconds = match finding.detail {
                Some(Detail::Silent { keep_alive, .. }) => keep_alive,
                _ => 0,
            };
            // It is wrong only since one and a half times the keep-alive had passed.
            let silence = finding.age() + Duration::from_secs(seconds.into()) * 3 / 2;
            format!(
                "{who} holds {fd} to {peer}{}: nothing has moved for {}, and its keep-alive is \
                 {seconds} s",
                client(finding.device_name()),
                short(silence)
            )
        }
        _ => return registry(finding),
    };
    others(&mut message, finding);
    if finding.kind == Kind::Inherited
        && let Some(holder) = finding.holders.first()
        && let Some(is_set) = holder.close_on_exec
    {
        let not = if is_set { "" } else { "not " };
        let _ = write!(message, "; fd {} is {not}close-on-exec", holder.fd);
    }
    message
}

/// That it is over, and why.
pub(super) fn cleared(finding: &Finding, reason: ClearReason) -> String {
    let who = name(&finding.comm, finding.process);
    let fd = fd(finding);
    let peer = peer(finding);
    let age = short(finding.age());
    let state = finding.socket.map_or(TcpState::Close, |socket| socket.state);
    match reason {
        ClearReason::Closed => format!("cleared: {who} closed {fd} to {peer} after {age}"),
        ClearReason::Destroyed => {
            format!("cleared: {who} let go of {fd} to {peer} after {age}")
        }
        ClearReason::Exited => {
            format!("cleared: {who}, which held {fd} to {peer}, exited after {age}")
        }
        ClearReason::Forgotten => format!(
            "cleared: the table is full, so {fd} of {who} to {peer} is not followed any more"
        ),
        ClearReason::HandedOver => {
            format!("cleared: {who} uses {fd} to {peer} now, after {age}")
        }
        ClearReason::Claimed => {
            format!("cleared: {fd} of {who} to {peer} is a device's now, after {age}")
        }
        ClearReason::Ignored => ignored(finding, ""),
        ClearReason::Parted => {
            format!("cleared: one socket is left of the two to {peer}, after {age}")
        }
        ClearReason::Subsided => subsided(finding, reason),
        ClearReason::Retracted => {
            format!(
                "cleared: the registry does not claim the socket to {peer} any more, after {age}"
            )
        }
        ClearReason::Read => format!("cleared: {who} read from {fd} to {peer} again after {age}"),
        ClearReason::Sent => format!("cleared: {who} sent on {fd} to {peer} again after {age}"),
        ClearReason::StateLeft => {
            format!(
                "cleared: the connection of {who} {fd} to {peer} went on to {state} after {age}"
            )
        }
        ClearReason::Vanished => {
            format!("cleared: {who} does not hold {fd} to {peer} any more after {age}")
        }
    }
}

/// Where its process runs and for how long, as the end of a sentence; nothing if neither is known.
pub(super) fn runs(finding: &Finding, place: &Place, running_for: Option<Duration>) -> String {
    let container = place.container.as_deref();
    let id = container.map(|id| match id.get(..SHORT_ID) {
        Some(short) if id.len() == CONTAINER_ID => escape::visible(short),
        // The name of a container has no short form.
        _ => escape::short(id, LONGEST_NAME),
    });
    // Where the unit of a container is named by its id, that has been said.
    let unit = place.unit.as_deref();
    let unit = unit.filter(|unit| container.is_none_or(|id| !unit.contains(id)));
    let unit = unit.map(|unit| escape::short(unit, LONGEST_NAME));
    let within = match (id, unit) {
        (Some(id), Some(unit)) => format!(" in container {id} of {unit}"),
        (Some(id), None) => format!(" in container {id}"),
        (None, Some(unit)) => format!(" in {unit}"),
        (None, None) => String::new(),
    };
    let comm = match finding.comm.as_str() {
        "" => "it",
        comm => comm,
    };
    match running_for {
        Some(time) => format!("; {comm} has run{within} for {}", short(time)),
        None if within.is_empty() => String::new(),
        None => format!("; {comm} runs{within}"),
    }
}

/// That a rule ignores it from now on, for `why`.
pub(super) fn ignored(finding: &Finding, why: &str) -> String {
    let who = name(&finding.comm, finding.process);
    let (kind, age) = (finding.kind, short(finding.age()));
    let to = finding.remote().map(|remote| format!(" to {remote}")).unwrap_or_default();
    let fd = finding.holders.first().map(|it| format!(" fd {}", it.fd)).unwrap_or_default();
    let why = match why {
        "" => String::new(),
        _ => format!(": {}", escape::short(why, LONGEST_REASON)),
    };
    format!("cleared: {kind} of {who}{fd}{to} lasts for {age}, and a rule ignores it{why}")
}

/// Where the registry and the kernel differ.
pub(super) fn registry(finding: &Finding) -> String {
    let who = name(&finding.comm, finding.process);
    let fd = fd(finding);
    let peer = peer(finding);
    let age = short(finding.age());
    let device = device(finding.device.as_ref());
    let state = finding.socket.map_or(TcpState::Close, |socket| socket.state);
    let mut message = match finding.kind {
        Kind::Ghost | Kind::Overlap if is_foreign(finding) => foreign(finding, state),
        Kind::Ghost if state == TcpState::Close => format!(
            "{device} is online in the registry, but its socket to {peer} has been gone for {age}"
        ),
        Kind::Ghost => format!(
            "{device} is online in the registry, but its socket to {peer} has been in {} for {age}",
            state
        ),
        Kind::Overlap => {
            let length = finding.device.as_ref().and_then(|facts| facts.overlap);
            let length = length.unwrap_or_default().as_micros();
            format!("{device} connected to {peer} {length} us before its older socket had ended")
        }
        Kind::Unreleased => {
            format!(
                "{who} still holds {fd} to {peer}, which the pool closed for {device} {age} ago"
            )
        }
        _ => format!(
            "{who} has held {fd} to {peer}, a broker of its devices, without a claim for {age}{}",
            if is_foreign(finding) { format!("; it was that of {device}") } else { String::new() }
        ),
    };
    others(&mut message, finding);
    message
}

/// Whether a device of another process's registry is in it: sessions have no numbers there.
fn is_foreign(finding: &Finding) -> bool {
    finding.device.as_ref().is_some_and(|facts| facts.generation.is_none())
}

/// Where the registry of another process and the kernel differ.
fn foreign(finding: &Finding, state: TcpState) -> String {
    let who = name(&finding.comm, finding.process);
    let (fd, peer, age) = (fd(finding), peer(finding), short(finding.age()));
    let device = device(finding.device.as_ref());
    match finding.kind {
        Kind::Overlap => format!(
            "{device} of {who} has had two live sockets to {peer} for {age}, {fd} is the newer one"
        ),
        _ if state == TcpState::Close && finding.holders.is_empty() => format!(
            "{device} is online in the registry of {who}, but its socket to {peer} has been gone \
             for {age}"
        ),
        _ => format!(
            "{device} is online in the registry of {who}, but its socket to {peer}{} has been in \
             {state} for {age}",
            if finding.holders.is_empty() { String::new() } else { format!(", {fd},") }
        ),
    }
}

/// That the registry and the kernel agree again.
pub(super) fn registry_cleared(
    finding: &Finding,
    facts: &DeviceFacts,
    reason: ClearReason,
) -> String {
    let device = device(Some(facts));
    let age = short(finding.age());
    let what = match (finding.kind, reason) {
        (Kind::Ghost, ClearReason::Retracted) => "the registry does not say online any more",
        (Kind::Overlap, _) => "one socket is left",
        (Kind::Unreleased, _) => "nobody holds the old socket any more",
        _ => "the registry and the kernel agree again",
    };
    format!("cleared: {device}: {what}, after {age}")
}

/// Two live connections with one client id.
fn duplicate(finding: &Finding) -> String {
    let who = name(&finding.comm, finding.process);
    let (fd, peer, age) = (fd(finding), peer(finding), short(finding.age()));
    let newer = match &finding.detail {
        Some(Detail::Duplicate { newer_pid: Some(pid), newer_fd: Some(fd), .. }) => {
            match *pid == finding.process.pid {
                true => format!("its fd {fd}"),
                false => format!("fd {fd} of process {pid}"),
            }
        }
        _ => "another socket".to_owned(),
    };
    format!(
        "{who} still holds {fd} to {peer}{}, though {newer} connected with the same client id \
         {age} ago",
        client(finding.device_name())
    )
}

/// A client id for a sentence: it is whatever somebody sent.
fn client(id: Option<&str>) -> String {
    match id {
        Some(id) => format!(" as {}", escape::short(id, LONGEST_NAME)),
        None => String::new(),
    }
}

/// The other end.
fn peer(finding: &Finding) -> String {
    finding.remote().map_or_else(|| "an unknown address".to_owned(), |remote| remote.to_string())
}

/// A device for a sentence: its name is whatever somebody sent.
fn device(facts: Option<&DeviceFacts>) -> String {
    match facts {
        Some(facts) => {
            let name = escape::short(&facts.device, LONGEST_NAME);
            match facts.generation {
                Some(generation) => format!("device {name} (generation {generation})"),
                None => format!("device {name}"),
            }
        }
        None => "no device".to_owned(),
    }
}

/// How the owner gave the socket up.
fn left(finding: &Finding, socket: &Socket) -> String {
    let age = short(finding.age());
    let owner = socket
        .owner
        .as_ref()
        .map_or_else(|| "its owner".to_owned(), |owner| name(&owner.comm, owner.process));
    match socket.released.map(|release| release.kind) {
        Some(ReleaseKind::Executed) => {
            let former = socket.owner.as_ref().map(|owner| owner.comm.as_str()).unwrap_or_default();
            let former = if former.is_empty() { "another program" } else { former };
            format!("which {former} left open when it executed this program {age} ago")
        }
        Some(ReleaseKind::Exited) => format!("which {owner} left behind when it exited {age} ago"),
        Some(ReleaseKind::Closed) | Some(ReleaseKind::Unseen) | None => {
            format!("which {owner} closed {age} ago")
        }
    }
}

fn others(message: &mut String, finding: &Finding) {
    let others = finding.holders.get(1..).unwrap_or_default();
    for (index, holder) in others.iter().take(NAMED).enumerate() {
        let lead = if index == 0 { "; also held by" } else { "," };
        let _ = if holder.process == finding.process {
            write!(message, "{lead} its fd {}", holder.fd)
        } else {
            write!(message, "{lead} {} fd {}", name(&holder.comm, holder.process), holder.fd)
        };
    }
    if others.len() > NAMED {
        let _ = write!(message, " and {} more", others.len() - NAMED);
    }
}

/// "moved" within a second of the state is no news worth a half sentence.
fn moved_since(since: MonoTime, state_since: MonoTime) -> bool {
    since.since(state_since) >= Duration::from_secs(1)
}

fn fd(finding: &Finding) -> String {
    match finding.holders.first() {
        Some(holder) => format!("fd {}", holder.fd),
        None => "the socket".to_owned(),
    }
}

fn name(comm: &Comm, process: ProcessKey) -> String {
    let comm = if comm.as_str().is_empty() { "a process" } else { comm.as_str() };
    format!("{comm} (pid {})", process.pid)
}

/// A duration in the two largest units that matter to people, cut off and not rounded: an age must
/// not be overstated.
pub(super) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let cases = [
            (340, "340 ms"),
            (14_900, "14 s"),
            (200_000, "3 min 20 s"),
            (120_000, "2 min"),
            (7_500_000, "2 h 5 min"),
            (187_200_000, "2 d 4 h"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(short(Duration::from_millis(milliseconds)), expected);
        }
    }
}
