//! The workspace's own commands, run as `cargo xtask <command>`.
//!
//! Its dependencies are few, so that it builds and starts quickly. Whatever needs more is a program
//! of its own, which a command here builds and runs.

mod bench;
mod boundaries;
mod demo;
mod fuzz;
mod matrix;
mod node;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The workspace's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Every command. Another one is a module with its options and a `run`, and a line here.
#[derive(Subcommand)]
enum Command {
    Demo(demo::Options),
    TestMatrix(matrix::Options),
    Bench(bench::Options),
    Fuzz(fuzz::Options),
    /// Runs everything that must pass before a change is accepted
    Ci,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::TestMatrix(options) => matrix::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Ci => matrix::ci(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_lines_are_understood_or_refused() {
        let fine = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        for line in [
            "x demo --repo a --entries=30 --keep --release",
            "x test-matrix --row fmt --row=eidetica-dag --keep-going",
            "x bench bootstrap --entries 60 --entries=70 --via iroh --keep",
            "x bench negotiation --pairs 5 --help",
            "x fuzz batch entry --seconds 5",
            "x fuzz list",
            "x fuzz seeds",
            "x fuzz cmin batch",
            "x ci",
        ] {
            assert!(fine(line), "{line}");
        }
        for line in [
            "x sing",
            "x demo --entries 0",
            "x demo now",
            "x test-matrix --row",
            "x test-matrix --fast",
            "x bench",
            "x bench bootstrap --entries 81967",
            "x bench bootstrap --via ftp",
            "x fuzz --seconds 0",
            "x ci now",
        ] {
            assert!(!fine(line), "{line}");
        }
    }
}
