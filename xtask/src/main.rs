//! The workspace's own commands, run as `cargo xtask <command>`.
//!
//! Depends on next to nothing, so that it builds and starts at once.

mod boundaries;
mod cli;
mod matrix;
mod workspace;

use std::process::ExitCode;

/// Every command. A further one is a module with a [`cli::Command`] and a line here.
const COMMANDS: &[cli::Command] = &[matrix::COMMAND];

fn main() -> ExitCode {
    cli::run(COMMANDS, std::env::args().skip(1))
}
