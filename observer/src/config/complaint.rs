//! PURE. What is wrong with a config, for the person who has to correct it.

use std::{fmt, ops::Range};

use super::source::{Excerpt, Position, excerpt, position};

/// So many are said; of more, the first ones are enough to begin with.
const MOST: usize = 100;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    position: Position,
    subject: String,
    problem: String,
    excerpt: Option<Excerpt>,
}

/// Everything that is wrong with a config, in the order of the file. Never empty where it is an
/// error. It shows no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaints {
    complaints: Vec<Complaint>,
    more: usize,
}

impl Complaint {
    /// Line in the file, from 1.
    pub fn line(&self) -> usize {
        self.position.line
    }

    /// Character in the line, from 1.
    pub fn column(&self) -> usize {
        self.position.column
    }

    /// What it is about, as `[pool.limits] max_in_flight = 0`; empty where the file is no TOML there.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What is wrong with it, and what is allowed.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl Complaints {
    /// Those that are said: at most 100.
    pub fn iter(&self) -> impl Iterator<Item = &Complaint> {
        self.complaints.iter()
    }

    /// How many there are beyond those.
    pub fn more(&self) -> usize {
        self.more
    }

    /// How many there are in all.
    pub fn count(&self) -> usize {
        self.complaints.len() + self.more
    }

    /// As compilers write them: `file` stands before each, so that an editor can jump there.
    pub fn of<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        Of { complaints: self, file }
    }

    /// Whether another one would only be counted.
    pub(super) fn is_full(&self) -> bool {
        self.complaints.len() >= MOST
    }

    /// One about the place `at` of `text`.
    pub(super) fn add(&mut self, text: &str, at: usize, subject: String, problem: String) {
        self.push(|| Complaint { position: position(text, at), subject, problem, excerpt: None });
    }

    /// As [`Complaints::add`], with the line where `marked` is.
    pub(super) fn add_with_line(
        &mut self,
        text: &str,
        marked: &Range<usize>,
        subject: String,
        problem: String,
    ) {
        self.push(|| Complaint {
            position: position(text, marked.start),
            subject,
            problem,
            excerpt: excerpt(text, marked),
        });
    }

    /// `result`, unless there are complaints.
    pub(super) fn or<T>(mut self, result: T) -> Result<T, Self> {
        if self.complaints.is_empty() {
            return Ok(result);
        }
        self.complaints.sort_by_key(|complaint| complaint.position);
        Err(self)
    }

    fn push(&mut self, complaint: impl FnOnce() -> Complaint) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.complaints.push(complaint());
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        write!(f, "{line}:{column}: ")?;
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        f.write_str(&self.problem)?;
        let Some(Excerpt { line: text, before, marked }) = &self.excerpt else { return Ok(()) };
        let (number, mark) = (line.to_string(), "^".repeat(*marked));
        let width = number.len();
        write!(f, "\n {number} | {text}\n {:width$} | {:before$}{mark}", "", "")
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of("").fmt(f)
    }
}

struct Of<'a> {
    complaints: &'a Complaints,
    file: &'a str,
}

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.file.is_empty() { "" } else { ":" };
        for (index, complaint) in self.complaints.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}{between}{complaint}", self.file)?;
        }
        match self.complaints.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_lines_with_the_place_before() {
        let text = "a\nport = [1, 99999]\n";
        let mut complaints = Complaints::default();
        complaints.add_with_line(
            text,
            &(12..17),
            "[watch] port = 99999".into(),
            "allowed 1".into(),
        );
        complaints.add(text, 0, String::new(), "what is this?".into());
        let complaints = complaints.or(()).expect_err("invariant: there are two");
        assert_eq!(
            complaints.of("c.toml").to_string(),
            "c.toml:1:1: what is this?\n\
             c.toml:2:11: [watch] port = 99999: allowed 1\n \
             2 | port = [1, 99999]\n   \
               |           ^^^^^"
        );
        assert!(complaints.to_string().starts_with("1:1: what"));
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let mut complaints = Complaints::default();
        for _ in 0..MOST + 7 {
            complaints.add("", 0, String::new(), "wrong".into());
        }
        assert_eq!((complaints.iter().count(), complaints.more()), (MOST, 7));
        assert_eq!(complaints.count(), MOST + 7);
        assert!(complaints.to_string().ends_with("\nand 7 more"));
    }

    #[test]
    fn no_complaint_is_no_error() {
        assert_eq!(Complaints::default().or(3), Ok(3));
    }
}
