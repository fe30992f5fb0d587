//! Packages of Node.js for the programs of the corpus, from npm's registry.

use crate::failure::{OrFail as _, Result};
use crate::{paths, sh};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub(super) const NAME: &str = "mqtt.js";

/// Whether the packages are there that the sources ask for.
pub(super) fn is_there() -> bool {
    let wanted = fs::read(wanted());
    let package = directory().join("node_modules/mqtt/package.json");
    wanted.is_ok_and(|wanted| fs::read(made_for()).is_ok_and(|made| made == wanted))
        && package.is_file()
}

pub(super) fn install() -> Result {
    let (directory, next) = (directory(), "make the target directory writable");
    fs::create_dir_all(&directory).or_fail(directory.display(), next)?;
    fs::copy(wanted(), made_for()).or_fail(made_for().display(), next)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-save"]).current_dir(directory);
    sh::run(
        &mut npm,
        "mqtt.js, which the programs of the corpus misuse.",
        "read npm's message above; it needs its registry once",
    )
}

/// Where the programs look for them.
fn directory() -> PathBuf {
    paths::target().join("corpus")
}

fn wanted() -> PathBuf {
    paths::root().join("tests/corpus/node/package.json")
}

fn made_for() -> PathBuf {
    directory().join("package.json")
}
