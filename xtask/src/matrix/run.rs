//! Runs rows one after the other, and shows how they fare.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::count::{Count, count};
use super::rows::{Harness, Row, Step, gaps};
use crate::boundaries::{self, Graph};
use crate::workspace;

/// How a run went.
pub struct Report {
    pub count: Count,
    /// Whether any row had tests to run.
    pub ran_tests: bool,
    pub failed_rows: Vec<String>,
}

/// How one row went.
struct Outcome {
    count: Count,
    /// What went wrong, if anything did.
    failure: Option<String>,
}

/// Runs the rows and prints a line for each, up to the first that fails unless `keep_going`.
///
/// The error says what kept the run itself from working, rather than a row from passing.
pub fn run_rows(rows: &[&Row], keep_going: bool) -> Result<Report, String> {
    let harness = harness();
    let logs = workspace::target_dir().join("test-matrix");
    fs::create_dir_all(&logs)
        .map_err(|error| format!("cannot create {}: {error}", logs.display()))?;
    let name_width = rows.iter().map(|row| row.name().len()).max().unwrap_or(0);
    println!(
        "{} rows, tests by {}, logs in {}",
        rows.len(),
        shown(harness),
        logs.display()
    );

    let whole = start();
    let mut report = Report {
        count: Count::default(),
        ran_tests: false,
        failed_rows: vec![],
    };
    for row in rows {
        let name = row.name();
        print!("{name:name_width$}  ");
        // Only cosmetics are lost if the terminal does not take it.
        let _ = io::stdout().flush();

        let steps = row.steps(harness);
        let log = logs.join(log_name(&name));
        let row_start = start();
        let outcome = run_row(row, &steps, &log)
            .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let tests = steps.iter().any(|step| step.tests);
        println!("{}", result_line(&outcome, row_start.elapsed(), tests));

        report.ran_tests |= tests;
        report.count += outcome.count;
        if let Some(failure) = outcome.failure {
            let output = fs::read(&log)
                .map_err(|error| format!("cannot read {}: {error}", log.display()))?;
            println!(
                "\n{}\n{name}: {failure}",
                String::from_utf8_lossy(&output).trim_end()
            );
            report.failed_rows.push(name);
            if !keep_going {
                break;
            }
        }
    }
    println!("{:name_width$}  {}", "total", seconds(whole.elapsed()));
    Ok(report)
}

fn result_line(outcome: &Outcome, elapsed: Duration, tests: bool) -> String {
    let verdict = if outcome.failure.is_some() {
        "FAILED"
    } else {
        "ok"
    };
    let mut line = format!("{verdict:6} {}", seconds(elapsed));
    if tests {
        let Count { passed, failed, .. } = outcome.count;
        line.push_str(&format!(", {:4} tests", passed + failed));
    }
    line
}

fn seconds(elapsed: Duration) -> String {
    format!("{:7.1} s", elapsed.as_secs_f64())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time that rows take is what is shown"
)]
fn start() -> Instant {
    Instant::now()
}

/// Asks for nextest in a version that this workspace's configuration accepts.
fn harness() -> Harness {
    let mut probe = workspace::cargo();
    probe.args(["nextest", "show-config", "version"]);
    if workspace::output(&mut probe).is_ok() {
        Harness::Nextest
    } else {
        Harness::CargoTest
    }
}

fn shown(harness: Harness) -> &'static str {
    match harness {
        Harness::Nextest => "cargo nextest",
        Harness::CargoTest => "cargo test (cargo-nextest is absent or too old)",
    }
}

/// Returns a file name for a row that every platform accepts.
fn log_name(row: &str) -> PathBuf {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "+-_".contains(c) {
            c
        } else {
            '.'
        }
    };
    row.chars()
        .map(plain)
        .chain(".log".chars())
        .collect::<String>()
        .into()
}

/// Runs one row into its log. The error is one of the log file.
fn run_row(row: &Row, steps: &[Step], log: &Path) -> io::Result<Outcome> {
    let mut file = File::create(log)?;
    if let Row::Boundaries = row {
        return check_boundaries(&mut file);
    }
    let mut total = Count::default();
    for step in steps {
        let (count, failure) = run_step(step, &mut file, log)?;
        total += count;
        if failure.is_some() {
            return Ok(Outcome {
                count: total,
                failure,
            });
        }
    }
    Ok(Outcome {
        count: total,
        failure: None,
    })
}

