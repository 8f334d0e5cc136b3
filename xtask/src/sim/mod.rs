//! `cargo xtask sim`: whole networks of nodes in virtual time, and mutations that they must notice.

mod mutations;

use crate::workspace;

/// Runs whole networks of nodes with faults of every kind, in virtual time
///
/// Each seed draws some nodes, what their users do and what goes wrong; invariants are checked at every
/// step. `cargo xtask sim --help` lists the options of a run. Exit codes: 0 if every invariant held, 1
/// if one did not, 2 for a wrong command line.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, disable_help_flag = true)]
pub struct Options {
    /// Break the code in each of the ways that `xtask/sim/mutations` lists, in a copy, and see that a run
    /// notices it
    #[arg(long, conflicts_with = "rest")]
    mutations: bool,
    /// Only the mutations whose names contain this
    #[arg(long, requires = "mutations", value_name = "TEXT")]
    only: Option<String>,
    /// Build for speed, for many seeds
    #[arg(long)]
    release: bool,
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTIONS"
    )]
    rest: Vec<String>,
}

/// Runs the simulator.
pub fn run(options: &Options) -> Result<(), String> {
    if options.mutations {
        return mutations::run(options.only.as_deref());
    }
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--locked", "--package", "eidetica-sim"]);
    if options.release {
        cargo.arg("--release");
    }
    xtask_support::run(cargo.arg("--").args(&options.rest))
}
