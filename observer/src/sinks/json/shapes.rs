//! PURE. Findings and sockets as JSON: the same in the lines of `--json` and in the HTTP API.
//!
//! The format is a promise: `docs/json.md`. Clients read it back into the same types.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    cgroup::Place,
    clock::WallClock,
    incident,
    model::{self, Comm, Ends, MonoTime, TcpState},
    stacks::Frame,
    table::{self, Evidence, What},
};

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// `opened`, `updated` or `cleared`.
    pub event: String,
    /// Number of the incident.
    pub id: u64,
    /// A code of `docs/findings.md`.
    pub kind: String,
    /// The process that has to act.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// When it started, RFC 3339; null where that is not known.
    #[serde(default)]
    pub started: Option<String>,
    /// The systemd unit that it runs in; null where that is not known.
    #[serde(default)]
    pub unit: Option<String>,
    /// The container that it runs in; null where that is not known, or there is none.
    #[serde(default)]
    pub container: Option<String>,
    /// The socket; null for a finding about a process or a destination.
    pub cookie: Option<u64>,
    /// Its TCP state.
    pub state: Option<String>,
    /// This end, `ip:port`.
    pub local: Option<String>,
    /// The other end, `ip:port`; also of a finding about a destination.
    pub remote: Option<String>,
    /// Every descriptor that refers to the socket.
    pub holders: Vec<Holder>,
    /// When the cause began, RFC 3339.
    pub since: String,
    /// How long it has lasted, milliseconds.
    pub age_ms: u64,
    /// How long it may last, milliseconds.
    pub budget_ms: u64,
    /// `complete` or `reconstructed`.
    pub evidence: String,
    /// Whether the socket is older than the watch.
    pub born_before_observer: bool,
    /// A sentence for people.
    pub message: String,
    /// `critical`, `error` or `warning`.
    pub severity: String,
    /// The device: by the registry, for a finding about the pool's or another process's; else the
    /// MQTT client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Which of the device's sessions, in the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// For how long two sockets of the device were alive, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_us: Option<u64>,
    /// What else this kind says, an object that `docs/json.md` describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub detail: Option<serde_json::Value>,
    /// What happened to the socket, at most 32 entries, the oldest first; only where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Step>>,
    /// Where in its program the socket was opened: function, and file and line where known; null
    /// where that is not known.
    #[serde(default)]
    pub site: Option<String>,
    /// The functions that opened the socket, the innermost first; only where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Vec<Frame>>,
    /// What of the stack cannot be known, and what would help; only where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack_note: Option<String>,
}

/// One thing that happened to a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// When, RFC 3339.
    pub time: String,
    /// How long before this report, milliseconds.
    pub ago_ms: u64,
    /// `transition`, `accept`, `close`, `exit`, `dropped`, `held`, `seen`, `named` or `lost`.
    pub what: String,
    /// State before a transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// State after a transition, or the one that a snapshot found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// The process that did it, or to which the descriptor belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// The descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<i32>,
    /// Whether a close was of the last reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<bool>,
    /// The same for people.
    pub text: String,
}

/// A TCP socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Socket {
    /// The kernel's number for it.
    pub cookie: u64,
    /// Its TCP state.
    pub state: String,
    /// This end, `ip:port`.
    pub local: String,
    /// The other end, `ip:port`.
    pub remote: String,
    /// Network namespace.
    pub netns: u32,
    /// Its owner, or the first who holds it.
    pub pid: Option<u32>,
    /// The name of that process.
    pub comm: Option<String>,
    /// Every descriptor that refers to it.
    pub holders: Vec<Holder>,
    /// When it entered its state, RFC 3339.
    pub since: String,
    /// Whether it is older than the watch.
    pub born_before_observer: bool,
    /// `complete` or `reconstructed`.
    pub evidence: String,
    /// The MQTT client id with which it connected, as far as it was seen; untrusted text.
    #[serde(default)]
    pub client_id: Option<String>,
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The descriptor.
    pub fd: i32,
    /// Whether an exec of the process closes it (`FD_CLOEXEC`); null where that is not known.
    #[serde(default)]
    pub close_on_exec: Option<bool>,
    /// When the process started, RFC 3339; null where that is not known.
    #[serde(default)]
    pub started: Option<String>,
    /// Its systemd unit; null where that is not known. Only in findings.
    #[serde(default)]
    pub unit: Option<String>,
    /// Its container; null where that is not known, or there is none. Only in findings.
    #[serde(default)]
    pub container: Option<String>,
}

