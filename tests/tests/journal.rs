//! The journal's sink against a real systemd-journald.

use harness::clock;
use harness::journald::{Fields, Journald};
use harness::line::assert_about;
use harness::{TempDir, require_root, wait};
use observer::clock::WallClock;
use observer::config::Sinks;
use observer::detect::Kind;
use observer::incident::{
    ClearReason, Detail, DeviceFacts, Evidence, Finding, FindingEvent, SocketFacts, Subject,
};
use observer::model::{Comm, Cookie, Ends, Holder, MonoTime, ProcessKey, TcpState};
use observer::sinks::journal::{Journal, Life, catalog, entry};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Only ours: journald has entries of its own.
const OURS: &str = "SYSLOG_IDENTIFIER=sockwarden";

/// What the sink adds to a line that may be in the journal too.
const UNSURE: &str = "may be in the journal too)";

/// What somebody may call a process or a device to break a journal.
const NAMES: [&str; 7] = [
    "node",
    "a\nPRIORITY=0",
    "\x1b[31mred\x07",
    "größe 🔥",
    "a=b=c",
    "\u{202e}edon\u{2028}",
    "x\r\n\0y\u{9b}2J",
];

/// What would go to stderr.
#[derive(Clone, Default)]
struct Tap(Arc<Mutex<Vec<u8>>>);

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tap {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }
}

fn open(socket: &Path) -> (Journal, Tap) {
    let sinks = Sinks { journal_socket: socket.to_owned(), ..Sinks::default() };
    let tap = Tap::default();
    (Journal::with_fallback(&sinks, tap.clone()).expect("a thread can be started"), tap)
}

/// A finding about this process, with all facts.
fn finding(kind: Kind, event: FindingEvent, id: u64, name: &str) -> Finding {
    let now = observer::clock::now();
    // Its start would be told by the wall clock, which may be set at any time.
    let process = ProcessKey { pid: std::process::id(), start_ns: 0 };
    let comm = Comm::from_bytes(name.as_bytes());
    let holder = |fd| Holder { process, comm: comm.clone(), fd, close_on_exec: None };
    Finding {
        event,
        id,
        kind,
        time: now,
        process,
        comm: comm.clone(),
        subject: Subject::Socket(Cookie(u64::MAX - id)),
        socket: Some(SocketFacts {
            state: TcpState::CloseWait,
            ends: Ends {
                local: "127.0.0.1:40000".parse().expect("an address"),
                remote: "[2001:db8::1]:1883".parse().expect("an address"),
            },
            netns: 4_026_531_840,
            born_before_observer: false,
            unread: 17,
        }),
        holders: vec![holder(12), holder(13)],
        since: now.before(Duration::from_secs(15)),
        budget: Duration::from_secs(10),
        evidence: Evidence::Complete,
        detail: Some(Detail::Silent { keep_alive: 60, client_id: None }),
        device: Some(DeviceFacts {
            device: name.into(),
            generation: Some(3),
            other: Some(Cookie(1)),
            overlap: Some(Duration::from_micros(250)),
        }),
        proof: Box::default(),
        message: format!("{name} holds fd 12"),
        clear_reason: (event == FindingEvent::Cleared).then_some(ClearReason::Closed),
    }
}

fn opened(id: u64) -> Finding {
    finding(Kind::CloseWait, FindingEvent::Opened, id, "node")
}

/// Number of the incident of each entry.
fn incidents(entries: &[Fields]) -> Vec<u64> {
    let id = |fields: &Fields| fields.get("SOCKWARDEN_INCIDENT")?.parse().ok();
    entries.iter().filter_map(id).collect()
}

/// Number of the incident of each line for stderr, with whether it may be in the journal too.
fn incidents_on_stderr(lines: &[String]) -> Vec<(u64, bool)> {
    let id = |line: &String| {
        let rest = line.strip_prefix("<3>close-wait opened ")?;
        Some((rest.split_once(':')?.0.parse().ok()?, line.ends_with(UNSURE)))
    };
    lines.iter().map(|line| id(line).unwrap_or_else(|| panic!("no finding: {line}"))).collect()
}

