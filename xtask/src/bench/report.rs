//! All figures of a benchmark, and its verdict.

use super::figure::{self, Figure};
use crate::failure::{Failure, Result};

/// Figures as they come in.
pub(super) struct Report {
    json: bool,
    figures: Vec<Figure>,
    failed: Vec<String>,
}

impl Report {
    /// With `json`, each figure is a line as soon as it is there; else all are a table at the end.
    pub(super) fn new(json: bool) -> Self {
        Self { json, figures: Vec::new(), failed: Vec::new() }
    }

    /// Takes what a measurement gave. A failure is shown and kept: the others are still worth
    /// having.
    pub(super) fn add(&mut self, measurement: &str, taken: Result<Vec<Figure>>) {
        match taken {
            Ok(taken) => {
                if self.json {
                    taken.iter().for_each(|figure| println!("{}", figure.json()));
                }
                self.figures.extend(taken);
            }
            Err(failure) => {
                eprintln!("{failure}");
                self.failed.push(measurement.to_owned());
            }
        }
    }

    /// A figure that is missing is always a failure; one over its bar only if asked for.
    pub(super) fn finish(self, check: bool) -> Result {
        if !self.json && !self.figures.is_empty() {
            figure::print(&self.figures);
        }
        if !self.failed.is_empty() {
            let what = format!("could not be measured: {}", self.failed.join(", "));
            return Err(Failure::new(what, "look for `xtask:` above: each says what to do"));
        }
        let missed: Vec<&str> =
            self.figures.iter().filter(|figure| figure.misses()).map(Figure::name).collect();
        if check && !missed.is_empty() {
            let what = format!("on the wrong side of the bar: {}", missed.join(", "));
            let next = "run it again on a quiet host, then look for what changed";
            return Err(Failure::new(what, next));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(taken: Result<Vec<Figure>>, check: bool) -> Result {
        let mut report = Report::new(false);
        report.add("cpu", taken);
        report.finish(check)
    }

    fn figure(value: f64) -> Result<Vec<Figure>> {
        Ok(vec![Figure::new("f", "x", Some(1.0), vec![value])?])
    }

    #[test]
    fn a_missing_figure_is_always_a_failure() {
        let failure = verdict(Err(Failure::new("no luck", "try again")), false);
        let failure = failure.expect_err("invariant: one failed");
        assert!(failure.to_string().contains("could not be measured: cpu"), "{failure}");
    }

    #[test]
    fn a_figure_over_its_bar_is_a_failure_only_when_checked() {
        assert!(verdict(figure(2.0), false).is_ok());
        assert!(verdict(figure(2.0), true).is_err());
        assert!(verdict(figure(0.5), true).is_ok());
    }
}
