//! The workspace's benchmarks: `cargo xtask bench <what>` builds this program for speed and runs it.

mod access;
mod cli;
mod clock;
mod history;
mod hostile;
mod latency;
mod machine;
mod negotiation;
mod nodes;
mod report;
mod transfer;
mod usage;

use std::process::ExitCode;

/// Every benchmark. A further one is a module with a [`cli::Command`] and a line here.
const COMMANDS: &[cli::Command] = &[
    negotiation::COMMAND,
    transfer::COMMAND,
    transfer::SIDE_COMMAND,
    latency::COMMAND,
    hostile::COMMAND,
    hostile::SERVER_COMMAND,
    access::COMMAND,
];

fn main() -> ExitCode {
    cli::run(COMMANDS, std::env::args().skip(1).collect())
}
