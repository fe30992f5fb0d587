//! Stories of a claiming process.

use std::time::Duration;

use super::backend::{Backend, PID, claim, ends};
use crate::{
    claims::{Claim, Counts, MOST_CLAIMS, MOST_PROCESSES, Refusal, Stage, Statement},
    correlate::kernel_model::Op,
    detect::Kind,
    incident::{ClearReason, Evidence},
    model::{Cookie, Ends},
};

/// Says at `ms` and all ten seconds after that, up to `until`, the same.
fn keep_saying(backend: &mut Backend, claims: &[(Cookie, &str)], ms: u64, until: u64) {
    let mut at = ms;
    while at <= until {
        backend.at(at).put(claims);
        at += 10_000;
    }
    backend.at(until);
}

#[test]
fn a_healthy_backend_raises_nothing_whenever_it_speaks() {
    let mut backend = Backend::new(2);
    let devices: Vec<String> = (0..10).map(|n| format!("dev-{n}")).collect();
    let mut sockets: Vec<Cookie> = devices.iter().map(|_| backend.connect()).collect();
    for round in 0_u64..20 {
        let claims: Vec<_> =
            sockets.iter().copied().zip(devices.iter().map(String::as_str)).collect();
        backend.at(round * 3_000 + 100).put(&claims);
        // The broker ends all, each is closed and made anew.
        backend.at(round * 3_000 + 1_000);
        for socket in &mut sockets {
            backend.run(Op::PeerCloses(0)).close(*socket);
            *socket = backend.connect();
        }
    }
    backend.at(70_000);
    assert_eq!(backend.told(), [""; 0]);
}

#[test]
fn a_connection_that_was_never_claimed_is_an_orphan() {
    let mut backend = Backend::new(1);
    let (first, forgotten) = (backend.connect(), backend.connect());
    keep_saying(&mut backend, &[(first, "dev-1")], 5_000, 25_000);
    assert_eq!(
        backend.told(),
        ["6000 opened orphan: program-1 (pid 1) has held fd 4 to 127.0.0.1:1883, a broker of its \
          devices, without a claim for 6 s"]
    );
    assert_eq!(backend.findings[0].evidence, Evidence::Complete);
    backend.close(forgotten).at(26_000);
    let last = backend.findings.last().expect("it is cleared");
    assert_eq!(last.clear_reason, Some(ClearReason::StateLeft));
    assert_eq!(backend.open(), []);
}

#[test]
fn a_registry_from_before_the_connection_says_nothing_about_it() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]);
    let second = backend.connect();
    // Received 900 ms later, it may have been made before.
    backend.at(5_900).put(&[(first, "dev-1")]).at(15_000);
    assert_eq!(backend.open(), []);
    backend.put(&[(first, "dev-1")]).at(15_900);
    assert_eq!(backend.open(), [], "it has a budget to be claimed or to end");
    backend.at(16_000);
    assert_eq!(backend.open(), [(Kind::Orphan, second.0)]);
    backend.put(&[(first, "dev-1"), (second, "dev-2")]).at(16_100);
    let last = backend.findings.last().expect("it is cleared");
    assert_eq!(last.clear_reason, Some(ClearReason::Claimed));
}

#[test]
fn a_dropped_claim_leaves_an_orphan_that_names_its_device() {
    let mut backend = Backend::new(1);
    let (first, second) = (backend.connect(), backend.connect());
    backend.at(5_000).put(&[(first, "dev-1"), (second, "dev-2")]);
    keep_saying(&mut backend, &[(first, "dev-1")], 15_000, 25_000);
    assert_eq!(
        backend.told(),
        [
            "16000 opened orphan: program-1 (pid 1) has held fd 4 to 127.0.0.1:1883, a broker of its \
          devices, without a claim for 1 s; it was that of device dev-2"
        ]
    );
    assert_eq!(backend.findings[0].device_name(), Some("dev-2"));
}

#[test]
fn who_takes_a_claim_back_may_say_goodbye() {
    let mut backend = Backend::new(1);
    let (first, second) = (backend.connect(), backend.connect());
    backend.at(5_000).put(&[(first, "dev-1"), (second, "dev-2")]);
    backend.at(15_000).put(&[(first, "dev-1")]);
    backend.at(15_900).close(second).at(30_000);
    assert_eq!(backend.told(), [""; 0]);
}

