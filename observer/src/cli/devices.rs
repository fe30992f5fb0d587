//! `sockwarden devices`.

use clap::Args;

use super::Failure;

/// Not there yet.
#[derive(Debug, Args)]
pub(super) struct Devices {}

impl Devices {
    pub(super) fn run(self) -> Result<u8, Failure> {
        Err(Failure::unable("not there yet"))
    }
}
