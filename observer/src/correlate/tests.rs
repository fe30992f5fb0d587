//! Stories, and what people are told of them.

use std::time::Duration;

use crate::{
    correlate::{
        Config, Correlator, Output, SnapshotReason,
        kernel_model::{Kernel, Op},
        live::{Live, Way},
    },
    detect::Kind,
    incident::{Evidence, FindingEvent},
    model::{KernelEvent, MonoTime},
};

/// Runs a story of pauses in milliseconds and things that happen, then waits. Returns what was
/// said, with the second since the start at which it was said.
fn told(story: &[(u64, Op)]) -> Vec<String> {
    let mut live = Live::new(Config::default(), 2, Way::default());
    let start = live.kernel.now;
    for (pause, op) in story {
        live.run(Duration::from_millis(*pause), *op);
    }
    live.pass(live.kernel.now.after(Duration::from_secs(12)));
    let line = |finding: &crate::incident::Finding| {
        let second = finding.time.since(start).as_secs();
        format!("{second} {} {}: {}", finding.event.code(), finding.kind, finding.message)
    };
    live.findings.iter().map(line).collect()
}

fn check(story: &[(u64, Op)], expected: &[&str]) {
    assert_eq!(told(story), expected);
}

const CONNECT: [(u64, Op); 3] =
    [(1000, Op::Connect(0)), (10, Op::Answer(0)), (20_000, Op::Wait(0))];

fn after_connect(rest: &[(u64, Op)]) -> Vec<(u64, Op)> {
    [&CONNECT[..], rest].concat()
}

#[test]
fn the_peer_closed_and_the_process_did_not() {
    check(
        &after_connect(&[(0, Op::PeerCloses(0)), (14_500, Op::Close(0, 0))]),
        &[
            "31 opened close-wait: program-1 (pid 1) holds fd 3 to 127.0.0.1:1883: the peer closed 10 s \
         ago, the process has not",
            "35 cleared close-wait: cleared: program-1 (pid 1) closed fd 3 to 127.0.0.1:1883 after 14 s",
        ],
    );
}

#[test]
fn a_child_holds_it_too() {
    check(
        &after_connect(&[
            (0, Op::PeerCloses(0)),
            (1000, Op::Fork(0)),
            (11_000, Op::Close(2, 0)),
            (8000, Op::Read(0)),
        ]),
        &[
            "31 opened close-wait: program-1 (pid 1) holds fd 3 to 127.0.0.1:1883: the peer closed \
             10 s ago, the process has not; also held by program-1 (pid 3) fd 3",
            "33 updated close-wait: program-1 (pid 1) holds fd 3 to 127.0.0.1:1883: the peer closed \
             12 s ago, the process has not",
            "51 updated close-wait: program-1 (pid 1) holds fd 3 to 127.0.0.1:1883: the peer closed \
             30 s ago, the process has not",
        ],
    );
}

#[test]
fn a_half_closed_stream_is_still_sent() {
    check(
        &after_connect(&[(0, Op::PeerCloses(0)), (9000, Op::Write(0)), (9000, Op::Write(0))]),
        &["51 opened close-wait: program-1 (pid 1) holds fd 3 to 127.0.0.1:1883: the peer closed \
           30 s ago, the process has not, and nothing has moved for 10 s"],
    );
}

#[test]
fn it_is_cleared_when_the_process_sends_again() {
    check(
        &after_connect(&[(0, Op::PeerCloses(0)), (12_000, Op::Write(0))]),
        &[
            "31 opened close-wait: program-1 (pid 1) holds fd 3 to 127.0.0.1:1883: the peer closed 10 s \
         ago, the process has not",
            "41 cleared close-wait: cleared: program-1 (pid 1) sent on fd 3 to 127.0.0.1:1883 again after \
         20 s",
        ],
    );
}

#[test]
fn the_connection_is_over_and_the_descriptor_is_not() {
    check(
        &after_connect(&[(0, Op::PeerResets(0)), (11_000, Op::Exit(0))]),
        &[
            "31 opened dead-fd: program-1 (pid 1) still holds fd 3 to 127.0.0.1:1883, though the \
         connection has been over for 10 s",
            "32 cleared dead-fd: cleared: program-1 (pid 1), which held fd 3 to 127.0.0.1:1883, exited \
         after 11 s",
        ],
    );
}

#[test]
fn nobody_answers() {
    check(
        &[(1000, Op::Connect(0)), (31_000, Op::Refuse(0))],
        &[
            "31 opened stuck-connect: program-1 (pid 1) has been connecting fd 3 to 127.0.0.1:1883 for \
         30 s without an answer",
            "32 cleared stuck-connect: cleared: the connection of program-1 (pid 1) fd 3 to \
         127.0.0.1:1883 went on to CLOSE after 31 s",
            "42 opened dead-fd: program-1 (pid 1) still holds fd 3 to 127.0.0.1:1883, though the \
         connection has been over for 10 s",
        ],
    );
}