#[test]
fn an_older_registry_that_comes_late_drops_nothing() {
    let mut backend = Backend::new(1);
    let (first, second) = (backend.connect(), backend.connect());
    backend.at(20_000).put(&[(first, "dev-1"), (second, "dev-2")]);
    // Made before the other, received after it.
    backend.at(20_800).put(&[(first, "dev-1")]).at(29_000);
    assert_eq!(backend.open(), []);
    // Now it is no accident.
    backend.put(&[(first, "dev-1")]).at(31_000);
    assert_eq!(backend.open(), [(Kind::Orphan, second.0)]);
}

#[test]
fn connections_to_elsewhere_and_of_others_are_nobodys_business() {
    let mut backend = Backend::new(2);
    let first = backend.connect();
    backend.run(Op::Connect(1)).run(Op::Answer(0));
    let (mut elsewhere, second) = (claim(first, "dev-1"), backend.connect());
    elsewhere.ends.remote.set_port(8_883);
    let lease = Some(Duration::from_secs(60));
    let all = Statement::All { claims: vec![elsewhere], lease };
    let counts = backend.at(5_000).say(vec![all]);
    assert_eq!(counts, Ok(Counts { matched: 0, unmatched: 1 }));
    backend.at(14_000);
    assert_eq!(backend.open(), [], "no claim goes there");
    backend.put(&[(first, "dev-1"), (second, "dev-2")]).at(30_000);
    assert_eq!(backend.open(), [], "process 2 claims nothing");
}

#[test]
fn copies_of_a_parents_sockets_are_no_orphans_of_its_child() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    backend.run(Op::Fork(0));
    // The child, process 2, makes one of its own.
    backend.run(Op::Connect(1)).run(Op::Answer(0));
    let own = *backend.kernel.cookies().last().expect("it was made");
    let all = |cookie, device: &str| {
        let lease = Some(Duration::from_secs(60));
        vec![Statement::All { claims: vec![claim(cookie, device)], lease }]
    };
    for ms in [5_000, 15_000, 25_000] {
        backend.at(ms).say_for(2, all(own, "dev-2")).expect("there is room");
    }
    backend.at(30_000);
    assert_eq!(backend.open(), [], "the parent made it");
    let _known = backend.say(all(first, "dev-1"));
    backend.at(40_000);
    assert_eq!(backend.open(), []);
}

#[test]
fn a_claim_that_stands_after_its_socket_has_gone_is_a_ghost() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]);
    backend.run(Op::PeerResets(0)).close(first).at(14_000);
    assert_eq!(backend.open(), [], "nothing was said since");
    backend.put(&[(first, "dev-1")]).at(24_000);
    assert_eq!(
        backend.told(),
        [
            "14000 opened ghost: device dev-1 is online in the registry of program-1 (pid 1), but its \
          socket to 127.0.0.1:1883 has been gone for 9 s"
        ]
    );
    backend.put(&[]).at(24_100);
    assert_eq!(
        backend.told()[1],
        "24050 cleared ghost: cleared: device dev-1: the registry does not say online any more, \
         after 19 s"
    );
}

#[test]
fn a_ghost_in_close_wait_names_its_descriptor() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]).run(Op::PeerCloses(0));
    backend.at(5_900).put(&[(first, "dev-1")]).at(6_500);
    assert_eq!(backend.open(), [], "it may not have known");
    backend.put(&[(first, "dev-1")]).at(7_000);
    assert_eq!(
        backend.told(),
        [
            "6500 opened ghost: device dev-1 is online in the registry of program-1 (pid 1), but its \
          socket to 127.0.0.1:1883, fd 3, has been in CLOSE_WAIT for 1 s"
        ]
    );
    // It is claimed still, so it is no orphan; and it goes on though it is closed.
    backend.close(first).at(9_000);
    assert_eq!(backend.open(), [(Kind::Ghost, first.0)]);
    let connecting = Claim { stage: Stage::Connecting, ..claim(first, "dev-1") };
    let _taken = backend.say(vec![Statement::Claim(connecting)]);
    backend.at(9_100);
    assert_eq!(backend.open(), [], "it does not say online");
}

#[test]
fn two_live_sockets_of_a_device_overlap() {
    let mut backend = Backend::new(1);
    let older = backend.connect();
    backend.at(5_000).put(&[(older, "dev-1")]).at(7_000);
    let newer = backend.connect();
    backend.at(8_000).put(&[(older, "dev-1"), (newer, "dev-1")]).at(8_100);
    assert_eq!(
        backend.told(),
        ["8000 opened overlap: device dev-1 of program-1 (pid 1) has had two live sockets to \
          127.0.0.1:1883 for 1 s, fd 4 is the newer one"]
    );
    let facts = backend.findings[0].device.clone().expect("it names the device");
    assert_eq!((facts.other, facts.overlap), (Some(older), Some(Duration::from_secs(1))));
    assert_eq!(facts.generation, None);
    backend.close(older).at(8_200);
    assert_eq!(backend.findings[1].clear_reason, Some(ClearReason::Parted));
    // One after the other is no overlap, whatever stands in the registry until the next one.
    let third = backend.connect();
    backend.close(newer).at(8_900).put(&[(third, "dev-1"), (newer, "dev-1")]).at(9_500);
    assert_eq!(backend.findings.len(), 2);
}

