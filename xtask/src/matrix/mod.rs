//! `cargo xtask test-matrix`: every crate with every meaningful feature set, and the rules that
//! hold for the workspace as a whole.

mod count;
mod rows;
mod run;

use crate::cli::{Command, Failure};
use rows::{ROWS, Row};
use run::Report;

/// The command's entry in the list of commands.
pub const COMMAND: Command = Command {
    name: "test-matrix",
    summary: "Checks and tests every crate with every meaningful feature set.",
    help: HELP,
    run,
};

const HELP: &str = "\
Checks and tests every crate with every meaningful feature set, one package at a time, and then
the workspace: clippy and rustdoc with warnings denied, formatting, crate boundaries.

Usage: cargo xtask test-matrix [options]

Options:
  --list         Print the rows' names and do nothing
  --row <name>   Run only the rows whose name starts with <name>; may be repeated
  --keep-going   Go on after a failed row
  -h, --help     Print this help

Tests run under cargo-nextest where that is installed, and under cargo test otherwise. Each row's
output goes to test-matrix/<row>.log in the target folder; a failed row's is printed as well.
Exit codes: 0 if all is well, 1 if a row failed or no test ran, 2 for a wrong command line.
";

#[derive(Debug, Default, PartialEq)]
struct Options {
    list: bool,
    keep_going: bool,
    /// Prefixes of row names; empty means every row.
    rows: Vec<String>,
}

fn run(args: &[String]) -> Result<(), Failure> {
    let options = parse(args)?;
    let rows = select(&options.rows)?;
    if options.list {
        for row in rows {
            println!("{}", row.name());
        }
        return Ok(());
    }
    let report = run::run_rows(&rows, options.keep_going).map_err(Failure::Failed)?;
    println!();
    let last_line = verdict(&report).map_err(Failure::Failed)?;
    println!("{last_line}");
    Ok(())
}

fn parse(args: &[String]) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--list" => options.list = true,
            "--keep-going" => options.keep_going = true,
            "--row" => {
                let row = args
                    .next()
                    .ok_or(Failure::Usage("--row needs a row's name".into()))?;
                options.rows.push(row.clone());
            }
            other => match other.strip_prefix("--row=") {
                Some(row) => options.rows.push(row.into()),
                None => {
                    return Err(Failure::Usage(format!(
                        "test-matrix does not know {other:?}"
                    )));
                }
            },
        }
    }
    Ok(options)
}

/// Returns the rows whose name starts with one of the prefixes, in the matrix's order.
fn select(prefixes: &[String]) -> Result<Vec<&'static Row>, Failure> {
    let fits = |row: &Row, prefix: &String| row.name().starts_with(prefix.as_str());
    if let Some(lost) = prefixes
        .iter()
        .find(|prefix| !ROWS.iter().any(|row| fits(row, prefix)))
    {
        return Err(Failure::Usage(format!(
            "no row's name starts with {lost:?}; see --list"
        )));
    }
    Ok(ROWS
        .iter()
        .filter(|row| prefixes.is_empty() || prefixes.iter().any(|prefix| fits(row, prefix)))
        .collect())
}

/// Returns the last line of a run in which all is well, or what is wrong with it.
fn verdict(report: &Report) -> Result<String, String> {
    if !report.failed_rows.is_empty() {
        return Err(format!(
            "failed: {} ({})",
            report.failed_rows.join(", "),
            report.count
        ));
    }
    if !report.ran_tests {
        return Ok("all rows are fine; there are no tests in them".into());
    }
    // Silence must never look like success: a filter or a broken harness that finds no test fails.
    if report.count.passed == 0 {
        return Err("no test ran at all".into());
    }
    Ok(report.count.to_string())
}

#[cfg(test)]
mod tests {
    use super::count::Count;
    use super::*;

    fn options(args: &[&str]) -> Result<Options, Failure> {
        parse(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>())
    }

    fn usage<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
        match result {
            Err(Failure::Usage(text)) => text,
            other => panic!("a usage error was due, not {other:?}"),
        }
    }

    fn report(passed: u64, failed_rows: &[&'static str]) -> Report {
        Report {
            count: Count {
                passed,
                failed: 0,
                skipped: 0,
            },
            ran_tests: true,
            failed_rows: failed_rows.iter().map(|row| row.to_string()).collect(),
        }
    }

    #[test]
    fn options_are_understood_or_refused() {
        let both = options(&["--row", "fmt", "--row=eidetica-dag", "--keep-going"]).unwrap();
        assert_eq!(both.rows, ["fmt", "eidetica-dag"]);
        assert!(both.keep_going && !both.list);
        assert!(options(&["--list"]).unwrap().list);
        assert!(usage(options(&["--row"])).contains("needs a row"));
        assert!(usage(options(&["--fast"])).contains("--fast"));
    }

    #[test]
    fn rows_are_selected_by_prefix_in_the_order_of_the_matrix() {
        let names = |prefixes: &[&str]| -> Vec<String> {
            let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.to_string()).collect();
            select(&prefixes)
                .unwrap()
                .iter()
                .map(|row| row.name())
                .collect()
        };
        assert_eq!(names(&["eidetica-dag", "fmt"])[0], "fmt");
        assert_eq!(
            names(&["eidetica-dag"]),
            ["eidetica-dag:none", "eidetica-dag:test-utils"]
        );
        assert_eq!(names(&[]).len(), ROWS.len());
        assert!(usage(select(&["fmt".into(), "eidetica-gad".into()])).contains("eidetica-gad"));
    }

    #[test]
    fn a_run_passes_only_with_tests_and_without_failed_rows() {
        assert_eq!(verdict(&report(41, &[])), Ok("41 passed, 0 failed".into()));
        assert!(verdict(&report(0, &[])).is_err());
        let failed = verdict(&report(41, &["clippy"])).unwrap_err();
        assert!(failed.contains("clippy"), "{failed}");
    }

    #[test]
    fn a_selection_without_test_rows_claims_no_tests() {
        let report = Report {
            ran_tests: false,
            ..report(0, &[])
        };
        assert!(!verdict(&report).unwrap().contains("passed"));
    }
}
