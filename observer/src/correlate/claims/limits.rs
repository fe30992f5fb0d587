//! What is let go at the caps, and words that are about nothing that is known.

use std::time::Duration;

use super::backend::{Backend, PID, claim, ends};
use crate::{
    claims::{Counts, Statement},
    correlate::{Config, kernel_model::Op},
    detect::Kind,
    model::{Cookie, ProcessKey},
};

/// Sockets that are gone and may still be claimed, as the claims keep them.
const KEPT: u64 = 4_096;

/// A connection that has come and gone.
fn gone(backend: &mut Backend) -> Cookie {
    let cookie = backend.connect();
    // The other one lives, and is the first.
    backend.close(cookie).run(Op::PeerCloses(1));
    assert_eq!(backend.kernel.state(cookie), None);
    cookie
}

#[test]
fn of_what_is_gone_and_unclaimed_the_newest_may_still_be_claimed() {
    let mut backend = Backend::new(1);
    let first = backend.connect();
    backend.at(5_000).put(&[(first, "dev-1")]);
    let (forgotten, kept) = (gone(&mut backend), gone(&mut backend));
    for _ in 1..KEPT {
        gone(&mut backend);
    }
    let claims = |it| vec![Statement::Claim(claim(it, "dev-2"))];
    let counts = backend.say(claims(forgotten));
    assert_eq!(counts, Ok(Counts { matched: 1, unmatched: 1 }), "it waits for a socket");
    let counts = backend.say(claims(kept));
    assert_eq!(counts, Ok(Counts { matched: 2, unmatched: 1 }));
    backend.at(7_000).say(vec![Statement::Confirm]).expect("there is room");
    backend.at(9_000);
    assert_eq!(backend.open(), [(Kind::Ghost, kept.0)]);
}

#[test]
fn a_claimed_socket_is_kept_however_many_are_gone() {
    let mut backend = Backend::new(1);
    let (first, second) = (backend.connect(), backend.connect());
    backend.at(5_000).put(&[(first, "dev-1"), (second, "dev-2")]);
    backend.run(Op::PeerResets(1)).close(second);
    for _ in 0..=KEPT {
        gone(&mut backend);
    }
    let counts = backend.say(vec![Statement::Confirm]);
    assert_eq!(counts, Ok(Counts { matched: 2, unmatched: 0 }));
    backend.at(7_000).say(vec![Statement::Confirm]).expect("there is room");
    backend.at(9_000);
    assert_eq!(backend.open(), [(Kind::Ghost, second.0)]);
}

#[test]
fn nothing_is_said_of_a_socket_for_which_the_table_had_no_room() {
    let config = Config { socket_capacity: 2, ..Config::default() };
    let mut backend = Backend::with(1, config);
    let first = backend.connect();
    backend.put(&[(first, "dev-1")]);
    let (second, third) = (backend.connect(), backend.connect());
    assert_eq!(backend.correlator.table().socket(first), None, "it had to leave");
    let counts = backend.say(vec![Statement::Confirm]);
    assert_eq!(counts, Ok(Counts { matched: 0, unmatched: 1 }));
    for ms in [1_000, 3_000, 5_000] {
        backend.at(ms).put(&[(first, "dev-1"), (second, "dev-2"), (third, "dev-3")]);
        assert_eq!(backend.open(), [], "it lives on");
    }
}

#[test]
fn a_stream_holds_as_long_as_another_one_lives() {
    let mut backend = Backend::new(1);
    let (first, second) = (backend.connect(), backend.connect());
    backend
        .say(vec![Statement::Begin, Statement::Begin, Statement::Claim(claim(first, "dev-1"))])
        .expect("there is room");
    backend.at(5_000).say(vec![Statement::Confirm]).expect("there is room");
    let end = |backend: &mut Backend, pid| {
        let now = backend.kernel.now;
        backend.correlator.handle_claims_end(pid, now);
    };
    end(&mut backend, 9);
    end(&mut backend, PID);
    backend.at(100_000);
    assert_eq!(backend.open(), [(Kind::Orphan, second.0)], "the other stream stands by it");
    end(&mut backend, PID);
    backend.at(129_900);
    assert_eq!(backend.open(), [(Kind::Orphan, second.0)]);
    backend.at(130_000);
    assert_eq!(backend.open(), []);
    // One end too many is none.
    end(&mut backend, PID);
    let begin = vec![Statement::Begin, Statement::Claim(claim(first, "dev-1"))];
    backend.say(begin).expect("there is room");
    backend.at(500_000).say(vec![Statement::Confirm]).expect("there is room");
    backend.at(502_000);
    assert_eq!(backend.open(), [(Kind::Orphan, second.0)]);
}

#[test]
fn to_take_back_what_was_not_claimed_changes_nothing() {
    let mut backend = Backend::new(1);
    let (first, forgotten) = (backend.connect(), backend.connect());
    backend.at(5_000).put(&[(first, "dev-1")]);
    let strangers = vec![Statement::Retract(ends(Cookie(99))), Statement::Retract(ends(forgotten))];
    let counts = backend.say(strangers);
    assert_eq!(counts, Ok(Counts { matched: 1, unmatched: 0 }));
    backend.at(6_000).say(vec![Statement::Retract(ends(forgotten))]).expect("there is room");
    backend.at(8_000);
    assert_eq!(backend.open(), [(Kind::Orphan, forgotten.0)], "its devices still go there");
    assert_eq!(backend.findings[0].device_name(), None, "it never had a device");
    // And what is taken back twice is taken back once.
    let twice = vec![Statement::Retract(ends(first)), Statement::Retract(ends(first))];
    assert_eq!(backend.say(twice), Ok(Counts::default()));
    backend.at(20_000);
    assert_eq!(backend.open(), [], "none of its devices goes anywhere");
}

#[test]
fn the_exit_of_another_life_of_the_number_takes_no_claims() {
    let mut backend = Backend::new(1);
    let (first, forgotten) = (backend.connect(), backend.connect());
    backend.at(5_000).put(&[(first, "dev-1")]);
    let now = backend.kernel.now;
    let process = ProcessKey { pid: PID, start_ns: 0 };
    backend.correlator.handle_event(crate::model::KernelEvent::Exited { time: now, process });
    let lease = Some(Duration::from_secs(60));
    backend.at(7_000).say(vec![Statement::Confirm]).expect("there is room");
    backend.at(9_000);
    assert_eq!(backend.open(), [(Kind::Orphan, forgotten.0)]);
    let all = Statement::All { claims: vec![claim(first, "dev-1")], lease };
    assert_eq!(backend.say(vec![all]), Ok(Counts { matched: 1, unmatched: 0 }));
}