#[test]
fn a_device_may_change_its_socket_and_a_socket_its_device() {
    let mut backend = Backend::new(1);
    let (first, second) = (backend.connect(), backend.connect());
    backend.at(2_000).put(&[(first, "dev-1"), (second, "dev-2")]);
    backend.at(4_000).put(&[(first, "dev-2"), (second, "dev-1")]).at(12_000);
    assert_eq!(backend.told(), [""; 0]);
    backend.put(&[(first, "dev-1"), (second, "dev-1")]).at(12_100);
    assert_eq!(backend.open(), [(Kind::Overlap, second.0)]);
    backend.put(&[(first, "dev-2"), (second, "dev-1")]).at(12_200);
    assert_eq!(backend.open(), []);
}

#[test]
fn a_claim_may_come_before_the_kernels_word() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]);
    backend.is_full = true;
    let second = backend.connect();
    let lease = Some(Duration::from_secs(60));
    let claims = vec![claim(first, "dev-1"), claim(second, "dev-2")];
    let counts = backend.say(vec![Statement::All { claims, lease }]);
    assert_eq!(counts, Ok(Counts { matched: 1, unmatched: 1 }));
    backend.at(5_100).is_full = false;
    backend.follow();
    backend.at(5_200);
    let counts = backend.say(vec![Statement::Confirm]);
    assert_eq!(counts, Ok(Counts { matched: 2, unmatched: 0 }));
    backend.at(30_000);
    assert_eq!(backend.told(), [""; 0]);
}

#[test]
fn a_claim_may_come_after_its_socket_has_gone() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]);
    let second = backend.connect();
    backend.close(second).run(Op::PeerCloses(1)).at(8_000);
    assert_eq!(backend.kernel.state(second), None);
    backend.put(&[(first, "dev-1"), (second, "dev-2")]).at(8_100);
    assert_eq!(backend.open(), [(Kind::Ghost, second.0)]);
}

#[test]
fn addresses_that_are_used_again_mean_the_newer_socket() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]);
    backend.run(Op::PeerResets(0));
    // The dead descriptor stays, and the next connection gets the same port.
    backend.kernel.reuse_port(first);
    let again = backend.connect();
    backend.at(15_000).put(&[(first, "dev-1")]).at(25_000);
    assert_eq!(backend.open(), [], "the claim is about {again:?}");
    backend.put(&[]).at(25_100);
    let lease = Some(Duration::from_secs(60));
    let claims = vec![Claim { ends: ends(first), ..claim(first, "dev-2") }];
    let counts = backend.say(vec![Statement::All { claims, lease }]);
    assert_eq!(counts, Ok(Counts { matched: 1, unmatched: 0 }));
}

#[test]
fn claims_end_with_their_lease() {
    let mut backend = Backend::new(1);
    let (first, second) = (backend.connect(), backend.connect());
    let forgotten = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1"), (second, "dev-1")]).at(7_000);
    backend.run(Op::PeerResets(0)).put(&[(first, "dev-1"), (second, "dev-2")]).at(9_000);
    backend.put(&[(first, "dev-1"), (second, "dev-2")]).at(68_900);
    assert_eq!(backend.open(), [(Kind::Ghost, first.0), (Kind::Orphan, forgotten.0)]);
    backend.at(69_000);
    assert_eq!(backend.open(), []);
    let reasons: Vec<_> = backend.findings.iter().filter_map(|it| it.clear_reason).collect();
    use ClearReason::{Parted, Retracted, Subsided};
    assert_eq!(reasons, [Parted, Retracted, Subsided]);
}

#[test]
fn a_process_takes_its_claims_along_when_it_exits() {
    let mut backend = Backend::new(2);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]).run(Op::PeerCloses(0)).at(7_000);
    backend.put(&[(first, "dev-1")]).at(7_100);
    assert_eq!(backend.open(), [(Kind::Ghost, first.0)]);
    backend.run(Op::Exit(0)).at(7_200);
    assert_eq!(backend.findings.last().and_then(|it| it.clear_reason), Some(ClearReason::Exited));
}

