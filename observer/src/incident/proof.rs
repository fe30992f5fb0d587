//! What stands behind a finding: where the processes run, and what happened to the socket before.
//!
//! The core knows neither control groups nor does it keep stories in its findings. Whoever reports
//! a finding adds them ([`Finding::prove`]); an incident in the book has an empty proof.

use std::{fmt, sync::Arc, time::Duration};

use super::{Finding, FindingEvent, message};
use crate::{
    cgroup::Place,
    escape,
    model::MonoTime,
    stacks::Named,
    table::{Hand, Step, What},
};

/// Characters of a process's name in a story; the kernel's have at most 15.
const LONGEST_NAME: usize = 64;

/// What a finding rests on, beside its facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Where its process runs.
    pub place: Place,
    /// Where its holders run, in their order; shorter where not all of them were looked at.
    pub places: Vec<Place>,
    /// What happened to its socket, the oldest first, as far as it was asked for.
    pub history: Option<Arc<[Step]>>,
    /// Where in its program its socket was opened, where that is known: safe for a terminal.
    pub site: Option<Arc<str>>,
    /// The call stack of that, or why there is none, as far as it was asked for.
    pub stack: Option<Arc<Named>>,
}

impl Proof {
    /// The history for people, a line each, with how long before `now` it was.
    pub fn story(&self, now: MonoTime) -> Vec<String> {
        let texts = self.history.iter().flat_map(|steps| steps.iter());
        let millis = |step: &Step| u64::try_from(now.since(step.time).as_millis());
        told(texts.map(|step| (millis(step).unwrap_or(u64::MAX), step.text())))
    }
}

impl Finding {
    /// Adds what stands behind it, and says in the message where its process runs and for how long
    /// it has (`running_for`, where that is known), and where its socket was opened. Of what is over the message says no more.
    pub fn prove(&mut self, proof: Proof, running_for: Option<Duration>) {
        if self.event != FindingEvent::Cleared {
            self.message.push_str(&message::runs(self, &proof.place, running_for));
            if let Some(site) = &proof.site {
                self.message.push_str(&format!("; opened at {site}"));
            }
        }
        *self.proof = proof;
    }
}

impl Step {
    /// A stable name of what happened.
    pub fn code(&self) -> &'static str {
        match self.what {
            What::Transition { .. } => "transition",
            What::Accepted(_) => "accept",
            What::Closed { .. } => "close",
            What::Exited(_) => "exit",
            What::Dropped(_) => "dropped",
            What::Held(_) => "held",
            What::Seen(_) => "seen",
            What::Named => "named",
            What::Lost => "lost",
        }
    }

    /// What happened, for people.
    pub fn text(&self) -> String {
        let who = |hand: Hand| {
            let comm = escape::short(self.comm.as_str(), LONGEST_NAME);
            let comm = if comm.is_empty() { "a process".into() } else { comm };
            format!("{comm} (pid {})", hand.pid)
        };
        match self.what {
            What::Transition { old, new } => format!("{old} → {new}"),
            What::Accepted(hand) => format!("accept() = {} by {}", hand.fd, who(hand)),
            What::Closed { hand, is_last } => {
                let last = if is_last { "the last" } else { "not the last" };
                format!("close({}) by {}, {last}", hand.fd, who(hand))
            }
            What::Exited(hand) => format!("exit of {} with fd {}", who(hand), hand.fd),
            What::Dropped(hand) => {
                format!("fd {} of {} was found to be gone", hand.fd, who(hand))
            }
            What::Held(hand) => format!("a snapshot found fd {} of {}", hand.fd, who(hand)),
            What::Seen(state) => format!("a snapshot found it in {state}"),
            What::Named => "its MQTT CONNECT went by".to_owned(),
            What::Lost => "records were lost".to_owned(),
        }
    }
}

/// Lines of a story, each with how long before the report it happened: milliseconds and text.
pub(crate) fn told(steps: impl Iterator<Item = (u64, impl fmt::Display)>) -> Vec<String> {
    let steps: Vec<_> = steps.map(|(ago, text)| (ago_text(ago), text)).collect();
    let width = steps.iter().map(|(ago, _)| ago.len()).max().unwrap_or(0);
    steps.into_iter().map(|(ago, text)| format!("{ago:>width$}  {text}")).collect()
}

