//! How the observer is started.

use super::{Finished, KINDS, Watch, binary};
use crate::require_root;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How the observer is started.
#[derive(Clone, Debug)]
#[must_use = "`start`, `launch` or `run` starts it"]
pub struct Builder {
    wrapper: Vec<String>,
    binary: PathBuf,
    arguments: Vec<String>,
}

impl Builder {
    /// `sockwarden watch --json --sockets`.
    pub(super) fn new() -> Self {
        require_root();
        let arguments = ["watch", "--json", "--sockets"].map(str::to_owned).to_vec();
        Self { wrapper: Vec::new(), binary: binary(), arguments }
    }

    /// These words and nothing else, after the name of the program.
    pub fn bare<const N: usize>(arguments: [&str; N]) -> Self {
        Self { arguments: arguments.map(str::to_owned).to_vec(), ..Self::new() }
    }

    /// Watches a process.
    pub fn pid(self, pid: u32) -> Self {
        self.args(["--pid", &pid.to_string()])
    }

    /// One budget.
    pub fn budget(self, kind: &str, budget: Duration) -> Self {
        self.args(["--budget", &format!("{kind}={}ms", budget.as_millis())])
    }

    /// The same budget for every kind.
    pub fn budgets(self, budget: Duration) -> Self {
        KINDS.iter().fold(self, |builder, kind| builder.budget(kind, budget))
    }

    /// A storm of connections is meant: it is not told of.
    pub fn storms(self) -> Self {
        let config = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("apps/storms.toml");
        self.args(["--config", &config.to_string_lossy()])
    }

    /// Further arguments.
    pub fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.arguments.extend(arguments.map(str::to_owned));
        self
    }

    /// Runs it through another program: `setpriv ... sockwarden watch ...`.
    pub fn through(mut self, wrapper: &[String]) -> Self {
        self.wrapper.extend_from_slice(wrapper);
        self
    }

    /// Another copy of the program.
    pub fn binary(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    /// The command line, for tests that need to run it themselves.
    pub fn command(&self) -> Command {
        let mut words = self.wrapper.iter().map(String::as_str).collect::<Vec<_>>();
        let binary = self.binary.to_string_lossy();
        words.push(&binary);
        words.extend(self.arguments.iter().map(String::as_str));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }

    /// Starts it and does not wait.
    pub fn launch(self) -> Watch {
        Watch::spawn(self.command())
    }

    /// Starts it and waits until it can see.
    #[track_caller]
    pub fn start(self) -> Watch {
        let watch = self.launch();
        watch.ready();
        watch
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.launch().finish()
    }
}
