//! Every kind of leak that users reported, in real programs, and their healthy look-alikes: all of
//! the first are found, and nothing is said of the second.
//!
//! `SOCKWARDEN_CORPUS_ROUNDS` repeats it, `SOCKWARDEN_CORPUS_CASES` is a part of the names of the
//! cases to run.

use harness::corpus::{self, cases};
use std::env;
use std::io::{self, Write as _};

#[test]
fn every_leak_is_found_and_no_healthy_program_is_accused() {
    harness::require_root();
    let rounds = env::var("SOCKWARDEN_CORPUS_ROUNDS");
    let rounds: u32 = rounds.map_or(1, |text| text.parse().expect("a number of rounds"));
    let chosen = env::var("SOCKWARDEN_CORPUS_CASES").unwrap_or_default();
    let all = cases::LEAKS.iter().chain(cases::HEALTHY);
    let chosen: Vec<_> = all.filter(|case| case.name.contains(&chosen)).collect();
    let mut failures = Vec::new();
    for round in 1..=rounds {
        let begin = harness::clock::now();
        let report = corpus::run(&chosen);
        let seconds = begin.elapsed().as_secs_f64();
        // Not by `println`: the figures are to be seen when all is well, too.
        writeln!(io::stdout(), "\nround {round} of {rounds}, {seconds:.0} s\n\n{report}")
            .expect("stdout is open");
        failures.extend(report.failures().into_iter().map(|it| format!("round {round}: {it}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
