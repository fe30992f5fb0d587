//! PURE. Everything that is wrong with a list of devices, said at once.

use std::fmt;

use crate::escape;

/// How many complaints are kept; the rest is counted.
const MOST: usize = 20;

/// Longest complaint, characters. An id may have 65,535 bytes.
const LONGEST: usize = 300;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Line of the file, from 1; `None` where it is no line's fault.
    pub line: Option<usize>,
    /// What is wrong and what is allowed. Safe to show.
    pub what: String,
}

/// What is wrong: at most 20 complaints, and how many more there were. Shown with a line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaints {
    kept: Vec<Complaint>,
    more: usize,
}

impl Complaints {
    /// A single one, about no line.
    pub fn one(what: impl fmt::Display) -> Self {
        let mut complaints = Self::default();
        complaints.add(None, what);
        complaints
    }

    /// Adds one. Text from outside may be in it as it is.
    pub fn add(&mut self, line: Option<usize>, what: impl fmt::Display) {
        if self.kept.len() == MOST {
            self.more += 1;
            return;
        }
        let what = escape::short(&what.to_string(), LONGEST).into_owned();
        self.kept.push(Complaint { line, what });
    }

    /// `value`, if there is nothing to complain about.
    ///
    /// # Errors
    ///
    /// These complaints, by line.
    pub fn or<T>(mut self, value: T) -> Result<T, Self> {
        if self.kept.is_empty() {
            return Ok(value);
        }
        self.kept.sort_by_key(|complaint| complaint.line);
        Err(self)
    }

    /// Those that were kept.
    pub fn iter(&self) -> impl Iterator<Item = &Complaint> {
        self.kept.iter()
    }

    /// How many were not kept.
    pub fn more(&self) -> usize {
        self.more
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, complaint) in self.kept.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{complaint}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Complaints {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_complaint_is_success() {
        assert_eq!(Complaints::default().or(7), Ok(7));
    }

    #[test]
    fn they_come_by_line_and_the_rest_is_counted() {
        let mut complaints = Complaints::default();
        for line in (1..=23).rev() {
            complaints.add(Some(line), "bad");
        }
        let text = complaints.or(()).expect_err("invariant: 23 complaints").to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 21);
        assert_eq!((lines[0], lines[19], lines[20]), ("line 4: bad", "line 23: bad", "and 3 more"));
    }

    #[test]
    fn text_from_outside_is_made_safe_and_short() {
        let complaints = Complaints::one(format_args!("\x1b[31m\n{}", "x".repeat(1_000)));
        let text = complaints.to_string();
        assert!(text.starts_with("\\u{1b}[31m\\u{a}xx") && text.len() < 400, "{text}");
    }
}
