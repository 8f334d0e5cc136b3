//! Runs rows one after the other, and shows how they go.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use xtask_support::{now, output};

use super::count::{Count, count};
use super::rows::{Row, Step, Work, gaps};
use crate::{boundaries, licences, workspace};

/// How a run went.
#[derive(Default)]
pub struct Report {
    pub count: Count,
    /// Whether any row had tests to run.
    pub ran_tests: bool,
    pub failed: Vec<String>,
    /// Rows that could not run here, or only in part, and why.
    pub skipped: Vec<(String, String)>,
}

/// How one row went.
#[derive(Default)]
struct Outcome {
    count: Count,
    failure: Option<String>,
    /// What was not checked, and why.
    skipped: Option<String>,
    /// Whether anything was checked.
    ran: bool,
}

impl Outcome {
    fn failed(failure: String) -> Self {
        Self {
            failure: Some(failure),
            ..Self::default()
        }
    }
}

/// Runs the rows and prints a line for each, up to the first that fails unless `keep_going`.
///
/// # Errors
/// What prevented the run itself, rather than a row, from working.
pub fn run_rows(rows: &[Row], keep_going: bool) -> Result<Report, String> {
    // A version that this workspace's configuration does not accept counts as absent.
    let nextest = output(workspace::cargo().args(["nextest", "show-config", "version"])).is_ok();
    let logs = workspace::target_dir().join("test-matrix");
    fs::create_dir_all(&logs)
        .map_err(|error| format!("cannot create {}: {error}", logs.display()))?;
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
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

    let whole = now();
    let mut report = Report::default();
    for row in rows {
        let name = &row.name;
        print!("{name:width$}  ");
        // Only the display suffers if the terminal does not take it.
        let _ = io::stdout().flush();
        let log = logs.join(log_name(name));
        let started = now();
        let outcome = run_row(row, nextest, &log)
            .map_err(|error| format!("cannot use {}: {error}", log.display()))?;
        let tests = matches!(&row.work, Work::Steps(steps) if steps.iter().any(Step::counts));
        println!("{}", result_line(&outcome, started.elapsed(), tests));
        report.ran_tests |= tests;
        report.count += outcome.count;
        report
            .skipped
            .extend(outcome.skipped.map(|why| (name.clone(), why)));
        if let Some(failure) = outcome.failure {
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
    println!(
        "{:width$}  {:>13.1} s",
        "total",
        whole.elapsed().as_secs_f64()
    );
    Ok(report)
}

fn result_line(outcome: &Outcome, elapsed: Duration, tests: bool) -> String {
    let verdict = match (&outcome.failure, &outcome.skipped) {
        (Some(_), _) => "FAILED",
        (None, Some(_)) if outcome.ran => "partly",
        (None, Some(_)) => "SKIPPED",
        (None, None) => "ok",
    };
    let mut line = format!("{verdict:7} {:6.1} s", elapsed.as_secs_f64());
    if tests {
        line.push_str(&format!(
            ", {:4} tests",
            outcome.count.passed + outcome.count.failed
        ));
    }
    if let Some(why) = &outcome.skipped {
        line.push_str(&format!(", {why}"));
    }
    line
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
fn run_row(row: &Row, nextest: bool, log: &Path) -> io::Result<Outcome> {
    let mut file = File::create(log)?;
    match &row.work {
        Work::Skip(why) => Ok(Outcome {
            skipped: Some((*why).into()),
            ..Outcome::default()
        }),
        Work::Boundaries => {
            let broken = workspace::metadata().and_then(|metadata| {
                let mut broken = boundaries::check(&metadata)?;
                broken.extend(gaps(&metadata));
                Ok(broken)
            });
            list(&mut file, broken)
        }
        Work::Dependencies => check_dependencies(&mut file, log),
        Work::Steps(steps) => {
            let mut total = Count::default();
            for step in steps {
                let (count, failure) = run_step(&step.line(nextest), step, &mut file, log)?;
                total += count;
                if failure.is_some() {
                    return Ok(Outcome {
                        count: total,
                        failure,
                        ..Outcome::default()
                    });
                }
            }
            Ok(Outcome {
                count: total,
                ..Outcome::default()
            })
        }
    }
}

/// Writes what is wrong, one line for each.
fn list(file: &mut File, wrong: Result<Vec<String>, String>) -> io::Result<Outcome> {
    match wrong {
        Ok(wrong) if wrong.is_empty() => Ok(Outcome::default()),
        Ok(wrong) => {
            wrong.iter().try_for_each(|line| writeln!(file, "{line}"))?;
            Ok(Outcome::failed(format!("{} rules are broken", wrong.len())))
        }
        Err(error) => Ok(Outcome::failed(error)),
    }
}

/// Asks cargo-deny, or checks licences and sources here if it is not installed.
fn check_dependencies(file: &mut File, log: &Path) -> io::Result<Outcome> {
    if output(workspace::cargo().args(["deny", "--version"])).is_err() {
        let deny = fs::read_to_string(workspace::root().join("deny.toml"))?;
        let refused = workspace::metadata().map(|metadata| licences::check(&metadata, &deny));
        let why = "cargo-deny is not installed: licences and sources only, without bans and \
                   advisories; cargo install --locked cargo-deny";
        return Ok(Outcome {
            skipped: Some(why.into()),
            ran: true,
            ..list(file, refused)?
        });
    }
    // Advisories only from a copy that is there: the matrix must not depend on the network.
    let home = env::home_dir().unwrap_or_default();
    let has_advisories = home.join(".cargo/advisory-dbs").is_dir();
    let (what, skipped) = match has_advisories {
        true => ("check --disable-fetch", None),
        false => (
            "check bans licenses sources",
            Some("no local copy of the advisories".to_owned()),
        ),
    };
    // Duplicates are dependencies' decisions and only warnings: a list of them would hide errors.
    let line = format!("deny --locked --offline --log-level error {what}");
    let (_, failure) = run_step(&line, &Step::Plain(String::new()), file, log)?;
    Ok(Outcome {
        failure,
        skipped,
        ran: true,
        ..Outcome::default()
    })
}

/// Runs cargo at the end of the log, and returns the tests that it counts and what went wrong.
fn run_step(
    line: &str,
    step: &Step,
    file: &mut File,
    log: &Path,
) -> io::Result<(Count, Option<String>)> {
    let line = format!("cargo {line}");
    writeln!(file, "$ {line}")?;
    let begin = file.metadata()?.len() as usize;
    let mut command = workspace::cargo();
    command.args(line.split(' ').skip(1));
    // Escape sequences would hide the summaries from the count.
    command.env("CARGO_TERM_COLOR", "never");
    if env::var_os("CI").is_some() && env::var_os("CARGO_INCREMENTAL").is_none() {
        // A build that is thrown away gains nothing from it, and pays in time and disk.
        command.env("CARGO_INCREMENTAL", "0");
    }
    // No step sets RUSTFLAGS: another value means another build of every dependency.
    if let Step::Doc(_) = step {
        let outer = env::var("RUSTDOCFLAGS").unwrap_or_default();
        command.env("RUSTDOCFLAGS", format!("{outer} -D warnings"));
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
    let mut found = None;
    if step.counts() {
        let output = fs::read(log)?;
        found = count(&String::from_utf8_lossy(&output[begin.min(output.len())..]));
    }
    let failure = judge(step.counts(), status.success(), found);
    Ok((
        found.unwrap_or_default(),
        failure.map(|wrong| format!("{line}: {wrong} ({status})")),
    ))
}

/// Returns what is wrong with a step that ended this way, if anything is.
fn judge(tests: bool, success: bool, count: Option<Count>) -> Option<&'static str> {
    match (tests, success, count) {
        (_, false, _) => Some("failed"),
        (true, true, None) => Some("printed no count of tests"),
        (true, true, Some(count)) if count.failed > 0 => Some("counted failed tests"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_passes_only_if_everything_says_so() {
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
        assert_eq!(judge(true, true, None), Some("printed no count of tests"));
    }

    #[test]
    fn log_names_are_plain() {
        let name = log_name("eidetica-sync:http+iroh");
        assert_eq!(name, Path::new("eidetica-sync.http+iroh.log"));
    }

    #[test]
    fn a_row_shows_its_verdict_time_tests_and_what_it_skipped() {
        let count = Count {
            passed: 40,
            failed: 1,
            skipped: 3,
        };
        let failed = Outcome {
            count,
            ..Outcome::failed("failed".into())
        };
        let line = result_line(&failed, Duration::from_millis(12_340), true);
        assert_eq!(line, "FAILED    12.3 s,   41 tests");
        assert_eq!(
            result_line(&Outcome::default(), Duration::ZERO, false),
            "ok         0.0 s"
        );
        let skipped = Outcome {
            skipped: Some("no target".into()),
            ..Outcome::default()
        };
        assert_eq!(
            result_line(&skipped, Duration::ZERO, false),
            "SKIPPED    0.0 s, no target"
        );
    }
}
