//! `sockwarden config`: what is wrong with a config, what is in effect, and one to begin with.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, exit};
use crate::config::{self, Complaint, Complaints, DEFAULT_PATH, LoadError};

/// Checks, shows or begins the config of the daemon.
///
/// Exit codes: 0 all is well, 64 the config is wrong or not there, 69 it cannot be read, 77 no
/// permission to read it.
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say everything that is wrong with a config, with line and column.
    Check {
        #[command(flatten)]
        file: File,
        /// One JSON object a line: each complaint, then a summary.
        #[arg(long)]
        json: bool,
    },
    /// Show what is in effect, and what of it is the default. Secrets are left out.
    Show {
        #[command(flatten)]
        file: File,
    },
    /// Print a config to begin with: every key with its meaning and its default.
    Example,
}

/// Which config.
#[derive(Debug, Args)]
struct File {
    /// The config.
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT_PATH)]
    path: PathBuf,
}

impl Config {
    pub(super) fn run(self) -> Result<u8, Failure> {
        match self.verb {
            Verb::Check { file, json } => check(&file.path, json),
            Verb::Show { file } => {
                let config = config::Config::load(&file.path)?;
                print(&config::show(&config))
            }
            Verb::Example => print(&config::example()),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let code = match &error {
            LoadError::Unreadable { error, .. } => match error.kind() {
                io::ErrorKind::PermissionDenied => exit::PERMISSION,
                io::ErrorKind::NotFound => exit::USAGE,
                _ => exit::UNABLE,
            },
            LoadError::NotAFile { .. }
            | LoadError::TooLong { .. }
            | LoadError::NotUtf8 { .. }
            | LoadError::Wrong { .. } => exit::USAGE,
        };
        Self { code, message: error.to_string() }
    }
}

fn check(path: &Path, json: bool) -> Result<u8, Failure> {
    let loaded = config::Config::load(path);
    if json {
        let complaints = match &loaded {
            Ok(_) => Some(&Complaints::default()),
            Err(LoadError::Wrong { complaints, .. }) => Some(complaints),
            // There was nothing to check: the failure says why.
            Err(_) => None,
        };
        if let Some(complaints) = complaints {
            print(&json_lines(path, complaints))?;
        }
        loaded?;
        return Ok(exit::OK);
    }
    loaded?;
    print(&format!("{} is right\n", crate::escape::visible(&path.to_string_lossy())))
}

/// A line for each complaint, and one about the whole.
fn json_lines(path: &Path, complaints: &Complaints) -> String {
    #[derive(Serialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Line<'a> {
        ConfigComplaint { line: usize, column: usize, subject: &'a str, problem: &'a str },
        ConfigSummary { file: &'a str, ok: bool, complaints: usize },
    }
    fn line(it: &Complaint) -> Line<'_> {
        let (line, column) = (it.line(), it.column());
        Line::ConfigComplaint { line, column, subject: it.subject(), problem: it.problem() }
    }
    let file = path.to_string_lossy();
    let count = complaints.count();
    let summary = Line::ConfigSummary { file: &file, ok: count == 0, complaints: count };
    let lines = complaints.iter().map(line).chain([summary]);
    let text = |line| serde_json::to_string(&line).expect("invariant: only numbers and texts");
    lines.map(|line| text(line) + "\n").collect()
}

fn print(text: &str) -> Result<u8, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever read our output has seen enough (`| head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::unable(format!("the output cannot be written: {error}")))
        }
        _ => Ok(exit::OK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_complaint_is_an_object_and_so_is_the_whole() {
        let complaints = config::Config::parse("[watch]\nport = [0]\n").expect_err("invariant: 0");
        let lines = json_lines(Path::new("/c.toml"), &complaints);
        let lines: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("invariant: JSON"))
            .collect();
        assert_eq!(lines[0]["type"], "config_complaint");
        assert_eq!((&lines[0]["line"], &lines[0]["column"]), (&2.into(), &9.into()));
        assert_eq!(lines[0]["subject"], "[watch] port = 0");
        assert_eq!(lines[0]["problem"], "allowed 1 to 65,535, each once");
        assert_eq!(lines[1]["type"], "config_summary");
        assert_eq!((&lines[1]["ok"], &lines[1]["complaints"]), (&false.into(), &1.into()));
        let fine = json_lines(Path::new("/c.toml"), &Complaints::default());
        assert_eq!(
            fine,
            "{\"type\":\"config_summary\",\"file\":\"/c.toml\",\"ok\":true,\"complaints\":0}\n"
        );
    }

    #[test]
    fn who_must_act_decides_the_exit_code() {
        let unreadable = |kind: io::ErrorKind| LoadError::Unreadable {
            path: "/c.toml".into(),
            error: kind.into(),
        };
        for (error, code) in [
            (unreadable(io::ErrorKind::NotFound), exit::USAGE),
            (unreadable(io::ErrorKind::PermissionDenied), exit::PERMISSION),
            (unreadable(io::ErrorKind::Other), exit::UNABLE),
            (LoadError::NotAFile { path: "/".into() }, exit::USAGE),
        ] {
            let message = error.to_string();
            assert_eq!(Failure::from(error).code, code, "{message}");
        }
    }
}
