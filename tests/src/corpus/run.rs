//! Runs the cases, most of them at once: nearly all of them wait nearly all of the time.

use super::Case;
use super::lanes::Lanes;
use super::program::{Program, Word};
use super::report::Report;
use super::verdict::{Heard, Outcome};
use crate::watch::Builder;
use crate::{Event, clock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

/// Programs and observers that start at the same time: interpreters, and the kernel's verifier.
/// Chosen: one for each of two cores.
const STARTS: usize = 2;

/// Programs that work at the same time.
const WORKERS: usize = 1;

/// How long a case goes on after all that it expects has opened: what else there may be shows now.
const SETTLE: Duration = Duration::from_secs(4);

/// How long a program may take before it says that its mistake is made. Chosen: twice as long as
/// the longest does.
const PREPARATION: Duration = Duration::from_secs(150);

/// How often the case looks at what was found.
const STEP: Duration = Duration::from_millis(100);

/// Runs these cases, and says how each ended.
pub fn run(cases: &[&'static Case]) -> Report {
    raise_limit();
    let (starts, workers) = (Lanes::new(STARTS), Lanes::new(WORKERS));
    let mut order = cases.to_vec();
    // The longest first, for they decide when all is over.
    order.sort_by_key(|case| std::cmp::Reverse(duration(case)));
    let outcomes = thread::scope(|scope| {
        raise_limit();
        let (starts, workers) = (&starts, &workers);
        let running: Vec<_> = order
            .into_iter()
            .map(|case| scope.spawn(move || guarded(case, starts, workers)))
            .collect();
        let ended = running.into_iter().map(|it| it.join().expect("invariant: panics are caught"));
        ended.collect()
    });
    Report::new(outcomes)
}

/// The other ends of all programs are in this process: it needs all the descriptors it may have.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, all).expect("a soft limit may be raised to the hard one");
}

/// How long a case takes at the most, as far as it is known before.
fn duration(case: &Case) -> u64 {
    case.expects.iter().map(|it| it.within).max().unwrap_or(case.seconds)
}

fn guarded(case: &'static Case, starts: &Lanes, workers: &Lanes) -> Outcome {
    let _lane = case.works.then(|| workers.enter());
    let result = catch_unwind(AssertUnwindSafe(|| play(case, starts)));
    result.unwrap_or_else(|panic| Outcome::broken(case, said(panic.as_ref())))
}

fn play(case: &'static Case, starts: &Lanes) -> Outcome {
    let start = starts.enter();
    let mut server = case.server.map(|server| server());
    let mut program = Program::start(case.start, server.as_ref().map(|server| server.port));
    let pid = program.pid();
    let mut observer = Builder::bare(["watch", "--json"]).pid(pid);
    if case.children {
        observer = observer.args(["--children"]);
    }
    let watch = observer.start();
    drop(start);
    program.go();
    let _clients = case.clients.map(|clients| clients(program.port()));
    let begin = clock::now();
    // Where the other end makes the mistake, nobody says more than that it has begun.
    let mut mistake = case.clients.map(|_| (clock::now(), clock::wall()));
    let mut complete = None;
    loop {
        match program.word(STEP) {
            Some(Word::Leaked) => mistake = Some((clock::now(), clock::wall())),
            Some(Word::Act) => {
                mistake = Some((clock::now(), clock::wall()));
                if let Some(act) = server.as_mut().and_then(|server| server.act.as_mut()) {
                    act();
                }
            }
            None => {}
        }
        let is_over = if case.expects.is_empty() {
            begin.elapsed() > Duration::from_secs(case.seconds)
        } else {
            let opened = |kind: &str| {
                let found = watch.findings();
                found.iter().filter(|it| it.event == Event::Opened && it.kind == kind).count()
            };
            if complete.is_none() && case.expects.iter().all(|it| opened(it.kind) >= it.count.0) {
                complete = Some(clock::now());
            }
            is_past(complete, SETTLE) || is_late(case, begin, mistake.map(|(at, _)| at))
        };
        if is_over {
            break;
        }
    }
    let heard = watch.findings_heard();
    let findings = heard.into_iter().map(|(at, finding)| Heard { at, finding }).collect();
    let finished = watch.stop();
    finished.expect_no_panic();
    let lost = finished.summary().lost;
    Outcome::judge(case, pid, mistake.map(|(_, at)| at), findings, lost)
}

fn is_late(case: &Case, begin: Instant, mistake: Option<Instant>) -> bool {
    match mistake {
        Some(mistake) => is_past(Some(mistake), Duration::from_secs(duration(case))),
        None => is_past(Some(begin), PREPARATION),
    }
}

fn is_past(since: Option<Instant>, time: Duration) -> bool {
    since.is_some_and(|since| since.elapsed() > time)
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
