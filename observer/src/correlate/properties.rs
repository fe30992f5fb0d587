//! What holds for every history.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{
    correlate::{
        Config, Correlator, Output,
        kernel_model::Op,
        live::{Live, Told, Way},
    },
    detect::Kind,
    incident::{Finding, FindingEvent, Subject},
    model::{Cookie, KernelEvent, MonoTime},
    table::{Process, Socket},
};

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    prop_oneof![
        4 => n().prop_map(Op::Connect),
        2 => Just(Op::Arrive),
        3 => n().prop_map(Op::Accept),
        6 => n().prop_map(Op::Answer),
        4 => (n(), n()).prop_map(|(which, id)| Op::Name(which, id)),
        1 => n().prop_map(Op::Refuse),
        4 => n().prop_map(Op::PeerCloses),
        1 => n().prop_map(Op::PeerResets),
        4 => n().prop_map(Op::Data),
        3 => n().prop_map(Op::Read),
        2 => n().prop_map(Op::ReadSome),
        3 => n().prop_map(Op::Write),
        4 => (n(), n()).prop_map(|(who, which)| Op::Close(who, which)),
        2 => (n(), n()).prop_map(|(who, which)| Op::CloseUnseen(who, which)),
        1 => (n(), n()).prop_map(|(who, which)| Op::Dup(who, which)),
        2 => n().prop_map(Op::Fork),
        1 => (n(), any::<bool>()).prop_map(|(who, keeps)| Op::Exec(who, keeps)),
        1 => n().prop_map(Op::Exit),
        1 => (n(), n(), n()).prop_map(|(from, which, to)| Op::Pass(from, which, to)),
        3 => (0..15_000_u16).prop_map(Op::Wait),
    ]
}

pub(super) fn history() -> impl Strategy<Value = Vec<(u16, Op)>> {
    vec((1..300_u16, op()), 1..80)
}

fn live(history: &[(u16, Op)], way: Way) -> Live {
    let mut live = Live::new(Config::default(), 3, way);
    for (pause, op) in history {
        live.run(Duration::from_millis(u64::from(*pause)), *op);
    }
    live
}

pub(super) fn settings() -> ProptestConfig {
    ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() }
}

/// What is open at last is what is truly wrong, and all of it but what is a matter of opinion.
fn check_the_end(mut live: Live) {
    live.pass(live.kernel.now.after(Duration::from_secs(60)));
    for (cookie, kind) in live.open.keys() {
        if live.loses() && *kind == Kind::DuplicateClientId {
            // Which one is older may be a guess.
            continue;
        }
        assert!(live.kernel.wrong_since(*cookie, *kind).is_some(), "{kind} is over for {cookie:?}");
    }
    for cookie in live.kernel.cookies() {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Inherited) {
            if live.loses() && matches!(kind, Kind::DuplicateClientId | Kind::SilentPeer) {
                // No snapshot tells a name whose record was lost.
                continue;
            }
            let is_wrong = live.kernel.wrong_since(cookie, kind).is_some();
            let is_open = live.open.contains_key(&(cookie, kind));
            assert_eq!(
                is_open,
                is_wrong,
                "{kind} of {cookie:?}: {:?}",
                live.correlator.table().socket(cookie)
            );
        }
    }
    let known: Vec<_> = live.correlator.table().sockets().map(|socket| socket.cookie).collect();
    for cookie in &known {
        assert!(live.kernel.cookies().contains(cookie), "{cookie:?} is gone");
    }
}

/// What a correlator found and what it knew at last.
#[derive(Debug, PartialEq)]
struct Outcome {
    findings: Vec<(FindingEvent, Kind, Subject, MonoTime)>,
    sockets: Vec<Socket>,
    processes: Vec<Process>,
}