/// Tenths of a second within the last minutes, for there the order matters; whole seconds before.
fn ago_text(millis: u64) -> String {
    match millis {
        0..600_000 => format!("-{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("-{}", message::short(Duration::from_millis(millis))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        detect::Kind,
        incident::{Evidence, Subject},
        model::{Comm, ProcessKey, TcpState},
    };

    fn step(what: What, comm: &str) -> Step {
        Step { time: MonoTime::from_nanos(0), what, comm: Comm::from_bytes(comm.as_bytes()) }
    }

    #[test]
    fn every_step_has_a_code_and_a_text() {
        let hand = Hand { pid: 4711, fd: 7 };
        let (old, new) = (TcpState::SynSent, TcpState::Established);
        let cases = [
            (What::Transition { old, new }, "transition", "SYN_SENT → ESTABLISHED"),
            (What::Accepted(hand), "accept", "accept() = 7 by node (pid 4711)"),
            (
                What::Closed { hand, is_last: true },
                "close",
                "close(7) by node (pid 4711), the last",
            ),
            (
                What::Closed { hand, is_last: false },
                "close",
                "close(7) by node (pid 4711), not the last",
            ),
            (What::Exited(hand), "exit", "exit of node (pid 4711) with fd 7"),
            (What::Dropped(hand), "dropped", "fd 7 of node (pid 4711) was found to be gone"),
            (What::Held(hand), "held", "a snapshot found fd 7 of node (pid 4711)"),
            (What::Seen(new), "seen", "a snapshot found it in ESTABLISHED"),
            (What::Named, "named", "its MQTT CONNECT went by"),
            (What::Lost, "lost", "records were lost"),
        ];
        for (what, code, text) in cases {
            let step = step(what, "node");
            assert_eq!((step.code(), &*step.text()), (code, text));
        }
        assert_eq!(step(What::Accepted(hand), "").text(), "accept() = 7 by a process (pid 4711)");
        let hostile = step(What::Held(hand), "a\u{202e}b").text();
        assert_eq!(hostile, "a snapshot found fd 7 of a\\u{202e}b (pid 4711)");
    }

    #[test]
    fn a_story_is_aligned() {
        let steps = [(7_500_000, "a"), (600_000, "b"), (12_449, "c"), (0, "d")];
        let lines = told(steps.into_iter());
        assert_eq!(lines, ["-2 h 5 min  a", "   -10 min  b", "   -12.4 s  c", "    -0.0 s  d"]);
    }

    fn finding(event: FindingEvent, comm: &str) -> Finding {
        let process = ProcessKey { pid: 4711, start_ns: 1 };
        Finding {
            event,
            id: 1,
            kind: Kind::FdPressure,
            time: MonoTime::from_nanos(15_000_000_000),
            process,
            comm: Comm::from_bytes(comm.as_bytes()),
            subject: Subject::Process(process),
            socket: None,
            holders: Vec::new(),
            since: MonoTime::from_nanos(0),
            budget: Duration::from_secs(10),
            evidence: Evidence::Complete,
            device: None,
            detail: None,
            proof: Box::default(),
            message: "it is so".to_owned(),
            clear_reason: None,
        }
    }

    #[test]
    fn the_message_says_where_the_process_runs() {
        let id = "3f4c1b0e9d8a7f6e5d4c3b2a190817263544536271809f8e7d6c5b4a39281706";
        let scope = format!("docker-{id}.scope");
        let hour = Some(Duration::from_secs(3_900));
        let cases = [
            (None, None, None, ""),
            (None, None, hour, "; node has run for 1 h 5 min"),
            (Some("a.service"), None, None, "; node runs in a.service"),
            (Some("a.service"), None, hour, "; node has run in a.service for 1 h 5 min"),
            (None, Some(id), None, "; node runs in container 3f4c1b0e9d8a"),
            (Some(&*scope), Some(id), None, "; node runs in container 3f4c1b0e9d8a"),
            (
                Some("a.service"),
                Some(id),
                hour,
                "; node has run in container 3f4c1b0e9d8a of a.service for 1 h 5 min",
            ),
            (None, Some("gateway-number-1"), None, "; node runs in container gateway-number-1"),
            (Some("a\n.service"), None, None, "; node runs in a\\u{a}.service"),
            (None, Some("a\u{202e}"), None, "; node runs in container a\\u{202e}"),
        ];
        for (unit, container, running_for, expected) in cases {
            let place = Place { unit: unit.map(Into::into), container: container.map(Into::into) };
            let proof = Proof { place, ..Proof::default() };
            for event in [FindingEvent::Opened, FindingEvent::Updated] {
                let mut finding = finding(event, "node");
                finding.prove(proof.clone(), running_for);
                assert_eq!(finding.message, format!("it is so{expected}"));
                assert_eq!(*finding.proof, proof);
            }
            let mut cleared = finding(FindingEvent::Cleared, "node");
            cleared.prove(proof.clone(), running_for);
            assert_eq!(cleared.message, "it is so");
            assert_eq!(*cleared.proof, proof);
        }
        let mut opened = finding(FindingEvent::Opened, "node");
        let site = Some("lease (pool.c:12)".into());
        opened.prove(Proof { site, ..Proof::default() }, hour);
        let expected = "it is so; node has run for 1 h 5 min; opened at lease (pool.c:12)";
        assert_eq!(opened.message, expected);
        let mut nameless = finding(FindingEvent::Opened, "");
        nameless.prove(Proof::default(), hour);
        assert_eq!(nameless.message, "it is so; it has run for 1 h 5 min");
    }
}
