//! The fleets and who disturbs them: where they are, and how they get there.

use crate::bench::child;
use crate::failure::{Failure, OrFail as _, Result};
use crate::{paths, sh};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The pool's example `fleet`.
    Ours,
    /// A socket and a task for each device: what nobody can undercut.
    Floor,
    Rumqttc,
    MqttJs,
}

/// All programs, built.
pub(super) struct Programs {
    ours: PathBuf,
    mqttjs: PathBuf,
}

/// The programs of the package of the tests.
const HELPERS: [&str; 4] = ["fleet_floor", "fleet_rumqttc", "firehose", "kicker"];

impl Programs {
    /// Builds them; `ours` stands in for the pool's example.
    pub(super) fn build(ours: Option<PathBuf>) -> Result<Self> {
        let mut cargo = sh::cargo();
        cargo.args(["build", "--release", "-p", "sockwarden-tests"]);
        cargo.args(HELPERS.iter().flat_map(|name| ["--bin", name]));
        sh::run(&mut cargo, "The rivals.", "read the compiler's message above")?;
        let ours = match ours {
            Some(path) => existing(path, "correct --binary")?,
            None => example("fleet")?,
        };
        Ok(Self { ours, mqttjs: install_mqttjs()? })
    }

    /// A command that runs one of the fleets, and dies with us.
    pub(super) fn fleet(&self, who: Who) -> Command {
        match who {
            Who::Ours => child::mortal(&self.ours),
            Who::Floor => helper("fleet_floor"),
            Who::Rumqttc => helper("fleet_rumqttc"),
            Who::MqttJs => {
                let mut command = child::mortal("node");
                command.arg(&self.mqttjs);
                command
            }
        }
    }
}

impl Who {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "the pool",
            Self::Floor => "floor",
            Self::Rumqttc => "rumqttc",
            Self::MqttJs => "mqtt.js",
        }
    }
}

/// A command that runs one of [`HELPERS`].
pub(super) fn helper(name: &str) -> Command {
    child::mortal(paths::target().join("release").join(name))
}

/// Builds one of the pool's examples.
pub(super) fn example(name: &str) -> Result<PathBuf> {
    let mut cargo = sh::cargo();
    cargo.args(["build", "--release", "-p", "sockwarden-pool", "--example", name]);
    let next = "read cargo's message above; the pool has to have this example, and it to compile";
    sh::run(&mut cargo, "The pool's own program.", next)?;
    existing(paths::target().join("release/examples").join(name), next)
}

/// A directory in the target directory for what only the benchmark needs.
pub(super) fn scratch(name: &str) -> Result<PathBuf> {
    let dir = paths::target().join("bench").join(name);
    fs::create_dir_all(&dir).or_fail(dir.display(), "make the target directory writable")?;
    Ok(dir)
}

fn existing(path: PathBuf, next: &str) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(format!("there is no {}", path.display()), next))
}

/// Copies the program out of the tree, for npm installs beside it.
fn install_mqttjs() -> Result<PathBuf> {
    let next = "npm needs the network once; remove target/bench/fleet_mqttjs to begin anew";
    let dir = scratch("fleet_mqttjs")?;
    let source = paths::root().join("tests/apps/fleet_mqttjs");
    let is_new = copy(&source.join("package.json"), &dir.join("package.json"))?;
    copy(&source.join("fleet.js"), &dir.join("fleet.js"))?;
    let package = dir.join("node_modules/mqtt/package.json");
    if is_new || !package.exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-save"]).current_dir(&dir);
        sh::run(&mut npm, "mqtt.js, a rival.", next)?;
    }
    existing(package, next)?;
    Ok(dir.join("fleet.js"))
}

/// Whether that changed anything.
fn copy(from: &Path, to: &Path) -> Result<bool> {
    let text = fs::read(from).or_fail(from.display(), "restore this file")?;
    if fs::read(to).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    fs::write(to, text).or_fail(to.display(), "make the target directory writable")?;
    Ok(true)
}
