//! How a verb fails: what went wrong, and what the reader does next.

use std::fmt;
use std::process::ExitCode;

/// The result of everything in this crate.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// A failure that names the next step, and the exit code of the whole program.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    next: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into(), code: 1 }
    }

    /// Passes on the exit code of a program whose verdict is the verb's own.
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xtask: {}\n  next: {}", self.what, self.next)
    }
}

/// Turns an error of the standard library into a [`Failure`].
pub(crate) trait OrFail<T> {
    fn or_fail(self, what: impl fmt::Display, next: &str) -> Result<T>;
}

impl<T, E: fmt::Display> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, what: impl fmt::Display, next: &str) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{what}: {error}"), next))
    }
}