#[test]
fn every_field_of_every_kind_comes_back_exactly() {
    let journald = Journald::start();
    let (mut journal, tap) = open(&journald.socket());
    let mut sent = Vec::new();
    for kind in Kind::ALL {
        for event in [FindingEvent::Opened, FindingEvent::Cleared] {
            for name in NAMES {
                let finding = finding(kind, event, sent.len() as u64, name);
                journal.send(&finding, finding.time);
                sent.push(finding);
            }
        }
    }
    assert!(journal.flush(wait::PATIENCE));
    let entries = journald.entries(&[OURS]);
    assert_eq!(entries.len(), sent.len());
    let clock = WallClock::read();
    for (fields, finding) in entries.iter().zip(&sent) {
        for (name, value) in entry(finding, clock, 0).fields() {
            match *name {
                // The wall clock may be set at any time.
                "SOCKWARDEN_SINCE" => {
                    let expected = clock.wall(finding.since);
                    assert_about(&fields[*name], expected, Duration::from_secs(1));
                }
                name => assert_eq!(fields.get(name), Some(value), "{name} of {finding:?}"),
            }
        }
        let known = ["MESSAGE", "PRIORITY", "SYSLOG", "OBJECT", "DOCUMENTATION", "SOCKWARDEN", "_"];
        for name in fields.keys() {
            assert!(known.iter().any(|known| name.starts_with(known)), "{name} is none of ours");
        }
        // Journald adds what it knows of the process that `OBJECT_PID` names.
        assert_eq!(fields["_TRANSPORT"], "journal");
        assert_eq!(fields["OBJECT_COMM"], fields["_COMM"]);
    }
    assert!(tap.lines().is_empty());
    for kind in Kind::ALL {
        let id = format!("MESSAGE_ID={:032x}", kind.message_id());
        assert_eq!(journald.entries(&[&id]).len(), 2 * NAMES.len(), "{kind}");
    }
    let pid = format!("OBJECT_PID={}", std::process::id());
    assert_eq!(journald.entries(&[&pid]).len(), sent.len());
}

#[test]
fn what_root_says_of_a_unit_is_shown_with_the_unit() {
    let journald = Journald::start();
    let (mut journal, _tap) = open(&journald.socket());
    let mut finding = opened(1);
    // As of a process that has ended: journald knows nothing of it.
    finding.process.pid = u32::MAX / 2;
    finding.proof.place.unit = Some("sockwarden-test.service".into());
    journal.send(&finding, finding.time);
    assert!(journal.flush(wait::PATIENCE));
    assert_eq!(journald.entries(&["-u", "sockwarden-test.service"]).len(), 1);
    assert_eq!(journald.entries(&["-u", "sockwarden-other.service"]).len(), 0);
}

#[test]
fn a_message_of_three_megabytes_comes_back() {
    let journald = Journald::start();
    let (mut journal, tap) = open(&journald.socket());
    // Sizes around the send buffer too, where a datagram begins to be too large.
    let sizes = [200_000, 208_000, 212_000, 213_000, 3 << 20];
    for (id, size) in sizes.into_iter().enumerate() {
        let mut finding = opened(id as u64);
        finding.message = "ä".repeat(size / 2);
        journal.send(&finding, finding.time);
    }
    assert!(journal.flush(wait::PATIENCE));
    let entries = journald.entries(&[OURS]);
    assert_eq!(incidents(&entries), [0, 1, 2, 3, 4]);
    for (fields, size) in entries.iter().zip(sizes) {
        assert!(fields["MESSAGE"] == "ä".repeat(size / 2), "{size} bytes");
        assert_eq!(fields["SOCKWARDEN_HOLDERS"].lines().count(), 2, "what comes behind is whole");
    }
    assert!(tap.lines().is_empty());
}

