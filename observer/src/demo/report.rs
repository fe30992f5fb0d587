//! PURE: what was planted against what was found.

use std::time::Duration;

use crate::{detect::Kind, model::MonoTime};

/// A finding has to open this soon after its budget ran out.
pub const LATENCY_BAR: Duration = Duration::from_millis(100);

/// What a child did.
#[derive(Clone, Debug)]
pub struct Planted {
    /// The leak; `None` for the child that behaves.
    pub kind: Option<Kind>,
    /// The child.
    pub pid: u32,
    /// The process that holds the leaked descriptor: the child, or one that it started.
    pub holder: u32,
    /// When the leak began, by the child's own clock.
    pub at: MonoTime,
}

/// A finding that opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its kind.
    pub kind: Kind,
    /// The process that it names.
    pub pid: u32,
    /// When it was reported.
    pub at: MonoTime,
    /// What it says.
    pub message: String,
}

/// What the demonstration came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the children did.
    pub planted: Vec<Planted>,
    /// What the observer said.
    pub opened: Vec<Opened>,
    /// Findings that did not clear when their processes had ended.
    pub still_open: u64,
    /// Changes of state seen.
    pub transitions: u64,
    /// Records lost.
    pub lost: u64,
    /// What was attached.
    pub layers: &'static str,
    /// Why not everything was.
    pub degraded: Option<String>,
    /// The budget of every kind.
    pub budget: Duration,
}

/// One leak of the demonstration.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// Its kind.
    pub kind: Kind,
    /// The finding that names it.
    pub found: Option<&'a Opened>,
    /// From the end of the budget to the finding; zero if it came before.
    pub latency: Option<Duration>,
}

impl Outcome {
    /// Planted leaks in order, each with its finding.
    pub fn rows(&self) -> Vec<Row<'_>> {
        self.planted
            .iter()
            .filter_map(|leak| {
                let kind = leak.kind?;
                let found = self.opened.iter().find(|finding| leak.explains(finding));
                let latency = found.map(|finding| finding.at.since(leak.at.after(self.budget)));
                Some(Row { kind, found, latency })
            })
            .collect()
    }

    /// Findings that nobody planted, and second findings for one leak.
    pub fn invented(&self) -> Vec<&Opened> {
        let mut explained = vec![false; self.planted.len()];
        self.opened
            .iter()
            .filter(|finding| {
                let leak = self
                    .planted
                    .iter()
                    .position(|leak| leak.explains(finding))
                    .filter(|index| !explained[*index]);
                match leak {
                    Some(index) => {
                        explained[index] = true;
                        false
                    }
                    None => true,
                }
            })
            .collect()
    }

    /// Whether every leak was found, none invented and all cleared.
    pub fn is_right(&self) -> bool {
        self.rows().iter().all(|row| row.found.is_some())
            && self.invented().is_empty()
            && self.still_open == 0
    }

    /// The longest time from the end of a budget to its finding.
    pub fn worst_latency(&self) -> Option<Duration> {
        self.rows().iter().filter_map(|row| row.latency).max()
    }
}

impl Planted {
    fn explains(&self, finding: &Opened) -> bool {
        self.kind == Some(finding.kind) && self.holder == finding.pid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(opened: &[(Kind, u32, u64)]) -> Outcome {
        let planted = |kind, pid| Planted { kind, pid, holder: pid, at: MonoTime::from_nanos(0) };
        Outcome {
            planted: vec![
                planted(Some(Kind::CloseWait), 1),
                planted(Some(Kind::DeadFd), 2),
                planted(None, 3),
            ],
            opened: opened
                .iter()
                .map(|(kind, pid, at)| Opened {
                    kind: *kind,
                    pid: *pid,
                    at: MonoTime::from_nanos(*at),
                    message: String::new(),
                })
                .collect(),
            still_open: 0,
            transitions: 0,
            lost: 0,
            layers: "ab",
            degraded: None,
            budget: Duration::from_nanos(100),
        }
    }

    #[test]
    fn only_the_planted_findings_are_right() {
        let both = [(Kind::CloseWait, 1, 130), (Kind::DeadFd, 2, 90)];
        let accused = [&both[..], &[(Kind::CloseWait, 3, 1)]].concat();
        let twice = [&both[..], &both[..1]].concat();
        let cases = [
            ("both found", both.to_vec(), true, 0),
            ("one missing", both[..1].to_vec(), false, 0),
            ("the well-behaved accused", accused, false, 1),
            ("of another kind", vec![(Kind::Undrained, 1, 130)], false, 1),
            ("found twice", twice, false, 1),
        ];
        for (name, opened, right, invented) in cases {
            let outcome = outcome(&opened);
            assert_eq!(outcome.is_right(), right, "{name}");
            assert_eq!(outcome.invented().len(), invented, "{name}");
        }
    }

    #[test]
    fn latency_counts_from_the_end_of_the_budget() {
        let outcome = outcome(&[(Kind::CloseWait, 1, 130), (Kind::DeadFd, 2, 90)]);
        assert_eq!(outcome.worst_latency(), Some(Duration::from_nanos(30)));
        assert_eq!(outcome.rows()[1].latency, Some(Duration::ZERO));
    }
}
