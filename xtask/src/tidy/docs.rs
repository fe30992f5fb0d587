//! The docs that the binary writes about itself.

use super::Report;
use crate::failure::Result;
use crate::{paths, sh};
use std::process::Command;

pub(super) fn check(fix: bool) -> Result<Report> {
    let binary = paths::release_binary();
    if !binary.exists() {
        let note = "NOT CHECKED, there is no release binary; `cargo xtask build` makes it";
        return Ok(Report { note: note.to_owned(), complaints: Vec::new() });
    }
    let mut generate = Command::new(&binary);
    generate.arg("generate-docs").arg(paths::root().join("docs"));
    if !fix {
        generate.arg("--check");
    }
    let said =
        sh::output(&mut generate, "`cargo xtask build && cargo xtask tidy --fix` writes them")?;
    let note = said.lines().last().filter(|line| !line.is_empty());
    let note = note.unwrap_or(if fix { "written" } else { "up to date" }).to_owned();
    Ok(Report { note, complaints: Vec::new() })
}
