//! `sockwarden generate-docs`: the pages that come from tables in the code.

use std::{fmt::Write as _, fs, path::PathBuf};

use clap::Args;

use super::{Failure, exit};
use crate::{
    api::openapi,
    config,
    detect::Kind,
    sinks::{journal, metrics},
};

/// Name of a page below the folder, and what makes it.
type Page = (&'static str, fn() -> String);

/// The generated pages.
const PAGES: &[Page] = &[
    ("api.md", openapi::page),
    ("config.md", config::page),
    ("findings.md", findings),
    ("metrics.md", metrics::page),
    ("openapi.json", || openapi::document().to_owned()),
    ("../deploy/config.toml", config::example),
    ("../deploy/sockwarden.catalog", journal::catalog),
];

/// Writes the generated pages, or tells whether they are up to date.
#[derive(Debug, Args)]
pub(super) struct GenerateDocs {
    /// The folder `docs`.
    directory: PathBuf,
    /// Change nothing; fail if a page differs.
    #[arg(long)]
    check: bool,
}

impl GenerateDocs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        for (name, make) in PAGES {
            let (path, page) = (self.directory.join(name), make());
            if self.check {
                if fs::read_to_string(&path).ok().is_none_or(|old| old != page) {
                    return Err(Failure {
                        code: exit::FINDING,
                        message: format!(
                            "{} is not what the code says: run `cargo xtask tidy --fix`",
                            path.display()
                        ),
                    });
                }
            } else {
                fs::write(&path, page).map_err(|error| {
                    Failure::unable(format!("{} cannot be written: {error}", path.display()))
                })?;
            }
        }
        Ok(exit::OK)
    }
}

fn findings() -> String {
    let mut page = String::from(
        "# Findings\n\n\
         Generated from `observer/src/detect/kind.rs` by `cargo xtask tidy --fix`; do not edit.\n\n\
         A finding opens when its budget has run out and a snapshot has confirmed it, is updated \
         when its holders or its state change, and clears when its cause is gone.\n\
         Budgets are in `[budgets]` of the [config](config.md), how much is too much in \
         `[thresholds]`, and exceptions for some programs, units, containers or destinations in `[[rules]]`.\n\n\
         | code | default budget | meaning |\n|---|---|---|\n",
    );
    for kind in Kind::ALL {
        let (code, budget) = (kind.code(), kind.default_budget());
        writeln!(page, "| [`{code}`](#{code}) | {budget:?} | {} |", kind.meaning())
            .expect("invariant: a string takes everything");
    }
    for kind in Kind::ALL {
        write!(
            page,
            "\n## {}\n\n{}\n\n**How it comes about.** {}\n\n**What to do.** {}\n\n**How to tune.** {}\n",
            kind.code(),
            kind.meaning(),
            kind.how_it_comes_about(),
            kind.what_to_do(),
            kind.how_to_tune(),
        )
        .expect("invariant: a string takes everything");
    }
    page
}
