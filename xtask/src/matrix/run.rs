//! Runs rows one after the other, and shows how they go.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;

use xtask_support::{now, output};

use super::rows::{Row, Step};
use crate::{boundaries, workspace};

/// Tests passed, failed, and skipped: ignored or filtered out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// How a run went.
#[derive(Default)]
pub struct Report {
    pub count: Count,
    /// Whether any row had tests to run.
    pub has_tests: bool,
    pub failed: Vec<String>,
    /// Rows that could not run here, and why.
    pub skipped: Vec<String>,
}

/// Runs the rows and prints a line for each, up to the first that fails unless `keep_going`.
///
/// # Errors
/// What prevented the run itself, rather than a row, from working.
pub fn run_rows(rows: &[Row], keep_going: bool) -> Result<Report, String> {
    // A version that this workspace's configuration does not accept counts as absent.
    let nextest = output(workspace::cargo().args(["nextest", "show-config", "version"])).is_ok();
    let logs = workspace::target_dir().join("test-matrix");
    let unusable = |error: io::Error| format!("cannot use {}: {error}", logs.display());
    fs::create_dir_all(&logs).map_err(unusable)?;
    let harness = if nextest {
        "cargo nextest"
    } else {
        "cargo test (cargo-nextest is absent)"
    };
    println!(
        "{} rows, tests by {harness}, logs in {}",
        rows.len(),
        logs.display()
    );

    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut report = Report::default();
    for row in rows {
        let name = &row.name;
        print!("{name:width$}  ");
        // Only the display suffers if the terminal does not take it.
        let _ = io::stdout().flush();
        if let Some(why) = row.skipped {
            println!("SKIPPED {why}");
            report.skipped.push(format!("{name}: {why}"));
            continue;
        }
        // A name that every platform accepts.
        let log = logs.join(format!("{}.log", name.replace(':', ".")));
        let (before, started) = (report.count, now());
        let failure = run_row(row, nextest, &log, &mut report.count).map_err(unusable)?;
        let verdict = if failure.is_some() { "FAILED" } else { "ok" };
        print!("{verdict:7} {:6.1} s", started.elapsed().as_secs_f64());
        if row.steps.iter().any(Step::counts) {
            report.has_tests = true;
            let Count { passed, failed, .. } = report.count;
            print!(
                ", {:4} tests",
                passed + failed - before.passed - before.failed
            );
        }
        println!();
        if let Some(failure) = failure {
            let text = fs::read(&log).unwrap_or_default();
            println!(
                "\n{}\n{name}: {failure}",
                String::from_utf8_lossy(&text).trim_end()
            );
            report.failed.push(name.clone());
            if !keep_going {
                break;
            }
        }
    }
    Ok(report)
}

/// Runs one row into its log, and returns why it failed, if it did. The error is one of the log.
fn run_row(row: &Row, nextest: bool, log: &Path, total: &mut Count) -> io::Result<Option<String>> {
    let mut file = File::create(log)?;
    for step in &row.steps {
        let Some(line) = step.line(nextest) else {
            match workspace::metadata().map(|metadata| boundaries::check(&metadata)) {
                Ok(broken) if broken.is_empty() => continue,
                Ok(broken) => return Ok(Some(format!("broken rules\n{}", broken.join("\n")))),
                Err(error) => return Ok(Some(error)),
            }
        };
        writeln!(file, "$ cargo {line}")?;
        let begin = file.metadata()?.len() as usize;
        let status = match call(&line, &file)? {
            Ok(status) => status,
            Err(error) => return Ok(Some(format!("cannot start cargo {line}: {error}"))),
        };
        let mut failure = (!status.success()).then_some("failed");
        if step.counts() {
            let output = fs::read(log)?;
            match count(&String::from_utf8_lossy(&output[begin.min(output.len())..])) {
                None => failure = failure.or(Some("printed no count of tests")),
                Some(found) => {
                    total.passed += found.passed;
                    total.failed += found.failed;
                    total.skipped += found.skipped;
                }
            }
        }
        if let Some(failure) = failure {
            return Ok(Some(format!("cargo {line}: {failure} ({status})")));
        }
    }
    Ok(None)
}

/// Calls cargo with its output at the end of a file.
fn call(line: &str, file: &File) -> io::Result<io::Result<std::process::ExitStatus>> {
    let mut command = workspace::cargo();
    // Escape sequences would hide the summaries from the count.
    command
        .args(line.split(' '))
        .env("CARGO_TERM_COLOR", "never");
    if env::var_os("CI").is_some() && env::var_os("CARGO_INCREMENTAL").is_none() {
        // A build that is thrown away gains nothing from it, and pays in time and disk.
        command.env("CARGO_INCREMENTAL", "0");
    }
    // No step sets RUSTFLAGS: another value means another build of every dependency.
    if line.starts_with("doc ") {
        let outer = env::var("RUSTDOCFLAGS").unwrap_or_default();
        command.env("RUSTDOCFLAGS", format!("{outer} -D warnings"));
    }
    // Both streams share one file position, so their lines keep their order.
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?);
    Ok(command.status())
}

/// Returns the sum of every summary line in the output of `cargo test` or `cargo nextest run`, or
/// `None` if there is no such line: then it is unknown whether a test ran. The two write:
///
/// ```text
/// test result: ok. 41 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s
///      Summary [   0.126s] 41 tests run: 40 passed (1 slow), 1 timed out, 2 skipped
/// ```
fn count(output: &str) -> Option<Count> {
    let mut total = None;
    for line in output.lines().map(str::trim_start) {
        let counts = match line.strip_prefix("test result: ") {
            Some(rest) => rest.split_once(". "),
            None => line
                .strip_prefix("Summary [")
                .and_then(|rest| rest.split_once(" run: ")),
        };
        let Some((_, counts)) = counts else { continue };
        let total = total.get_or_insert_with(Count::default);
        for part in counts.split([',', ';', '(', ')']) {
            let mut words = part.split_whitespace();
            let number = words
                .next()
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or(0);
            match words.next() {
                Some("passed") => total.passed += number,
                Some("failed" | "timed" | "exec") => total.failed += number,
                Some("skipped" | "ignored" | "filtered") => total.skipped += number,
                _ => {}
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_harnesses_are_counted() {
        let cargo_test = "\
test a ... ok
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
   Doc-tests eidetica_dag
test result: FAILED. 3 passed; 1 failed; 0 ignored; 5 measured; 4 filtered out; finished in 0.50s";
        let nextest = "     Summary [   9.0s] 3/9 tests run: 5 passed (1 slow, 1 flaky), 1 failed, \
                       2 timed out, 1 exec failed, 3 skipped";
        let counted = |passed, failed, skipped| {
            Some(Count {
                passed,
                failed,
                skipped,
            })
        };
        assert_eq!(count(cargo_test), counted(5, 1, 5));
        assert_eq!(count(nextest), counted(5, 4, 3));
        assert_eq!(
            count("Summary [0.0s] 0 tests run: 0 passed, 0 skipped"),
            counted(0, 0, 0)
        );
        assert_eq!(count("   Compiling eidetica-dag\n    Finished\n"), None);
    }
}
