//! `sockwarden run`: the daemon.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, exit, logger};
use crate::{config, daemon};

/// Runs the daemon: the pool, the observer, the alarms and the API, until SIGTERM.
///
/// It has to be started as root or with the capabilities of `deploy/sockwarden.service`; it gives
/// them away before it reads anything from outside. SIGHUP reads the config again. Exit codes: 0
/// ended in order, 64 the config is wrong, 69 this host is not able, 77 no permission.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The config; `sockwarden config example` prints one.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

impl Run {
    pub(super) fn run(self) -> Result<u8, Failure> {
        logger::for_service();
        match daemon::run(&self.config) {
            Ok(()) => Ok(exit::OK),
            Err(error) => {
                let code = match () {
                    () if error.is_config() => exit::USAGE,
                    () if error.is_permission() => exit::PERMISSION,
                    () => exit::UNABLE,
                };
                Err(Failure { code, message: error.to_string() })
            }
        }
    }
}