#[test]
fn the_catalog_explains_every_entry() {
    let journald = Journald::start();
    journald.install_catalog(&catalog());
    let listed = journald.journalctl(&["--list-catalog"]);
    assert_eq!(listed.lines().count(), 28, "20 kinds and 8 events: {listed}");

    let (mut journal, _tap) = open(&journald.socket());
    for (id, kind) in (0..).zip(Kind::ALL) {
        let finding = finding(kind, FindingEvent::Opened, id, "node");
        journal.send(&finding, finding.time);
    }
    journal.tell(Life::ReloadRefused, "line 3 of the config is faulty");
    assert!(journal.flush(wait::PATIENCE));
    assert_eq!(journald.entries(&[OURS]).len(), Kind::ALL.len() + 1);
    for kind in Kind::ALL {
        let id = format!("MESSAGE_ID={:032x}", kind.message_id());
        let said = journald.journalctl(&["--catalog", &id]);
        // Without the marks and the folds.
        let text = said.replace('░', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        let subject = format!("Subject: {kind} opened: node[{}]", std::process::id());
        let anchor = format!("findings.md#{kind}");
        let parts = [
            "node holds fd 12",
            subject.as_str(),
            "Defined-By: sockwarden",
            anchor.as_str(),
            kind.meaning(),
            kind.how_it_comes_about(),
            kind.what_to_do(),
        ];
        let of_socket = ["from 127.0.0.1:40000 to [2001:db8::1]:1883", " node 12 ", " node 13"];
        let of_process = ["{\"keep_alive\":60,\"client_id\":null}"];
        let is_of_process = Kind::OF_PROCESSES.contains(&kind);
        let facts: &[&str] = if is_of_process { &of_process } else { &of_socket };
        for part in parts.iter().chain(facts) {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
        assert!(!text.contains('@'), "every field is filled in: {text}");
    }
    let id = format!("MESSAGE_ID={:032x}", Life::ReloadRefused.message_id());
    let said = journald.journalctl(&["--catalog", &id]);
    assert!(said.contains("Subject: sockwarden: reload-refused"), "{said}");
}

#[test]
fn a_killed_journald_loses_nothing_in_silence() {
    const FINDINGS: u64 = 1_000;
    let mut journald = Journald::start();
    let (mut journal, tap) = open(&journald.socket());
    for id in 0..FINDINGS {
        match id {
            // In the middle of its work, with what it has not read.
            400 | 900 => journald.kill(),
            700 => journald.restart(),
            _ => {}
        }
        journal.send(&opened(id), observer::clock::now());
        if id == 0 || id == 700 {
            assert!(incidents(&journald.entries(&[OURS])).contains(&id), "it has come to work");
        }
    }
    assert!(journal.flush(wait::PATIENCE), "nobody is there to wait for");
    assert_eq!(journal.lost(), 0);
    journald.restart();
    journal.send(&opened(FINDINGS), observer::clock::now());
    assert!(journal.flush(wait::PATIENCE));

    let in_journal = incidents(&journald.entries(&[OURS]));
    drop(journal);
    let on_stderr = incidents_on_stderr(&tap.lines());
    let journal_set: BTreeSet<u64> = in_journal.iter().copied().collect();
    let stderr_set: BTreeMap<u64, bool> = on_stderr.iter().copied().collect();
    assert_eq!(journal_set.len(), in_journal.len(), "none is twice in the journal");
    assert_eq!(stderr_set.len(), on_stderr.len(), "none is twice on stderr");
    for id in 0..=FINDINGS {
        match (journal_set.contains(&id), stderr_set.get(&id)) {
            (false, None) => panic!("{id} is nowhere"),
            (true, Some(false)) => panic!("{id} is in both, and nothing says so"),
            _ => {}
        }
    }
    let unsure = on_stderr.iter().filter(|(_, unsure)| *unsure).count();
    let queue = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").expect("a sysctl");
    let queue: usize = queue.trim().parse().expect("a number");
    assert!(unsure <= 2 * (queue + 2), "{unsure} may be in both");
    assert!(stderr_set.contains_key(&450) && stderr_set.contains_key(&950), "{stderr_set:?}");
    assert!(journal_set.contains(&FINDINGS), "it is found again");
}

#[test]
fn a_journald_whose_socket_systemd_keeps_can_be_killed_at_any_time() {
    const FINDINGS: u64 = 1_000;
    let mut journald = Journald::start_with_kept_socket();
    let (mut journal, tap) = open(&journald.socket());
    for id in 0..FINDINGS {
        match id {
            400 | 900 => journald.kill(),
            700 => journald.restart(),
            _ => {}
        }
        journal.send(&opened(id), observer::clock::now());
    }
    assert!(!journal.flush(Duration::ZERO), "the rest waits");
    journald.restart();
    assert!(journal.flush(wait::PATIENCE));
    let arrived = incidents(&journald.entries(&[OURS]));
    assert!(arrived.is_sorted_by(|one, next| one < next), "in order, none twice: {arrived:?}");
    // What journald has read and not written when it is killed, no sender can know.
    assert!(arrived.len() as u64 >= FINDINGS - 2, "{} of {FINDINGS}", arrived.len());
    assert_eq!(journal.lost(), 0);
    drop(journal);
    assert!(tap.lines().is_empty());
}

#[test]
fn a_journald_that_stands_still_gets_all_of_it_later() {
    let journald = Journald::start();
    let (mut journal, tap) = open(&journald.socket());
    journal.send(&opened(0), observer::clock::now());
    journald.freeze();
    let began = clock::now();
    for id in 1..=1_000 {
        journal.send(&opened(id), observer::clock::now());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "sending never waits");
    assert!(!journal.flush(Duration::from_millis(100)), "nobody reads");
    assert!(journal.waiting() > 0);
    journald.thaw();
    assert!(journal.flush(wait::PATIENCE));
    assert_eq!(incidents(&journald.entries(&[OURS])), (0..=1_000).collect::<Vec<_>>());
    assert_eq!(journal.lost(), 0);
    assert!(tap.lines().is_empty());
}

#[test]
fn a_storm_of_findings_arrives_whole() {
    let journald = Journald::start();
    let (mut journal, tap) = open(&journald.socket());
    for id in 0..9_000 {
        journal.send(&opened(id), MonoTime::from_nanos(id));
        journal.flush(Duration::from_millis(50));
    }
    assert!(journal.flush(wait::PATIENCE));
    assert_eq!(incidents(&journald.entries(&[OURS])), (0..9_000).collect::<Vec<_>>());
    assert_eq!(journal.lost(), 0);
    assert!(tap.lines().is_empty());
}

#[test]
fn without_a_journald_stderr_has_a_line_with_a_priority() {
    const TOLD: &str = "SOCKWARDEN_TEST_SOCKET";
    const THIS: &str = "without_a_journald_stderr_has_a_line_with_a_priority";
    if let Ok(socket) = std::env::var(TOLD) {
        // The process that has no journal: this test again.
        let sinks = Sinks { journal_socket: socket.into(), ..Sinks::default() };
        let mut journal = Journal::open(&sinks).expect("a thread can be started");
        journal.tell(Life::Ready, "watches");
        journal.send(
            &finding(Kind::Overlap, FindingEvent::Opened, 1, NAMES[1]),
            MonoTime::from_nanos(0),
        );
        journal.send(
            &finding(Kind::Undrained, FindingEvent::Cleared, 2, NAMES[2]),
            MonoTime::from_nanos(0),
        );
        return;
    }
    require_root();
    let directory = TempDir::new();
    let output = Command::new(std::env::current_exe().expect("a test is a program"))
        .args(["--exact", THIS, "--nocapture"])
        .env(TOLD, directory.join("socket"))
        .stdin(Stdio::null())
        .output()
        .expect("a test is a program");
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with('<')).collect();
    let expected = [
        "<6>ready: watches",
        "<2>overlap opened 1: a\\u{a}PRIORITY=0 holds fd 12",
        "<6>undrained cleared 2: \\u{1b}[31mred\\u{7} holds fd 12",
    ];
    assert_eq!(lines, expected, "{stderr}");
}
