//! `sockwarden publish`.

use clap::Args;

use super::Failure;

/// Not there yet.
#[derive(Debug, Args)]
pub(super) struct Publish {}

impl Publish {
    pub(super) fn run(self) -> Result<u8, Failure> {
        Err(Failure::unable("not there yet"))
    }
}
