//! The workspace's benchmarks: `cargo xtask bench <what>` builds this program for speed and runs it.

mod access;
mod history;
mod hostile;
mod latency;
mod negotiation;
mod nodes;
mod side;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask_support::figures::machine;
use xtask_support::report::Report;

#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// Also write the figures to this file: a JSON list with one object for each row
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The date that the report names
    #[arg(long, global = true, value_name = "TEXT")]
    date: Option<String>,
}

/// Every benchmark. Another one is a module with its options and a `run`, a line here and in `run`,
/// and one in `xtask/src/bench`.
#[derive(Subcommand)]
enum What {
    Access(access::Options),
    Negotiation(negotiation::Options),
    Transfer(transfer::Options),
    Latency(latency::Options),
    Hostile(hostile::Options),
    #[command(hide = true)]
    Side(side::Options),
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
    let (name, report): (&str, Report) = match cli.what {
        What::Access(options) => ("access", access::run(&options)?),
        What::Negotiation(options) => ("negotiation", negotiation::run(&options)?),
        What::Transfer(options) => ("transfer", transfer::run(&options)?),
        What::Latency(options) => ("latency", latency::run(&options)?),
        What::Hostile(options) => ("hostile", hostile::run(&options)?),
        What::Side(options) => return side::run(&options).map(|()| true),
    };
    println!("{}\n\n{report}", machine(cli.date.as_deref()));
    if let Some(file) = cli.json {
        std::fs::write(&file, report.to_json(name))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(report.targets_met())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_lines_are_understood_or_refused() {
        Cli::command().debug_assert();
        let fine = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(fine(
            "x negotiation --dag a --pairs 7 --dag b --large --json c --date today"
        ));
        assert!(fine("x transfer --entries 9 --all --repeat 2"));
        assert!(fine("x latency --entries 1000,100000 --transport iroh"));
        assert!(fine("x hostile --stall head --connections 5"));
        for wrong in [
            "x negotiation --pairs 0",
            "x transfer --store disk",
            "x latency --fast",
            "x hostile --transport memory",
        ] {
            assert!(!fine(wrong), "{wrong}");
        }
    }
}
