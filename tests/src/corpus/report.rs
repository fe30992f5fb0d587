//! PURE. Two tables: what became of each case, and how well each kind is found.

use super::verdict::{Answer, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::time::Duration;

/// Until a finding is late: the promise is 100 ms after its budget.
const PROMISE: Duration = Duration::from_millis(100);

/// Until it is wrong, whatever else the machine does.
const LATEST: Duration = Duration::from_secs(1);

/// False findings of one case that are shown: the others are most often of the same kind.
const SHOWN: usize = 3;

/// How the cases ended.
#[derive(Debug)]
pub struct Report(Vec<Outcome>);

/// A kind over all cases.
#[derive(Default)]
struct OfKind {
    cases: usize,
    met: usize,
    false_findings: usize,
    findings: usize,
    latencies: Vec<Duration>,
}

impl Report {
    pub(super) fn new(mut outcomes: Vec<Outcome>) -> Self {
        // Leaks first, then in the alphabet.
        outcomes.sort_by_key(|it| (it.case.expects.is_empty(), it.case.name));
        Self(outcomes)
    }

    /// Why the corpus has failed; empty if it has not.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for outcome in self.0.iter().filter(|it| !it.is_good()) {
            failures.push(format!("{}: {}", outcome.case.name, outcome.words().join("; ")));
        }
        for (kind, of_kind) in self.kinds() {
            if percentile(&of_kind.latencies, 99).is_some_and(|late| late > LATEST) {
                failures.push(format!("{kind}: the p99 of its latency is above {LATEST:?}"));
            }
        }
        failures
    }

    fn kinds(&self) -> BTreeMap<String, OfKind> {
        let mut kinds: BTreeMap<String, OfKind> = BTreeMap::new();
        for outcome in &self.0 {
            for answer in &outcome.answers {
                let of_kind = kinds.entry(answer.expect.kind.to_owned()).or_default();
                of_kind.cases += 1;
                of_kind.met += usize::from(answer.complaint.is_none());
                of_kind.findings += answer.found;
                of_kind.latencies.extend(&answer.latencies);
            }
            for (kind, _) in &outcome.false_findings {
                kinds.entry(kind.clone()).or_default().false_findings += 1;
            }
        }
        kinds.values_mut().for_each(|it| it.latencies.sort_unstable());
        kinds
    }
}

impl Outcome {
    /// What is to be said of it, each in a few words.
    fn words(&self) -> Vec<String> {
        let complaints = self.answers.iter().filter_map(|it| {
            it.complaint.as_ref().map(|complaint| format!("{} {complaint}", it.expect.kind))
        });
        let strays = self.false_findings.iter().map(|(kind, text)| format!("false {kind}: {text}"));
        let more = self.false_findings.len().checked_sub(SHOWN).filter(|more| *more > 0);
        let more = more.map(|more| format!("and {more} more"));
        complaints.chain(strays.take(SHOWN)).chain(more).chain(self.broken.clone()).collect()
    }

    fn verdict(&self) -> &'static str {
        if self.is_good() { "ok" } else { "FAILED" }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<28} {:<28} {:>5}  {:>8}  {:>9}  verdict",
            "case", "expected", "found", "after", "latency"
        )?;
        for outcome in &self.0 {
            let mut name = outcome.case.name;
            for answer in &outcome.answers {
                let latency = answer.latencies.iter().max().copied();
                writeln!(
                    f,
                    "{name:<28} {:<28} {:>5}  {:>8}  {:>9}  {}",
                    expected(answer),
                    answer.found,
                    seconds(answer.after),
                    millis(latency),
                    outcome.verdict()
                )?;
                name = "";
            }
            if outcome.answers.is_empty() {
                let (found, verdict) = (outcome.false_findings.len(), outcome.verdict());
                let row = ("nothing", "-", "-");
                writeln!(
                    f,
                    "{name:<28} {:<28} {found:>5}  {:>8}  {:>9}  {verdict}",
                    row.0, row.1, row.2
                )?;
            }
            for words in outcome.words() {
                writeln!(f, "    {}", words.lines().next().unwrap_or_default())?;
            }
        }
        writeln!(
            f,
            "\n{:<22} {:>5} {:>8} {:>7} {:>6} {:>9} {:>10} {:>10}",
            "kind", "cases", "findings", "recall", "false", "precision", "p50", "p99"
        )?;
        for (kind, it) in self.kinds() {
            let recall = share(it.met, it.cases);
            let precision = share(it.findings, it.findings + it.false_findings);
            let late = percentile(&it.latencies, 99).is_some_and(|p99| p99 > PROMISE);
            writeln!(
                f,
                "{kind:<22} {:>5} {:>8} {recall:>7} {:>6} {precision:>9} {:>10} {:>10}{}",
                it.cases,
                it.findings,
                it.false_findings,
                millis(percentile(&it.latencies, 50)),
                millis(percentile(&it.latencies, 99)),
                if late { "  later than promised" } else { "" }
            )?;
        }
        let healthy = self.0.iter().filter(|it| it.case.expects.is_empty());
        let quiet = healthy.clone().filter(|it| it.is_good()).count();
        let names: BTreeSet<&str> = self.0.iter().map(|it| it.case.name).collect();
        writeln!(f, "\n{} cases; {quiet} of {} healthy ones quiet", names.len(), healthy.count())
    }
}

fn share(part: usize, whole: usize) -> String {
    match whole {
        0 => "-".to_owned(),
        _ => format!("{} %", 100 * part / whole),
    }
}

fn expected(answer: &Answer) -> String {
    let (least, most) = answer.expect.count;
    let mut text = format!("{} {least}", answer.expect.kind);
    if most != least {
        // A string takes everything.
        let _always = write!(text, "..{most}");
    }
    text
}

/// The value below which `percent` of 100 of the sorted `values` are.
fn percentile(values: &[Duration], percent: usize) -> Option<Duration> {
    let last = values.len().checked_sub(1)?;
    values.get((values.len() * percent / 100).min(last)).copied()
}

fn seconds(duration: Option<Duration>) -> String {
    duration.map_or("-".to_owned(), |it| format!("{:.1} s", it.as_secs_f64()))
}

fn millis(duration: Option<Duration>) -> String {
    duration.map_or("-".to_owned(), |it| format!("{:.1} ms", it.as_secs_f64() * 1e3))
}
