//! `cargo xtask setup`: installs what is missing, and says what and why.

mod debian;
mod items;
mod linker;
mod npm;

use crate::failure::{Failure, Result};
use crate::{build_ebpf::Toolchain, sh, table};
use clap::ValueEnum;
use items::{ITEMS, Item, Presence};

/// Install what the build needs; does nothing when all of it is there.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only report; exit with 1 when something is missing.
    #[arg(long)]
    check: bool,
    /// Also what this verb needs; may be given several times.
    #[arg(long, value_name = "VERB")]
    with: Vec<Extra>,
}

/// A verb that needs more than the build does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Extra {
    /// The demo brings its own broker: nothing more than the build.
    Demo,
    /// The programs that the tests watch and ask.
    Test,
    /// What the benchmarks compare with, and the broker of the fleets.
    Bench,
    /// An emulator, and what its guest is made of.
    Vm,
}

/// Installs what is missing and prints every item.
pub(crate) fn run(args: &Args) -> Result {
    let before = Survey::take(&args.with);
    let missing = before.missing();
    if missing.is_empty() || args.check {
        before.print(&[]);
        if missing.is_empty() {
            return Ok(());
        }
        let what = format!("missing: {}", names(&missing));
        return Err(Failure::new(what, "run `cargo xtask setup` with the same options"));
    }
    before.install()?;
    let after = Survey::take(&args.with);
    after.print(&missing);
    match after.missing().as_slice() {
        [] => Ok(()),
        still => Err(Failure::new(
            format!("still missing after the installation: {}", names(still)),
            "install these by hand, then run `cargo xtask setup --check`",
        )),
    }
}

/// Like [`run`], but one line when nothing is missing: the first step of other verbs.
pub(crate) fn ensure(extras: &[Extra]) -> Result {
    let survey = Survey::take(extras);
    if survey.missing().is_empty() {
        eprintln!("» Set-up is complete ({} items).", survey.rows.len());
        return Ok(());
    }
    run(&Args { check: false, with: extras.to_vec() })
}

/// What is there and what is not.
struct Survey {
    rows: Vec<(&'static Item, Presence)>,
}

impl Survey {
    fn take(extras: &[Extra]) -> Self {
        let linker_runs = linker::runs();
        let facts = items::Facts {
            packages: debian::installed(ITEMS),
            can_build_ebpf: linker_runs && Toolchain::pick().is_ok(),
            linker_runs,
            has_mqttjs: npm::is_there(),
            has_command: &|command| sh::find(command).is_some(),
        };
        let wanted = ITEMS.iter().filter(|item| item.is_wanted(extras));
        Self { rows: wanted.map(|item| (item, facts.presence(item))).collect() }
    }

    fn missing(&self) -> Vec<&'static Item> {
        let missing = self.rows.iter().filter(|(_, presence)| *presence == Presence::Missing);
        missing.map(|(item, _)| *item).collect()
    }

    fn install(&self) -> Result {
        let missing = self.missing();
        let is_package = |item: &&Item| ![linker::NAME, npm::NAME].contains(&item.name);
        let packages: Vec<&Item> = missing.iter().copied().filter(is_package).collect();
        if !packages.is_empty() {
            debian::install(&packages).inspect_err(|_| {
                println!("What is missing, and why it is needed:");
                self.print(&[]);
            })?;
        }
        if missing.iter().any(|item| item.name == linker::NAME) {
            linker::install()?;
        }
        // After the packages: npm itself is one of them.
        if missing.iter().any(|item| item.name == npm::NAME) {
            npm::install()?;
        }
        Ok(())
    }

    fn print(&self, were_missing: &[&Item]) {
        let rows: Vec<[String; 3]> = self
            .rows
            .iter()
            .map(|(item, presence)| {
                let new = were_missing.iter().any(|it| it.name == item.name);
                let state = match presence {
                    Presence::Present if new => "installed",
                    Presence::Present => "present",
                    Presence::Missing => "missing",
                    Presence::NotNeeded => "not needed here",
                };
                [item.name, state, item.why].map(str::to_owned)
            })
            .collect();
        table::print(&rows);
    }
}

fn names(items: &[&Item]) -> String {
    items.iter().map(|item| item.name).collect::<Vec<_>>().join(" ")
}
