//! `cargo xtask test-matrix`: every crate with every meaningful set of features, and the rules that
//! hold for the whole workspace.

mod count;
mod rows;
mod run;

use std::process::Command;

use rows::{Row, rows};
use run::{Report, run_rows};
use xtask_support::output;

use crate::workspace;

/// Checks and tests every crate with every meaningful set of features
///
/// Lints each crate with each set of features, tests it with those that change what is tested, and
/// then checks the workspace: formatting, boundaries, licences, documentation.
///
/// Tests run under cargo-nextest where that is installed, and under cargo test otherwise. Each row's
/// output goes to test-matrix/<row>.log in the target folder; the output of a failed row is also
/// printed. Exit codes: 0 if every row passed, 1 if a row failed or no test ran, 2 for a wrong
/// command line.
#[derive(clap::Args, Default)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Print the names of the rows and do nothing else
    #[arg(long)]
    list: bool,
    /// Run only the rows whose name starts with this; may be repeated
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,
    /// Continue after a failed row
    #[arg(long)]
    keep_going: bool,
}

/// Runs the rows that the options name.
pub fn run(options: &Options) -> Result<(), String> {
    let rows = select(&options.rows)?;
    if options.list {
        rows.iter().for_each(|row| println!("{}", row.name));
        return Ok(());
    }
    println!("\n{}", verdict(&run_rows(&rows, options.keep_going)?)?);
    Ok(())
}

/// Names the tools and runs every row.
pub fn ci() -> Result<(), String> {
    for tool in [
        "--version",
        "clippy --version",
        "fmt --version",
        "nextest --version",
        "deny --version",
    ] {
        let version = output(workspace::cargo().args(tool.split(' ')));
        let line = version
            .ok()
            .and_then(|text| text.lines().next().map(str::to_owned));
        println!(
            "{}",
            line.unwrap_or_else(|| format!("cargo {tool}: not installed"))
        );
    }
    println!(
        "{}",
        output(
            Command::new("rustc")
                .arg("-V")
                .current_dir(workspace::root())
        )?
        .trim()
    );
    run(&Options {
        keep_going: true,
        ..Options::default()
    })
}

/// Returns the rows whose name starts with one of the prefixes, in the order of the matrix.
fn select(prefixes: &[String]) -> Result<Vec<Row>, String> {
    let all = rows();
    if let Some(unknown) = prefixes
        .iter()
        .find(|it| !all.iter().any(|row| row.name.starts_with(*it)))
    {
        return Err(format!("no row's name starts with {unknown:?}; see --list"));
    }
    let wanted = |row: &Row| {
        prefixes.is_empty() || prefixes.iter().any(|it| row.name.starts_with(it.as_str()))
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// Returns the last line of a run in which all passed, or what failed.
fn verdict(report: &Report) -> Result<String, String> {
    let mut skipped = String::new();
    for (row, why) in &report.skipped {
        skipped.push_str(&format!("SKIPPED {row}: {why}\n"));
    }
    if !report.failed.is_empty() {
        return Err(format!(
            "{skipped}failed: {} ({})",
            report.failed.join(", "),
            report.count
        ));
    }
    // Silence must never look like success: a filter or a harness that finds no test fails.
    match (report.ran_tests, report.count.passed) {
        (false, _) => Ok(format!("{skipped}all rows passed; none of them has tests")),
        (true, 0) => Err("no test ran at all".into()),
        (true, _) => Ok(format!("{skipped}{}", report.count)),
    }
}

#[cfg(test)]
mod tests {
    use super::count::Count;
    use super::*;

    fn report(passed: u64, failed: &[&str]) -> Report {
        Report {
            count: Count {
                passed,
                ..Count::default()
            },
            ran_tests: true,
            failed: failed.iter().map(|row| row.to_string()).collect(),
            skipped: vec![],
        }
    }

    #[test]
    fn rows_are_selected_by_prefix_in_the_order_of_the_matrix() {
        let names = |prefixes: &[&str]| -> Vec<String> {
            let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.to_string()).collect();
            select(&prefixes)
                .unwrap()
                .into_iter()
                .map(|row| row.name)
                .collect()
        };
        assert_eq!(names(&["eidetica-bench", "fmt"]), ["fmt", "eidetica-bench"]);
        assert_eq!(
            names(&["eidetica-proto"]),
            ["eidetica-proto:none", "eidetica-proto:test-utils"]
        );
        assert_eq!(names(&[]).len(), rows().len());
        assert!(
            select(&["fmt".into(), "eidetica-gad".into()])
                .err()
                .unwrap()
                .contains("gad")
        );
    }

    #[test]
    fn a_run_passes_only_with_tests_and_without_failed_rows() {
        assert_eq!(verdict(&report(41, &[])), Ok("41 passed, 0 failed".into()));
        assert!(verdict(&report(0, &[])).is_err());
        assert!(
            verdict(&report(41, &["clippy"]))
                .unwrap_err()
                .contains("clippy")
        );
        let none = Report {
            ran_tests: false,
            ..report(0, &[])
        };
        assert!(!verdict(&none).unwrap().contains("0 passed"));
    }

    #[test]
    fn a_skipped_row_is_named_whatever_the_verdict() {
        let skipped = |failed| Report {
            skipped: vec![("wasm".into(), "why".into())],
            ..report(1, failed)
        };
        assert!(
            verdict(&skipped(&[]))
                .unwrap()
                .starts_with("SKIPPED wasm: why\n")
        );
        assert!(
            verdict(&skipped(&["fmt"]))
                .unwrap_err()
                .starts_with("SKIPPED wasm: why\n")
        );
    }
}
