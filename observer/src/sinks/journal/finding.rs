//! PURE. What the journal is told of a finding.

use std::fmt::Display;

use super::{Entry, catalog};
use crate::{
    cgroup::Place,
    clock::WallClock,
    incident::{Finding, FindingEvent},
    model::Holder,
};

/// Priority of what is over: informational, for nobody needs to act on it (RFC 5424 section
/// 6.2.1).
const OVER: u8 = 6;

/// The entry of `finding`. `clock` turns moments into wall-clock time; `suppressed` says how many
/// updates of the same incident were not written since its last entry.
pub fn entry(finding: &Finding, clock: WallClock, suppressed: u64) -> Entry {
    let (kind, event) = (finding.kind, finding.event);
    let priority = match event {
        FindingEvent::Opened | FindingEvent::Updated => kind.severity() as u8,
        FindingEvent::Cleared => OVER,
    };
    let subject = format!("{kind} {} {}", event.code(), finding.id);
    let mut entry = Entry::new(priority, &subject, &finding.message);
    entry.add_message_id(kind.message_id());
    entry.add("DOCUMENTATION", catalog::documentation(kind));
    entry.add("OBJECT_PID", finding.process.pid);
    entry.add("SOCKWARDEN_EVENT", event.code());
    entry.add("SOCKWARDEN_INCIDENT", finding.id);
    entry.add("SOCKWARDEN_KIND", kind);
    entry.add("SOCKWARDEN_SEVERITY", kind.severity().name());
    entry.add("SOCKWARDEN_COMM", &finding.comm);
    if let Some(started) = clock.start(finding.process) {
        entry.add("SOCKWARDEN_STARTED", started);
    }
    let place = &finding.proof.place;
    if let Some(unit) = &place.unit {
        entry.add("SOCKWARDEN_UNIT", unit);
        // The journal's own name for it: `journalctl OBJECT_SYSTEMD_UNIT=UNIT`. journald would add
        // it to what root says of a living process, and `journalctl -u UNIT` believes it of root
        // only (add_matches_for_unit() of systemd).
        entry.add("OBJECT_SYSTEMD_UNIT", unit);
    }
    if let Some(container) = &place.container {
        entry.add("SOCKWARDEN_CONTAINER", container);
    }
    // Decimal, as in the JSON lines.
    if let Some(cookie) = finding.cookie() {
        entry.add("SOCKWARDEN_COOKIE", cookie.0);
    }
    if let Some(socket) = &finding.socket {
        entry.add("SOCKWARDEN_STATE", socket.state);
        entry.add("SOCKWARDEN_LOCAL", socket.ends.local);
        entry.add("SOCKWARDEN_REMOTE", socket.ends.remote);
        entry.add("SOCKWARDEN_NETNS", socket.netns);
        entry.add("SOCKWARDEN_BORN_BEFORE_OBSERVER", socket.born_before_observer);
        entry.add("SOCKWARDEN_UNREAD", socket.unread);
    } else if let Some(remote) = finding.remote() {
        entry.add("SOCKWARDEN_REMOTE", remote);
    }
    entry.add_lines(
        "SOCKWARDEN_HOLDERS",
        finding
            .holders
            .iter()
            .enumerate()
            .map(|(at, holder)| told(holder, finding.proof.places.get(at), clock)),
    );
    let story = finding.proof.story(finding.time);
    if !story.is_empty() {
        entry.add_lines("SOCKWARDEN_HISTORY", story);
    }
    if let Some(site) = &finding.proof.site {
        entry.add("SOCKWARDEN_SITE", site);
    }
    if let Some(stack) = &finding.proof.stack {
        entry.add_lines("SOCKWARDEN_STACK", stack.lines());
    }
    entry.add("SOCKWARDEN_SINCE", clock.wall(finding.since));
    entry.add("SOCKWARDEN_AGE_MS", finding.age().as_millis());
    entry.add("SOCKWARDEN_BUDGET_MS", finding.budget.as_millis());
    entry.add("SOCKWARDEN_EVIDENCE", finding.evidence.code());
    if let Some(reason) = finding.clear_reason {
        entry.add("SOCKWARDEN_CLEAR_REASON", reason.code());
    }
    if let Some(device) = finding.device_name() {
        entry.add("SOCKWARDEN_DEVICE", device);
    }
    if let Some(detail) = &finding.detail {
        // It cannot fail: no map with other keys than text, and no number that JSON has not.
        entry.add("SOCKWARDEN_DETAIL", serde_json::to_string(detail).unwrap_or_default());
    }
    if let Some(device) = &finding.device {
        if let Some(generation) = device.generation {
            entry.add("SOCKWARDEN_GENERATION", generation);
        }
        if let Some(other) = device.other {
            entry.add("SOCKWARDEN_OTHER_COOKIE", other.0);
        }
        if let Some(overlap) = device.overlap {
            entry.add("SOCKWARDEN_OVERLAP_US", overlap.as_micros());
        }
    }
    if suppressed > 0 {
        entry.add("SOCKWARDEN_SUPPRESSED", suppressed);
    }
    entry
}

