//! `cargo xtask tidy`: the rules of the house that a machine can hold, all complaints at once.

mod code;
mod deny;
mod dependencies;
mod docs;
mod layers;
mod licences;
mod links;
mod metadata;
mod sizes;
mod spdx;
mod workspace;

use crate::failure::{Failure, Result};

/// Check the rules that need no compiler.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Write the generated docs instead of comparing them.
    #[arg(long)]
    fix: bool,
}

/// What one check has to say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    /// For people: what was looked at.
    note: String,
    /// Each says where, what, and what to do.
    complaints: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result {
    let sources = workspace::files("rs")?;
    let pages = workspace::files("md")?;
    let reports = [
        ("dependencies", dependencies::check()),
        ("licences and sources", licences::check()),
        ("layers", Ok(layers::check(&sources))),
        ("generated docs", docs::check(args.fix)),
        ("links", Ok(links::check(&pages))),
        ("file sizes", Ok(sizes::check(&sources))),
    ];

    let mut complaints = 0;
    for (name, report) in reports {
        // A check that could not run has a complaint too, and the others still speak.
        let report = report.unwrap_or_else(|failure| Report {
            note: "could not be checked".to_owned(),
            complaints: vec![failure.to_string()],
        });
        let mark = if report.complaints.is_empty() { "ok" } else { "FAILED" };
        println!("{mark:6}  {name}: {}", report.note);
        for complaint in &report.complaints {
            println!("        - {complaint}");
        }
        complaints += report.complaints.len();
    }
    if complaints == 0 {
        return Ok(());
    }
    let what = format!("tidy has {complaints} complaint(s)");
    Err(Failure::new(what, "each of them says above what to do"))
}
