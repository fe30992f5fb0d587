//! A measured figure, as a line for machines and as a row for people.

use crate::failure::{Failure, Result};
use crate::table;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What we allow ourselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// Less would be a failure.
    AtLeast(f64),
    /// More would be a failure.
    AtMost(f64),
}

/// A figure, one sample for each run.
#[derive(Debug)]
pub(super) struct Figure {
    name: String,
    unit: &'static str,
    bar: Option<Bar>,
    /// In ascending order, and at least one.
    samples: Vec<f64>,
    /// The medians of other programs.
    rivals: BTreeMap<String, f64>,
}

impl Figure {
    /// Fails when there is nothing to take a median of.
    pub(super) fn new(
        name: impl Into<String>,
        unit: &'static str,
        bar: Option<f64>,
        mut samples: Vec<f64>,
    ) -> Result<Self> {
        let name = name.into();
        let bar = bar.map(Bar::AtMost);
        if samples.is_empty() || !samples.iter().all(|sample| sample.is_finite()) {
            let what = format!("{name}: no run gave a number");
            return Err(Failure::new(what, "call this with --reps 1 or more; else report a bug"));
        }
        samples.sort_by(f64::total_cmp);
        Ok(Self { name, unit, bar, samples, rivals: BTreeMap::new() })
    }

    /// The more, the better: a figure whose bar is the least that we allow ourselves.
    pub(super) fn at_least(
        name: impl Into<String>,
        unit: &'static str,
        bar: f64,
        samples: Vec<f64>,
    ) -> Result<Self> {
        Ok(Self { bar: Some(Bar::AtLeast(bar)), ..Self::new(name, unit, None, samples)? })
    }

    /// Adds what another program needs for the same; nothing if no sample was taken of it.
    pub(super) fn with_rival(mut self, name: &str, samples: &[f64]) -> Self {
        if let Some(median) = median(samples) {
            self.rivals.insert(name.to_owned(), median);
        }
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn value(&self) -> f64 {
        median(&self.samples).expect("invariant: a figure has a sample")
    }

    /// Whether it is on the wrong side of its bar.
    pub(super) fn misses(&self) -> bool {
        match self.bar {
            None => false,
            Some(Bar::AtLeast(bar)) => self.value() < bar,
            Some(Bar::AtMost(bar)) => self.value() > bar,
        }
    }

    fn spread(&self) -> (f64, f64) {
        // In ascending order, and at least one.
        (self.samples[0], self.samples[self.samples.len() - 1])
    }

    /// One line for machines.
    pub(super) fn json(&self) -> Value {
        let (min, max) = self.spread();
        let rivals: BTreeMap<&String, f64> =
            self.rivals.iter().map(|(name, value)| (name, rounded(*value))).collect();
        json!({
            "figure": self.name,
            "value": rounded(self.value()),
            "unit": self.unit,
            "bar": self.bar.map(Bar::value),
            "bar_is": self.bar.map(Bar::side),
            "min": rounded(min),
            "max": rounded(max),
            "runs": self.samples.len(),
            "rivals": rivals,
        })
    }

    fn row(&self) -> [String; 8] {
        let (min, max) = self.spread();
        let verdict = match self.bar {
            None => "",
            Some(_) if !self.misses() => "ok",
            Some(Bar::AtLeast(_)) => "UNDER",
            Some(Bar::AtMost(_)) => "OVER",
        };
        let rivals: Vec<String> =
            self.rivals.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
        [
            self.name.clone(),
            short(self.value()),
            self.unit.to_owned(),
            self.bar.map_or_else(String::new, |bar| bar.value().to_string()),
            verdict.to_owned(),
            format!("{}..{}", short(min), short(max)),
            self.samples.len().to_string(),
            rivals.join(", "),
        ]
    }
}

impl Bar {
    fn value(self) -> f64 {
        match self {
            Self::AtLeast(value) | Self::AtMost(value) => value,
        }
    }

    /// As it is written for machines.
    fn side(self) -> &'static str {
        match self {
            Self::AtLeast(_) => "least",
            Self::AtMost(_) => "most",
        }
    }
}

/// Prints the figures as a table for people.
pub(super) fn print(figures: &[Figure]) {
    table::print(&rows(figures));
}

fn rows(figures: &[Figure]) -> Vec<[String; 8]> {
    let heading = ["figure", "median", "unit", "bar", "", "min..max", "runs", "rivals"];
    std::iter::once(heading.map(str::to_owned)).chain(figures.iter().map(Figure::row)).collect()
}

/// The middle, or the mean of the two in the middle.
fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let is_odd = sorted.len() % 2 == 1;
    Some(if is_odd { upper } else { f64::midpoint(sorted[sorted.len() / 2 - 1], upper) })
}

/// Without digits that no measurement of ours has.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Three to four digits that mean something.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(bar: Option<f64>, samples: &[f64]) -> Figure {
        let figure = Figure::new("observer.cpu_ratio", "x", bar, samples.to_vec());
        figure.expect("invariant: there are samples").with_rival("tcplife", &[1.75, 1.0, 2.0])
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_there() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_figure_without_numbers_is_an_error() {
        let broken = |samples: &[f64]| Figure::new("a", "x", None, samples.to_vec()).is_err();
        assert!(broken(&[]));
        assert!(broken(&[1.0, f64::NAN]));
        assert!(!broken(&[1.0]));
    }

    #[test]
    fn the_line_for_machines_has_every_field() {
        let line = figure(Some(1.15), &[1.2, 1.000_04, 1.1]).json().to_string();
        let read: Value = serde_json::from_str(&line).expect("invariant: this is JSON");
        let expected = json!({
            "figure": "observer.cpu_ratio", "value": 1.1, "unit": "x", "bar": 1.15, "bar_is": "most",
            "min": 1.0, "max": 1.2, "runs": 3, "rivals": {"tcplife": 1.75},
        });
        assert_eq!(read, expected);
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(figure(None, &[1.0]).json()["bar"], Value::Null);
    }

    #[test]
    fn the_row_for_people_says_whether_the_bar_holds() {
        let row = |samples: &[f64]| figure(Some(1.15), samples).row().join("|");
        assert_eq!(
            row(&[1.1, 1.0, 1.2]),
            "observer.cpu_ratio|1.100|x|1.15|ok|1.000..1.200|3|tcplife 1.750"
        );
        assert!(row(&[1.2]).contains("|OVER|"));
        assert!(!figure(None, &[9.0]).misses());
    }

    #[test]
    fn a_bar_may_be_the_least() {
        let figure = |samples: &[f64]| {
            let figure = Figure::at_least("pool.messages_ratio", "x", 0.9, samples.to_vec());
            figure.expect("invariant: there are samples")
        };
        assert!(figure(&[0.8, 0.7, 1.0]).row().join("|").contains("|0.9|UNDER|"));
        assert!(figure(&[0.9]).row().join("|").contains("|0.9|ok|"));
        let line = figure(&[2.0]).json();
        assert_eq!((&line["bar"], &line["bar_is"]), (&json!(0.9), &json!("least")));
    }

    #[test]
    fn a_rival_that_was_not_measured_is_left_out() {
        let figure = Figure::new("a", "x", None, vec![1.0]).expect("invariant: one sample");
        assert_eq!(figure.with_rival("tcplife", &[]).json()["rivals"], json!({}));
    }
}
