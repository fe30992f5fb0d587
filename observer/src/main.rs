//! The binary `sockwarden`: the command line of the library `observer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    observer::cli::run(std::env::args_os())
}
