//! `cargo xtask test-matrix`: every crate with every meaningful set of features, and the rules that
//! hold for the whole workspace.

mod rows;
mod run;

pub use rows::gaps;
use rows::{Row, rows};
use run::{Report, run_rows};

/// Checks and tests every crate with every meaningful set of features
///
/// Lints each crate with each set of features, tests it with those that change what is tested, and
/// checks the workspace: formatting, boundaries, dependencies, documentation.
///
/// Tests run under cargo-nextest where that is installed, and under cargo test otherwise. Each row's
/// output goes to test-matrix/ROW.log in the target folder; the output of a failed row is also
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
    let report = run_rows(&rows, options.keep_going)?;
    println!();
    report
        .skipped
        .iter()
        .for_each(|row| println!("SKIPPED {row}"));
    println!("{}", report.count);
    verdict(&report)
}

/// Runs every row.
pub fn ci() -> Result<(), String> {
    run(&Options {
        keep_going: true,
        ..Options::default()
    })
}

/// Returns the rows whose name starts with one of the prefixes, in the order of the matrix.
fn select(prefixes: &[String]) -> Result<Vec<Row>, String> {
    let mut rows = rows();
    let starts = |row: &Row, prefix: &String| row.name.starts_with(prefix);
    if let Some(unknown) = prefixes
        .iter()
        .find(|it| !rows.iter().any(|row| starts(row, it)))
    {
        return Err(format!("no row's name starts with {unknown:?}; see --list"));
    }
    rows.retain(|row| prefixes.is_empty() || prefixes.iter().any(|prefix| starts(row, prefix)));
    Ok(rows)
}

fn verdict(report: &Report) -> Result<(), String> {
    // Silence must never look like success: a filter or a harness that finds no test fails.
    match report.failed.is_empty() {
        false => Err(format!("failed: {}", report.failed.join(", "))),
        true if report.count.failed > 0 => Err("a test failed".into()),
        true if report.has_tests && report.count.passed == 0 => Err("no test ran at all".into()),
        true => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::run::Count;
    use super::*;

    #[test]
    fn a_run_passes_only_with_tests_and_without_failures() {
        let report = |passed, failed, rows: &[&str]| Report {
            count: Count {
                passed,
                failed,
                skipped: 0,
            },
            has_tests: true,
            failed: rows.iter().map(|row| row.to_string()).collect(),
            skipped: vec![],
        };
        assert_eq!(verdict(&report(41, 0, &[])), Ok(()));
        assert!(verdict(&report(0, 0, &[])).is_err());
        assert!(verdict(&report(41, 1, &[])).is_err());
        assert!(verdict(&report(41, 0, &["clippy"])).is_err());
        assert_eq!(verdict(&Report::default()), Ok(()));
    }
}
