//! The workspace's benchmarks: `cargo xtask bench <what>` builds this program for speed and runs it.

mod access;
mod clock;
mod history;
mod honest;
mod hostile;
mod hub;
mod latency;
mod limits;
mod live;
mod negotiation;
mod nodes;
mod reading;
mod side;
mod siege;
mod transfer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask_support::figures::machine;

#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

/// Every benchmark. Another one is a module with its options and a `run`, a line here and in `run`,
/// and one in `xtask/src/bench`.
#[derive(Subcommand)]
enum What {
    Access(access::Options),
    Negotiation(negotiation::Options),
    Transfer(transfer::Options),
    Latency(latency::Options),
    Reading(reading::Options),
    Hostile(hostile::Options),
    Siege(siege::Options),
    Hub(hub::Options),
    Live(live::Options),
    #[command(hide = true)]
    Side(side::Options),
    #[command(hide = true)]
    Watchers(live::Watchers),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every target is met.
fn run(cli: Cli) -> Result<bool, String> {
    let report = match cli.what {
        What::Access(options) => access::run(&options)?,
        What::Negotiation(options) => negotiation::run(&options)?,
        What::Transfer(options) => transfer::run(&options)?,
        What::Latency(options) => latency::run(&options)?,
        What::Reading(options) => reading::run(&options)?,
        What::Hostile(options) => hostile::run(&options)?,
        What::Siege(options) => siege::run(&options)?,
        What::Hub(options) => hub::run(&options)?,
        What::Live(options) => live::run(&options)?,
        What::Side(options) => return side::run(&options).map(|()| true),
        What::Watchers(options) => return live::obey(&options).map(|()| true),
    };
    println!("{}\n\n{report}", machine());
    Ok(report.targets_met())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
