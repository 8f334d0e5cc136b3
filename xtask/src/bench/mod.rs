//! `cargo xtask bench <what>`: measures the program and its parts, and checks their targets.

mod bootstrap;

use clap::Subcommand;

use crate::workspace;

/// Measures the program and its parts, optimised, and checks their targets
///
/// Exit codes: 0 if every target is met, 1 if one is missed or anything failed, 2 for a wrong
/// command line.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

/// Every benchmark. One that needs the library is a module of `xtask/bench` and two lines here.
#[derive(Subcommand)]
enum What {
    Bootstrap(bootstrap::Options),
    /// Entries that merge old states of access, and trees with very many tips
    #[command(disable_help_flag = true)]
    Access(Rest),
    /// Round trips, bytes and redundant entries of syncs on histories of every shape
    #[command(disable_help_flag = true)]
    Negotiation(Rest),
    /// Bootstraps of a whole tree: speed, bytes and memory, and each step alone
    #[command(disable_help_flag = true)]
    Transfer(Rest),
    /// Syncs over a warm connection
    #[command(disable_help_flag = true)]
    Latency(Rest),
    /// What a program reads of a large tree: all of it, in both orders, and what is new
    #[command(disable_help_flag = true)]
    Reading(Rest),
    /// A server under attack by connections that stall
    #[command(disable_help_flag = true)]
    Hostile(Rest),
    /// A server that anonymous callers try to exhaust, in 512 MiB of memory
    #[command(disable_help_flag = true)]
    Siege(Rest),
    /// Servers that share a PostgreSQL database, which it starts itself
    #[command(disable_help_flag = true)]
    Hub(Rest),
    /// Copies that stay equal by themselves: latency, exchanges and bytes
    #[command(disable_help_flag = true)]
    Live(Rest),
    /// The protocol beside git fetch, Automerge, negentropy and rateless IBLTs
    #[command(disable_help_flag = true)]
    Peers(Rest),
}

/// Options that the benchmark's own program reads; `--help` prints them.
#[derive(clap::Args)]
struct Rest {
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTIONS"
    )]
    rest: Vec<String>,
}

/// Runs a benchmark.
pub fn run(options: &Options) -> Result<(), String> {
    let (name, rest) = match &options.what {
        What::Bootstrap(options) => return bootstrap::run(options),
        What::Access(rest) => ("access", rest),
        What::Negotiation(rest) => ("negotiation", rest),
        What::Transfer(rest) => ("transfer", rest),
        What::Latency(rest) => ("latency", rest),
        What::Reading(rest) => ("reading", rest),
        What::Hostile(rest) => ("hostile", rest),
        What::Siege(rest) => ("siege", rest),
        What::Hub(rest) => ("hub", rest),
        What::Live(rest) => ("live", rest),
        What::Peers(rest) => ("peers", rest),
    };
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--locked", "--release"]);
    match name {
        // A workspace of its own, so that nothing else resolves or builds what it depends on. Its
        // target folder is below this one's, so that one `cargo clean` removes both.
        "peers" => {
            cargo.args(["--manifest-path", "xtask/peers/Cargo.toml", "--"]);
            cargo.env("CARGO_TARGET_DIR", workspace::target_dir().join("peers"));
        }
        name => {
            cargo.args(["--package", "eidetica-bench", "--", name]);
        }
    }
    xtask_support::run(cargo.args(&rest.rest))
}
