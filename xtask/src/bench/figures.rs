//! The benchmark program: a crate of its own, built only when it is asked for, because it depends on
//! all the others and this program stays light.

use crate::cli::Failure;
use crate::workspace;

const PACKAGE: &str = "eidetica-bench";

/// Builds the benchmark program for speed and lets it measure.
pub fn run(what: &str, options: &[String]) -> Result<(), Failure> {
    let mut cargo = workspace::cargo();
    cargo.args(cargo_args(what, options));
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
    }
}