#[test]
fn nobody_reads() {
    check(
        &after_connect(&[(0, Op::Data(0)), (22_000, Op::Read(0))]),
        &[
            "31 opened undrained: program-1 (pid 1) has not read fd 3 from 127.0.0.1:1883 for 10 s: 100 \
         bytes are waiting",
            "41 updated undrained: program-1 (pid 1) has not read fd 3 from 127.0.0.1:1883 for 20 s: 100 \
         bytes are waiting",
            "51 cleared undrained: cleared: program-1 (pid 1) read from fd 3 to 127.0.0.1:1883 again \
         after 30 s",
        ],
    );
}

#[test]
fn a_worker_keeps_what_its_parent_closed() {
    check(
        &after_connect(&[(0, Op::Fork(0)), (5000, Op::Close(0, 0)), (12_000, Op::Exit(2))]),
        &[
            "36 opened inherited: program-1 (pid 3) still holds fd 3 to 127.0.0.1:1883, which \
             program-1 (pid 1) closed 10 s ago",
            "38 cleared inherited: cleared: program-1 (pid 3), which held fd 3 to 127.0.0.1:1883, \
             exited after 12 s",
        ],
    );
}

#[test]
fn a_new_program_keeps_what_the_old_one_opened() {
    check(
        &after_connect(&[(0, Op::Exec(0, true))]),
        &[
            "31 opened inherited: program-3 (pid 1) still holds fd 3 to 127.0.0.1:1883, which program-1 \
         left open when it executed this program 10 s ago",
        ],
    );
}

#[test]
fn two_connections_carry_one_client_id() {
    check(
        &[
            (1000, Op::Connect(0)),
            (10, Op::Answer(0)),
            (10, Op::Name(0, 0)),
            (5000, Op::Connect(0)),
            (10, Op::Answer(0)),
            (10, Op::Name(1, 0)),
            (8000, Op::PeerCloses(0)),
            (10, Op::Close(0, 0)),
        ],
        &[
            "11 opened duplicate-client-id: program-1 (pid 1) still holds fd 3 to 127.0.0.1:1883 as 0, \
             though its fd 4 connected with the same client id 5 s ago",
            "14 cleared duplicate-client-id: cleared: the connection of program-1 (pid 1) fd 3 to \
             127.0.0.1:1883 went on to CLOSE_WAIT after 8 s",
        ],
    );
    check(
        &[
            (1000, Op::Connect(0)),
            (10, Op::Answer(0)),
            (10, Op::Name(0, 0)),
            (5000, Op::Connect(0)),
            (10, Op::Answer(0)),
            (10, Op::Name(1, 0)),
            (8000, Op::Close(0, 1)),
        ],
        &[
            "11 opened duplicate-client-id: program-1 (pid 1) still holds fd 3 to 127.0.0.1:1883 as 0, \
             though its fd 4 connected with the same client id 5 s ago",
            "14 cleared duplicate-client-id: cleared: one socket is left of the two to 127.0.0.1:1883, \
             after 8 s",
        ],
    );
}

#[test]
fn a_client_and_its_broker_say_nothing_any_more() {
    check(
        &[
            (1000, Op::Connect(0)),
            (10, Op::Answer(0)),
            (10, Op::Name(0, 0)),
            (19_000, Op::Write(0)),
            (33_000, Op::Write(0)),
        ],
        &[
            "50 opened silent-peer: program-1 (pid 1) holds fd 3 to 127.0.0.1:1883 as 0: nothing has \
             moved for 30 s, and its keep-alive is 20 s",
            "60 cleared silent-peer: cleared: program-1 (pid 1) sent on fd 3 to 127.0.0.1:1883 again \
             after 10 s",
        ],
    );
}

#[test]
fn a_connection_that_is_handed_over_is_no_leak() {
    let story = [
        (1000, Op::Arrive),
        (10, Op::Accept(0)),
        (5000, Op::Fork(0)),
        (1, Op::Close(0, 0)),
        (60_000, Op::Wait(0)),
    ];
    check(&story, &[]);
}

/// Feeds one event at a time and collects what is asked for.
fn asked(correlator: &mut Correlator) -> Vec<SnapshotReason> {
    let mut asked = Vec::new();
    while let Some(output) = correlator.poll_output() {
        if let Output::SnapshotWanted(reason) = output {
            asked.push(reason);
        }
    }
    asked
}