#[test]
fn a_stream_holds_as_long_as_it_lives_and_a_while_after() {
    let mut backend = Backend::new(1);
    let (first, second) = (backend.connect(), backend.connect());
    let all = Statement::All { claims: vec![claim(first, "dev-1")], lease: None };
    backend.at(1_000).say(vec![Statement::Begin, all]).expect("there is room");
    backend.say(vec![Statement::Claim(claim(second, "dev-2"))]).expect("there is room");
    backend.at(200_000).say(vec![Statement::Retract(ends(second))]).expect("there is room");
    backend.at(201_000);
    assert_eq!(backend.open(), [(Kind::Orphan, second.0)], "lines come in order");
    let now = backend.kernel.now;
    backend.correlator.handle_claims_end(PID, now);
    backend.at(230_900);
    assert_eq!(backend.open(), [(Kind::Orphan, second.0)]);
    backend.at(231_000);
    assert_eq!(backend.open(), []);
    // A line of a stream that is over, or whose process is, does not hold for ever.
    backend.say(vec![Statement::Claim(claim(first, "dev-1"))]).expect("there is room");
    backend.at(240_000).say(vec![Statement::Confirm]).expect("there is room");
    backend.at(241_100);
    assert_eq!(backend.open(), [(Kind::Orphan, second.0)]);
    backend.at(270_000);
    assert_eq!(backend.open(), []);
}

#[test]
fn a_word_without_news_repeats_what_stands() {
    let mut backend = Backend::new(1);
    let (first, second) = (backend.connect(), backend.connect());
    backend
        .say(vec![Statement::Begin, Statement::Claim(claim(first, "dev-1"))])
        .expect("there is room");
    backend.run(Op::PeerResets(0)).at(5_000);
    assert_eq!(backend.open(), []);
    backend.say(vec![Statement::Confirm]).expect("there is room");
    backend.at(6_000);
    assert_eq!(backend.open(), [(Kind::Ghost, first.0), (Kind::Orphan, second.0)]);
}

#[test]
fn nothing_opens_between_a_loss_and_the_next_snapshot() {
    let mut backend = Backend::new(1);
    let (older, newer) = (backend.connect(), backend.connect());
    let forgotten = backend.connect();
    backend.at(5_000);
    let now = backend.kernel.now;
    // The ring is full, and the snapshot that answers it is on its way.
    backend.correlator.handle_loss(now, 1);
    backend
        .correlator
        .handle_claims(
            PID,
            vec![Statement::All {
                claims: vec![claim(older, "dev-1"), claim(newer, "dev-1")],
                lease: Some(Duration::from_secs(60)),
            }],
            now,
        )
        .expect("there is room");
    let later = now.after(Duration::from_secs(2));
    backend.correlator.handle_timeout(later);
    assert_eq!(backend.correlator.open_incidents().count(), 0);
    backend.kernel.now = later;
    backend.follow();
    backend.at(8_000);
    assert_eq!(backend.open(), [(Kind::Orphan, forgotten.0), (Kind::Overlap, newer.0)]);
}

#[test]
fn the_pools_ledger_keeps_off() {
    let mut backend = Backend::new(2);
    backend.correlator.follow_registry(2);
    let (first, forgotten) = (backend.connect(), backend.connect());
    keep_saying(&mut backend, &[(first, "dev-1")], 5_000, 45_000);
    backend.run(Op::Data(1)).run(Op::Read(1)).run(Op::Dup(0, 1)).at(60_000);
    assert_eq!(backend.open(), [(Kind::Orphan, forgotten.0)]);
    assert_eq!(backend.findings.len(), 1, "it was never cleared: {:#?}", backend.told());
}

#[test]
fn another_life_of_the_number_inherits_no_claims() {
    let mut backend = Backend::new(2);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]).run(Op::PeerCloses(0)).at(7_000);
    backend.put(&[(first, "dev-1")]).at(7_100);
    assert_eq!(backend.open(), [(Kind::Ghost, first.0)]);
    // It exits, which is lost, and the number comes again.
    backend.is_full = true;
    backend.run(Op::Exit(0));
    backend.lose_records();
    backend.run(Op::Fork(0));
    backend.is_full = false;
    backend.follow();
    backend.at(30_000);
    assert_eq!(backend.open(), []);
}