impl Finding {
    /// `finding` with its age at `as_of`, and with the history that it has.
    pub fn new(finding: &incident::Finding, as_of: MonoTime, clock: WallClock) -> Self {
        let device = finding.device.as_ref();
        let socket = finding.socket.as_ref();
        let proof = &finding.proof;
        let holders = finding.holders.iter().enumerate();
        let steps = |steps: &[table::Step]| {
            steps.iter().map(|step| Step::new(step, as_of, clock)).collect()
        };
        Self {
            event: finding.event.code().to_owned(),
            id: finding.id,
            kind: finding.kind.code().to_owned(),
            pid: finding.process.pid,
            comm: name(&finding.comm),
            started: clock.start(finding.process).map(rfc3339),
            unit: proof.place.unit.as_deref().map(str::to_owned),
            container: proof.place.container.as_deref().map(str::to_owned),
            cookie: finding.cookie().map(|cookie| cookie.0),
            state: socket.map(|socket| socket.state.name().to_owned()),
            local: socket.map(|socket| socket.ends.local.to_string()),
            remote: finding.remote().map(|remote| remote.to_string()),
            holders: holders
                .map(|(at, holder)| Holder::new(holder, proof.places.get(at), clock))
                .collect(),
            since: rfc3339(clock.wall(finding.since)),
            age_ms: millis(as_of.since(finding.since)),
            budget_ms: millis(finding.budget),
            evidence: finding.evidence.code().to_owned(),
            born_before_observer: socket.is_some_and(|socket| socket.born_before_observer),
            message: finding.message.clone(),
            severity: finding.kind.severity().name().to_owned(),
            device: finding.device_name().map(str::to_owned),
            generation: device.and_then(|facts| facts.generation),
            overlap_us: device.and_then(|facts| facts.overlap).map(micros),
            detail: finding.detail.as_ref().and_then(|detail| serde_json::to_value(detail).ok()),
            history: proof.history.as_deref().map(steps),
            site: proof.site.as_deref().map(str::to_owned),
            stack: proof.stack.as_ref().map(|named| named.frames.clone()),
            stack_note: proof.stack.as_ref().and_then(|named| named.note.clone()),
        }
    }

    /// Without what was not asked for: history and stack.
    pub fn unexplain(&mut self) {
        (self.history, self.stack, self.stack_note) = (None, None, None);
    }
}

impl Step {
    fn new(step: &table::Step, as_of: MonoTime, clock: WallClock) -> Self {
        let hand = step.what.hand();
        let (old, new) = match step.what {
            What::Transition { old, new } => (Some(old), Some(new)),
            What::Seen(state) => (None, Some(state)),
            _ => (None, None),
        };
        let state = |state: TcpState| state.name().to_owned();
        Self {
            time: rfc3339(clock.wall(step.time)),
            ago_ms: millis(as_of.since(step.time)),
            what: step.code().to_owned(),
            old: old.map(state),
            new: new.map(state),
            pid: hand.map(|hand| hand.pid),
            comm: Some(name(&step.comm)).filter(|comm| !comm.is_empty()),
            fd: hand.map(|hand| hand.fd),
            last: match step.what {
                What::Closed { is_last, .. } => Some(is_last),
                _ => None,
            },
            text: step.text(),
        }
    }
}

impl Holder {
    fn new(holder: &model::Holder, place: Option<&Place>, clock: WallClock) -> Self {
        let owned = |name: &Option<Arc<str>>| name.as_deref().map(str::to_owned);
        Self {
            pid: holder.process.pid,
            comm: name(&holder.comm),
            fd: holder.fd,
            close_on_exec: holder.close_on_exec,
            started: clock.start(holder.process).map(rfc3339),
            unit: place.and_then(|place| owned(&place.unit)),
            container: place.and_then(|place| owned(&place.container)),
        }
    }
}

impl Socket {
    /// `socket`, held by `held_by`.
    pub fn new(
        socket: &table::Socket,
        held_by: &[model::Holder],
        evidence: Evidence,
        clock: WallClock,
    ) -> Self {
        let (local, remote) = ends(&socket.ends);
        let owner = socket.owner.as_ref().map(|owner| (owner.process.pid, name(&owner.comm)));
        // As in the stream: where nobody was seen to connect or accept it, the first who has it.
        let first = || held_by.first().map(|holder| (holder.process.pid, name(&holder.comm)));
        let (pid, comm) = owner.or_else(first).unzip();
        Self {
            cookie: socket.cookie.0,
            state: socket.state.name().to_owned(),
            local,
            remote,
            netns: socket.netns,
            pid,
            comm,
            holders: held_by.iter().map(|holder| Holder::new(holder, None, clock)).collect(),
            since: rfc3339(clock.wall(socket.state_since)),
            born_before_observer: socket.born_before_observer,
            evidence: evidence.code().to_owned(),
            client_id: socket.client.as_ref().map(|client| client.client_id.to_string()),
        }
    }
}

