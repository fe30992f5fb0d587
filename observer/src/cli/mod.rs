//! The command line: one file per verb.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    config::duration,
    demo::child::Child,
    linger,
    observer::ObserverError,
    stacks::{namer, opener},
};

mod asking;
mod check;
mod columns;
mod config;
mod demo;
mod devices;
mod docs;
mod leaks;
mod logger;
mod publish;
mod reconnect;
mod run;
mod watch;

/// Exit codes (sysexits.h has 64, 69 and 77).
pub mod exit {
    /// All is well.
    pub const OK: u8 = 0;
    /// A finding is open.
    pub const FINDING: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// The kernel or a service is not able.
    pub const UNABLE: u8 = 69;
    /// No permission.
    pub const PERMISSION: u8 = 77;
}

/// Names leaked TCP descriptors, as they leak, in any process of this host.
#[derive(Debug, Parser)]
#[command(
    name = "sockwarden",
    version,
    about,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Watch(Box<watch::Watch>),
    Leaks(leaks::Leaks),
    Devices(devices::Devices),
    Reconnect(reconnect::Reconnect),
    Publish(publish::Publish),
    Check(check::Check),
    Config(config::Config),
    Demo(demo::Demo),
    #[command(hide = true)]
    GenerateDocs(docs::GenerateDocs),
    #[command(hide = true)]
    DemoChild(Child),
    #[command(hide = true, name = linger::VERB)]
    HoldHooks,
    #[command(hide = true, name = opener::VERB)]
    OpenFiles,
    #[command(hide = true, name = namer::VERB)]
    NameStacks,
}

/// Why a verb failed: what to say, and the exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn unable(message: impl ToString) -> Self {
        Self { code: exit::UNABLE, message: message.to_string() }
    }
}

impl From<ObserverError> for Failure {
    fn from(error: ObserverError) -> Self {
        let code = match &error {
            ObserverError::Probe(error) if error.is_permission() => exit::PERMISSION,
            ObserverError::Selection(_) => exit::USAGE,
            ObserverError::Probe(_) | ObserverError::Output(_) => exit::UNABLE,
        };
        Self { code, message: error.to_string() }
    }
}

/// Runs the command line `args` and tells the exit code.
#[expect(clippy::print_stderr, reason = "the edge where errors reach the person")]
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    logger::init();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap knows where each goes. A closed stream is
            // nothing to complain about.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let result = match cli.command {
        Command::Run(verb) => verb.run(),
        Command::Watch(verb) => verb.run(),
        Command::Leaks(verb) => verb.run(),
        Command::Devices(verb) => verb.run(),
        Command::Reconnect(verb) => verb.run(),
        Command::Publish(verb) => verb.run(),
        Command::Check(verb) => verb.run(),
        Command::Config(verb) => verb.run(),
        Command::Demo(verb) => verb.run(),
        Command::GenerateDocs(verb) => verb.run(),
        Command::DemoChild(child) => child.run().map(|()| exit::OK).map_err(Failure::unable),
        Command::OpenFiles => opener::serve().map(|()| exit::OK).map_err(Failure::unable),
        Command::NameStacks => namer::serve().map(|()| exit::OK).map_err(Failure::unable),
        Command::HoldHooks => linger::hold().map(|()| exit::OK).map_err(Failure::unable),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, message }) => {
            eprintln!("sockwarden: {message}");
            ExitCode::from(code)
        }
    }
}