#[test]
fn there_is_room_for_so_much_and_no_more() {
    let mut backend = Backend::new(1);
    let some = |port: usize| Claim {
        ends: Ends::new(
            (std::net::Ipv4Addr::from(u32::try_from(port).expect("few")).into(), 1),
            (std::net::Ipv4Addr::LOCALHOST.into(), 1_883),
        ),
        device: "d".into(),
        stage: Stage::Connecting,
    };
    let all = |count: usize| Statement::All {
        claims: (0..count).map(some).collect(),
        lease: Some(Duration::from_secs(60)),
    };
    assert_eq!(backend.say(vec![all(MOST_CLAIMS + 1)]), Err(Refusal::TooManyClaims));
    let full = Counts { matched: 0, unmatched: MOST_CLAIMS };
    assert_eq!(backend.say(vec![all(MOST_CLAIMS)]), Ok(full));
    let one_more = Statement::Claim(some(MOST_CLAIMS));
    assert_eq!(backend.say(vec![one_more.clone()]), Err(Refusal::TooManyClaims));
    assert_eq!(backend.say(vec![Statement::Claim(some(0))]), Ok(full), "it is there already");
    let swapped = vec![Statement::Retract(some(0).ends), one_more];
    assert_eq!(backend.say(swapped), Ok(full));
    for pid in 2..=4 {
        assert_eq!(backend.say_for(pid, vec![all(MOST_CLAIMS)]), Ok(full));
    }
    assert_eq!(backend.say_for(5, vec![all(1)]), Err(Refusal::TooManyClaims), "of all together");
    for pid in 1..=4 {
        assert_eq!(backend.say_for(pid, vec![all(1)]).map(|it| it.unmatched), Ok(1));
    }
    for pid in 5..=64 {
        assert_eq!(backend.say_for(pid, vec![all(1)]).map(|it| it.unmatched), Ok(1));
    }
    assert_eq!(MOST_PROCESSES, 64);
    assert_eq!(backend.say_for(65, vec![all(1)]), Err(Refusal::TooManyProcesses));
    // Who has nothing to claim now may have soon.
    assert_eq!(backend.say_for(64, vec![all(0)]), Ok(Counts::default()));
    backend.at(59_900);
    assert_eq!(backend.say_for(65, vec![all(1)]), Err(Refusal::TooManyProcesses));
    backend.at(60_000);
    assert_eq!(backend.say_for(66, vec![all(1)]).map(|it| it.unmatched), Ok(1), "leases are over");
}

#[test]
fn a_broken_registry_of_the_largest_size_is_judged_soon() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    // All claims are one device's, and one is live: nothing is compared with all others.
    let mut claims = vec![claim(first, "d")];
    claims.extend((1..20_000_u64).map(|n| claim(Cookie(n + 1), "d")));
    let lease = Some(Duration::from_secs(60));
    backend.at(2_000).say(vec![Statement::All { claims, lease }]).expect("there is room");
    backend.put(&[(first, "d")]).at(12_000);
    assert_eq!(backend.open(), []);
}

#[test]
fn the_same_socket_may_connect_again() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]).run(Op::PeerResets(0));
    // connect(2) on the same descriptor, which the model has no word for.
    let now = backend.kernel.now;
    use crate::model::{KernelEvent, TcpState, Transition};
    let steps = [(TcpState::Close, TcpState::SynSent), (TcpState::SynSent, TcpState::Established)];
    for (old, new) in steps {
        let (fd, read, netns, context_pid) = (None, None, 1, 0);
        let transition = Transition {
            time: now,
            cookie: first,
            old,
            new,
            ends: ends(first),
            netns,
            owner: None,
            fd,
            context_pid,
            read,
        };
        backend.correlator.handle_event(KernelEvent::Transition(transition));
    }
    let later = now.after(Duration::from_secs(3));
    let all = vec![Statement::Confirm];
    backend.correlator.handle_claims(PID, all, later).expect("there is room");
    backend.correlator.handle_timeout(later);
    assert_eq!(backend.correlator.open_incidents().count(), 0, "it is ESTABLISHED again");
}

#[test]
fn a_new_stream_takes_over_before_the_lease_of_the_old_one_ends() {
    let mut backend = Backend::new(1);
    let (first, forgotten) = (backend.connect(), backend.connect());
    let begin = || vec![Statement::Begin, Statement::Claim(claim(first, "dev-1"))];
    backend.at(2_000).say(begin()).expect("there is room");
    backend.at(5_000);
    let now = backend.kernel.now;
    backend.correlator.handle_claims_end(PID, now);
    backend.at(10_000).say(begin()).expect("there is room");
    backend.at(100_000);
    assert_eq!(backend.open(), [(Kind::Orphan, forgotten.0)]);
    assert_eq!(backend.findings.len(), 1, "{:#?}", backend.told());
}
