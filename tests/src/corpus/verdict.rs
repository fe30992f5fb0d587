//! PURE. Compares what was found with what a case expects.

use super::{Case, Expect, Names};
use crate::{Event, Finding};
use jiff::Timestamp;
use observer::detect::Kind;
use std::collections::BTreeSet;
use std::time::Duration;

/// Kinds whose `since` and budget do not say when they were due: what they count begins before
/// anything is wrong.
const COUNTED: &[&str] =
    &["exhausted", "fd-pressure", "reconnect-storm", "stale-generation", "takeover-duel"];

/// A finding, and when its line had come.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) at: Timestamp,
    pub(super) finding: Finding,
}

/// How a case ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) case: &'static Case,
    pub(super) answers: Vec<Answer>,
    /// What nobody expected, in words.
    pub(super) false_findings: Vec<(String, String)>,
    /// Why it could not be judged.
    pub(super) broken: Option<String>,
}

/// What became of an expectation.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) expect: Expect,
    pub(super) found: usize,
    /// From the end of the budget until the line had come.
    pub(super) latencies: Vec<Duration>,
    /// From the mistake until the last of them.
    pub(super) after: Option<Duration>,
    /// What is wrong with it.
    pub(super) complaint: Option<String>,
}

impl Outcome {
    /// One that could not be judged.
    pub(super) fn broken(case: &'static Case, why: String) -> Self {
        Self { case, answers: Vec::new(), false_findings: Vec::new(), broken: Some(why) }
    }

    /// `lost` records make a verdict about absences impossible.
    pub(super) fn judge(
        case: &'static Case,
        pid: u32,
        mistake: Option<Timestamp>,
        heard: Vec<Heard>,
        lost: u64,
    ) -> Self {
        let opened: Vec<&Heard> =
            heard.iter().filter(|it| it.finding.event == Event::Opened).collect();
        let answer = |expect: &Expect| {
            let kind = |it: &&Heard| it.finding.kind == expect.kind;
            // Names may be known only a moment later.
            let all: Vec<&Heard> = heard.iter().filter(kind).collect();
            let opened: Vec<&Heard> = opened.iter().copied().filter(kind).collect();
            self::answer(*expect, mistake, &opened, &all)
        };
        let is_expected = |it: &&&Heard| {
            let is_ours = case.children || it.finding.pid == pid;
            is_ours && case.expects.iter().any(|expect| expect.kind == it.finding.kind)
        };
        let strays = opened.iter().filter(|it| !is_expected(it));
        let in_words = |it: &&Heard| (it.finding.kind.clone(), it.finding.message.clone());
        Self {
            case,
            answers: case.expects.iter().map(answer).collect(),
            false_findings: strays.map(in_words).collect(),
            broken: (lost > 0).then(|| format!("{lost} records were lost")),
        }
    }

    /// Whether all was found and nothing else.
    pub(super) fn is_good(&self) -> bool {
        let is_met = |answer: &Answer| answer.complaint.is_none();
        self.broken.is_none() && self.false_findings.is_empty() && self.answers.iter().all(is_met)
    }
}

fn answer(expect: Expect, mistake: Option<Timestamp>, opened: &[&Heard], all: &[&Heard]) -> Answer {
    let latencies = if COUNTED.contains(&expect.kind) {
        Vec::new()
    } else {
        opened.iter().map(|it| latency(it)).collect()
    };
    let last = opened.iter().map(|it| it.at).max();
    let after = last.zip(mistake).map(|(last, mistake)| positive(mistake, last));
    let (least, most) = expect.count;
    let names = names(all);
    let complaint = if opened.len() < least {
        Some("missed".to_owned())
    } else if opened.len() > most {
        Some("too many".to_owned())
    } else if after.is_some_and(|after| after > Duration::from_secs(expect.within)) {
        Some(format!("later than {} s", expect.within))
    } else if opened.iter().any(|it| !has_default_budget(&it.finding)) {
        Some("with a budget that is not the default".to_owned())
    } else if !names_fit(expect.names, &names) {
        Some(format!("names {names:?}"))
    } else {
        None
    };
    Answer { expect, found: opened.len(), latencies, after, complaint }
}

fn has_default_budget(finding: &Finding) -> bool {
    let kind = Kind::from_code(&finding.kind);
    let default = kind.map(Kind::default_budget);
    // What is counted has its window there.
    COUNTED.contains(&&*finding.kind) || default == Some(Duration::from_millis(finding.budget_ms))
}

fn latency(heard: &Heard) -> Duration {
    let age = positive(heard.finding.since(), heard.at);
    age.saturating_sub(Duration::from_millis(heard.finding.budget_ms))
}

fn positive(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Client ids in the findings: of the socket, of a duel, of twins.
fn names(heard: &[&Heard]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for Heard { finding, .. } in heard {
        names.extend(finding.device.clone());
        let list = |field: &str| finding.detail[field].as_array().cloned().unwrap_or_default();
        let duel = list("client_ids").into_iter().map(|it| it["client_id"].clone());
        let twins = list("twins").into_iter().flat_map(|it| it.as_array().cloned());
        let texts = duel.chain(twins.flatten());
        names.extend(texts.filter_map(|it| it.as_str().map(str::to_owned)));
    }
    names
}

fn names_fit(expected: Names, names: &BTreeSet<String>) -> bool {
    match expected {
        Names::Any => true,
        Names::Among(all) => {
            !names.is_empty() && names.iter().all(|name| all.contains(&name.as_str()))
        }
        Names::Exactly(all) => names.iter().map(String::as_str).eq(sorted(all)),
        Names::BeginWith(start) => {
            !names.is_empty() && names.iter().all(|name| name.starts_with(start))
        }
    }
}

fn sorted<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}
