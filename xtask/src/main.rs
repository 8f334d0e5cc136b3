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
mod sim;
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
    Sim(sim::Options),
    /// Runs everything that must pass before a change is accepted
    Ci,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::TestMatrix(options) => matrix::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Sim(options) => sim::run(&options),
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
}