fn check_boundaries(file: &mut File) -> io::Result<Outcome> {
    let broken = Graph::load().and_then(|graph| {
        let violations = boundaries::check(&graph)?;
        Ok(violations
            .iter()
            .map(ToString::to_string)
            .chain(gaps(&graph))
            .collect::<Vec<_>>())
    });
    let failure = match broken {
        Ok(broken) => {
            for rule in &broken {
                writeln!(file, "{rule}")?;
            }
            (!broken.is_empty()).then(|| format!("broken rules: {}", broken.len()))
        }
        Err(error) => Some(error),
    };
    Ok(Outcome {
        count: Count::default(),
        failure,
    })
}

/// Runs one step at the end of the log, and returns its tests and what went wrong.
fn run_step(step: &Step, file: &mut File, log: &Path) -> io::Result<(Count, Option<String>)> {
    let line = format!("cargo {}", step.args.join(" "));
    writeln!(file, "$ {line}")?;
    let begin = file.metadata()?.len();

    let mut command = workspace::cargo();
    command.args(&step.args);
    // Escape sequences would hide the summaries from the count.
    command.env("CARGO_TERM_COLOR", "never");
    if env::var_os("CI").is_some() && env::var_os("CARGO_INCREMENTAL").is_none() {
        // A build that is thrown away gains nothing from it, and pays in time and disk.
        command.env("CARGO_INCREMENTAL", "0");
    }
    if let Some((name, value)) = step.env {
        let value = match env::var(name) {
            Ok(outer) => format!("{outer} {value}"),
            Err(_) => value.into(),
        };
        command.env(name, value);
    }
    // Both streams share one file position, so their lines keep their order.
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?);
    let status = match command.status() {
        Ok(status) => status,
        Err(error) => {
            return Ok((
                Count::default(),
                Some(format!("cannot start {line}: {error}")),
            ));
        }
    };

    let mut count_found = None;
    if step.tests {
        let output = fs::read(log)?;
        let begin = usize::try_from(begin)
            .unwrap_or(usize::MAX)
            .min(output.len());
        count_found = count(&String::from_utf8_lossy(&output[begin..]));
    }
    let failure = judge(step.tests, status.success(), count_found)
        .map(|wrong| format!("{line}: {wrong} ({status})"));
    Ok((count_found.unwrap_or_default(), failure))
}

/// Returns what is wrong with a step that ended so, if anything is.
fn judge(tests: bool, success: bool, count: Option<Count>) -> Option<&'static str> {
    match (tests, success, count) {
        (_, false, _) => Some("failed"),
        (true, true, None) => Some("told no count of tests"),
        (true, true, Some(count)) if count.failed > 0 => Some("counted failed tests"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_passes_only_if_it_says_so_in_every_way() {
        let counted = |failed| {
            Some(Count {
                passed: 1,
                failed,
                skipped: 0,
            })
        };
        assert_eq!(judge(false, true, None), None);
        assert_eq!(judge(true, true, counted(0)), None);
        assert_eq!(judge(true, true, Some(Count::default())), None);
        assert_eq!(judge(false, false, None), Some("failed"));
        assert_eq!(judge(true, false, counted(0)), Some("failed"));
        assert_eq!(judge(true, true, counted(1)), Some("counted failed tests"));
        assert_eq!(judge(true, true, None), Some("told no count of tests"));
    }

    #[test]
    fn log_names_are_plain() {
        assert_eq!(
            log_name("eidetica-sync:http+iroh"),
            Path::new("eidetica-sync.http+iroh.log")
        );
    }

    #[test]
    fn a_row_tells_its_verdict_time_and_tests() {
        let count = Count {
            passed: 40,
            failed: 1,
            skipped: 3,
        };
        let outcome = Outcome {
            count,
            failure: Some("failed".into()),
        };
        let line = result_line(&outcome, Duration::from_millis(12_340), true);
        assert_eq!(line, "FAILED    12.3 s,   41 tests");
        let outcome = Outcome {
            count: Count::default(),
            failure: None,
        };
        assert_eq!(
            result_line(&outcome, Duration::ZERO, false),
            "ok         0.0 s"
        );
    }
}