pub(super) fn ends(ends: &Ends) -> (String, String) {
    (ends.local.to_string(), ends.remote.to_string())
}

pub(super) fn rfc3339(time: Timestamp) -> String {
    // Always six digits, so that lines sort as text.
    format!("{time:.6}")
}

fn name(comm: &Comm) -> String {
    comm.as_str().to_owned()
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, to_value};

    use super::*;
    use crate::{
        detect::Kind,
        incident::{FindingEvent, Proof},
        model::ProcessKey,
        sinks::journal::finding_with_all_facts as finding,
        table::{Hand, Step as Told},
    };

    fn clock() -> WallClock {
        WallClock::at(MonoTime::from_nanos(0), Timestamp::UNIX_EPOCH)
    }

    fn told(second: u64, what: What, comm: &str) -> Told {
        let time = MonoTime::from_nanos(second * 1_000_000_000);
        Told { time, what, comm: Comm::from_bytes(comm.as_bytes()) }
    }

    #[test]
    fn every_step_of_a_history_is_an_object() {
        let hand = Hand { pid: 4711, fd: 7 };
        let (old, new) = (TcpState::SynSent, TcpState::Established);
        let mut finding = finding(Kind::CloseWait, FindingEvent::Opened, 1);
        let steps = [
            told(60, What::Transition { old, new }, ""),
            told(61, What::Closed { hand, is_last: false }, "node"),
            told(62, What::Accepted(hand), ""),
            told(63, What::Seen(new), ""),
            told(64, What::Lost, ""),
        ];
        finding.proof.history = Some(steps.into());
        let shape = Finding::new(&finding, MonoTime::from_nanos(75_000_000_000), clock());
        let value = to_value(&shape).expect("it is JSON");
        assert_eq!(
            value["history"],
            json!([
                {"time": "1970-01-01T00:01:00.000000Z", "ago_ms": 15000, "what": "transition",
                 "old": "SYN_SENT", "new": "ESTABLISHED", "text": "SYN_SENT → ESTABLISHED"},
                {"time": "1970-01-01T00:01:01.000000Z", "ago_ms": 14000, "what": "close",
                 "pid": 4711, "comm": "node", "fd": 7, "last": false,
                 "text": "close(7) by node (pid 4711), not the last"},
                {"time": "1970-01-01T00:01:02.000000Z", "ago_ms": 13000, "what": "accept",
                 "pid": 4711, "fd": 7, "text": "accept() = 7 by a process (pid 4711)"},
                {"time": "1970-01-01T00:01:03.000000Z", "ago_ms": 12000, "what": "seen",
                 "new": "ESTABLISHED", "text": "a snapshot found it in ESTABLISHED"},
                {"time": "1970-01-01T00:01:04.000000Z", "ago_ms": 11000, "what": "lost",
                 "text": "records were lost"},
            ])
        );
        let back: Finding = serde_json::from_value(value).expect("our own words");
        assert_eq!(back, shape);
    }

    #[test]
    fn processes_have_a_start_and_a_place_or_null() {
        let mut finding = finding(Kind::CloseWait, FindingEvent::Opened, 1);
        finding.process.start_ns = 3_000_000_000;
        finding.holders[1].process.start_ns = 2_000_000_000;
        let shape =
            to_value(Finding::new(&finding, MonoTime::from_nanos(0), clock())).expect("it is JSON");
        assert_eq!(shape["started"], "1970-01-01T00:00:03.000000Z");
        assert_eq!(shape["unit"], "n\node.service");
        assert_eq!(shape["container"], "abc");
        let holder = |at: usize, name: &str| shape["holders"][at][name].clone();
        assert_eq!(
            (holder(0, "unit"), holder(0, "container")),
            ("n\node.service".into(), Value::Null)
        );
        assert_eq!((holder(1, "unit"), holder(1, "container")), (Value::Null, "a\nb".into()));
        assert_eq!(holder(1, "started"), "1970-01-01T00:00:02.000000Z");

        *finding.proof = Proof::default();
        finding.process = ProcessKey { start_ns: 0, ..finding.process };
        finding.holders[0].process.start_ns = 0;
        let shape =
            to_value(Finding::new(&finding, MonoTime::from_nanos(0), clock())).expect("it is JSON");
        for name in ["started", "unit", "container"] {
            assert_eq!(shape.get(name), Some(&Value::Null));
            assert_eq!(shape["holders"][0].get(name), Some(&Value::Null));
        }
        assert_eq!(shape.get("history"), None);
    }
}
