//! `cargo xtask bench`: builds the benchmarks for speed and runs one of them.
//!
//! They live in a crate of their own, which is built only here: this program stays light.

use crate::cli::{Command, Failure};
use crate::workspace;

/// The command's entry in the list of commands.
pub const COMMAND: Command = Command {
    name: "bench",
    summary: "Measures the protocol, the stores and the transports.",
    help: HELP,
    run,
};

const PACKAGE: &str = "eidetica-bench";

/// The comparison with other protocols. It is a workspace of its own, so that what it depends on
/// is resolved and built by nothing else.
const PEERS_MANIFEST: &str = "xtask/peers/Cargo.toml";

const HELP: &str = "\
Measures the protocol, the stores and the transports, in a release build.

Usage: cargo xtask bench <what> [options]

What:
  micro          The parts by themselves: differences, filters, encoding, signatures, batches
  peers          The protocol beside git fetch, Automerge, negentropy and rateless IBLTs
  <other>        A command of the benchmark program; cargo xtask bench list tells them

cargo xtask bench <what> help tells the options of one. Exit codes: 0 if every target is met, 1 if
one is missed or something failed, 2 for a wrong command line.
";

fn run(args: &[String]) -> Result<(), Failure> {
    let mut cargo = workspace::cargo();
    cargo.args(cargo_args(args)?);
    if args.first().is_some_and(|what| what == "peers") {
        // Below the workspace's own target folder, so that one `cargo clean` removes both.
        cargo.env("CARGO_TARGET_DIR", workspace::target_dir().join("peers"));
    }
    // The program tells what went wrong by itself.
    let status = cargo
        .status()
        .map_err(|error| Failure::Failed(format!("cannot start cargo: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Failed(format!("the benchmark failed ({status})")))
    }
}

/// Returns what cargo is called with.
fn cargo_args(args: &[String]) -> Result<Vec<String>, Failure> {
    let (what, options) = args
        .split_first()
        .ok_or_else(|| Failure::Usage("bench needs to know what to measure".into()))?;
    let line = match what.as_str() {
        "micro" => format!("bench --locked --package {PACKAGE} --bench micro --"),
        "peers" => format!("run --locked --release --manifest-path {PEERS_MANIFEST} --"),
        what => format!("run --locked --release --package {PACKAGE} -- {what}"),
    };
    let line = line.split(' ').map(str::to_owned);
    Ok(line.chain(options.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str]) -> Result<String, Failure> {
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        cargo_args(&args).map(|args| args.join(" "))
    }

    #[test]
    fn options_are_passed_on() {
        assert_eq!(
            line(&["negotiation", "--pairs", "5"]).unwrap(),
            "run --locked --release --package eidetica-bench -- negotiation --pairs 5"
        );
        assert_eq!(
            line(&["micro", "filter"]).unwrap(),
            "bench --locked --package eidetica-bench --bench micro -- filter"
        );
        assert_eq!(
            line(&["peers", "--pairs", "5"]).unwrap(),
            "run --locked --release --manifest-path xtask/peers/Cargo.toml -- --pairs 5"
        );
        assert!(matches!(line(&[]), Err(Failure::Usage(_))));
    }
}
