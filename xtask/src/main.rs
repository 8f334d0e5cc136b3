//! The workspace's own commands, run as `cargo xtask <command>`.
//!
//! Depends on next to nothing, so that it builds and starts at once.

mod bench;
mod boundaries;
mod cli;
mod demo;
mod fuzz;
mod matrix;
mod node;
mod process;
mod table;
mod workspace;

use std::process::ExitCode;

/// Every command. A further one is a module with a [`cli::Command`] and a line here.
const COMMANDS: &[cli::Command] = &[
    demo::COMMAND,
    matrix::COMMAND,
    bench::COMMAND,
    fuzz::COMMAND,
];

fn main() -> ExitCode {
    cli::run(COMMANDS, std::env::args().skip(1))
}