/// A holder in a line: process, name and descriptor, and what else is known of it.
fn told(holder: &Holder, place: Option<&Place>, clock: WallClock) -> String {
    let mut line = format!("{} {} {}", holder.process.pid, holder.comm, holder.fd);
    let mut add = |name: &str, value: &dyn Display| line.push_str(&format!(" {name}={value}"));
    if let Some(started) = clock.start(holder.process) {
        add("started", &started);
    }
    if let Some(unit) = place.and_then(|place| place.unit.as_ref()) {
        add("unit", unit);
    }
    if let Some(container) = place.and_then(|place| place.container.as_ref()) {
        add("container", container);
    }
    line
}

#[cfg(test)]
pub(in crate::sinks) mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        detect::Kind,
        incident::{ClearReason, DeviceFacts, Evidence, Proof, SocketFacts, Subject},
        model::{Comm, Cookie, Ends, Holder, MonoTime, ProcessKey, TcpState},
        stacks::{Frame, Named},
        table::{Step, What},
    };

    fn place(unit: Option<&str>, container: Option<&str>) -> Place {
        Place { unit: unit.map(Into::into), container: container.map(Into::into) }
    }

    fn stack() -> Named {
        let lease = Frame {
            function: Some("lease".to_owned()),
            file: Some("/src/pool.c".to_owned()),
            line: Some(12),
            module: Some("/opt/n\node".to_owned()),
            offset: 0x1189,
        };
        let main = Frame { function: None, line: None, ..lease.clone() };
        Named {
            frames: vec![lease, main],
            site: Some(0),
            is_doubtful: false,
            note: Some("no frame\npointers".into()),
        }
    }

    /// A finding with every fact.
    pub(in crate::sinks) fn finding(kind: Kind, event: FindingEvent, id: u64) -> Finding {
        let process = ProcessKey { pid: 4_242, start_ns: 1 };
        let holder = |pid, comm: &[u8], fd| Holder {
            process: ProcessKey { pid, start_ns: 1 },
            comm: Comm::from_bytes(comm),
            fd,
            close_on_exec: None,
        };
        Finding {
            event,
            id,
            kind,
            time: MonoTime::from_nanos(75_000_000_000),
            process,
            comm: Comm::from_bytes("n\u{202e}ode".as_bytes()),
            subject: Subject::Socket(Cookie(4_711)),
            socket: Some(SocketFacts {
                state: TcpState::CloseWait,
                ends: Ends {
                    local: "10.0.0.1:40000".parse().expect("an address"),
                    remote: "[2001:db8::1]:1883".parse().expect("an address"),
                },
                netns: 4_026_531_840,
                born_before_observer: true,
                unread: 17,
            }),
            holders: vec![
                holder(4_242, "n\u{202e}ode".as_bytes(), 12),
                holder(4_243, b"my worker", 7),
            ],
            since: MonoTime::from_nanos(60_000_000_000),
            budget: Duration::from_secs(10),
            evidence: Evidence::Reconstructed,
            detail: None,
            device: Some(DeviceFacts {
                device: "gate\nPRIORITY=0".into(),
                generation: Some(3),
                other: Some(Cookie(4_710)),
                overlap: Some(Duration::from_millis(5)),
            }),
            proof: Box::new(Proof {
                place: place(Some("n\node.service"), Some("abc")),
                places: vec![place(Some("n\node.service"), None), place(None, Some("a\nb"))],
                history: Some(
                    [(60, What::Seen(TcpState::CloseWait)), (70, What::Lost)]
                        .map(|(second, what)| Step {
                            time: MonoTime::from_nanos(second * 1_000_000_000),
                            what,
                            comm: Comm::default(),
                        })
                        .into(),
                ),
                site: Some("lease (pool.c:12)".into()),
                // An update has one only where it brings it.
                stack: (event != FindingEvent::Updated).then(|| Arc::new(stack())),
            }),
            message: "node\n(pid 4242) holds fd 12".to_owned(),
            clear_reason: (event == FindingEvent::Cleared).then_some(ClearReason::HandedOver),
        }
    }

    fn clock() -> WallClock {
        WallClock::at(MonoTime::from_nanos(0), jiff::Timestamp::UNIX_EPOCH)
    }

    fn texts(entry: &Entry) -> Vec<String> {
        entry.fields().iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn every_fact_has_its_field() {
        let entry = entry(&finding(Kind::CloseWait, FindingEvent::Cleared, 9), clock(), 5);
        let expected = [
            "MESSAGE=node\\u{a}(pid 4242) holds fd 12",
            "PRIORITY=6",
            "SYSLOG_IDENTIFIER=sockwarden",
            "SYSLOG_FACILITY=3",
            "MESSAGE_ID=47b848a0c43441a182df4e7782d7e9e1",
            "DOCUMENTATION=file:///usr/share/doc/sockwarden/findings.md#close-wait",
            "OBJECT_PID=4242",
            "SOCKWARDEN_EVENT=cleared",
            "SOCKWARDEN_INCIDENT=9",
            "SOCKWARDEN_KIND=close-wait",
            "SOCKWARDEN_SEVERITY=error",
            "SOCKWARDEN_COMM=n\\u{202e}ode",
            "SOCKWARDEN_STARTED=1970-01-01T00:00:00.000000001Z",
            "SOCKWARDEN_UNIT=n\\u{a}ode.service",
            "OBJECT_SYSTEMD_UNIT=n\\u{a}ode.service",
            "SOCKWARDEN_CONTAINER=abc",
            "SOCKWARDEN_COOKIE=4711",
            "SOCKWARDEN_STATE=CLOSE_WAIT",
            "SOCKWARDEN_LOCAL=10.0.0.1:40000",
            "SOCKWARDEN_REMOTE=[2001:db8::1]:1883",
            "SOCKWARDEN_NETNS=4026531840",
            "SOCKWARDEN_BORN_BEFORE_OBSERVER=true",
            "SOCKWARDEN_UNREAD=17",
            "SOCKWARDEN_HOLDERS=4242 n\\u{202e}ode 12 started=1970-01-01T00:00:00.000000001Z \
             unit=n\\u{a}ode.service\n\
             4243 my worker 7 started=1970-01-01T00:00:00.000000001Z container=a\\u{a}b",
            "SOCKWARDEN_HISTORY=-15.0 s  a snapshot found it in CLOSE_WAIT\n \
             -5.0 s  records were lost",
            "SOCKWARDEN_SITE=lease (pool.c:12)",
            "SOCKWARDEN_STACK=→ lease (pool.c:12)\n  n\\u{a}ode+0x1189\nno frame\\u{a}pointers",
            "SOCKWARDEN_SINCE=1970-01-01T00:01:00Z",
            "SOCKWARDEN_AGE_MS=15000",
            "SOCKWARDEN_BUDGET_MS=10000",
            "SOCKWARDEN_EVIDENCE=reconstructed",
            "SOCKWARDEN_CLEAR_REASON=handed-over",
            "SOCKWARDEN_DEVICE=gate\\u{a}PRIORITY=0",
            "SOCKWARDEN_GENERATION=3",
            "SOCKWARDEN_OTHER_COOKIE=4710",
            "SOCKWARDEN_OVERLAP_US=5000",
            "SOCKWARDEN_SUPPRESSED=5",
        ];
        assert_eq!(texts(&entry), expected);
        assert_eq!(entry.line(), "<6>close-wait cleared 9: node\\u{a}(pid 4242) holds fd 12");
    }

    #[test]
    fn what_is_not_known_has_no_field() {
        let mut finding = finding(Kind::DeadFd, FindingEvent::Opened, 1);
        finding.device = None;
        *finding.proof = Proof::default();
        finding.process.start_ns = 0;
        let entry = entry(&finding, clock(), 0);
        let absent = ["CLEAR_REASON", "DEVICE", "GENERATION", "OTHER", "OVERLAP", "SUPPRESSED"];
        let unproven = ["STARTED", "UNIT", "CONTAINER", "HISTORY", "SITE", "STACK"];
        for (name, _) in entry.fields() {
            let parts = absent.iter().chain(&unproven);
            assert!(!parts.into_iter().any(|part| name.contains(part)), "{name}");
        }
        assert_eq!(entry.fields().len(), 24);
    }

    #[test]
    fn the_priority_is_the_severity_until_it_is_over() {
        for kind in Kind::ALL {
            let severity = kind.severity() as u8;
            for (event, priority) in [
                (FindingEvent::Opened, severity),
                (FindingEvent::Updated, severity),
                (FindingEvent::Cleared, 6),
            ] {
                let entry = entry(&finding(kind, event, 1), clock(), 0);
                assert_eq!(entry.fields()[1], ("PRIORITY", priority.to_string()), "{kind}");
                assert!(entry.line().starts_with(&format!("<{priority}>{kind} ")));
            }
        }
    }

    #[test]
    fn journald_takes_every_name() {
        // journald-native.c, journal_field_valid().
        let entry = entry(&finding(Kind::Overlap, FindingEvent::Cleared, 1), clock(), 1);
        for (name, _) in entry.fields() {
            assert!(name.len() <= 64, "{name}");
            assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
            let may = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(may), "{name}");
        }
    }
}