/// Tells a new correlator the same.
fn replay(told: &[Told]) -> Outcome {
    let mut correlator = Correlator::new(Config::default(), MonoTime::from_nanos(1_000_000_000));
    let mut findings = Vec::new();
    for told in told {
        match told.clone() {
            Told::Event(event) => correlator.handle_event(event),
            Told::Snapshot(snapshot) => correlator.handle_snapshot(snapshot),
            Told::Timeout(now) => correlator.handle_timeout(now),
            Told::Place(process, place) => correlator.handle_place(process, place),
        }
        while let Some(output) = correlator.poll_output() {
            if let Output::Finding(Finding { event, kind, subject, since, .. }) = output
                && event != FindingEvent::Updated
            {
                findings.push((event, kind, subject, since));
            }
        }
    }
    findings.sort_by_key(|(event, kind, subject, since)| (*subject, *kind, *since, event.code()));
    let table = correlator.table();
    // What is remembered of the past is in the order in which it was told.
    let sockets = table.sockets().cloned().map(Socket::without_history);
    let processes = table.processes().cloned();
    Outcome { findings, sockets: sockets.collect(), processes: processes.collect() }
}

/// The socket of an event; `None` if it is about a process.
fn subject(told: &Told) -> Option<Cookie> {
    match told {
        Told::Event(KernelEvent::Transition(transition)) => Some(transition.cookie),
        Told::Event(KernelEvent::Accepted { cookie, .. } | KernelEvent::Closed { cookie, .. }) => {
            *cookie
        }
        Told::Event(KernelEvent::Destroyed { cookie, .. } | KernelEvent::Named { cookie, .. }) => {
            Some(*cookie)
        }
        _ => None,
    }
}

/// The same with every close seen. One that was not is noticed when the descriptor is used again, and
/// which use comes first is a question of order: then only the bound on its time differs.
fn all_seen(history: Vec<(u16, Op)>) -> Vec<(u16, Op)> {
    let seen = |op| match op {
        Op::CloseUnseen(who, which) => Op::Close(who, which),
        Op::Exec(who, _) => Op::Exec(who, true),
        op => op,
    };
    history.into_iter().map(|(pause, op)| (pause, seen(op))).collect()
}

/// Interleaves the events of different sockets anew between two barriers.
fn shuffle(told: &[Told], choices: &[Index]) -> Vec<Told> {
    let mut shuffled = Vec::new();
    let mut queues: BTreeMap<Cookie, Vec<Told>> = BTreeMap::new();
    let mut choices = choices.iter().cycle();
    let mut drain = |queues: &mut BTreeMap<Cookie, Vec<Told>>, shuffled: &mut Vec<Told>| {
        while !queues.is_empty() {
            let choice = choices.next().expect("there is a choice").index(queues.len());
            let cookie = *queues.keys().nth(choice).expect("an index into it");
            let queue = queues.get_mut(&cookie).expect("it was just seen");
            shuffled.push(queue.remove(0));
            if queue.is_empty() {
                queues.remove(&cookie);
            }
        }
    };
    for told in told {
        match subject(told) {
            Some(cookie) => queues.entry(cookie).or_default().push(told.clone()),
            None => {
                drain(&mut queues, &mut shuffled);
                shuffled.push(told.clone());
            }
        }
    }
    drain(&mut queues, &mut shuffled);
    shuffled
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn findings_are_true_and_none_is_missed(history in history()) {
        check_the_end(live(&history, Way::default()));
    }

    #[test]
    fn a_slow_snapshot_brings_nothing_back(history in history()) {
        let history = all_seen(history);
        check_the_end(live(&history, Way { is_slow: true, ..Way::default() }));
    }

    #[test]
    fn loss_never_creates_a_certain_finding(history in history(), seed in any::<u64>(), more in any::<u64>()) {
        check_the_end(live(&history, Way { loses: Some(seed & more), ..Way::default() }));
    }

    #[test]
    fn a_slow_snapshot_after_a_loss(history in history(), seed in any::<u64>()) {
        check_the_end(live(&history, Way { loses: Some(seed), is_slow: true }));
    }

    #[test]
    fn the_order_among_sockets_does_not_matter(
        history in history(),
        choices in vec(any::<Index>(), 16),
    ) {
        let history = all_seen(history);
        let told = live(&history, Way::default()).told;
        let (one, other) = (replay(&told), replay(&shuffle(&told, &choices)));
        for (one, other) in one.sockets.iter().zip(&other.sockets) {
            prop_assert_eq!(one, other);
        }
        prop_assert_eq!(one, other);
    }
}
