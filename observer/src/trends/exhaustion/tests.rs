//! Processes that are refused descriptors and ports.

use super::super::host::{Host, files, process, row};
use super::*;
use crate::{
    correlate::Config,
    incident::FindingEvent,
    model::{Call::*, Lack::*},
};

fn host(open: u32, limit: u64) -> Host {
    let mut host = Host::new(Config::default());
    host.processes = vec![row(7, files(open), limit)];
    host.look();
    host.pass(1.0);
    host
}

fn exhausted(host: &Host) -> Vec<String> {
    host.told(Kind::Exhausted)
}

#[test]
fn it_opens_at_the_first_refusal_and_clears_after_a_quiet_minute() {
    let mut host = host(900, 1_000);
    host.refuse(7, Socket, Descriptors);
    host.pass(0.1);
    assert_eq!(
        exhausted(&host),
        [
            "1 opened: program-7 (pid 7) has no descriptor left: refused once, last in socket(2) with \
          EMFILE; when last seen it had 900 of 1000"
        ]
    );
    let opened = &host.findings[host.findings.len() - 1];
    assert!(opened.age() < Duration::from_millis(60), "{:?}", opened.age());
    host.pass(30.0);
    host.refuse(7, Accept, Descriptors);
    host.pass(59.0);
    assert_eq!(host.counts(Kind::Exhausted)[2], 0);
    host.pass(2.5);
    let last = exhausted(&host).pop();
    assert_eq!(
        last.as_deref(),
        Some("91 cleared: cleared: exhausted of program-7 (pid 7) is over, after 1 min 30 s")
    );
    let cleared = &host.findings[host.findings.len() - 1];
    let expected = Detail::Exhausted {
        call: Accept,
        lacks: Descriptors,
        refused: 2,
        open: Some(900),
        limit: Some(1_000),
    };
    assert_eq!(cleared.detail, Some(expected));
}

#[test]
fn a_flood_of_refusals_is_one_finding_and_few_updates() {
    let mut host = host(990, 1_000);
    for tenth in 0..36_000 {
        for _ in 0..5 {
            host.refuse(7, Socket, Descriptors);
        }
        host.pass(0.1);
        if tenth % 100 == 0 {
            host.look();
        }
    }
    // An hour is 2^11.8 seconds.
    assert_eq!(host.counts(Kind::Exhausted), [1, 11, 0], "{:?}", exhausted(&host));
    let open: Vec<_> = host.correlator.open_incidents().collect();
    let message = &open
        .iter()
        .find(|it| it.finding.kind == Kind::Exhausted)
        .map(|it| it.finding.message.clone());
    // The list has the number of now, not that of the last update.
    let count = message.as_deref().and_then(|message| {
        message.split("refused ").nth(1)?.split(' ').next()?.parse::<u64>().ok()
    });
    assert!(count.is_some_and(|count| count > 179_900), "{message:?}");
}

#[test]
fn an_exit_ends_it() {
    let mut host = host(990, 1_000);
    host.refuse(7, Accept, Descriptors);
    host.pass(1.0);
    host.event(crate::model::KernelEvent::Exited { time: host.now, process: process(7) });
    host.pass(0.1);
    let last = exhausted(&host).pop().unwrap_or_default();
    assert!(last.ends_with("the process exited, after 1 s"), "{last}");
}

#[test]
fn a_refusal_after_a_quiet_minute_is_a_new_one() {
    let mut host = host(990, 1_000);
    for _ in 0..3 {
        host.refuse(7, Accept, Descriptors);
        host.pass(70.0);
    }
    let [opened, _, cleared] = host.counts(Kind::Exhausted);
    assert_eq!((opened, cleared), (3, 3));
    let ids: std::collections::BTreeSet<_> = host.findings.iter().map(|it| it.id).collect();
    assert_eq!(
        ids.len(),
        host.findings.iter().filter(|it| it.event == FindingEvent::Opened).count()
    );
}

#[test]
fn ports_are_told_from_descriptors() {
    let mut host = host(100, 1_000);
    host.refuse(7, Connect, Ports);
    host.refuse(7, Connect, Ports);
    host.refuse(7, Accept, Descriptors);
    host.pass(0.1);
    assert_eq!(
        exhausted(&host),
        ["1 opened: program-7 (pid 7) finds no free local port: refused 2 times, last in \
          connect(2) with EADDRNOTAVAIL"]
    );
    // Both are one incident of the process: it is never opened twice.
    for _ in 0..5 {
        host.refuse(7, Accept, Descriptors);
        host.pass(0.1);
    }
    assert_eq!(host.counts(Kind::Exhausted)[0], 1);
}