#[test]
fn snapshots_are_asked_for_one_at_a_time() {
    let mut kernel = Kernel::new(1);
    let mut correlator = Correlator::new(Config::default(), kernel.now);
    assert_eq!(asked(&mut correlator), [SnapshotReason::Start]);
    correlator.handle_loss(kernel.now, 3);
    assert_eq!(asked(&mut correlator), [], "the first one is still out");
    let early = kernel.snapshot();
    kernel.now = kernel.now.after(Duration::from_secs(1));
    correlator.handle_loss(kernel.now, 1);
    correlator.handle_snapshot(early);
    assert_eq!(asked(&mut correlator), [], "not before the gap is over");
    let next = correlator.poll_timeout().expect("the loss is not answered");
    correlator.handle_timeout(next);
    assert_eq!(asked(&mut correlator), [SnapshotReason::Loss]);
    assert_eq!(correlator.poll_timeout(), None, "nothing to do before the answer");
    kernel.now = kernel.now.after(Duration::from_secs(1));
    correlator.handle_snapshot(kernel.snapshot());
    assert_eq!(correlator.poll_timeout(), Some(kernel.now.after(Duration::from_secs(10))));
}

#[test]
fn small_budgets_make_the_interval_short() {
    let mut config = Config::default();
    config.budgets.set(Kind::Undrained, Duration::from_secs(2));
    let kernel = Kernel::new(1);
    let mut correlator = Correlator::new(config, kernel.now);
    correlator.handle_snapshot(kernel.snapshot());
    assert_eq!(correlator.poll_timeout(), Some(kernel.now.after(Duration::from_secs(2))));
}

#[test]
fn a_budget_of_nothing_opens_at_the_first_snapshot() {
    let mut config = Config::default();
    config.budgets.set(Kind::StuckConnect, Duration::ZERO);
    let mut live = Live::new(config, 1, Way::default());
    live.run(Duration::from_secs(1), Op::Connect(0));
    live.pass(live.kernel.now.after(Duration::from_millis(60)));
    assert_eq!(live.open.len(), 1);
}

#[test]
fn after_a_loss_a_finding_says_so_until_a_transition_fits_again() {
    let mut live = Live::new(Config::default(), 1, Way::default());
    live.run(Duration::from_secs(1), Op::Connect(0));
    live.run(Duration::from_secs(1), Op::Connect(0));
    live.run(Duration::from_secs(1), Op::Answer(0));
    live.lose();
    live.run(Duration::from_secs(1), Op::Answer(0));
    live.run(Duration::from_secs(1), Op::PeerCloses(0));
    live.run(Duration::from_secs(1), Op::Refuse(0));
    live.pass(live.kernel.now.after(Duration::from_secs(20)));
    let evidence: Vec<_> = live.open.values().map(|finding| finding.evidence).collect();
    assert_eq!(evidence, [Evidence::Complete], "its transition came after the loss");
    live.lose();
    live.pass(live.kernel.now.after(Duration::from_secs(20)));
    let last = live.findings.last().expect("the loss is told");
    assert_eq!((last.event, last.evidence), (FindingEvent::Updated, Evidence::Reconstructed));
}

#[test]
fn nothing_opens_between_a_loss_and_the_next_snapshot() {
    let mut kernel = Kernel::new(1);
    let mut correlator = Correlator::new(Config::default(), kernel.now);
    kernel.run(Op::Connect(0));
    for event in kernel.events() {
        correlator.handle_event(event);
    }
    kernel.now = kernel.now.after(Duration::from_secs(60));
    let early = kernel.snapshot();
    kernel.now = kernel.now.after(Duration::from_secs(1));
    correlator.handle_loss(kernel.now, 1);
    correlator.handle_snapshot(early);
    assert_eq!(correlator.open_incidents().count(), 0, "it began before the loss was noticed");
    correlator.handle_snapshot(kernel.snapshot());
    assert_eq!(correlator.open_incidents().count(), 1);
}

#[test]
fn a_stream_knows_the_owner_and_the_port() {
    let mut kernel = Kernel::new(1);
    let mut correlator = Correlator::new(Config::default(), kernel.now);
    correlator.handle_snapshot(kernel.snapshot());
    for op in [Op::Connect(0), Op::Answer(0), Op::PeerResets(0)] {
        kernel.now = MonoTime::from_nanos(kernel.now.nanos() + 1);
        kernel.run(op);
    }
    for event in kernel.events() {
        assert!(matches!(event, KernelEvent::Transition(_)));
        correlator.handle_event(event);
    }
    let mut seen = Vec::new();
    while let Some(output) = correlator.poll_output() {
        if let Output::Transition(transition) = output {
            let owner = transition.owner.expect("it connected");
            seen.push((owner.process.pid, owner.fd, transition.ends.local.port()));
        }
    }
    assert_eq!(seen, [(1, Some(3), 0), (1, Some(3), 30_001), (1, Some(3), 30_001)]);
}
