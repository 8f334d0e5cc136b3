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
    /// Lists the benchmarks
    List,
    Bootstrap(bootstrap::Options),
    /// Parts alone: differences, filters, entries, signatures, batches
    #[command(disable_help_flag = true)]
    Micro(Rest),
    /// Round trips, bytes and redundant entries of syncs on histories of every shape
    #[command(disable_help_flag = true)]
    Negotiation(Rest),
    /// Bootstraps of a whole tree: speed, bytes and memory, and each step alone
    #[command(disable_help_flag = true)]
    Transfer(Rest),
    /// Syncs over a warm connection
    #[command(disable_help_flag = true)]
    Latency(Rest),
    /// A server under attack: stalled connections and requests that are too large
    #[command(disable_help_flag = true)]
    Hostile(Rest),
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
    const BENCH: &str = "run --locked --release --package eidetica-bench --";
    let (line, name, rest) = match &options.what {
        What::List => {
            for what in What::augment_subcommands(clap::Command::new("bench")).get_subcommands() {
                let about = what
                    .get_about()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                println!("{:<14}{about}", what.get_name());
            }
            return Ok(());
        }
        What::Bootstrap(options) => return bootstrap::run(options),
        What::Micro(rest) => (
            "bench --locked --package eidetica-bench --bench micro --",
            None,
            rest,
        ),
        // A workspace of its own, so that nothing else resolves or builds what it depends on.
        What::Peers(rest) => (
            "run --locked --release --manifest-path xtask/peers/Cargo.toml --",
            None,
            rest,
        ),
        What::Negotiation(rest) => (BENCH, Some("negotiation"), rest),
        What::Transfer(rest) => (BENCH, Some("transfer"), rest),
        What::Latency(rest) => (BENCH, Some("latency"), rest),
        What::Hostile(rest) => (BENCH, Some("hostile"), rest),
    };
    let mut cargo = workspace::cargo();
    cargo.args(line.split(' ')).args(name).args(&rest.rest);
    if let What::Peers(_) = options.what {
        // Below the workspace's target folder, so that one `cargo clean` removes both.
        cargo.env("CARGO_TARGET_DIR", workspace::target_dir().join("peers"));
    }
    xtask_support::run(&mut cargo)
}