/// Two refusals around a snapshot that shows `open` of 1,000: the error that is said.
fn error(open: u32, before: f64, after: f64, later: Option<u32>) -> &'static str {
    let mut host = host(open, 1_000);
    host.refuse(7, Accept, Descriptors);
    host.pass(before);
    host.look();
    host.pass(after);
    host.refuse(7, Accept, Descriptors);
    if let Some(open) = later {
        host.processes = vec![row(7, files(open), 1_000)];
        host.look();
    }
    host.pass(70.0);
    let last = host.findings.iter().rev().find(|it| it.kind == Kind::Exhausted);
    match last.and_then(|it| it.detail.as_ref()) {
        Some(Detail::Exhausted { lacks, .. }) => lacks.error(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_host_is_named_only_where_it_is_proven() {
    let cases = [
        ((100, 0.3, 0.3, None), "ENFILE"),
        ((499, 0.3, 0.3, None), "ENFILE"),
        // A storm goes from half of the limit to all of it and back in a moment.
        ((500, 0.3, 0.3, None), "EMFILE"),
        ((100, 1.5, 0.3, None), "EMFILE"),
        ((100, 0.3, 1.5, None), "EMFILE"),
        // Later it has reached its own limit.
        ((100, 0.3, 0.3, Some(995)), "EMFILE"),
    ];
    for ((open, before, after, later), expected) in cases {
        assert_eq!(error(open, before, after, later), expected, "{open} {before} {after}");
    }
}

/// Whether the host is proven to be exhausted by a snapshot from 0 to 20 ms that finds a process far
/// below its limit, after `refusals` and before another one of descriptors at 30 ms.
fn is_proven(refusals: impl IntoIterator<Item = (i64, Lack)>) -> bool {
    let at = |milliseconds: i64| {
        MonoTime::from_nanos(process_time().nanos().saturating_add_signed(milliseconds * 1_000_000))
    };
    let mut exhaustion = Exhaustion::default();
    for (time, lacks) in refusals {
        exhaustion.refused(process(7), Accept, lacks, at(time), None);
    }
    exhaustion.handle_snapshot(&Snapshot {
        began: at(0),
        ended: at(20),
        processes: vec![row(7, files(100), 1_000)],
        ..Snapshot::default()
    });
    exhaustion.refused(process(7), Accept, Descriptors, at(30), None);
    exhaustion.processes[&process(7)].is_host
}

#[test]
fn the_proof_is_a_refusal_before_the_snapshot_and_one_after() {
    assert!(is_proven([(-10, Descriptors)]));
    assert!(!is_proven([(10, Descriptors)]), "it may have come after the look at the process");
    assert!(!is_proven([(-10, Ports)]), "ports are not descriptors");
    let flood = (-300..=20).step_by(2).map(|time| (time, Descriptors));
    assert!(is_proven(flood), "one of many is before it");
}

#[test]
fn what_was_refused_before_a_quiet_minute_is_not_counted() {
    let mut exhaustion = Exhaustion::default();
    for seconds in [0, 59, 120] {
        let time = process_time().after(Duration::from_secs(seconds));
        exhaustion.refused(process(7), Accept, Descriptors, time, None);
        let refusals = &exhaustion.processes[&process(7)];
        let expected = if seconds == 59 { (2, 0) } else { (1, seconds) };
        let since = refusals.since.since(process_time()).as_secs();
        assert_eq!((refusals.descriptors.refused, since), expected);
    }
}

#[test]
fn the_host_is_named_where_the_kernel_says_so() {
    let mut host = host(100, 1_000);
    host.refuse(7, Accept, HostDescriptors);
    host.pass(0.1);
    assert_eq!(
        exhausted(&host),
        [
            "1 opened: program-7 (pid 7) gets no descriptor, for the host has none left: refused once, \
          last in accept(2) with ENFILE; when last seen it had 100 of 1000"
        ]
    );
}

#[test]
fn a_loss_puts_it_off_until_a_snapshot() {
    let mut host = host(990, 1_000);
    host.correlator.handle_loss(host.now, 3);
    host.refuse(7, Accept, Descriptors);
    host.pass(1.0);
    assert_eq!(host.counts(Kind::Exhausted)[0], 0);
    host.look();
    host.pass(0.1);
    assert_eq!(host.counts(Kind::Exhausted)[0], 1);
    let opened = host.findings.iter().find(|it| it.kind == Kind::Exhausted);
    assert_eq!(opened.map(|it| it.evidence), Some(Evidence::Reconstructed));
}

#[test]
fn a_crowd_of_processes_is_bounded() {
    let mut exhaustion = Exhaustion::default();
    for pid in 0..10_000 {
        exhaustion.refused(process(pid), Socket, Descriptors, process_time(), None);
    }
    assert_eq!(exhaustion.processes.len(), PROCESSES);
    exhaustion.refused(process(0), Socket, Descriptors, process_time(), None);
    assert_eq!(exhaustion.processes[&process(0)].descriptors.refused, 2);
}

fn process_time() -> MonoTime {
    MonoTime::from_nanos(90_000_000_000_000)
}
