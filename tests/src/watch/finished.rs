//! An observer that has ended, and what it left.

use crate::line::{Finding, Line, Loss, Summary, Transition};
use std::process::ExitStatus;
use std::time::Duration;

/// An observer that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// From the signal, or from the start, to the end.
    pub took: Duration,
    /// Everything on stdout, by line.
    pub stdout: Vec<String>,
    /// The same, as far as it is JSON of ours.
    pub lines: Vec<Line>,
    /// Everything on stderr.
    pub stderr: String,
}

impl Finished {
    /// Asserts the exit code, and that no panic was printed.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{}; stderr:\n{}", self.status, self.stderr);
        self.expect_no_panic()
    }

    /// Asserts that stderr has all of `words`, whatever the case.
    #[track_caller]
    pub fn expect_said(&self, words: &[&str]) -> &Self {
        let stderr = self.stderr.to_lowercase();
        for word in words {
            assert!(
                stderr.contains(&word.to_lowercase()),
                "`{word}` is missing in:\n{}",
                self.stderr
            );
        }
        self
    }

    /// Asserts that no panic was printed.
    #[track_caller]
    pub fn expect_no_panic(&self) -> &Self {
        assert!(!self.stderr.contains("panicked"), "it panicked:\n{}", self.stderr);
        self
    }

    /// The last line.
    #[track_caller]
    pub fn summary(&self) -> &Summary {
        let Some(Line::Summary(summary)) = self.lines.last() else {
            panic!(
                "the last line is no summary: {:?}; stderr:\n{}",
                self.stdout.last(),
                self.stderr
            )
        };
        summary
    }

    /// What was lost.
    pub fn losses(&self) -> Vec<&Loss> {
        let losses = self.lines.iter().filter_map(|line| match line {
            Line::Loss(loss) => Some(loss),
            _ => None,
        });
        losses.collect()
    }

    /// All transitions.
    pub fn transitions(&self) -> impl Iterator<Item = &Transition> {
        self.lines.iter().filter_map(|line| match line {
            Line::Transition(transition) => Some(transition),
            _ => None,
        })
    }

    /// All findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.lines.iter().filter_map(|line| match line {
            Line::Finding(finding) => Some(finding),
            _ => None,
        })
    }
}
