//! The benchmark program: a crate of its own, built only when it is asked for, because it depends on
//! all the others and this program stays light.

use crate::cli::Failure;
use crate::workspace;

const PACKAGE: &str = "eidetica-bench";

/// The comparison with other protocols. It is a workspace of its own, so that what it depends on
/// is resolved and built by nothing else.
const PEERS_MANIFEST: &str = "xtask/peers/Cargo.toml";

/// Builds the benchmark program for speed and lets it measure.
pub fn run(what: &str, options: &[String]) -> Result<(), Failure> {
    let mut cargo = workspace::cargo();
    cargo.args(cargo_args(what, options));
    if what == "peers" {
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
fn cargo_args(what: &str, options: &[String]) -> Vec<String> {
    let line = match what {
        "micro" => format!("bench --locked --package {PACKAGE} --bench micro --"),
        "peers" => format!("run --locked --release --manifest-path {PEERS_MANIFEST} --"),
        what => format!("run --locked --release --package {PACKAGE} -- {what}"),
    };
    let line = line.split(' ').map(str::to_owned);
    line.chain(options.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_on() {
        let line = |what, options: &[&str]| {
            let options: Vec<String> = options.iter().map(|word| word.to_string()).collect();
            cargo_args(what, &options).join(" ")
        };
        assert_eq!(
            line("negotiation", &["--pairs", "5"]),
            "run --locked --release --package eidetica-bench -- negotiation --pairs 5"
        );
        assert_eq!(
            line("micro", &["filter"]),
            "bench --locked --package eidetica-bench --bench micro -- filter"
        );
        assert_eq!(
            line("peers", &["--pairs", "5"]),
            "run --locked --release --manifest-path xtask/peers/Cargo.toml -- --pairs 5"
        );
    }
}
